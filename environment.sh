# Sourced by every shell script: sets $PYTHON, defines `launch` (torchrun when GPUS > 1; in a Slurm job NODES and RENDEZVOUS=HOST:PORT add
# machines, see experiments/slurm.sbatch). Activates nothing, changes no folder.
# `newest` and `weights_of` find weights that were trained below $RESULTS.
# The python3 on the path is used when its packages lie inside requirements.txt; otherwise .venv is made from requirements-lock.txt.
# PYTHON=/path/to/python overrides. Needs $here, the folder of this repository as the caller sees it. Packages whose comment in
# requirements.txt begins with `tests` or `checks` are asked for only where $groups names that word: tests/run.sh, .ci/run.

_fits() {    # does this interpreter have every package of requirements.txt that is asked for, inside its range?
    "$1" - "$here/requirements.txt" ${groups:-} <<'PY' 2>/dev/null
import re, sys
from importlib import metadata
if sys.version_info < (3, 11):
    sys.exit(1)
number = lambda v: [int(n) for n in re.findall(r"\d+", v.split("+")[0])[:3]]
for line in open(sys.argv[1]):
    line, comment = (part.strip() for part in (line + "#").split("#")[:2])
    group = comment.split(";")[0]
    if not line or group in ("tests", "checks") and group not in sys.argv[2:]:
        continue
    name, bounds = re.match(r"([\w-]+)(.*)", line).groups()
    found = number(metadata.version(name))
    for op, bound in re.findall(r"(>=|==|!=)([\d.]+)", bounds):
        if not {">=": found >= number(bound), "==": found == number(bound), "!=": found != number(bound)}[op]:
            sys.exit(1)
PY
}

if [ -z "${PYTHON:-}" ]; then
    if _fits "$(command -v python3 || command -v python)"; then
        PYTHON=$(command -v python3 || command -v python)
    elif [ -x "$here/.venv/bin/python" ] && _fits "$here/.venv/bin/python"; then
        PYTHON=$here/.venv/bin/python
    else
        _base=
        for _p in python3 python3.14 python3.13 python3.12 python3.11 python; do
            if command -v "$_p" >/dev/null 2>&1 && "$_p" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then _base=$_p; break; fi
        done
        if [ -z "$_base" ]; then
            echo "error: no Python 3.11 or newer on the path; install one, or set PYTHON=/path/to/python" >&2; exit 2
        fi
        echo "environment: making $here/.venv from requirements-lock.txt (once, a few minutes)" >&2
        rm -rf "$here/.venv" && "$_base" -m venv "$here/.venv" && "$here/.venv/bin/python" -m pip install --quiet -r "$here/requirements-lock.txt" >&2 || {
            rm -rf "$here/.venv"
            echo "error: the packages of requirements-lock.txt could not be installed (see above); is a package index reachable?" >&2; exit 1; }
        PYTHON=$here/.venv/bin/python
    fi
fi
PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
export PYTHON PYTHONPATH

launch() {     # launch SCRIPT FLAGS...: in several processes only after the same command has passed as a dry run of one
    if [ -n "${NODES:-}" ]; then
        "$PYTHON" "$@" --dry_run >/dev/null
        srun --nodes="$NODES" --ntasks="$NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 "$PYTHON" -m tools.launch --nnodes="$NODES" \
            --nproc_per_node="${GPUS:-1}" --rdzv_backend=c10d --rdzv_endpoint="$RENDEZVOUS" --rdzv_id="${SLURM_JOB_ID:-0}" -- "$@"
    elif [ "${GPUS:-1}" -gt 1 ]; then
        "$PYTHON" "$@" --dry_run >/dev/null
        "$PYTHON" -m tools.launch --standalone --nproc_per_node="$GPUS" -- "$@"
    else
        "$PYTHON" "$@"
    fi
}

newest() {     # newest FILE FOLDER: FILE, else the weights of the newest finished training in a folder of $RESULTS
    _found=$1
    if [ -z "$_found" ]; then
        _found=$RESULTS/$2/000/weights.safetensors
        for _f in "$RESULTS/$2"/*/weights.safetensors; do if [ -f "$_f" ]; then _found=$_f; fi; done
    fi
    echo "$_found"
}

weights_of() {     # weights_of DEFENCE: $DIFFUSION, $ONE_STEP, ..., where empty what was trained on $name; nothing where it has no weights
    case $1 in
        ddpm-*|diffpure*|gridpure*|one-step-plain*) newest "$DIFFUSION" "ddpm/$name/train/none-eps0" ;;
        one-step)        newest "$ONE_STEP" "one-step/$name/train/pgd-eps0.11" ;;
        one-step-robust) newest "$ROBUST" "one-step-robust/$name/train/pgd-eps0.085" ;;
        defensive-*)     newest "$AUTOENCODER" "$1/$name/train/gaussian-eps0.05" ;;
    esac
}
