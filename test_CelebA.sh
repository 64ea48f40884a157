#!/bin/sh
# Test every defence of the tables of docs/results on split B of CelebA with the official StarGAN, then compare. Every run resumes.
#
# reads   $DATA/images_b, $GAN, what train_CelebA.sh has trained
# writes  $RESULTS/<defence+params>/CelebA/stargan/<noise>/<attack>-eps<eps>/NNN/record.json, $RESULTS/comparison.{md,csv}, report.html
#
#   sh test_CelebA.sh                DEFENSES="none jpeg-75 ddpm-10" NUM=256 sh test_CelebA.sh --dry_run                GPUS=4 sh test_CelebA.sh
set -eu
here=$(dirname "$0"); . "$here/environment.sh"                # sets $PYTHON and launch (torchrun when GPUS > 1)
: "${DATA:=dataset/CelebA}" "${RESULTS:=results}"
: "${GAN:=$here/models/stargan/stargan_celeba_128/models/200000-G.ckpt}"
: "${GAN_DATA:=CelebA, nearly all of it, B and C too}"        # what $GAN was trained on, for the record
: "${INCEPTION:=}"             # pt_inception-2015-12-05-6726825d.pth: FID and KID; without it a Frechet distance that names its features
: "${NUM:=2048}"               # photos of B; below 2,048 an FID is mostly bias
: "${EPS:=0.05}"               # radius of the disruption in [-1,1] units = 6 grey levels
: "${DEFENSES:=none jpeg-30 jpeg-50 jpeg-75 blur-1.5 defensive-model-1 defensive-model-2 defensive-model-1-fixed defensive-model-2-fixed \
ddpm-10 ddpm-20 ddpm-auto one-step one-step-robust one-step-plain diffpure-300-30 diffpure adv-train adv-train-blur both}"

test_defense() {
    launch "$here/test_defense.py" --data_dir "$DATA" --result_dir "$RESULTS" --image_size 128 --celeba_crop_size 178 --gan_weights "$GAN" \
        --gan_training_data "$GAN_DATA" ${INCEPTION:+--inception_weights "$INCEPTION"} --test_noise_var "$EPS" --limit "$NUM" --resume "$@"
}

# The published protocol (pull the fake of the photo's own labels to grey), then the attacker's upper bound (push each fake from its clean one).
for protocol in "--attack_target gray --attack_label original" "--attack_target clean --attack_label target"; do
    test_defense --defense_model_type $DEFENSES $protocol "$@"       # one process, which disrupts the photos once
    for defense in $DEFENSES; do
        case $defense in adv-train*|both*)      # the translator itself was trained: attacked white-box as well
            test_defense --defense_model_type "$defense" $protocol --attack_on self "$@" ;;
        esac
    done
done

case " $* " in *" --dry_run "*) exit 0 ;; esac
"$PYTHON" "$here/compare_results.py" "$RESULTS"
