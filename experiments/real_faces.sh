#!/bin/sh
# The main job on real faces at 64 x 64: a translator, its judge, the purifiers, then every defence against the same disrupted photos.
# Every step resumes: the same command again continues, finished runs are no-ops.
#
# reads   --data DIR (images/ or img_align_celeba/ and list_attr_celeba.txt; only the split needs it), $PERTURBATION (optional)
# writes  $DATA/images_{a,b,c}, $RESULTS/{stargan,classifier,ddpm,one-step}/real-faces/train/..., one record.json a test, $RESULTS/comparison.md
#
# Purifiers learn from A and are judged on B. `tune` shows the parameters of the baselines on A (as data set real-faces-a); the lists
# below name each at its default and at its neighbours, and all of them are reported, so nothing is chosen on B.
#
#   sh experiments/real_faces.sh --data /path/to/CelebA        STEPS="table compare" sh experiments/real_faces.sh --num_workers 1
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"              # sets $PYTHON and launch (torchrun when GPUS > 1)
: "${STEPS:=split gan classifier diffusion one-step tune table curve seeds unseen transfer adaptive compare}"
: "${DATA:=dataset/real-faces}" "${RESULTS:=results}"
: "${NUM:=500}"                # photos of B in the table; 128 for diffpure at 300
: "${CURVE_NUM:=128}" "${CURVE_DEFENSES:=none jpeg-50 jpeg-75 ddpm-20 one-step}" "${EPSILONS:=0.01 0.02 0.05 0.08 0.1}"
: "${GAN:=}" "${DIFFUSION:=}" "${ONE_STEP:=}"    # weights to test instead of those trained here
: "${PERTURBATION:=}"          # a universal perturbation, .pt or .npy, for `unseen`
: "${INCEPTION:=}"             # standard Inception weights: FID and KID
: "${DEFENSES:=none jpeg-30 jpeg-50 jpeg-75 blur-1.5 ddpm-10 ddpm-20 ddpm-auto one-step one-step-plain diffpure-30}"

photos= n=$#
while [ "$n" -gt 0 ]; do       # --data is this script's own, all other words go on to every command
    word=$1; shift; n=$((n - 1))
    case $word in
        --data)   if [ "$n" -eq 0 ]; then echo "error: --data takes a folder: --data /path/to/CelebA" >&2; exit 2; fi
                  photos=$1; shift; n=$((n - 1)) ;;
        --data=*) photos=${word#--data=} ;;
        *)        set -- "$@" "$word" ;;
    esac
done

data="--data_dir $DATA --result_dir $RESULTS --image_size 64"
newest() {     # weights of the newest finished training, e.g. newest stargan/real-faces/train/standard
    _found=$RESULTS/$1/000/weights.safetensors
    for _f in "$RESULTS/$1"/*/weights.safetensors; do if [ -f "$_f" ]; then _found=$_f; fi; done
    echo "$_found"
}
name=$(basename "$DATA")
gan() { if [ -n "$GAN" ]; then echo "$GAN"; else newest "stargan/$name/train/standard"; fi; }
diffusion_weights() { if [ -n "$DIFFUSION" ]; then echo "$DIFFUSION"; else newest "ddpm/$name/train/none-eps0"; fi; }
one_step_weights() { if [ -n "$ONE_STEP" ]; then echo "$ONE_STEP"; else newest "one-step/$name/train/pgd-eps0.11"; fi; }
flags_of() {
    case $1 in
        jpeg-*)       echo "--defense_model_type jpeg --jpeg_quality ${1#jpeg-}" ;;
        blur-*)       echo "--defense_model_type blur --blur_sigma ${1#blur-}" ;;                                       # pixels
        ddpm-*)       echo "--defense_model_type ddpm --ddpm_start_num ${1#ddpm-} --defense_weights $(diffusion_weights)" ;;
        diffpure-*)   echo "--defense_model_type diffpure --ddpm_start_num 300 --respacing ${1#diffpure-} --defense_weights $(diffusion_weights)" ;;
        diffpure|one-step-plain) echo "--defense_model_type $1 --defense_weights $(diffusion_weights)" ;;
        one-step)     echo "--defense_model_type one-step --defense_weights $(one_step_weights)" ;;
        *)            echo "--defense_model_type $1" ;;
    esac
}
test_defense() {     # test_defense DEFENCE FLAGS...
    _flags=$(flags_of "$1"); shift
    launch "$here/test_defense.py" $data --gan_weights "$(gan)" ${INCEPTION:+--inception_weights "$INCEPTION"} --limit "$NUM" --resume $_flags "$@"
}
published="--attack_target gray --attack_label original"       # the published protocol
bound="--attack_target clean --attack_label target"            # the attacker's upper bound: one disrupted photo for each edit

split() {
    if [ -z "$photos" ]; then
        if [ -d "$DATA/images_a" ]; then return; fi
        echo "error: $DATA/images_a is not there; give the photos: sh experiments/real_faces.sh --data /path/to/CelebA" >&2; exit 2
    fi
    folder=$photos/images; if [ ! -d "$folder" ]; then folder=$photos/img_align_celeba; fi
    "$PYTHON" "$here/split_dataset.py" --folder_path "$folder" --attr_path "$photos/list_attr_celeba.txt" --output_dir "$DATA" --ratios 0.7 0.2 0.1
}
gan_training() {
    launch -m models.stargan.train $data --g_conv_dim 32 --d_conv_dim 32 --d_repeat_num 5 --n_critic 2 --lr 2e-4 --ema 0.999 \
        --precision bf16 --num_steps 4000 --decay_steps 2000 --save_step 500 --log_step 50 --resume "$@"
}
classifier() {       # trained on A without its held-out part, where it then judges the translator
    launch -m models.classifier.train $data --num_steps 1500 --save_step 500 --log_step 50 --resume "$@"
    "$PYTHON" -m models.classifier.train $data --judge "$(gan)" --classifier_weights "$(newest "classifier/$name/train/standard")" "$@"
}
diffusion() {
    launch "$here/train_defense.py" $data --defense_model_type ddpm --num_steps 1500 --batch_size 16 --lr 4e-4 --ema 0.995 \
        --precision bf16 --save_step 500 --log_step 50 --resume "$@"
}
one_step() {
    launch "$here/train_defense.py" $data --defense_model_type one-step --gan_weights "$(gan)" --num_steps 1500 --batch_size 8 --lr 2e-4 \
        --ema 0.995 --precision bf16 --save_step 500 --log_step 50 --resume "$@"
}
tune() {             # on the held-out part of A: what each baseline's parameter does
    for defense in jpeg-30 jpeg-50 jpeg-75 jpeg-90 blur-0.5 blur-1 blur-1.5 blur-2 ddpm-5 ddpm-10 ddpm-20 ddpm-40; do
        test_defense "$defense" --split a --dataset "$name-a" --limit 64 --test_noise_var 0.05 $bound "$@"
    done
}
table() {
    for protocol in "$bound" "$published"; do
        for defense in $DEFENSES; do test_defense "$defense" --test_noise_var 0.05 $protocol "$@"; done
        test_defense diffpure --limit 128 --test_noise_var 0.05 $protocol "$@"
    done
}
curve() {
    for eps in $EPSILONS; do
        for defense in $CURVE_DEFENSES; do
            test_defense "$defense" --limit "$CURVE_NUM" --test_noise_var "$eps" $bound "$@"
        done
    done
}
seeds() {            # of the attack's random start and of the purifiers' noise; 0 is the table's own
    for seed in 0 1 2; do
        for defense in none jpeg-50 jpeg-75 one-step; do test_defense "$defense" --test_noise_var 0.05 $bound --seed "$seed" "$@"; done
    done
}
unseen() {           # one-step learned from pgd with target clean; none of these
    for defense in none jpeg-50 jpeg-75 one-step; do
        for attack in fgsm mim; do test_defense "$defense" --attack_type "$attack" --test_noise_var 0.05 $bound "$@"; done
        test_defense "$defense" --test_noise_var 0.05 $published "$@"
        if [ -n "$PERTURBATION" ]; then
            test_defense "$defense" --attack_type universal --perturbation "$PERTURBATION" --test_noise_var 0.05 --attack_label original "$@"
        fi
    done
}
transfer() {         # a translator of another seed, which one-step did not learn from, attacked and translating
    launch -m models.stargan.train --data_dir "$DATA" --result_dir "$RESULTS/other" --image_size 64 --g_conv_dim 32 --d_conv_dim 32 \
        --d_repeat_num 5 --n_critic 2 --lr 2e-4 --ema 0.999 --precision bf16 --num_steps 3000 --decay_steps 1500 --save_step 500 --log_step 50 \
        --seed 1 --resume "$@"
    for defense in none jpeg-50 jpeg-75 one-step; do
        test_defense "$defense" --gan_weights "$(newest "other/stargan/$name/train/standard")" --gan_type stargan-seed1 --limit 128 \
            --test_noise_var 0.05 $bound "$@"
    done
}
adaptive() {         # the attacker knows the purifier; bpda: forward through it, backward as the identity
    test_defense one-step --attack_through one-step --gradient full --eot 4 --attack_steps 20 --limit 64 --test_noise_var 0.05 $bound "$@"
    test_defense ddpm-10 --attack_through ddpm --gradient bpda --eot 4 --attack_steps 20 --limit 32 --test_noise_var 0.05 $bound "$@"
}
compare() { case " $* " in *" --dry_run "*) ;; *) "$PYTHON" "$here/compare_results.py" "$RESULTS" ;; esac; }

for step in $STEPS; do
    case $step in
        gan) gan_training "$@" ;;
        one-step) one_step "$@" ;;
        split|classifier|diffusion|tune|table|curve|seeds|unseen|transfer|adaptive|compare) "$step" "$@" ;;
        *) echo "error: STEPS names $step; one of: split gan classifier diffusion one-step tune table curve seeds unseen transfer adaptive compare" >&2; exit 2 ;;
    esac
done
