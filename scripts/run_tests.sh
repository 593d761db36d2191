#!/bin/sh
# Sets everything up and runs the test suite. Extra arguments go to pytest.
#   sh scripts/run_tests.sh                  the whole suite (slow tests excluded)
#   sh scripts/run_tests.sh -m slow          the slow ones
#   sh scripts/run_tests.sh tests/losses -x  a part
#   POINTCEPT_ROOT=../Pointcept sh scripts/run_tests.sh tests/pointcept
cd "$(dirname "$0")/.." || exit 1
case "${1:-}" in -h | --help) sed -n '2,6p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;; esac
. scripts/setup_env.sh
lam3c_setup dev torch torchvision

if [ $# -eq 0 ]; then
    "$PY" -m ruff check . || exit 1
    "$PY" -m ruff format --check . || exit 1
    set -- -m "not slow and not gpu"
fi
exec "$PY" -m pytest "$@"
