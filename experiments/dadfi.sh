#!/bin/sh
# Disruptions made in one pass: a generator trained against one translator or three (DADFI), compared with attacks that need gradients for
# every photo, at an equal bound and on photos that neither has seen; then every purifier against it, and detectors that it poisons.
# Drawn faces with the weights that ship, on two CPU cores, no download; every step resumes.
#
# reads   nothing; with DATA, TRAIN_DATA and VICTIMS, a split of real faces and translators of it
# writes  $RESULTS/{dadfi,attacked,universal,disruption,...}, $RESULTS/comparison.md, comparison_disruptions.csv, report.html
#
#   sh experiments/dadfi.sh                       STEPS="train disruptions compare" NUM=32 sh experiments/dadfi.sh
#   STEPS="train universal disruptions compare" DATA=dataset/CelebA TRAIN_DATA=dataset/CelebA VICTIMS="stargan=G.ckpt" IMAGE_SIZE=128 sh experiments/dadfi.sh
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"
: "${STEPS:=faces train universal disruptions purifiers compare}"
: "${DATA:=dataset/drawn-test/drawn}" "${TRAIN_DATA:=dataset/recipe/split}" "${RESULTS:=results/drawn}" "${IMAGE_SIZE:=64}"
if [ -z "${VICTIMS:-}" ]; then
    VICTIMS="stargan=$here/models/stargan/demo.safetensors stgan=$here/models/stgan/demo.safetensors starganv2=$here/models/starganv2/demo.safetensors"
    : "${DADFI:=$here/models/dadfi/demo.safetensors}"
fi
: "${DADFI:=}"                                    # weights of a training against all victims; default: it is trained here
: "${NUM:=128}"                                   # photos of B that every disruption is measured on
: "${PHOTOS:=284}" "${DADFI_STEPS:=800}"         # photos of A, a tenth held out; steps of 8 photos
: "${UNIVERSAL_PHOTOS:=32}" "${UNIVERSAL_STEPS:=56}"        # x 5 domains: as many passes through a translator as a training, 800 x 8 + 10 x 255
: "${ATTACKS:=random-sign fgsm pgd mim}"
: "${PURIFIERS:=jpeg-50 jpeg-75 blur-1.5 defensive-model-2-fixed ddpm-20 one-step diffpure-300-30}"      # on drawn faces
: "${DETECTOR_PURIFIERS:=jpeg-75 defensive-model-2-fixed one-step}" "${DETECTOR_LIMIT:=800}" "${PURIFIED_NUM:=100}"
name=$(basename "$DATA")
: "${TRAIN_NAME:=$name-train}"                    # the photos of A and of DATA have equal names, and caches of their own
trained() {         # weights of the newest finished training
    _found=$RESULTS/dadfi/$TRAIN_NAME/train/$1/000/weights.safetensors
    for _f in "$RESULTS/dadfi/$TRAIN_NAME/train/$1"/*/weights.safetensors; do if [ -f "$_f" ]; then _found=$_f; fi; done
    echo "$_found"
}
all=; for victim in $VICTIMS; do all=$all${all:++}${victim%%=*}; done           # stargan+stgan+starganv2
universal=$RESULTS/universal/$name-$all-n$UNIVERSAL_PHOTOS-$UNIVERSAL_STEPS.pt
against_all() { if [ -n "$DADFI" ]; then echo "$DADFI"; else trained "$all"; fi; }
several() { [ "$all" != "${all#*+}" ]; }

faces() {
    case $DATA in dataset/drawn-test/drawn) ;; *) return ;; esac
    STEPS=faces sh "$here/experiments/demo_weights.sh"             # seed 1: the translators' own photos, of which A is learned from
    "$PYTHON" -m faces.procedural --out dataset/drawn-test/photos -n 640 --seed 0
    "$PYTHON" "$here/split_dataset.py" --folder_path dataset/drawn-test/photos/images --attr_path dataset/drawn-test/photos/list_attr_celeba.txt \
        --output_dir dataset/drawn-test/drawn --ratios 0.7 0.2 0.1
}
train_dadfi() {     # train_dadfi FLAGS...
    launch -m models.dadfi.train --data_dir "$TRAIN_DATA" --dataset "$TRAIN_NAME" --result_dir "$RESULTS" --image_size "$IMAGE_SIZE" --limit "$PHOTOS" \
        --num_steps "$DADFI_STEPS" --batch_size 8 --precision bf16 --save_step 250 --log_step 25 --resume "$@"
}
train() {           # against all, with parts of the losses, without the fine-tuning module, and against each alone
    if [ -z "$DADFI" ]; then train_dadfi --victims $VICTIMS "$@"; fi
    train_dadfi --victims $VICTIMS --lambda_distance 0 "$@"         # the paper's losses alone
    train_dadfi --victims $VICTIMS --lambda_y 0 "$@"                # ours without the paper's
    train_dadfi --victims $VICTIMS --without_finetuning "$@"
    if several; then for victim in $VICTIMS; do train_dadfi --victims "$victim" "$@"; done; fi
}
universal() {
    if [ -f "$universal" ]; then return; fi
    "$PYTHON" -m attacks.craft --data_dir "$TRAIN_DATA" --image_size "$IMAGE_SIZE" --victims $VICTIMS --limit "$UNIVERSAL_PHOTOS" --precision bf16 \
        --attack_steps "$UNIVERSAL_STEPS" --attack_step_size 0.005 --save_perturbation "$universal" "$@"
}
disruption() {      # disruption ATTACK FLAGS...; a dry run leaves out what needs a file that a step before it makes
    case " $* " in *" --dry_run "*)
        for _word in "$@"; do
            case $_word in *.pt|*.safetensors) if [ ! -f "$_word" ]; then echo "not made yet: $_word" >&2; return; fi ;; esac
        done ;;
    esac
    launch -m evaluation.disruption --victims $VICTIMS --data_dir "$DATA" --result_dir "$RESULTS" --image_size "$IMAGE_SIZE" --limit "$NUM" --batch_size 8 \
        --test_noise_var 0.05 --resume --attack_type "$@"
}
disruptions() {
    for attack in $ATTACKS; do
        case $attack in
            random-sign|gaussian|none) disruption "$attack" "$@" ;;
            *) disruption "$attack" --attack_target clean --attack_label iterative "$@" ;;      # on each translator itself
        esac
    done
    if several; then
        for victim in $VICTIMS all; do disruption pgd --attack_target clean --attack_label iterative --crafted_on "${victim%%=*}" "$@"; done
    fi
    disruption universal --perturbation "$universal" "$@"
    disruption dadfi --attack_weights "$(against_all)" "$@"
    for variant in distance0 y0 without-finetuning; do disruption dadfi --attack_weights "$(trained "$all-$variant")" "$@"; done
    if several; then for victim in $VICTIMS; do disruption dadfi --attack_weights "$(trained "${victim%%=*}")" "$@"; done; fi
}
purifiers() {       # drawn faces alone: on 2,000 drawn faces of their own: what each defence leaves of it, and detectors trained on clean, disrupted and purified photos
    case $DATA in dataset/drawn-test/drawn) ;; *)
        echo 'purifiers: drawn faces only; on other photos DETECTOR_PROTOCOL="--attack_type dadfi --attack_weights FILE" sh experiments/real_faces.sh' >&2; return ;;
    esac
    DETECTOR_PROTOCOL="--attack_type dadfi --attack_weights $(against_all)" RATES=1 DETECTORS=meso4 CONTROLS= SWEEP= CURVE_NUM=$PURIFIED_NUM
    export DETECTOR_PROTOCOL RATES DETECTORS CONTROLS SWEEP CURVE_NUM DETECTOR_LIMIT RESULTS
    DETECTOR_DEFENSES=$PURIFIERS STEPS=purified sh "$here/experiments/drawn_faces.sh" "$@"
    DETECTOR_DEFENSES=$DETECTOR_PURIFIERS STEPS=detectors sh "$here/experiments/drawn_faces.sh" "$@"
}
compare() { case " $* " in *" --dry_run "*) ;; *) "$PYTHON" "$here/compare_results.py" "$RESULTS" ;; esac; }

for step in $STEPS; do
    case $step in
        faces) faces ;;
        train|universal|disruptions|purifiers|compare) "$step" "$@" ;;
        *) echo "error: STEPS names $step; one of: faces train universal disruptions purifiers compare" >&2; exit 2 ;;
    esac
done
