#!/bin/sh
# The whole story on faces we draw ourselves, on a laptop CPU: split, train on, disrupt, purify, train detectors, filter, compare. No download, no GPU.
# About 10 minutes (14 to 17 on slow cores) and 2 GB on two cores, after the environment is set up.
#
# writes  $OUT/dataset (drawn faces and their split), $OUT/results (records, caches, comparison.md, report.html)
#
#   bash demo.sh                 NUM=16 OUT=small bash demo.sh --num_workers 1
set -eu
here=$(dirname "$0"); . "$here/environment.sh"
: "${OUT:=demo_out}"          # everything is written below it; a second run continues
: "${NUM:=40}"                # photos of split B that are disrupted, 5 domains each
: "${STEPS:=80}"              # steps by which the shipped purifier's training is continued
: "${DEFENSES:=none jpeg-50 jpeg-75 blur defensive-model-2-fixed ddpm-10 one-step}"
: "${DETECTOR_DEFENSES:=one-step defensive-model-2-fixed}"     # what detectors are trained on beside clean and disrupted photos
: "${ONE_PASS_DEFENSES:=none jpeg-75 defensive-model-2-fixed one-step}"     # against a disruption made in one pass
: "${SLOW_DEFENSES:=ddpm-20 diffpure-300-30}"      # beside the others, on half of the cores; 9 of diffpure's 30 steps of 1000 lie below t = 300
data="--data_dir $OUT/dataset/drawn --result_dir $OUT/results --image_size 64"
gan=$here/models/stargan/demo.safetensors

"$PYTHON" -m faces.procedural --out "$OUT/dataset/photos" -n 640 --seed 0
"$PYTHON" "$here/split_dataset.py" --folder_path "$OUT/dataset/photos/images" --attr_path "$OUT/dataset/photos/list_attr_celeba.txt" \
    --output_dir "$OUT/dataset/drawn" --ratios 0.7 0.2 0.1

# 1. A real training run: the shipped diffusion network goes on for some steps; its run folder is what the tests below pick up.
launch "$here/train_defense.py" $data --defense_model_type ddpm --defense_weights "$here/models/diffusion/demo.safetensors" \
    --num_steps "$STEPS" --batch_size 16 --lr 5e-5 --ema 0.99 --save_step 50 --log_step 10 --resume "$@"

# 2. Every defence against the same disrupted photos: in the default protocol, then against the attacker's upper bound.
weights_of() {      # weights_of "DEFENSES": NAME=FILE for each whose weights ship
    for _name in $1; do
        case $_name in
            defensive-model-2-fixed) echo "$_name=$here/models/dae/demo.safetensors" ;;
            one-step)                echo "$_name=$here/models/one_step/demo.safetensors" ;;
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
half=$((($(getconf _NPROCESSORS_ONLN) + 1) / 2))
for protocol in "--attack_target gray --attack_label original" "--attack_target clean --attack_label target"; do
    first=${DEFENSES%% *}
    test_defenses "$first" $protocol "$@"       # disrupts the photos for all
    beside on_half test_defenses "$SLOW_DEFENSES" $protocol "$@"
    on_half test_defenses "${DEFENSES#"$first"}" $protocol "$@"
    joined
done

# 3. A disruption made in one pass of a trained generator (DADFI), against the defences that need no more than one.
on_half test_defenses "$ONE_PASS_DEFENSES" --attack_type dadfi --attack_weights "$here/models/dadfi/demo.safetensors" "$@"

# 4. The attacker knows the purifier and aims at all domains at once: through one-step with the exact gradient, through ddpm with the
#    backward pass approximated (--gradient full is the exact one, and costs more).
adaptive="--attack_target clean --attack_label joint --attack_steps 20"
beside on_half test_defenses ddpm-10 --attack_through ddpm --gradient bpda $adaptive --limit 8 "$@"
on_half test_defenses one-step --attack_through one-step --gradient full --eot 4 $adaptive --limit 16 "$@"
joined

# 5. What it is for: detectors trained on all photos of B clean, disrupted and purified, tested on clean photos of C and clean fakes of them.
train_detector() {
    launch "$here/train_detector.py" $data --gan_weights "$gan" --detector meso4 --epochs 15 --batch_size 16 --image_batch_size 8 \
        --test_noise_var 0.05 --resume "$@"
}
train_purified() {      # train_purified "DEFENSES" FLAGS...: one after the other
    _list=$1; shift
    for defense in $_list; do
        _file=$(weights_of "$defense")
        train_detector --condition purified --defense_model_type "$defense" ${_file:+--defense_weights "${_file#*=}"} "$@"
    done
}
train_detector --condition disrupted "$@"        # disrupts the photos for all
first=${DETECTOR_DEFENSES%% *}
beside on_half train_purified "$first" "$@"
on_half train_detector --condition clean "$@"
on_half train_purified "${DETECTOR_DEFENSES#"$first"}" "$@"
joined

# 6. The other cure: De-Pois looks for poisoned samples, to drop them; here among scikit-learn's digits.
"$PYTHON" -m purify.depois --dataset digits --result_dir "$OUT/results" --poison label-flip noise --methods de-pois loss --seeds 0 --resume "$@"

# 7. Who purifies the purifier? Its weights are scanned for a backdoor. This one was never trained where the scan looks, and the scan says so (exit 4).
scan=0; "$PYTHON" -m purify.terd "$here/models/diffusion/demo.safetensors" --result_dir "$OUT/results" --resume "$@" || scan=$?
case $scan in 0|4) ;; *) exit "$scan" ;; esac

case " $* " in *" --dry_run "*) exit 0 ;; esac
"$PYTHON" "$here/compare_results.py" "$OUT/results"
