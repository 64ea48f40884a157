#!/bin/sh
# The tables of real_faces.sh on drawn faces, with the weights that ship: every radius, attacks that one-step never saw. CPU, no download.
# What does not ship (the other autoencoders, an adversarially trained translator, one-step with an ingredient left out, a translator of another seed)
# is trained on the faces of demo_weights.sh, hours on two CPU cores.
#
# writes  $OUT/{photos,drawn}, dataset/recipe/{photos,split} for trainings, records and caches below $RESULTS
#
#   sh experiments/drawn_faces.sh            STEPS="curve compare" NUM=32 sh experiments/drawn_faces.sh
#   STEPS="autoencoders adversarial-gan one-step-ablated other-gan table ablations transfer compare" sh experiments/drawn_faces.sh
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"
: "${OUT:=dataset/drawn-test}" "${RESULTS:=results/drawn}"
: "${NUM:=64}" "${CURVE_NUM:=32}" "${STEPS:=curve unseen compare}"
: "${CURVE_DEFENSES:=none jpeg-30 jpeg-50 jpeg-75 blur-1.5 defensive-model-2-fixed ddpm-10 ddpm-20 diffpure-300-30 one-step-plain one-step}"
: "${UNSEEN_DEFENSES:=none jpeg-50 jpeg-75 blur-1.5 defensive-model-2-fixed ddpm-20 one-step}" "${TRANSFER_DEFENSES:=$UNSEEN_DEFENSES}"
: "${EPSILONS:=0.01 0.02 0.05 0.08 0.1}" "${GAN_STEPS:=4500}"

"$PYTHON" -m faces.procedural --out "$OUT/photos" -n 640 --seed 0      # the recipe of the weights drew seed 1
"$PYTHON" "$here/split_dataset.py" --folder_path "$OUT/photos/images" --attr_path "$OUT/photos/list_attr_celeba.txt" \
    --output_dir "$OUT/drawn" --ratios 0.7 0.2 0.1

case " $STEPS " in *" autoencoders "*|*" adversarial-gan "*|*" one-step-ablated "*|*" other-gan "*)
    STEPS=faces sh "$here/experiments/demo_weights.sh" ;;
esac

TRAIN_DATA=dataset/recipe/split DATA=$OUT/drawn GAN=$here/models/stargan/demo.safetensors DIFFUSION=$here/models/diffusion/demo.safetensors
ONE_STEP=$here/models/one_step/demo.safetensors AUTOENCODER=$here/models/dae/demo.safetensors
export AUTOENCODER UNSEEN_DEFENSES TRANSFER_DEFENSES TRAIN_DATA GAN_STEPS DATA RESULTS NUM CURVE_NUM CURVE_DEFENSES EPSILONS STEPS GAN DIFFUSION ONE_STEP
case " $STEPS " in *" purified "*|*" filters "*|*" detectors "*)      # on more faces, a data set of its own
    for step in $STEPS; do
        case $step in purified|filters|detectors|compare) ;; *)
            echo "error: STEPS names $step beside purified, filters or detectors, which use other faces (drawn-2000): run them apart" >&2; exit 2 ;;
        esac
    done
    "$PYTHON" -m faces.procedural --out "$OUT/photos-2000" -n 2000 --seed 2
    DATA=$OUT/drawn-2000
    "$PYTHON" "$here/split_dataset.py" --folder_path "$OUT/photos-2000/images" --attr_path "$OUT/photos-2000/list_attr_celeba.txt" \
        --output_dir "$DATA" --ratios 0.1 0.6 0.3 ;;
esac
exec sh "$here/experiments/real_faces.sh" "$@"
