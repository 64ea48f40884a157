#!/bin/sh
# The main job on real faces at 64 x 64: a translator, its judge, the purifiers, then every defence against the same disrupted photos,
# and detectors trained on disrupted photos, on purified ones, and on what a filter (De-Pois) leaves of them.
# Every step resumes: the same command again continues, finished runs are no-ops.
#
# reads   --data DIR (images/ or img_align_celeba/ and list_attr_celeba.txt; only the split needs it), $PERTURBATION (optional)
# writes  $DATA/images_{a,b,c}, $RESULTS/{stargan,classifier,ddpm,one-step,...}/real-faces/train/..., one record.json a test, $RESULTS/comparison.md
#
# Purifiers learn from A and are judged on B; detectors learn from B and are judged on C. `tune` shows the parameters of the baselines on A (as data set real-faces-a); the lists
# below name each at its default and at its best on A.
#
#   sh experiments/real_faces.sh --data /path/to/CelebA        STEPS="table compare" sh experiments/real_faces.sh --num_workers 1
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"              # sets $PYTHON and launch (torchrun when GPUS > 1)
: "${STEPS:=split gan classifier diffusion one-step autoencoders adversarial-gan one-step-ablated other-gan \
tune table curve seeds unseen ablations transfer adaptive purified filters detectors compare}"
: "${DATA:=dataset/real-faces}" "${RESULTS:=results}"
: "${GAN_STEPS:=4000}" "${ADVERSARIAL_STEPS:=2000}" "${DIFFUSION_STEPS:=1500}" "${ONE_STEP_STEPS:=2400}" "${AUTOENCODER_STEPS:=2000}"    # for two CPU cores
: "${GAN_BATCH:=16}" "${DIFFUSION_BATCH:=16}" "${ONE_STEP_BATCH:=8}"
: "${TRAIN_DATA:=$DATA}"       # a split whose A is trained on
: "${NUM:=500}"                # photos of B in the table; 128 for diffpure at 300
: "${CURVE_NUM:=128}" "${EPSILONS:=0.01 0.02 0.05 0.08 0.1}"
: "${CURVE_DEFENSES:=none jpeg-30 jpeg-50 jpeg-75 blur-1.5 defensive-model-1-fixed defensive-model-2-fixed ddpm-10 ddpm-20 diffpure-300-30 one-step}"
: "${UNSEEN_DEFENSES:=none jpeg-50 jpeg-75 blur-1.5 defensive-model-1-fixed defensive-model-2-fixed ddpm-10 ddpm-20 one-step}"
: "${TRANSFER_DEFENSES:=none jpeg-50 jpeg-75 blur-1.5 defensive-model-1-fixed defensive-model-2-fixed defensive-model-2-fixed-pgd ddpm-20 \
one-step one-step-noise0.45}"
: "${DETECTOR_DEFENSES:=jpeg-50 jpeg-75 blur-1.5 defensive-model-2-fixed ddpm-20 one-step diffpure-300-30}"
: "${RATES:=0.1 0.25 0.5 0.75 0.9 1}"                 # shares of disrupted photos; defences at the last of them, and
: "${CONTROLS=jpeg-75 defensive-model-2-fixed one-step}" "${SWEEP=one-step}"    # these at 0 as well, these at all
: "${FILTER_RATES:=0.1 0.25 0.5 0.75 0.9}"        # `filters` drops samples at each; detectors then learn from the others, as they are and purified by $BOTH
: "${FILTER_METHODS:=de-pois loss knn-labels isolation-forest isolation-forest-pixels}"      # the first of them drops for the detectors
: "${BOTH=$SWEEP}" "${KEPT:=}"                    # lists of samples to keep, %r in the name = the rate; default: those of `filters`, where they are
: "${DETECTORS:=meso4 mobilenet_v2}" "${IMAGENET:=}"                     # mobilenet_v2's weights; default: torchvision's where they are on this machine
: "${DETECTOR_EPOCHS:=}" "${DETECTOR_LIMIT:=2000}"                       # default: meso4 8, else the tutorial's 20; photos of B, and of C
: "${DETECTOR_PROTOCOL:=--attack_target gray --attack_label original}"
: "${SEEDS:=0 1 2}" "${SEED_DEFENSES:=none jpeg-50 jpeg-75 defensive-model-2-fixed ddpm-20 one-step}"
: "${GAN:=}" "${DIFFUSION:=}" "${ONE_STEP:=}" "${AUTOENCODER:=}"    # weights to test instead of those trained here; the last of defensive-model-2-fixed
: "${PERTURBATION:=}"          # a universal perturbation, .pt or .npy, for `unseen`; default: one crafted on 128 photos of A
: "${INCEPTION:=}"             # standard Inception weights: FID and KID
: "${DEFENSES:=none jpeg-30 jpeg-50 jpeg-75 blur-1.5 defensive-model-1 defensive-model-2 defensive-model-1-fixed defensive-model-2-fixed \
ddpm-10 ddpm-20 ddpm-auto one-step one-step-plain diffpure-300-30 diffpure-20-1000 diffpure adv-train adv-train-blur both-10}"

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

name=$(basename "$DATA")
data="--data_dir $DATA --result_dir $RESULTS --image_size 64"
training="--data_dir $TRAIN_DATA --dataset $name --result_dir $RESULTS --image_size 64"
gan() { newest "$GAN" "stargan/$name/train/standard"; }
diffusion_weights() { newest "$DIFFUSION" "ddpm/$name/train/none-eps0"; }
one_step_weights() { newest "$ONE_STEP" "one-step/$name/train/pgd-eps0.11"; }
autoencoder_weights() {
    if [ "$1" = defensive-model-2-fixed ] && [ -n "$AUTOENCODER" ]; then echo "$AUTOENCODER"; else newest "" "$1/$name/train/gaussian-eps0.05"; fi
}
adversarial_gan() { newest "" "stargan/$name/train/adv-both"; }
with_weights() {     # with_weights DEFENCE: the flags of it with the weights that were trained here; it may be an ablation (one-step-fake0) or a variant (-pgd)
    _of=$1 _file= _gan=
    case $1 in
        ddpm-*|diffpure*|both-*|one-step-plain*) _file=$(diffusion_weights) ;;
        one-step)        _file=$(one_step_weights) ;;
        one-step-*)      _of=one-step; _file=$(newest "" "one-step/$name/train/pgd-eps0.11-${1#one-step-}") ;;
        defensive-*-pgd) _of=${1%-pgd}; _file=$(newest "" "$_of/$name/train/pgd-eps0.05") ;;
        defensive-*)     _file=$(autoencoder_weights "$1") ;;
    esac
    case $1 in adv-train*|both-*) _gan=$(adversarial_gan) ;; esac
    echo "--defense_model_type $_of${_file:+ --defense_weights $_file}${_gan:+ --adv_gan_weights $_gan}"
}
test_defense() {     # test_defense DEFENCE FLAGS...
    _flags=$(with_weights "$1"); shift
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
train_gan() {        # train_gan FLAGS...
    launch -m models.stargan.train --data_dir "$TRAIN_DATA" --dataset "$name" --image_size 64 --g_conv_dim 32 --d_conv_dim 32 --d_repeat_num 5 \
        --n_critic 2 --batch_size "$GAN_BATCH" --lr 2e-4 --ema 0.999 --precision bf16 --save_step 500 --log_step 50 --resume "$@"
}
train_purifier() {   # train_purifier NAME FLAGS...
    launch "$here/train_defense.py" $training --ema 0.995 --precision bf16 --save_step 500 --log_step 50 --resume --defense_model_type "$@"
}
gan_training() { train_gan --result_dir "$RESULTS" --num_steps "$GAN_STEPS" "$@"; }
other_gan() { train_gan --result_dir "$RESULTS/other" --num_steps "$GAN_STEPS" --seed 1 "$@"; }
adversarial_gan_training() {     # both networks fine-tuned on disrupted photos; from the state with both networks, where there is one
    _from=$(dirname "$(gan)")/last.pt; if [ ! -f "$_from" ]; then _from=$(gan); fi
    train_gan --result_dir "$RESULTS" --num_steps "$ADVERSARIAL_STEPS" --adversarial both --init_from "$_from" "$@"
}
classifier() {       # trained on A without its held-out part, where it then judges the translator
    launch -m models.classifier.train $training --num_steps 1500 --save_step 500 --log_step 50 --resume "$@"
    "$PYTHON" -m models.classifier.train $training --judge "$(gan)" --classifier_weights "$(newest "" "classifier/$name/train/standard")" "$@"
}
diffusion() { train_purifier ddpm --num_steps "$DIFFUSION_STEPS" --batch_size "$DIFFUSION_BATCH" --lr 4e-4 "$@"; }
one_step() {
    train_purifier one-step --gan_weights "$(gan)" --defense_weights "$(diffusion_weights)" --num_steps "$ONE_STEP_STEPS" --batch_size "$ONE_STEP_BATCH" --lr 2e-4 "$@"
}
one_step_ablated() {     # without the loss on the fake, without that on the photo, without undisturbed photos; going on with Gaussian noise
    one_step --fake_weight 0 "$@"; one_step --photo_weight 0 "$@"; one_step --clean_share 0 "$@"
    train_purifier one-step --gan_weights "$(gan)" --defense_weights "$(one_step_weights)" --num_steps 900 --batch_size 8 --lr 2e-4 --noise_share 0.45 "$@"
}
autoencoders() {
    for defense in defensive-model-1 defensive-model-2 defensive-model-1-fixed defensive-model-2-fixed; do
        train_purifier "$defense" --num_steps "$AUTOENCODER_STEPS" --batch_size 16 --lr 1e-3 "$@"
    done
    # for `transfer`: what an autoencoder loses that learns from disruptions made for one translator instead of noise
    train_purifier defensive-model-2-fixed --attack_type pgd --attack_target clean --attack_steps 5 --gan_weights "$(gan)" --limit 700 \
        --num_steps 800 --batch_size 16 --lr 1e-3 --ema 0.99 "$@"
}
tune() {             # on the held-out part of A: what each baseline's parameter does
    for defense in none jpeg-30 jpeg-50 jpeg-75 jpeg-90 blur-0.5 blur-1 blur-1.5 blur-2 ddpm-5 ddpm-10 ddpm-20 ddpm-30 ddpm-40 ddpm-auto \
            diffpure-300-30 diffpure-100-100 diffpure-50-200 diffpure-20-1000; do
        test_defense "$defense" --split a --dataset "$name-a" --limit 64 --test_noise_var 0.05 $bound "$@"
    done
}
table() {
    for protocol in "$bound" "$published"; do
        for defense in $DEFENSES; do
            case $defense in diffpure) _limit="--limit 128" ;; *) _limit= ;; esac      # 300 evaluations a photo
            test_defense "$defense" $_limit --test_noise_var 0.05 $protocol "$@"
            case $defense in adv-train*|both-*)      # the translator itself was trained: attacked white-box as well
                test_defense "$defense" --attack_on self --test_noise_var 0.05 $protocol "$@" ;;
            esac
        done
    done
}
curve() {
    for eps in $EPSILONS; do
        for defense in $CURVE_DEFENSES; do
            test_defense "$defense" --limit "$CURVE_NUM" --test_noise_var "$eps" $bound "$@"
        done
    done
}
seeds() {            # of the attack's random start and of the purifiers' noise
    for seed in $SEEDS; do
        for defense in $SEED_DEFENSES; do
            test_defense "$defense" --limit "$CURVE_NUM" --test_noise_var 0.05 $bound --seed "$seed" "$@"
        done
    done
}
universal() {        # a universal perturbation crafted on A, once
    "$PYTHON" -m attacks --input "$DATA/images_a" --output "$RESULTS/universal/$name" --limit 128 --attack_type universal --save_perturbation "$1" \
        --image_size 64 --attack_label joint --gan_weights "$(gan)"
}
unseen() {           # one-step learned from pgd with target clean; none of these, nor the published protocol of the table
    _file=$PERTURBATION
    if [ -z "$_file" ]; then
        _file=$RESULTS/universal/$name.pt
        case " $* " in *" --dry_run "*) ;; *) if [ ! -f "$_file" ]; then universal "$_file"; fi ;; esac
    fi
    for defense in $UNSEEN_DEFENSES; do
        for attack in fgsm mim; do test_defense "$defense" --limit "$CURVE_NUM" --attack_type "$attack" --test_noise_var 0.05 $bound "$@"; done
        if [ -n "$PERTURBATION" ] || [ -f "$_file" ]; then
            test_defense "$defense" --limit "$CURVE_NUM" --attack_type universal --perturbation "$_file" --test_noise_var 0.05 --attack_label original "$@"
        fi
    done
}
ablations() {        # of one-step, against the whole of it
    for eps in 0.01 0.05 0.1; do
        for defense in one-step one-step-fake0 one-step-photo0 one-step-clean0 one-step-noise0.45 one-step-plain; do
            test_defense "$defense" --limit "$CURVE_NUM" --test_noise_var "$eps" $bound "$@"
        done
    done
}
transfer() {         # a translator of another seed, which one-step did not learn from, attacked and translating
    for defense in $TRANSFER_DEFENSES; do
        test_defense "$defense" --gan_weights "$(newest "" "other/stargan/$name/train/standard")" --gan_name stargan-seed1 --limit 128 \
            --test_noise_var 0.05 $bound "$@"
    done
}
adaptive() {         # the attacker knows the purifier; bpda: forward through it, backward as the identity
    test_defense one-step --attack_through one-step --gradient full --attack_steps 20 --limit 64 --test_noise_var 0.05 $bound "$@"
    test_defense defensive-model-2-fixed --attack_through defensive-model-2-fixed --gradient full --attack_steps 20 --limit 64 --test_noise_var 0.05 $bound "$@"
    test_defense ddpm-10 --attack_through ddpm --gradient bpda --eot 4 --attack_steps 20 --limit 32 --test_noise_var 0.05 $bound "$@"
}
purified() {         # what each defence of the detectors' table does to the fakes of B
    for defense in none $DETECTOR_DEFENSES; do
        test_defense "$defense" --limit "$CURVE_NUM" --test_noise_var 0.05 $DETECTOR_PROTOCOL "$@"
    done
}
train_detector() {   # train_detector DETECTOR FLAGS...
    case $1 in meso4 | residual) _weights= _epochs=8 ;; *) _weights=${IMAGENET:+--weights $IMAGENET} _epochs=20 ;; esac
    _detector=$1; shift
    launch "$here/train_detector.py" $data --gan_weights "$(gan)" --detector "$_detector" $_weights --epochs "${DETECTOR_EPOCHS:-$_epochs}" --seeds $SEEDS \
        --limit "$DETECTOR_LIMIT" --batch_size 32 --image_batch_size 8 --test_noise_var 0.05 $DETECTOR_PROTOCOL --resume "$@"
}
lists=${KEPT:-$RESULTS/depois/kept-$name-rate%r.txt}
kept() { printf '%s\n' "$lists" | sed "s|%r|$1|g"; }      # kept RATE
filters() {          # De-Pois looks for the disrupted photos and their fakes, under every seed; the first one's lists are what detectors use
    for rate in $FILTER_RATES; do
        for seeds in "$SEEDS" "${SEEDS%% *} --kept_names $(kept "$rate")"; do
            "$PYTHON" -m purify.depois --dataset detector $data --gan_weights "$(gan)" --limit "$DETECTOR_LIMIT" --image_batch_size 8 --test_noise_var 0.05 \
                $DETECTOR_PROTOCOL --poison disruption --poison_rate "$rate" --methods $FILTER_METHODS --seeds $seeds --resume "$@"
        done
    done
}
detectors() {        # on clean, disrupted and purified photos of B, tested on C
    last=${RATES##* }
    case $lists in *%r*) kept_rates=$FILTER_RATES ;; *) kept_rates=$last ;; esac
    for detector in $DETECTORS; do
        train_detector "$detector" --condition clean "$@"
        for rate in $RATES; do train_detector "$detector" --condition disrupted --poison_rate "$rate" "$@"; done
        for defense in $DETECTOR_DEFENSES; do
            rates=$last
            case " $CONTROLS " in *" $defense "*) rates="0 $last" ;; esac
            case " $SWEEP " in *" $defense "*) rates="0 $RATES" ;; esac
            for rate in $rates; do train_detector "$detector" --condition purified --poison_rate "$rate" $(with_weights "$defense") "$@"; done
        done
        for rate in $kept_rates; do
            if [ -z "$KEPT" ] && [ ! -f "$(kept "$rate")" ]; then continue; fi       # without the step `filters`
            train_detector "$detector" --condition filtered --poison_rate "$rate" --kept_names "$(kept "$rate")" "$@"
            for defense in $BOTH; do
                train_detector "$detector" --condition purified --poison_rate "$rate" --kept_names "$(kept "$rate")" $(with_weights "$defense") "$@"
            done
        done
    done
}
compare() { case " $* " in *" --dry_run "*) ;; *) "$PYTHON" "$here/compare_results.py" "$RESULTS" ;; esac; }

for step in $STEPS; do
    case $step in
        gan) gan_training "$@" ;;
        one-step) one_step "$@" ;;
        adversarial-gan) adversarial_gan_training "$@" ;;
        one-step-ablated) one_step_ablated "$@" ;;
        other-gan) other_gan "$@" ;;
        split|classifier|diffusion|autoencoders|tune|table|curve|seeds|unseen|ablations|transfer|adaptive|purified|filters|detectors|compare) "$step" "$@" ;;
        *) echo "error: STEPS names $step; one of: split gan classifier diffusion one-step autoencoders adversarial-gan one-step-ablated other-gan" \
            "tune table curve seeds unseen ablations transfer adaptive purified filters detectors compare" >&2; exit 2 ;;
    esac
done
