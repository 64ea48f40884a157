#!/bin/sh
# Train every defence of the tables of docs/results on split A of CelebA, 128 x 128 from a centre crop of 178 pixels. Every step resumes.
#
# reads   $CELEBA (photos and list_attr_celeba.txt; for the split alone), $GAN (the translator to defend)
# writes  $DATA/images_{a,b,c}, $RESULTS/<defence>/CelebA/train/<attack>-eps<eps>/NNN, $RESULTS/stargan/CelebA/train/adv-both/NNN
#
#   CELEBA=/path/to/CelebA sh train_CelebA.sh            DEFENSES="ddpm one-step" sh train_CelebA.sh --dry_run
#   GPUS=4 sh train_CelebA.sh                            sh train_CelebA.sh --batch_size 8        (a flag given here wins)
set -eu
here=$(dirname "$0"); . "$here/environment.sh"                # sets $PYTHON and launch (torchrun when GPUS > 1)
: "${CELEBA:=}"                # needed once, to split: a folder with list_attr_celeba.txt and images/ or img_align_celeba/
: "${DATA:=dataset/CelebA}" "${RESULTS:=results}"
: "${GAN:=$here/models/stargan/stargan_celeba_128/models/200000-G.ckpt}"
: "${GAN_STATE:=$GAN}"         # adv-train starts here: a generator, or the last.pt of a training of ours, which holds both networks
: "${DEFENSES:=ddpm one-step defensive-model-1 defensive-model-2 defensive-model-1-fixed defensive-model-2-fixed one-step-robust adv-train}"

recipe_of() {
    case $1 in
        # Serves ddpm, one-step-plain and diffpure: half of every batch at t < 60, the rest up to t = 300.
        ddpm)         echo "--num_steps 100000 --batch_size 32 --lr 2e-4 --ema 0.999 --max_timestep 300" ;;
        # Fine-tuned from ddpm's newest finished training; radii up to 0.11 in [-1,1] units (14 grey levels), 3 attack steps.
        one-step)     echo "--num_steps 20000 --batch_size 16 --lr 1e-4 --ema 0.999 --train_noise_var 0.11 --attack_steps 3 --gan_weights $GAN" ;;
        # Gaussian noise of standard deviation 0.05 in [-1,1] units.
        defensive-*)  echo "--num_steps 20000 --batch_size 256 --lr 1e-3 --ema 0.999 --attack_type gaussian --train_noise_var 0.05" ;;
        # Grown from defensive-model-2-fixed's newest finished training, on attacks of 3 steps through itself.
        one-step-robust) echo "--num_steps 20000 --batch_size 16 --lr 5e-4 --ema 0.999 --train_noise_var 0.085 --attack_steps 3 --gan_weights $GAN" ;;
        # Generator and discriminator on disrupted photos: serves adv-train, adv-train-blur and both.
        adv-train)    echo "--adversarial both --num_steps 50000 --decay_steps 25000 --batch_size 16 --lr 1e-4 --n_critic 5 --train_noise_var 0.1 --init_from $GAN_STATE" ;;
        *)            echo "error: DEFENSES names $1, which nothing trains; one of: ddpm one-step defensive-model-{1,2}[-fixed] one-step-robust adv-train" >&2; return 2 ;;
    esac
}
first() {      # the first of these that exists
    for _f in "$@"; do if [ -e "$_f" ]; then echo "$_f"; return; fi; done
    echo "error: found none of: $*" >&2; return 2
}

if [ ! -d "$DATA/images_a" ]; then
    if [ -z "$CELEBA" ]; then echo "error: $DATA/images_a is not there; give the photos: CELEBA=/path/to/CelebA sh train_CelebA.sh" >&2; exit 2; fi
    photos=$(first "$CELEBA/img_align_celeba/img_align_celeba" "$CELEBA/img_align_celeba" "$CELEBA/images")
    rows=$(first "$CELEBA/list_attr_celeba.txt" "$CELEBA/list_attr_celeba.csv" "$CELEBA/Anno/list_attr_celeba.txt")
    "$PYTHON" "$here/split_dataset.py" --folder_path "$photos" --attr_path "$rows" --output_dir "$DATA" --ratios 0.7 0.2 0.1
fi
case " $DEFENSES " in *" one-step "*|*" one-step-robust "*|*" adv-train "*) if [ ! -f "$GAN" ]; then
    echo "error: $GAN is not there: put StarGAN's official celeba-128x128-5attrs weights there, or name a translator: GAN=FILE" >&2; exit 2; fi ;; esac

for defense in $DEFENSES; do
    recipe=$(recipe_of "$defense")
    case $defense in adv-train) what="-m models.stargan.train" ;; *) what="$here/train_defense.py --defense_model_type $defense" ;; esac
    launch $what --data_dir "$DATA" --result_dir "$RESULTS" --image_size 128 --celeba_crop_size 178 --precision bf16 $recipe \
        --save_step 1000 --resume "$@"
done
