#!/bin/sh
# Every defence against attackers who know it: the worst case of several attacks, beside attacks that ignore the defence.
# Drawn faces with the weights that ship, CPU, no download; every step resumes: the same command again continues, finished runs are no-ops.
#
# reads   nothing; with DATA, a split of real faces and what real_faces.sh trained on it
# writes  $RESULTS/<defence>/..., records and caches; $RESULTS/comparison.md, report.html
#
# What the attacker of each step has: ignored, jpeg, transfer: the translator alone; worst, low-frequency, steps, unbounded: the whole defence;
# retrained: the same purifier with other weights. The slow defences meet those who know them on $WORST_NUM photos.
#
#   sh experiments/robustness.sh                        STEPS="ignored worst compare" DEFENSES="none one-step-robust" NUM=32 sh experiments/robustness.sh
#   DATA=dataset/real-faces GAN=G.safetensors sh experiments/robustness.sh --num_workers 1
#   STEPS=train sh experiments/robustness.sh --seed 1   then RETRAINED=one-step-robust=W.safetensors STEPS="retrained compare" sh experiments/robustness.sh
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"              # $PYTHON, launch (torchrun when GPUS > 1), newest, weights_of
: "${STEPS:=ignored jpeg worst low-frequency steps unbounded transfer retrained compare}"      # and train
: "${NUM:=128}" "${SEEDS:=0 1 2}"                     # photos of B; seeds of `ignored`, and of `worst` at the first of EPSILONS, the others take the first
: "${EPSILONS:=0.05 0.03 0.08}" "${JPEG:=70-80}"      # radii of `worst`; qualities that `jpeg` expects
: "${SLOW:=ddpm-* diffpure* gridpure*}"               # patterns of defences that draw noise and take many evaluations
: "${WORST_NUM:=16}" "${SLOW_FLAGS:=}" "${EOT:=4}"    # of those: photos; a shorter `worst` (--eot 4 --apgd_steps 20); draws per step of the other attacks
: "${STEP_NUM:=32}" "${STEP_COUNTS:=10 20 50 100}"    # `steps`: photos, numbers of steps; `unbounded` has those photos too
: "${ROBUST_STEPS:=400 900}" "${ROBUST_BATCH:=12}"     # `train`, for a CPU: steps of the small network, of the grown one
: "${LORA:=}" "${OTHER_GAN:=}" "${RETRAINED:=}"       # a patched translator; a translator of another seed; NAME=FILE weights of another training of NAME
: "${DEFENSES:=none jpeg-75 blur-1.5 defensive-model-2-fixed ddpm-10 gridpure one-step one-step-robust${LORA:+ lora-patch}}"
if [ -z "${DATA:-}" ]; then
    : "${OUT:=dataset/drawn-test}" "${RESULTS:=results/drawn}" "${TRAIN_DATA:=dataset/recipe/split}"
    : "${GAN:=$here/models/stargan/demo.safetensors}" "${DIFFUSION:=$here/models/diffusion/demo.safetensors}"
    : "${ONE_STEP:=$here/models/one_step/demo.safetensors}" "${AUTOENCODER:=$here/models/dae/demo.safetensors}"
    : "${STGAN:=$here/models/stgan/demo.safetensors}" "${STARGANV2:=$here/models/starganv2/demo.safetensors}"
    : "${ROBUST:=$here/models/one_step_robust/demo.safetensors}"
    DATA=$OUT/drawn
    "$PYTHON" -m faces.procedural --out "$OUT/photos" -n 640 --seed 0      # the recipe of the weights drew seed 1
    "$PYTHON" "$here/split_dataset.py" --folder_path "$OUT/photos/images" --attr_path "$OUT/photos/list_attr_celeba.txt" \
        --output_dir "$DATA" --ratios 0.7 0.2 0.1
    case " $STEPS " in *" train "*) STEPS=faces sh "$here/experiments/demo_weights.sh" ;; esac
fi
: "${RESULTS:=results}" "${TRAIN_DATA:=$DATA}"
: "${GAN:=}" "${DIFFUSION:=}" "${ONE_STEP:=}" "${AUTOENCODER:=}" "${ROBUST:=}" "${STGAN:=}" "${STARGANV2:=}"     # default: those trained here

name=$(basename "$DATA")
gan() { newest "$GAN" "stargan/$name/train/standard"; }
is_slow() { set -f; for _pattern in $SLOW; do case $1 in $_pattern) set +f; return 0 ;; esac; done; set +f; return 1; }
test_defenses() {    # test_defenses "DEFENCES" GAN FLAGS...: all in one process
    _names= _files= _gan=$2
    for _d in $1; do
        _file=$(weights_of "$_d") _names="$_names $_d" _files="$_files${_file:+ $_d=$_file}"
    done
    shift 2
    launch "$here/test_defense.py" --data_dir "$DATA" --result_dir "$RESULTS" --image_size 64 --gan_weights "$_gan" --limit "$NUM" --resume \
        --defense_model_type $_names ${_files:+--defense_weights $_files} ${LORA:+--adv_gan_weights "$LORA"} "$@"
}
knowing() {          # knowing DEFENCE FLAGS...: the attacker knows it all
    _one=$1; shift
    case $_one in adv-train*|both*|lora-patch) set -- --attack_on self "$@" ;; esac
    test_defenses "$_one" "$(gan)" --attack_through self --attack_label target "$@"
}
draws() { if is_slow "$1"; then echo "--eot $EOT --limit $WORST_NUM"; fi; }       # draws DEFENCE: what random defences need beside the attack
fast() { for _d in $DEFENSES; do if ! is_slow "$_d"; then echo "$_d"; fi; done; }
bound="--attack_type pgd --test_noise_var 0.05 --attack_target clean --attack_label target"      # the bound of an attacker who ignores the defence
first=${SEEDS%% *}

robust_stage() {     # robust_stage BLOCKS STEPS RESULTS START FLAGS...
    _blocks=$1 _steps=$2 _results=$3 _start=$4; shift 4
    launch "$here/train_defense.py" --data_dir "$TRAIN_DATA" --dataset "$name" --result_dir "$_results" --image_size 64 \
        --defense_model_type one-step-robust --gan_weights "$(gan)" --num_res_blocks "$_blocks" --defense_weights "$_start" \
        --num_steps "$_steps" --batch_size "$ROBUST_BATCH" --ema 0.99 --precision bf16 --save_step 150 --log_step 20 --resume "$@"
}
train() {            # the small autoencoder, in a folder of its own so that a second run finds it, then a network that grows from it
    robust_stage 0 "${ROBUST_STEPS% *}" "$RESULTS/small" "$(weights_of defensive-model-2-fixed)" "$@"
    robust_stage 3 "${ROBUST_STEPS#* }" "$RESULTS" "$(newest "" "small/one-step-robust/$name/train/pgd-eps0.085")" "$@"
}
ignored() { for seed in $SEEDS; do test_defenses "$DEFENSES" "$(gan)" $bound --seed "$seed" "$@"; done; }
jpeg() {             # sign steps of pgd are too few for it
    test_defenses "$DEFENSES" "$(gan)" --attack_type apgd --apgd_steps 100 --apgd_restarts 1 --test_noise_var 0.05 --attack_label target \
        --attack_jpeg "$JPEG" --seed "$first" "$@"
}
worst() {
    for eps in $EPSILONS; do
        for defense in $DEFENSES; do
            seeds=$first less=
            if is_slow "$defense"; then less="--limit $WORST_NUM $SLOW_FLAGS"; elif [ "$eps" = "${EPSILONS%% *}" ]; then seeds=$SEEDS; fi
            for seed in $seeds; do knowing "$defense" --attack_type worst --test_noise_var "$eps" $less --seed "$seed" "$@"; done
        done
    done
}
low_frequency() {    # of none: what a defence that removes fine patterns leaves
    for defense in $DEFENSES; do
        knowing "$defense" --attack_type low-frequency --test_noise_var 0.05 $(draws "$defense") --seed "$first" "$@"
    done
}
steps() {            # does a longer attack do more?
    for defense in $(fast); do
        for count in $STEP_COUNTS; do
            knowing "$defense" --attack_type apgd --apgd_steps "$count" --apgd_restarts 1 --test_noise_var 0.05 --limit "$STEP_NUM" --seed "$first" "$@"
        done
    done
}
unbounded() {        # half the range of an image: a defence that this does not break hides its gradient
    for defense in $(fast); do
        knowing "$defense" --attack_type apgd --test_noise_var 0.5 --limit "$STEP_NUM" --seed "$first" "$@"
    done
}
transfer() {         # translators that no purifier learned from, attacked and translating; a patched one is its own
    shared=; for defense in $DEFENSES; do case $defense in adv-train*|both*|lora-patch) ;; *) shared="$shared $defense" ;; esac; done
    if [ -n "$STGAN" ]; then test_defenses "$shared" "$STGAN" --gan_type stgan $bound --seed "$first" "$@"; fi
    if [ -n "$STARGANV2" ]; then
        test_defenses "$shared" "$STARGANV2" --gan_type starganv2 --selected_attrs Black_Hair Blond_Hair Brown_Hair Male $bound --seed "$first" "$@"
    fi
    if [ -n "$OTHER_GAN" ]; then test_defenses "$shared" "$OTHER_GAN" --gan_name stargan-seed1 $bound --seed "$first" "$@"; fi
}
retrained() {        # the attacker knew the purifier, and it was trained again before it met the photo
    for pair in $RETRAINED; do
        test_defenses "${pair%%=*}" "$(gan)" --attack_type worst --attack_through "${pair%%=*}" --through_weights "${pair#*=}" --attack_label target \
            --test_noise_var 0.05 --seed "$first" "$@"
    done
}
compare() { case " $* " in *" --dry_run "*) ;; *) "$PYTHON" "$here/compare_results.py" "$RESULTS" ;; esac; }

for step in $STEPS; do
    case $step in
        low-frequency) low_frequency "$@" ;;
        train|ignored|jpeg|worst|steps|unbounded|transfer|retrained|compare) "$step" "$@" ;;
        *) echo "error: STEPS names $step; one of: train ignored jpeg worst low-frequency steps unbounded transfer retrained compare" >&2; exit 2 ;;
    esac
done
