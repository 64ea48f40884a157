#!/bin/sh
# Every benchmark of a GPU in under 8 minutes: published sizes at 128 pixels in fp32 and bf16, training steps at 64 pixels (batches of 64), the demo's rows.
# A step is stopped when its seconds are over; a record is written after each row, so that what was measured by then is kept.
#
# writes  $RESULTS/benchmark/drawn/NNN/record.json; a copy of $RESULTS in $OUT after each step, where that is set
#
#   sh experiments/gpu_benchmarks.sh                  OUT=/path/to/keep sh experiments/gpu_benchmarks.sh
#   STEPS="scale plan" sh experiments/gpu_benchmarks.sh             (the cost of a test against the number of photos, then hours of the CelebA scripts)
#   COMPILES=off sh experiments/gpu_benchmarks.sh                   (without torch.compile)
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"
: "${RESULTS:=results}" "${OUT:=}"
: "${STEPS:=official trainings demo}"
: "${COMPILES:=off on}"        # values of --compile, one after the other
: "${NUM:=16}" "${REPEATS:=2}" # photos of a batch, turns of each side
: "${SIZES:=250 1000 4000}"    # numbers of photos of the step scale
: "${OFFICIAL_SECONDS:=155}" "${TRAININGS_SECONDS:=40}" "${DEMO_SECONDS:=75}" "${SCALE_SECONDS:=400}" "${PLAN_SECONDS:=400}"

failed=
measure() {                    # measure SECONDS FLAGS...
    _seconds=$1; shift
    _code=0
    if command -v timeout >/dev/null 2>&1; then
        timeout -s INT -k 20 "$_seconds" "$PYTHON" -m evaluation.benchmark --result_dir "$RESULTS" "$@" || _code=$?
    else
        "$PYTHON" -m evaluation.benchmark --result_dir "$RESULTS" "$@" || _code=$?
    fi
    case $_code in
        0) ;;
        2) exit 2 ;;
        124|130|137) echo "stopped after $_seconds seconds: $*" >&2 ;;
        *) echo "failed with exit code $_code: $*" >&2; failed=yes ;;
    esac
    if [ -n "$OUT" ] && [ -d "$RESULTS" ]; then mkdir -p "$OUT"; cp -R "$RESULTS" "$OUT/"; fi
}
for step in $STEPS; do         # before any of them
    case $step in official|trainings|demo|scale|plan) ;; *) echo "error: STEPS names $step; one of: official trainings demo scale plan" >&2; exit 2 ;; esac
done

trainings="train-stargan train-stargan-bf16 train-diffusion train-diffusion-bf16 train-one-step train-one-step-bf16"
for step in $STEPS; do
    for compile in $COMPILES; do
        flags="--compile $compile"
        case $step in
            official)  measure "$OFFICIAL_SECONDS" --architecture official --num_images "$NUM" --repeats "$REPEATS" $flags "$@" ;;
            trainings) measure "$TRAININGS_SECONDS" --architecture official --image_size 64 --rows $trainings --repeats "$REPEATS" \
                           --stargan_batch 64 --diffusion_batch 64 --one_step_batch 64 $flags "$@" ;;
        esac
    done
    case $step in
        demo)  measure "$DEMO_SECONDS" --repeats "$REPEATS" "$@" ;;
        scale) measure "$SCALE_SECONDS" --scale --scale_sizes $SIZES "$@" ;;
        plan)  measure "$PLAN_SECONDS" --plan --repeats 1 "$@" ;;
    esac
done
if [ -n "$failed" ]; then exit 1; fi
