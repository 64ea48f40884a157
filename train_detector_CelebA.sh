#!/bin/sh
# Train the detectors of the tables of docs/results: split B clean, disrupted and purified by each defence, at several poison rates; on demand without the
# samples that a filter has dropped (filtered), or without them and purified (both). Every run resumes.
#
# reads   $DATA/images_b, $DATA/images_c, $GAN, what train_CelebA.sh has trained; for filtered and both $KEPT, or $DATA/images_a, which De-Pois trusts
# writes  $RESULTS/detector/CelebA/<gan>/<detector>/<condition>/<attack>-eps<eps>[-rate<r>]/seed<s>/NNN, $RESULTS/comparison.md, report.html
#
#   sh train_detector_CelebA.sh                       DETECTORS=meso4 DEFENSES="one-step jpeg-75" sh train_detector_CelebA.sh --limit 2000 --dry_run
#   CONDITIONS="clean disrupted" RATES="0.1 0.9 1" sh train_detector_CelebA.sh        GPUS=3 sh train_detector_CelebA.sh     (one seed a GPU)
#   CONDITIONS="filtered both" sh train_detector_CelebA.sh      (De-Pois drops samples first)      CONDITIONS=filtered KEPT=kept.txt sh train_detector_CelebA.sh
set -eu
here=$(dirname "$0"); . "$here/environment.sh"                # sets $PYTHON and launch (torchrun when GPUS > 1)
: "${DATA:=dataset/CelebA}" "${RESULTS:=results}"
: "${GAN:=}"                   # a translator; default: the official 200000-G.ckpt where it is, else the newest one trained here
: "${GAN_DATA:=}"              # what it was trained on, for the record; default: what its file says
: "${WEIGHTS:=}"               # ImageNet weights of the one network in DETECTORS that takes them, or imagenet: torchvision's own, downloaded;
                               # default: those where torchvision has them on this machine, else none
: "${DETECTORS:=mobilenet_v2}" # meso4 residual mobilenet_v2 resnet18 efficientnet_b0 vit_b_16 vit_b_32
: "${CONDITIONS:=clean disrupted purified}"                   # and filtered, both
: "${KEPT:=}"                  # the samples that a filter has kept: a file for the last rate; with %r in its name, which stands for the rate, for each
                               # of FILTER_RATES; default: De-Pois examines B at each of them, python -m purify.depois
: "${FILTER_RATES:=0.25 0.5 0.75 0.9}"
: "${RATES:=0.1 0.25 0.5 0.75 0.9 1}"    # shares of B's photos that are disrupted
: "${SWEEP=one-step}"         # defences at every rate and at 0, the control; those of both
: "${CONTROLS=jpeg-75 defensive-model-2-fixed}"               # defences at rate 0 too; all of them at the last rate
: "${DEFENSES:=jpeg-50 jpeg-75 blur-1.5 defensive-model-1-fixed defensive-model-2-fixed ddpm-10 ddpm-20 one-step one-step-robust diffpure-300-30}"
: "${SEEDS:=0 1 2}" "${EPS:=0.05}"                            # radius of the disruption in [-1,1] units = 6 grey levels
: "${PROTOCOL:=--attack_target gray --attack_label original}" # --attack_target clean --attack_label joint is stronger

official=$here/models/stargan/stargan_celeba_128/models/200000-G.ckpt
if [ -z "$GAN" ] && [ -f "$official" ]; then GAN=$official; : "${GAN_DATA:=CelebA, nearly all of it, B and C too}"; fi
if [ -n "$GAN_DATA" ]; then set -- --gan_training_data "$GAN_DATA" "$@"; fi
train_detector() {             # train_detector DETECTOR FLAGS...
    case $1 in meso4 | residual) _weights= ;; *) _weights=${WEIGHTS:+--weights $WEIGHTS} ;; esac
    _detector=$1; shift
    launch "$here/train_detector.py" --data_dir "$DATA" --result_dir "$RESULTS" --image_size 128 --celeba_crop_size 178 ${GAN:+--gan_weights "$GAN"} \
        --detector "$_detector" $_weights --test_noise_var "$EPS" $PROTOCOL --seeds $SEEDS --resume "$@"
}
lists=${KEPT:-$RESULTS/depois/kept-rate%r.txt}
kept() { printf '%s\n' "$lists" | sed "s|%r|$1|g"; }          # kept RATE
last=${RATES##* }
case $lists in *%r*) kept_rates=$FILTER_RATES ;; *) kept_rates=$last ;; esac
depois() {                     # depois RATE FLAGS...: writes the list of a rate; takes those flags that concern the photos, the translator and the attack
    _rate=$1; shift
    _n=$# _taken=
    while [ "$_n" -gt 0 ]; do
        _word=$1; shift; _n=$((_n - 1))
        case ${_word%%=*} in
            --config) echo "error: --config may hold flags that De-Pois does not know: give them one by one, or KEPT=FILE" >&2; exit 2 ;;
            --data_dir|--result_dir|--cache_dir|--selected_attrs|--image_size|--celeba_crop_size|--skip_damaged|--limit|--gan_type|--gan_weights|\
            --gan_style|--gan_name|--image_batch_size|--test_noise_var|--attack_type|--attack_steps|--attack_step_size|--attack_target|--attack_label|\
            --attack_blur|--attack_weights|--perturbation|--perturbation_fit|--device|--seed|--num_workers|--precision|--dry_run|--debug)
                _taken=yes; set -- "$@" "$_word" ;;
            --dataset) _taken=yes; set -- "$@" "--dataset_name${_word#--dataset}" ;;
            --*) _taken= ;;
            *) if [ -n "$_taken" ]; then set -- "$@" "$_word"; fi ;;       # a value of the flag before it
        esac
    done
    "$PYTHON" -m purify.depois --dataset detector --data_dir "$DATA" --result_dir "$RESULTS" --image_size 128 --celeba_crop_size 178 \
        ${GAN:+--gan_weights "$GAN"} --test_noise_var "$EPS" $PROTOCOL --poison disruption --poison_rate "$_rate" --methods de-pois --seeds "${SEEDS%% *}" \
        --resume --kept_names "$(kept "$_rate")" "$@"
}
filter=
for condition in $CONDITIONS; do           # before any training
    case $condition in
        clean|disrupted|purified) ;;
        filtered|both) filter=yes ;;
        *) echo "error: CONDITIONS names $condition; one of: clean disrupted purified filtered both" >&2; exit 2 ;;
    esac
done
if [ -n "$filter" ] && [ -z "$KEPT" ]; then
    for rate in $kept_rates; do depois "$rate" "$@"; done
fi
train_kept() {                 # train_kept DETECTOR RATE FLAGS...: without what the filter dropped
    if [ -z "$KEPT" ] && [ ! -f "$(kept "$2")" ]; then echo "$(kept "$2"): not made in a dry run"; return; fi
    _kept=$(kept "$2"); _at=$2; _with=$1; shift 2
    train_detector "$_with" --kept_names "$_kept" --poison_rate "$_at" "$@"
}

for detector in $DETECTORS; do
    for condition in $CONDITIONS; do
        case $condition in
            clean) train_detector "$detector" --condition clean "$@" ;;
            disrupted) for rate in $RATES; do train_detector "$detector" --condition disrupted --poison_rate "$rate" "$@"; done ;;
            filtered) for rate in $kept_rates; do train_kept "$detector" "$rate" --condition filtered "$@"; done ;;
            both)
                for defense in $SWEEP; do
                    for rate in $kept_rates; do train_kept "$detector" "$rate" --condition purified --defense_model_type "$defense" "$@"; done
                done ;;
            purified)
                for defense in $DEFENSES; do
                    rates=$last
                    case " $CONTROLS " in *" $defense "*) rates="0 $last" ;; esac
                    case " $SWEEP " in *" $defense "*) rates="0 $RATES" ;; esac
                    for rate in $rates; do train_detector "$detector" --condition purified --defense_model_type "$defense" --poison_rate "$rate" "$@"; done
                done ;;
        esac
    done
done

case " $* " in *" --dry_run "*) exit 0 ;; esac
"$PYTHON" "$here/compare_results.py" "$RESULTS"
