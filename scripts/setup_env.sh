# Sourced by quickstart.sh and run_tests.sh: makes a Python environment and leaves its interpreter in $PY.
# An active virtualenv or conda environment is used as it is; else .venv is made beside README.md.
# Usage: . scripts/setup_env.sh; lam3c_setup EXTRAS [PIP_PACKAGE...]

# a waiting OpenMP thread that spins starves the one that works whenever the cores are shared: up to 10 times slower
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"

lam3c_find_python() {
    for candidate in ${PYTHON:-} python3.12 python3.11 python3.10 python3.13 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "error: no Python 3.10-3.13 found; install one or name it: PYTHON=/path/to/python sh $0" >&2
    return 1
}

lam3c_setup() {
    extras=$1
    shift
    if [ -n "${VIRTUAL_ENV:-}" ]; then
        PY=$VIRTUAL_ENV/bin/python
    elif [ -n "${CONDA_PREFIX:-}" ]; then
        PY=$CONDA_PREFIX/bin/python
    else
        PY=.venv/bin/python
        if ! "$PY" -c '' 2>/dev/null; then
            base=$(lam3c_find_python) || exit 1
            echo "==> making .venv with $("$base" --version)"
            rm -rf .venv
            "$base" -m venv .venv || {
                echo "error: could not make .venv (Debian and Ubuntu: apt-get install python3-venv)" >&2
                exit 1
            }
        fi
    fi
    # the stamp names what was installed: a second run, or one after a code change, installs nothing
    wanted="$(cksum setup.py | cut -d' ' -f1) $(pwd) $extras $*"
    stamp=$("$PY" -c 'import sys; print(sys.prefix)')/lam3c-$(echo "$extras" | tr -c 'a-z\n' '-').stamp
    if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        echo "==> installing into $("$PY" -c 'import sys; print(sys.prefix)') (first time: a few minutes, mostly PyTorch)"
        if [ $# -gt 0 ]; then
            "$PY" -m pip install -q "$@" || { echo "error: pip could not install: $*" >&2; exit 1; }
        fi
        if [ "$extras" = core ]; then target=.; else target=".[$extras]"; fi
        "$PY" -m pip install -q -e "$target" || { echo "error: pip install -e '$target' failed" >&2; exit 1; }
        echo "$wanted" >"$stamp"
    fi
}
