#!/bin/sh
# The whole story on faces we draw ourselves, on a laptop CPU: split, disrupt, purify, train, attack what purifies, train detectors, filter, compare.
# No download, no GPU. On two cores, after the environment is set up: 5 minutes with few photos, 10 minutes with more (FULL=1); less than 2 GB of
# memory. The first table stands after half a minute.
#
# writes  $OUT/dataset (drawn faces and their split), $OUT/results (records, caches, comparison.md, report.html)
#
#   bash demo.sh                 FULL=1 OUT=full bash demo.sh                 NUM=4 OUT=small bash demo.sh --num_workers 1
set -eu
here=$(dirname "$0"); . "$here/environment.sh"
: "${FULL:=0}"
if [ "$FULL" = 1 ]; then
    : "${OUT:=demo_full}"         # everything is written below it; a second run continues
    : "${FACES:=640}"             # photos that are drawn: 0.7 of them split A, 0.2 B, 0.1 C
    : "${NUM:=40}"                # photos of split B that are disrupted, 5 domains each
    : "${STEPS:=80}"              # steps by which the shipped purifier's training is continued
    : "${ATTACK_STEPS:=20}"       # steps of the attacker who knows the purifier
    : "${KNOWN_NUM:=8 16}"        # photos that this attacker disrupts, knowing ddpm-10, and the others
    : "${EPOCHS:=15}"             # passes of a detector's training
    : "${POISONS:=label-flip noise}"
    seconds="8 36 62 128 330 94 16 5"      # of the sections below, on two cores: for the minutes left
else
    : "${OUT:=demo_out}" "${FACES:=400}" "${NUM:=12}" "${STEPS:=20}" "${ATTACK_STEPS:=6}" "${KNOWN_NUM:=2 6}" "${EPOCHS:=15}" "${POISONS:=label-flip}"
    seconds="6 23 18 50 105 75 13 6"
fi
: "${DEFENSES:=none jpeg-50 jpeg-75 blur defensive-model-2-fixed one-step one-step-robust}"
: "${SLOW_DEFENSES:=ddpm-10 ddpm-20 diffpure-300-30}"      # 9 of diffpure's 30 steps of 1000 lie below t = 300
: "${ONE_PASS_DEFENSES:=none jpeg-75 defensive-model-2-fixed one-step}"     # against a disruption made in one pass
: "${KNOWN_PLAIN:=none jpeg-75}" "${KNOWN_ONE_STEP:=one-step one-step-robust}"     # met by an attacker who knows them
: "${DETECTOR_DEFENSES:=one-step one-step-robust}"     # what detectors are trained on beside clean and disrupted photos
data="--data_dir $OUT/dataset/drawn --result_dir $OUT/results --image_size 64"
gan=$here/models/stargan/demo.safetensors
begun=$(date +%s); spent=0; number=0
section() {      # section "WHAT IT SHOWS": one line as it starts, with the minutes left at this machine's pace
    left=0; for _s in $seconds; do left=$((left + _s)); done
    if [ $spent -gt 0 ]; then left=$((left * ($(date +%s) - begun) / spent)); fi
    number=$((number + 1)); spent=$((spent + ${seconds%% *})); seconds=${seconds#* }
    printf "\n== %s/8 %s (%s min left)\n" "$number" "$1" "$(((left + 59) / 60))" >&2
}
half=$((($(getconf _NPROCESSORS_ONLN) + 1) / 2))
on_half() { OMP_NUM_THREADS=$half "$@"; }      # on_half COMMAND...: on half of the cores
beside() {     # beside COMMAND...: in the background; `joined` waits for it and shows what it said
    mkdir -p "$OUT"; "$@" >"$OUT/beside.log" 2>&1 & background=$!
    trap 'kill "$background" 2>/dev/null || :' EXIT
}
joined() {
    code=0; wait "$background" || code=$?
    trap - EXIT
    cat "$OUT/beside.log"; return "$code"
}
weights_of() {      # weights_of "DEFENSES": NAME=FILE for each whose weights ship
    for _name in $1; do
        case $_name in
            defensive-model-2-fixed) echo "$_name=$here/models/dae/demo.safetensors" ;;
            one-step)                echo "$_name=$here/models/one_step/demo.safetensors" ;;
            one-step-robust)         echo "$_name=$here/models/one_step_robust/demo.safetensors" ;;
        esac
    done
}
test_defenses() {      # test_defenses "DEFENSES" FLAGS...: in one process, none if there are none
    _list=$1; shift
    if [ -z "$(echo $_list)" ]; then return; fi
    _files=$(weights_of "$_list")
    launch "$here/test_defense.py" $data --gan_weights "$gan" --limit "$NUM" --batch_size 8 --resume --test_noise_var 0.05 \
        --defense_model_type $_list ${_files:+--defense_weights $_files} "$@"      # batches of 8: a CPU's caches
}
dry() { case " $* " in *" --dry_run "*) ;; *) return 1 ;; esac; }      # dry FLAGS...: nothing was made that could be shown
compare() { dry "$@" || "$PYTHON" "$here/compare_results.py" "$OUT/results"; }

section "Faces are drawn, and split into A, B and C"
"$PYTHON" -m faces.procedural --out "$OUT/dataset/photos" -n "$FACES" --seed 0
"$PYTHON" "$here/split_dataset.py" --folder_path "$OUT/dataset/photos/images" --attr_path "$OUT/dataset/photos/list_attr_celeba.txt" \
    --output_dir "$OUT/dataset/drawn" --ratios 0.7 0.2 0.1

section "Disrupted photos spoil the fakes made from them; quick cures bring the fakes back: the first table"
by_default="--attack_target gray --attack_label original"
test_defenses "$DEFENSES" $by_default "$@"
compare "$@"
dry "$@" || printf 'picture: %s\n' "$OUT"/results/*/drawn/stargan/*/pgd-eps0.05/000/grid.png

section "A diffusion network, the purifier of the steps below, is trained some steps further"
launch "$here/train_defense.py" $data --defense_model_type ddpm --defense_weights "$here/models/diffusion/demo.safetensors" \
    --num_steps "$STEPS" --batch_size 16 --lr 5e-5 --ema 0.99 --save_step 50 --log_step 10 --resume "$@"

section "Diffusion cures too, more slowly; an attack on each edit, and one in a single pass (DADFI), meet the quick cures"
upper_bound="--attack_target clean --attack_label target"
beside on_half test_defenses "$SLOW_DEFENSES" $by_default "$@"
on_half test_defenses "$DEFENSES" $upper_bound "$@"
on_half test_defenses "$ONE_PASS_DEFENSES" --attack_type dadfi --attack_weights "$here/models/dadfi/demo.safetensors" "$@"
joined

# Of each photo the worst of several attacks through the whole defence; one that asks for no gradient is among them. Through ddpm the backward pass
# is approximated (--gradient full is the exact one, and costs more).
section "An attacker who knows the purifier, and aims at all domains at once: the worst case of each"
worst_case() {      # worst_case "DEFENSES" FLAGS...: each attacked through itself
    _known=$1; shift
    test_defenses "$_known" --attack_type worst --attack_label joint --apgd_steps "$ATTACK_STEPS" --apgd_restarts 1 \
        --square_queries "$ATTACK_STEPS" --limit "${KNOWN_NUM#* }" "$@"
}
known_then_slow() {
    worst_case "$KNOWN_ONE_STEP" "$@"
    test_defenses "${SLOW_DEFENSES%"$last"}" $upper_bound "$@"
}
last=${SLOW_DEFENSES##* }
beside on_half known_then_slow "$@"
on_half worst_case "$KNOWN_PLAIN" "$@"
on_half test_defenses ddpm-10 --attack_through ddpm --gradient bpda --attack_target clean --attack_label joint --attack_steps "$ATTACK_STEPS" \
    --limit "${KNOWN_NUM% *}" "$@"
on_half test_defenses "$last" $upper_bound "$@"
joined

# Trained on all photos of B clean, disrupted and purified, tested on clean photos of C and clean fakes of them.
section "What it is for: a detector that learns from disrupted photos fails; purified ones bring it back"
train_detector() {
    launch "$here/train_detector.py" $data --gan_weights "$gan" --detector meso4 --epochs "$EPOCHS" --batch_size 16 --image_batch_size 8 \
        --test_noise_var 0.05 --resume "$@"
}
train_purified() {      # train_purified "DEFENSES" FLAGS...: one after the other
    _list=$1; shift
    for defense in $_list; do
        _file=$(weights_of "$defense")
        train_detector --condition purified --defense_model_type "$defense" ${_file:+--defense_weights "${_file#*=}"} "$@"
    done
}
disrupted_then() {      # disrupted_then "DEFENSES" FLAGS...
    _first=$1; shift
    train_detector --condition disrupted "$@"        # disrupts the photos for all
    train_purified "$_first" "$@"
}
first=${DETECTOR_DEFENSES%% *}
beside on_half disrupted_then "$first" "$@"
on_half train_detector --condition clean "$@"
on_half train_purified "${DETECTOR_DEFENSES#"$first"}" "$@"
joined

# De-Pois looks for poisoned samples among scikit-learn's digits. The purifier was never trained where the scan looks, and the scan says so (exit 4).
section "The other cure drops poisoned samples (De-Pois); and the purifier's own weights are scanned for a backdoor (TERD)"
beside on_half "$PYTHON" -m purify.depois --dataset digits --result_dir "$OUT/results" --poison $POISONS --methods de-pois loss --seeds 0 --resume "$@"
scan=0; on_half "$PYTHON" -m purify.terd "$here/models/diffusion/demo.safetensors" --result_dir "$OUT/results" --resume "$@" || scan=$?
joined
case $scan in 0|4) ;; *) exit "$scan" ;; esac

section "All of it in one table, plots and a page"
compare "$@"
