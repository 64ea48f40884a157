#!/bin/sh
# Run the tests.  sh tests/run.sh: the fast suite (minutes, two cores);  sh tests/run.sh --slow: all of them;  other words go to pytest.
set -eu
here=$(dirname "$0")/..; here=$(cd "$here" && pwd); . "$here/environment.sh"
select="not slow and not gpu"
if [ "${1:-}" = --slow ]; then select="not gpu"; shift; fi
exec "$PYTHON" -m pytest -c "$here/pyproject.toml" --rootdir "$here" "$here/tests" -m "$select" "$@"
