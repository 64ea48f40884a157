#!/bin/sh
# Run the tests.  sh tests/run.sh: the fast suite (minutes, two cores);  sh tests/run.sh --slow: all of them;  other words go to pytest.
# WORKERS=4 sh tests/run.sh takes more cores; each has one thread. Where other words are given (-k NAME, a file) one process runs them.
set -eu
here=$(dirname "$0")/..; here=$(cd "$here" && pwd); groups=tests; . "$here/environment.sh"
select="not slow and not gpu"
if [ "${1:-}" = --slow ]; then select="not gpu"; shift; fi
if [ $# -eq 0 ] && "$PYTHON" -c "import xdist" 2>/dev/null; then
    export OMP_NUM_THREADS=1      # workers that take all cores each are in each other's way
    # each worker begins with one half in order, so that what a file's tests share is made once; who is done takes of the rest
    set -- -n "${WORKERS:-2}" --dist worksteal
fi
exec "$PYTHON" -m pytest -c "$here/pyproject.toml" --rootdir "$here" "$here/tests" -m "$select" "$@"
