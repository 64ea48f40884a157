#!/bin/sh
# De-Pois on MNIST as published: a fifth of the training images is trusted, three tenths of the others are poisoned. Who finds them: De-Pois, its
# ablations, and the baselines that one would try first. About an hour on two CPU cores; every step resumes.
#
# reads   --data_root DIR, the folder that holds MNIST/raw (packed or not; nothing is downloaded)
# writes  $RESULTS/depois/mnist/{train,examined}/..., $RESULTS/comparison.md, report.html
#
#   sh experiments/depois_MNIST.sh --data_root /path/to/mnist
#   SEEDS=0 sh experiments/depois_MNIST.sh --data_root /path/to/mnist --schedule published         (the published steps: hours)
#   RATES="0.1 0.3 0.5" EPSILONS=0.3 sh experiments/depois_MNIST.sh --data_root /path/to/mnist --methods de-pois loss
set -eu
here=$(dirname "$0")/..; . "$here/environment.sh"
: "${RESULTS:=results/mnist}"
: "${SEEDS:=0 1 2}"            # each in a process of its own, side by side
: "${RATES:=0.3}"              # shares of the examined images that are poisoned
: "${POISONS:=label-flip noise blend gradient gan bypass bypass-replica}"
: "${EPSILONS=0.6 1}"          # further radii of bypass, beside its default, at the first rate
: "${JUDGE_STEPS:=200}"        # of the classifiers that show what the samples teach

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
flags="--dataset mnist --result_dir $RESULTS --judge_steps $JUDGE_STEPS --resume"
child=
examine() { "$PYTHON" -m purify.depois $flags "$@" & child=$!; wait "$child"; }
one_seed() {                   # one_seed SEED FLAGS...; a signal ends the command in progress too
    trap 'kill "$child" 2>/dev/null; exit 143' TERM INT
    _seed=$1; shift
    for rate in $RATES; do examine --seeds "$_seed" --poison $POISONS --poison_rate "$rate" "$@"; done
    for eps in $EPSILONS; do
        examine --seeds "$_seed" --poison bypass bypass-replica --poison_rate "${RATES%% *}" --bypass_eps "$eps" "$@"
    done
}
"$PYTHON" -m purify.depois $flags --seeds ${SEEDS%% *} --poison $POISONS --poison_rate "${RATES%% *}" --dry_run "$@"      # a mistake is told once, and now
case " $* " in *" --dry_run "*) exit 0 ;; esac
pids=
for seed in $SEEDS; do one_seed "$seed" "$@" & pids="$pids $!"; done
trap 'kill $pids 2>/dev/null || :' EXIT
trap 'exit 130' INT; trap 'exit 143' TERM
code=0
for pid in $pids; do wait "$pid" || code=$?; done
trap - EXIT
if [ "$code" -ne 0 ]; then exit "$code"; fi

"$PYTHON" "$here/compare_results.py" "$RESULTS"
