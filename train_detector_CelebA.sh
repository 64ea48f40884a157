#!/bin/sh
# Train the detectors of the README table: split B clean, disrupted and purified by each defence, at several poison rates. Every run resumes.
#
# reads   $DATA/images_b, $DATA/images_c, $GAN, what train_CelebA.sh has trained; $KEPT for the condition filtered
# writes  $RESULTS/detector/CelebA/<gan>/<detector>/<condition>/<attack>-eps<eps>[-rate<r>]/seed<s>/NNN, $RESULTS/comparison.md, report.html
#
#   sh train_detector_CelebA.sh                       DETECTORS=meso4 DEFENSES="one-step jpeg-75" sh train_detector_CelebA.sh --limit 2000 --dry_run
#   CONDITIONS="clean disrupted" RATES="0.1 0.9 1" sh train_detector_CelebA.sh        GPUS=3 sh train_detector_CelebA.sh     (one seed a GPU)
set -eu
here=$(dirname "$0"); . "$here/environment.sh"                # sets $PYTHON and launch (torchrun when GPUS > 1)
: "${DATA:=dataset/CelebA}" "${RESULTS:=results}"
: "${GAN:=}"                   # a translator; default: the official 200000-G.ckpt where it is, else the newest one trained here
: "${GAN_DATA:=}"              # what it was trained on, for the record; default: what its file says
: "${WEIGHTS:=}"               # ImageNet weights of the one network in DETECTORS that takes them, or imagenet: torchvision's own, downloaded;
                               # default: those where torchvision has them on this machine, else none
: "${DETECTORS:=mobilenet_v2}" # meso4 mobilenet_v2 resnet18 efficientnet_b0
: "${CONDITIONS:=clean disrupted purified}"                   # and filtered, with KEPT=FILE
: "${KEPT:=}"                  # the samples that a filter has kept
: "${RATES:=0.25 0.5 0.75 0.9 1}"    # shares of B's photos that are disrupted
: "${SWEEP=one-step}"         # defences at every rate and at 0, the control
: "${CONTROLS=jpeg-75 defensive-model-2-fixed}"               # defences at rate 0 too; all of them at the last rate
: "${DEFENSES:=jpeg-50 jpeg-75 blur-1.5 defensive-model-1-fixed defensive-model-2-fixed ddpm-10 ddpm-20 one-step diffpure-300-30}"
: "${SEEDS:=0 1 2}" "${EPS:=0.05}"                            # radius of the disruption in [-1,1] units = 6 grey levels
: "${PROTOCOL:=--attack_target gray --attack_label original}" # --attack_target clean --attack_label joint is stronger

official=$here/models/stargan/stargan_celeba_128/models/200000-G.ckpt
if [ -z "$GAN" ] && [ -f "$official" ]; then GAN=$official; : "${GAN_DATA:=CelebA, nearly all of it, B and C too}"; fi
if [ -n "$GAN_DATA" ]; then set -- --gan_training_data "$GAN_DATA" "$@"; fi
flags_of() {
    case $1 in
        jpeg-*)       echo "--defense_model_type jpeg --jpeg_quality ${1#jpeg-}" ;;
        blur-*)       echo "--defense_model_type blur --blur_sigma ${1#blur-}" ;;                    # pixels
        ddpm-*)       echo "--defense_model_type ddpm --ddpm_start_num ${1#ddpm-}" ;;                # reverse steps, no noise first
        diffpure-*-*) _rest=${1#diffpure-}                                                           # diffpure-START-RESPACING
                      echo "--defense_model_type diffpure --ddpm_start_num ${_rest%-*} --respacing ${_rest#*-}" ;;
        *)            echo "--defense_model_type $1" ;;
    esac
}
train_detector() {             # train_detector DETECTOR FLAGS...
    case $1 in meso4) _weights= ;; *) _weights=${WEIGHTS:+--weights $WEIGHTS} ;; esac
    _detector=$1; shift
    launch "$here/train_detector.py" --data_dir "$DATA" --result_dir "$RESULTS" --image_size 128 --celeba_crop_size 178 ${GAN:+--gan_weights "$GAN"} \
        --detector "$_detector" $_weights --test_noise_var "$EPS" $PROTOCOL --seeds $SEEDS --resume "$@"
}
last=${RATES##* }

for detector in $DETECTORS; do
    for condition in $CONDITIONS; do
        case $condition in
            clean) train_detector "$detector" --condition clean "$@" ;;
            disrupted) for rate in $RATES; do train_detector "$detector" --condition disrupted --poison_rate "$rate" "$@"; done ;;
            filtered)
                if [ -z "$KEPT" ]; then echo "error: CONDITIONS names filtered: give the samples that a filter has kept, KEPT=FILE" >&2; exit 2; fi
                train_detector "$detector" --condition filtered --kept_names "$KEPT" --poison_rate "$last" "$@" ;;
            purified)
                for defense in $DEFENSES; do
                    rates=$last
                    case " $CONTROLS " in *" $defense "*) rates="0 $last" ;; esac
                    case " $SWEEP " in *" $defense "*) rates="0 $RATES" ;; esac
                    for rate in $rates; do train_detector "$detector" --condition purified $(flags_of "$defense") --poison_rate "$rate" "$@"; done
                done ;;
            *) echo "error: CONDITIONS names $condition; one of: clean disrupted purified filtered" >&2; exit 2 ;;
        esac
    done
done

case " $* " in *" --dry_run "*) exit 0 ;; esac
"$PYTHON" "$here/compare_results.py" "$RESULTS"
