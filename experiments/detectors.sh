#!/bin/sh
# Which cure for whom: detectors that learned from photos poisoned through each cure, and cured by each; tested on clean photos, on fakes of translators
# that they never saw, and on both saved as JPEG. Beside them detectors that need no fakes, and detectors that learned from JPEG images.
# Drawn faces with the weights that ship, CPU, no download; every step resumes: the same command again continues, finished runs are no-ops.
#
# reads   nothing; with DATA, a split of real faces and what real_faces.sh and robustness.sh trained on it
# writes  $RESULTS/detector/..., records and caches; $RESULTS/comparison.md (the tables of attackers and cures), report.html
#
# An attacker disrupts photos through the cure that he guesses; `none` guesses none, `surviving` aims at what JPEG leaves.
#
#   sh experiments/detectors.sh                 STEPS="cross compare" CURES="jpeg-75 one-step-robust" SEEDS="0 1" LIMIT=100 sh experiments/detectors.sh
#   DATA=dataset/real-faces GAN=G.safetensors sh experiments/detectors.sh --num_workers 1
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"              # $PYTHON, launch (torchrun when GPUS > 1), newest, weights_of
: "${STEPS:=cross self-blended recompressed compare}"
: "${CURES:=jpeg-75 defensive-model-2-fixed ddpm-20 one-step one-step-robust}"
: "${ATTACKERS:=none surviving $CURES}"               # ddpm is attacked as if it was the identity backwards: 20 evaluations a step are too many
: "${RATES:=0.9 1}" "${SEEDS:=0 1 2 3 4}" "${LIMIT:=300}"      # shares of disrupted photos; trainings; photos of B, and of C
: "${DETECTORS:=meso4 residual}" "${EPOCHS:=20}" "${BATCH:=16}"
: "${ATTACK:=--attack_type pgd --attack_target clean --attack_label iterative --attack_steps 20 --attack_step_size 0.005 --test_noise_var 0.05}"
: "${QUALITIES:=96 75 50}" "${TRAINING_QUALITY:=75}"
if [ -z "${DATA:-}" ]; then
    : "${OUT:=dataset/drawn-test}" "${RESULTS:=results/drawn-detectors}"
    : "${GAN:=$here/models/stargan/demo.safetensors}" "${DIFFUSION:=$here/models/diffusion/demo.safetensors}"
    : "${ONE_STEP:=$here/models/one_step/demo.safetensors}" "${AUTOENCODER:=$here/models/dae/demo.safetensors}"
    : "${ROBUST:=$here/models/one_step_robust/demo.safetensors}"
    : "${TEST_GANS:=stgan=$here/models/stgan/demo.safetensors starganv2=$here/models/starganv2/demo.safetensors}"
    DATA=$OUT/drawn-2000
    "$PYTHON" -m faces.procedural --out "$OUT/photos-2000" -n 2000 --seed 2
    "$PYTHON" "$here/split_dataset.py" --folder_path "$OUT/photos-2000/images" --attr_path "$OUT/photos-2000/list_attr_celeba.txt" \
        --output_dir "$DATA" --ratios 0.1 0.6 0.3
fi
: "${RESULTS:=results}" "${GAN:=}" "${DIFFUSION:=}" "${ONE_STEP:=}" "${AUTOENCODER:=}" "${ROBUST:=}" "${TEST_GANS:=}"    # default: those trained here

name=$(basename "$DATA")
gan() { newest "$GAN" "stargan/$name/train/standard"; }
guess() {            # guess ATTACKER: the flags of who guesses that cure
    case $1 in
        none) ;;
        surviving) echo "--attack_jpeg 70-80" ;;
        *) _file=$(weights_of "$1"); case $1 in ddpm-*|diffpure*) _bpda="--gradient bpda" ;; *) _bpda= ;; esac
           echo "--attack_through $1${_file:+ --through_weights $_file}${_bpda:+ $_bpda}" ;;
    esac
}
cured() { _weights=$(weights_of "$1"); echo "--defense_model_type $1${_weights:+ --defense_weights $_weights}"; }      # cured CURE
train() {            # train DETECTOR FLAGS...
    _detector=$1; shift
    launch "$here/train_detector.py" --data_dir "$DATA" --result_dir "$RESULTS" --image_size 64 --gan_weights "$(gan)" \
        --detector "$_detector" --weights none --epochs "$EPOCHS" --batch_size "$BATCH" --seeds $SEEDS --limit "$LIMIT" $ATTACK \
        ${TEST_GANS:+--test_gan $TEST_GANS} --recompress $QUALITIES --resume "$@"
}
conditions() {       # conditions DETECTOR FLAGS...: clean photos, disrupted ones at every rate, those cured by everything
    _who=$1; shift
    train "$_who" --condition clean "$@"
    for rate in $RATES; do
        train "$_who" --condition disrupted --poison_rate "$rate" "$@"
        for cure in $CURES; do train "$_who" --condition purified --poison_rate "$rate" $(cured "$cure") "$@"; done
    done
}
cross() { for detector in $DETECTORS; do for attacker in $ATTACKERS; do conditions "$detector" $(guess "$attacker") "$@"; done; done; }
self_blended() {     # no fake of theirs is a translator's, so none is broken: do disrupted photos harm them?
    for detector in $DETECTORS; do
        train "$detector" --condition clean --training_fakes self-blended "$@"
        for rate in $RATES; do train "$detector" --condition disrupted --poison_rate "$rate" --training_fakes self-blended "$@"; done
    done
}
recompressed() {     # both classes JPEG in training too
    for detector in $DETECTORS; do conditions "$detector" --recompress_training "$TRAINING_QUALITY" "$@"; done
}
compare() { case " $* " in *" --dry_run "*) ;; *) "$PYTHON" "$here/compare_results.py" "$RESULTS" ;; esac; }

for step in $STEPS; do
    case $step in
        self-blended) self_blended "$@" ;;
        cross|recompressed|compare) "$step" "$@" ;;
        *) echo "error: STEPS names $step; one of: cross self-blended recompressed compare" >&2; exit 2 ;;
    esac
done
