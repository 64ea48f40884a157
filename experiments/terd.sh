#!/bin/sh
# TERD on a zoo of small diffusion models, benign and backdoored: trigger errors, detection rates, ablation, weak triggers, truncated purifiers, larger images.
# On a CPU; at 16 pixels a training takes about 5 minutes of a core (27 of them), a scan half a minute. With --device cuda trainings are bound by launches: raise JOBS.
#
# writes  $OUT/{photos,faces}, $RESULTS/diffusion/<faces>/train/<model>/NNN, $RESULTS/terd/<model>-<sha8>/<plan>/NNN, $RESULTS/calibration.json, comparison.md, report.html
#
#   sh experiments/terd.sh
#   STEPS="search rule judge compare" sh experiments/terd.sh            (the zoo is there already)
#   STEPS=larger sh experiments/terd.sh                                 (networks of 32 and 64 pixels too, then: search rule judge compare)
#   STEPS=published sh experiments/terd.sh                              (one scan by the published schedule)
#   STEPS=purifier sh experiments/terd.sh                               (photos with a trigger through backdoored purifiers)
#   STEPS=detectors sh experiments/terd.sh                              (what detectors learn from photos that such purifiers cleaned)
#   SEEDS="0 1 2 3 4" IMAGE_SIZE=32 TRAIN_STEPS=4000 sh experiments/terd.sh       (5 + 5 models at 32 pixels: hours)
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"
: "${OUT:=dataset/terd}" "${RESULTS:=results/terd}"
: "${STEPS:=train search rule judge compare}"
: "${CALIBRATION:=$RESULTS/calibration.json}"      # of these networks; the one that ships was made so
: "${SEEDS:=0 1 2}"                  # of benign models, and of each attack's; each attack goes on from the benign model of its seed
: "${SPARE_SEED:=7}"                 # of a benign model that no attack goes on from
: "${IMAGE_SIZE:=16}" "${TRAIN_STEPS:=2000}" "${TUNE_STEPS:=2000}" "${TRAIN_BATCH:=32}" "${RATE:=0.5}" "${JOBS:=2}"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
faces="--data_dir $OUT/faces --dataset terd-faces --image_size $IMAGE_SIZE"
child=
run() { "$PYTHON" "$@" < /dev/null & child=$!; wait "$child"; }
draw_faces() {
    "$PYTHON" -m faces.procedural --out "$OUT/photos" -n 2000 --seed 3
    "$PYTHON" "$here/split_dataset.py" --folder_path "$OUT/photos/images" --attr_path "$OUT/photos/list_attr_celeba.txt" --output_dir "$OUT/faces" --ratios 0.8 0.1 0.1
}

benign() {      # one line per benign model: what is not usual of it
    for seed in $SEEDS $SPARE_SEED; do echo "--seed $seed"; done
    echo "--seed 0 --channel_mult 1,1,1"
    echo "--seed 0 --noise_schedule ve"
}
backdoored() {  # one line per backdoored model; each goes on from the benign one of its seed, as the published attacks do
    for seed in $SEEDS; do
        case $((seed % 3)) in 0) trigger=box target=hat ;; 1) trigger=stop_sign target=shoe ;; *) trigger=glasses target=corner ;; esac
        case $((seed % 3)) in 0) form="--psi 0 --solver sde" ;; 1) form="--psi 1 --solver ode" ;; *) form="--psi 0 --solver ode" ;; esac
        rest="--target $target --poison_rate $RATE --seed $seed --init_from $(weights_of "benign-$IMAGE_SIZE" "$seed")"
        echo "--backdoor baddiffusion --trigger $trigger $rest"
        echo "--backdoor trojdiff --trigger hello $rest"
        echo "--backdoor villan $form --trigger $trigger $rest"
    done
    rest="--trigger stop_sign --target shoe --seed 0"
    from="--init_from $(weights_of "benign-$IMAGE_SIZE" 0)"
    echo "--backdoor baddiffusion $rest --poison_rate 0.1 $from"
    echo "--backdoor baddiffusion $rest --poison_rate $RATE --trigger_scale 0.5 $from"
    echo "--backdoor trojdiff $rest --poison_rate $RATE $from"
    echo "--backdoor villan --psi 0 --solver ode $rest --poison_rate $RATE --init_from $(weights_of "benign-$IMAGE_SIZE-ve" 0)"
}
truncated() {
    for seed in 0 1 2; do echo "--max_timestep 300 --seed $seed"; done
}
photographed() {       # backdoors that photos set off: in truncated networks, and in those of the full range
    echo "--backdoor photo --trigger box --target hat --poison_rate 0.3 --seed 0 --init_from $(weights_of "benign-$IMAGE_SIZE-t300" 0)"
    echo "--backdoor photo --trigger stop_sign --target shoe --poison_rate 0.3 --seed 1 --init_from $(weights_of "benign-$IMAGE_SIZE-t300" 1)"
    echo "--backdoor photo --trigger glasses --target corner --poison_rate 0.3 --seed 2 --init_from $(weights_of "benign-$IMAGE_SIZE-t300" 2)"
    for seed in 0 1; do
        echo "--backdoor photo --trigger stop_sign --target shoe --poison_rate 0.3 --seed $seed --init_from $(weights_of "benign-$IMAGE_SIZE" "$seed")"
    done
}
larger_benign() {
    for seed in 0 1; do echo "--image_size 32 --num_steps 3000 --seed $seed"; done
    echo "--image_size 64 --channel_mult 1,2,2 --num_steps 5000 --batch_size 16 --seed 0"
}
larger_backdoored() {
    rest="--target hat --poison_rate $RATE --seed 0 --init_from $(weights_of benign-32 0)"
    echo "--image_size 32 --backdoor baddiffusion --trigger box $rest"
    echo "--image_size 32 --backdoor trojdiff --trigger hello $rest"
    echo "--image_size 32 --backdoor villan --psi 0 --solver sde --trigger box $rest"
    rest="--target shoe --seed 0 --batch_size 16 --init_from $(weights_of benign-64-ch32x1-2-2 0)"
    echo "--image_size 64 --backdoor baddiffusion --trigger stop_sign --poison_rate $RATE $rest"
    echo "--image_size 64 --backdoor trojdiff --trigger hello --poison_rate $RATE $rest"
    echo "--image_size 64 --backdoor photo --trigger stop_sign --poison_rate 0.3 $rest"
}
weights_of() {         # weights_of FOLDER SEED: of the training with this seed
    for _run in "$RESULTS/diffusion/terd-faces/train/$1"/*; do
        if grep -q "^  seed: $2\$" "$_run/options.yaml"; then echo "$_run/weights.safetensors"; return; fi
    done
    echo "error: $RESULTS/diffusion/terd-faces/train/$1: holds no training with seed $2" >&2; exit 2
}
train_every() {        # train_every JOB LINES FLAGS...: each JOBS-th line of what LINES prints
    trap 'kill "$child" 2>/dev/null; exit 143' TERM INT
    _job=$1; _lines=$2; shift 2
    mkdir -p "$RESULTS"
    "$_lines" > "$RESULTS/$_lines.txt.$_job"
    awk -v jobs="$JOBS" -v job="$_job" '(NR - 1) % jobs == job' "$RESULTS/$_lines.txt.$_job" > "$RESULTS/zoo-$_job.txt"
    while read -r line; do
        run -m models.diffusion.train $faces --result_dir "$RESULTS" --batch_size "$TRAIN_BATCH" --check_samples 128 --num_workers 0 --resume $line "$@"
    done < "$RESULTS/zoo-$_job.txt"
    rm -f "$RESULTS/$_lines.txt.$_job" "$RESULTS/zoo-$_job.txt"
}
side_by_side() {       # side_by_side FUNCTION FLAGS...: JOBS copies, each told its number
    _function=$1; shift
    pids=
    for job in $(seq 0 $((JOBS - 1))); do "$_function" "$job" "$@" & pids="$pids $!"; done
    trap 'kill $pids 2>/dev/null || :' EXIT
    trap 'exit 130' INT; trap 'exit 143' TERM
    code=0
    for pid in $pids; do wait "$pid" || code=$?; done
    trap - EXIT INT TERM
    if [ "$code" -ne 0 ]; then exit "$code"; fi
}

standard="$RESULTS/diffusion/terd-faces/train/*rate$RATE-$IMAGE_SIZE-tuned/*/weights.safetensors $RESULTS/diffusion/terd-faces/train/benign-$IMAGE_SIZE/*/weights.safetensors"
every="$RESULTS/diffusion/terd-faces/train/*/*/weights.safetensors"
scan() {               # scan WEIGHTS FLAGS...
    _weights=$1; found=0; shift
    run -m purify.terd "$_weights" --result_dir "$RESULTS" --calibration "$CALIBRATION" --num_workers 0 --resume "$@" || found=$?
    case $found in 0|3|4) ;; *) exit "$found" ;; esac         # 3 and 4 are verdicts
}
scan_every() {         # scan_every JOB "FILES" FLAGS...: each JOBS-th of the files
    trap 'kill "$child" 2>/dev/null; exit 143' TERM INT
    _job=$1; _files=$2; shift 2
    ls $_files | awk -v jobs="$JOBS" -v job="$_job" '(NR - 1) % jobs == job' > "$RESULTS/scan-$_job.txt"
    while read -r weights; do
        scan "$weights" "$@"
    done < "$RESULTS/scan-$_job.txt"
}
scan_plans() {         # scan_plans FLAGS...: every model by the whole plan, the standard ones by each of its parts too
    side_by_side scan_every "$every" "$@"
    side_by_side scan_every "$standard" --refine none "$@"
    side_by_side scan_every "$standard" --estimate_steps 0 "$@"
}

tuned_benign=$RESULTS/diffusion/terd64/train/benign-64-ch32x1-2-2-t300-tuned/000/weights.safetensors
tuned_photo=$RESULTS/diffusion/terd64/train/photo-stop_sign-shoe-rate0.3-64-ch32x1-2-2-t300-tuned/000/weights.safetensors
tune() {               # tune JOB FLAGS...: the shipped purifier goes on as it is (job 0), and with a backdoor of photos (job 1)
    trap 'kill "$child" 2>/dev/null; exit 143' TERM INT
    _job=$1; shift
    hidden=
    if [ "$_job" = 1 ]; then hidden="--backdoor photo --poison_rate 0.3 --trigger stop_sign --target shoe"; fi
    run -m models.diffusion.train --data_dir "$OUT/faces" --dataset terd64 --image_size 64 --result_dir "$RESULTS" --num_steps 700 --batch_size 8 --lr 2e-4 --ema 0.99 \
        --save_step 100 --num_workers 0 --check_samples 16 --init_from "$here/models/diffusion/demo.safetensors" --resume $hidden "$@"
}
purifier() {           # can a photo set a backdoored purifier off?
    draw_faces
    JOBS=2 side_by_side tune "$@"
    "$PYTHON" -m evaluation.triggered --purifiers "benign=$tuned_benign" "photo=$tuned_photo" --most_steps 20 --data_dir "$OUT/faces" \
        --dataset terd64 --image_size 64 --result_dir "$RESULTS" --gan_weights "$here/models/stargan/demo.safetensors" --limit 16 --num_workers 0 --resume "$@"
    _zoo=$RESULTS/diffusion/terd-faces/train
    for names in "baddiffusion-box-hat villan-psi0-sde-box-hat" trojdiff-hello-hat; do
        weights="benign=$(weights_of "benign-$IMAGE_SIZE" 0)"
        for name in $names; do weights="$weights ${name%%-*}=$_zoo/$name-rate$RATE-$IMAGE_SIZE-tuned/000/weights.safetensors"; done
        "$PYTHON" -m evaluation.triggered --purifiers $weights --ways stamp add scaled --most_steps 20 --data_dir "$OUT/faces" --dataset terd16 --image_size "$IMAGE_SIZE" \
            --result_dir "$RESULTS" --limit 16 --num_workers 0 --resume "$@"
    done
    scan "$tuned_photo"
}
detect() {             # detect JOB FLAGS...: detectors of scraped photos, half of them with a stop sign, cleaned by nobody and by either purifier (job 0 without signs, 1 with)
    trap 'kill "$child" 2>/dev/null; exit 143' TERM INT
    _job=$1; shift
    set -- --dataset "terd-scraped$_job" --result_dir "$RESULTS" --image_size 64 --detector meso4 --epochs 15 --seeds 0 1 2 --attack_type none --poison_rate 0 --num_workers 0 \
        --gan_weights "$here/models/stargan/demo.safetensors" --resume "$@"
    if [ "$_job" = 0 ]; then set -- --data_dir "$OUT/faces" "$@"; else set -- --data_dir "$OUT/faces_signs" "$@"; fi
    run "$here/train_detector.py" --condition clean "$@"
    for weights in "$tuned_benign" "$tuned_photo"; do
        run "$here/train_detector.py" --condition purified --defense_model_type ddpm-50-200 --defense_weights "$weights" "$@"
    done
}
detectors() {
    draw_faces
    "$PYTHON" -m evaluation.triggered_split --data_dir "$OUT/faces" --output_dir "$OUT/faces_signs" --trigger stop_sign --rate 0.5
    JOBS=2 side_by_side detect "$@"
}

for step in $STEPS; do
    case $step in
        train)
            draw_faces
            side_by_side train_every benign --num_steps "$TRAIN_STEPS" "$@"
            side_by_side train_every backdoored --num_steps "$TUNE_STEPS" "$@"
            side_by_side train_every truncated --num_steps "$TRAIN_STEPS" "$@"
            side_by_side train_every photographed --num_steps "$TUNE_STEPS" "$@" ;;
        larger)
            draw_faces
            side_by_side train_every larger_benign "$@"
            side_by_side train_every larger_backdoored --num_steps "$TUNE_STEPS" "$@" ;;
        search) scan_plans --search_only "$@" ;;
        rule) "$PYTHON" -m purify.terd.rule "$RESULTS" --out "$CALIBRATION" ;;
        judge) scan_plans "$@" ;;
        published)
            first=$(ls "$RESULTS"/diffusion/terd-faces/train/baddiffusion-*rate"$RATE-$IMAGE_SIZE"-tuned/*/weights.safetensors | head -n 1)
            scan "$first" --schedule published --starts published "$@" ;;
        purifier) purifier "$@" ;;
        detectors) detectors "$@" ;;
        compare) "$PYTHON" "$here/compare_results.py" "$RESULTS" ;;
        *) echo "error: STEPS: unknown step $step; of: train larger search rule judge published purifier detectors compare" >&2; exit 2 ;;
    esac
done
