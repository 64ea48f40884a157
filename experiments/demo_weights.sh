#!/bin/sh
# Make the weights that ship with the repository, on faces we draw ourselves. About five hours on two CPU cores; every step resumes.
#
# reads   nothing
# writes  $OUT/{photos,split,results}, models/{stargan,stgan,starganv2,classifier,diffusion,one_step,one_step_robust,dae,dadfi}/demo.safetensors (float16) and models/weights.yaml
#
#   sh experiments/demo_weights.sh            STEPS="classifier translator" sh experiments/demo_weights.sh
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"
: "${OUT:=dataset/recipe}" "${STEPS:=faces classifier translator stgan starganv2 diffusion one-step autoencoder dadfi one-step-robust export}"
data="--data_dir $OUT/split --dataset drawn --result_dir $OUT/results --image_size 64"
has() { case " $STEPS " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

if has faces; then
    "$PYTHON" -m faces.procedural --out "$OUT/photos" -n 6000 --seed 1
    "$PYTHON" "$here/split_dataset.py" --folder_path "$OUT/photos/images" --attr_path "$OUT/photos/list_attr_celeba.txt" \
        --output_dir "$OUT/split" --ratios 0.9 0.05 0.05
fi
if has classifier; then
    launch -m models.classifier.train $data --num_steps 1500 --save_step 500 --log_step 50 --resume "$@"
fi
if has translator; then
    launch -m models.stargan.train $data --g_conv_dim 28 --d_conv_dim 32 --d_repeat_num 5 --n_critic 2 --lr 2e-4 --ema 0.999 \
        --precision bf16 --num_steps 4500 --decay_steps 2000 --save_step 500 --log_step 50 --resume "$@"
fi
if has stgan; then
    launch -m models.stgan.train $data --g_conv_dim 16 --num_layers 4 --d_conv_dim 32 --d_fc_dim 128 --n_critic 2 --batch_size 16 --ema 0.999 \
        --precision bf16 --num_steps 8000 --decay_steps 3000 --save_step 500 --log_step 50 --resume "$@"
fi
if has starganv2; then
    launch -m models.starganv2.train $data --selected_attrs Black_Hair Blond_Hair Brown_Hair Male --turns alternate --dim_in 16 --max_conv_dim 128 \
        --hidden_dim 64 --style_dim 32 --lambda_cyc 2 --batch_size 8 --lr 3e-4 --f_lr 3e-5 --precision bf16 --num_steps 4500 --ds_steps 3400 \
        --save_step 500 --log_step 25 --resume "$@"
fi
if has diffusion; then
    launch "$here/train_defense.py" $data --defense_model_type ddpm --num_steps 1500 --batch_size 16 --lr 4e-4 --ema 0.995 \
        --precision bf16 --save_step 500 --log_step 50 --resume "$@"
fi
translator=$OUT/results/stargan/drawn/train/standard/000/weights.safetensors
if has one-step; then
    launch "$here/train_defense.py" $data --defense_model_type one-step --gan_weights "$translator" --num_steps 2400 --batch_size 8 \
        --lr 2e-4 --ema 0.995 --precision bf16 --save_step 300 --log_step 50 --resume "$@"
fi
if has autoencoder; then
    launch "$here/train_defense.py" $data --defense_model_type defensive-model-2-fixed --num_steps 2000 --batch_size 16 --lr 1e-3 \
        --ema 0.995 --precision bf16 --save_step 500 --log_step 50 --resume "$@"
fi
if has export; then
    "$PYTHON" -m tools.export "$OUT/results"
    for gan in stargan stgan starganv2; do
        "$PYTHON" -m models.classifier.train --gan_type "$gan" --judge "$here/models/$gan/demo.safetensors" $data
    done
fi
if has dadfi; then      # against the three translators as they ship
    launch -m models.dadfi.train $data --victims "stargan=$here/models/stargan/demo.safetensors" "stgan=$here/models/stgan/demo.safetensors" \
        "starganv2=$here/models/starganv2/demo.safetensors" --limit 284 --num_steps 800 --batch_size 8 --precision bf16 \
        --save_step 250 --log_step 25 --resume "$@"
    if has export; then "$PYTHON" -m tools.export "$OUT/results"; fi
fi
if has one-step-robust; then      # against the translator as it ships: the small autoencoder learns first, then a network that grows from it
    robust="--defense_model_type one-step-robust --gan_weights $here/models/stargan/demo.safetensors --batch_size 12 --ema 0.99 --precision bf16"
    launch "$here/train_defense.py" $data $robust --num_res_blocks 0 --defense_weights "$here/models/dae/demo.safetensors" \
        --num_steps 400 --save_step 200 --log_step 20 --resume "$@"
    launch "$here/train_defense.py" $data $robust --num_res_blocks 3 \
        --defense_weights "$OUT/results/one-step-robust/drawn/train/pgd-eps0.085/000/weights.safetensors" \
        --num_steps 900 --save_step 150 --log_step 20 --resume "$@"
    if has export; then "$PYTHON" -m tools.export "$OUT/results"; fi
fi
