# Sourced by train.sh and test.sh, from the repository's root: what both make of the host's flags.
# Reads and sets PYTHON, DATASET, CONFIG, ENGINE, POINTCEPT, CONFIG_FILE, NUM_GPU, MACHINE_RANK, DIST_URL.

fail() {
    echo "error: $*" >&2
    exit 1
}

# KEY=VALUE...: settings behind the flags
check_settings() {
    for option in "$@"; do
        case $option in
            ?*=*) ;;
            *) fail "'$option' is not of the form key=value (settings come last, after --)" ;;
        esac
    done
}

# which Python: a .venv of ours, if no environment is active
default_python() {
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}${PYTHON:-}" ] && [ -x .venv/bin/python ]; then
        PYTHON=.venv/bin/python
    fi
    PYTHON=${PYTHON:-python}
}

# Pointcept where POINTCEPT_ROOT or Python's path has one, else the embedded engine
choose_engine() {
    "$PYTHON" -c '' 2>/dev/null || fail "no Python interpreter '$PYTHON'; name one with -p, or run sh scripts/quickstart.sh first"
    ENGINE=${LAM3C_ENGINE:-auto}
    POINTCEPT=${POINTCEPT_ROOT:-}
    case $ENGINE in
        auto | pointcept)
            if [ -z "$POINTCEPT" ]; then
                POINTCEPT=$("$PYTHON" -c 'import importlib.util as u, os
spec = u.find_spec("pointcept")
print(os.path.dirname(list(spec.submodule_search_locations)[0]) if spec else "")')
            fi
            if [ -n "$POINTCEPT" ]; then ENGINE=pointcept; elif [ "$ENGINE" = auto ]; then ENGINE=embedded; fi
            ;;
        embedded) POINTCEPT='' ;;
        *) fail "LAM3C_ENGINE=$ENGINE is not one of auto, pointcept, embedded" ;;
    esac
    if [ "$ENGINE" = pointcept ]; then
        [ -n "$POINTCEPT" ] || fail "LAM3C_ENGINE=pointcept, but there is no Pointcept: set POINTCEPT_ROOT to its checkout"
        case $POINTCEPT in /*) ;; *) [ -d "$POINTCEPT" ] || POINTCEPT=$CALLER_DIR/$POINTCEPT ;; esac
        POINTCEPT=$(cd "$POINTCEPT" 2>/dev/null && pwd) || fail "POINTCEPT_ROOT=${POINTCEPT_ROOT:-} is no folder"
        [ -f "$POINTCEPT/tools/train.py" ] ||
            fail "$POINTCEPT has no tools/train.py: set POINTCEPT_ROOT to a checkout, or LAM3C_ENGINE=embedded"
    fi
}

# CONFIG_FILE: configs/DATASET/CONFIG.py or configs/CONFIG.py, here or in the checkout; '' where there is none
find_config() {
    CONFIG=${CONFIG%.py}
    CONFIG=${CONFIG#configs/}
    CONFIG_FILE=''
    for base in . ${POINTCEPT:+"$POINTCEPT"}; do
        for file in "$base/configs/${DATASET:-scannet}/$CONFIG.py" "$base/configs/$CONFIG.py"; do
            if [ -z "$CONFIG_FILE" ] && [ -n "$CONFIG" ] && [ -f "$file" ]; then CONFIG_FILE=${file#./}; fi
        done
    done
    if [ -z "$DATASET" ]; then
        # without -d the run goes where the config lies: -c lam3c/X and -d lam3c -c X are the same run
        case $CONFIG in */*) DATASET=${CONFIG%%/*} ;; *) DATASET=scannet ;; esac
        if [ -n "$CONFIG" ] && [ -f "configs/scannet/$CONFIG.py" ]; then DATASET=scannet; fi
    fi
}

# ends with the names near CONFIG
no_config() {
    "$PYTHON" - "$CONFIG" ${POINTCEPT:+"$POINTCEPT"} >&2 <<'NEAR'
import difflib, pathlib, sys
config, *hosts = sys.argv[1:]
names = {str(f.relative_to(root / "configs").with_suffix("")): f
         for root in map(pathlib.Path, [*hosts, "."]) for f in root.glob("configs/*/*.py") if "_base_" not in f.parts}
last = {}
for name in names:
    last.setdefault(name.rsplit("/", 1)[1], name)
near = [last[n] for n in difflib.get_close_matches(config.rsplit("/", 1)[-1], last, n=4, cutoff=0.5)]
hint = "; near it: " + ", ".join(near) if near else f"; {len(names)} configs are in configs/"
print(f"error: there is no config {config!r}{hint}")
NEAR
    exit 1
}

# how many processes, and where several machines meet
choose_ranks() {
    if [ -z "$NUM_GPU" ]; then
        NUM_GPU=$("$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))') || fail "$PYTHON has no torch"
    fi
    MACHINE_RANK=${SLURM_NODEID:-${NODE_RANK:-0}}
    DIST_URL=${DIST_URL:-auto}
    if [ "$NUM_MACHINE" -gt 1 ] && [ "$DIST_URL" = auto ] && [ -n "${SLURM_NODELIST:-}" ]; then
        FIRST_HOST=$(scontrol show hostname "$SLURM_NODELIST" | head -n 1)
        FIRST_ADDRESS=$(getent hosts "$FIRST_HOST" | awk '{ print $1; exit }')
        # every machine works out the same port, and two runs on a machine hardly ever the same one
        PORT=$((10000 + $(printf '%s' "$DATASET/$EXP_NAME/${SLURM_JOB_ID:-}" | cksum | cut -d ' ' -f 1) % 20000))
        DIST_URL=tcp://${FIRST_ADDRESS:-$FIRST_HOST}:$PORT
    fi
}

# WEIGHT NAME: of -w a file, a folder (of the Hub, or of a run: its checkpoint NAME) or a zoo name, as a path
find_weight() {
    WEIGHT=$(caller_path "$1")
    if [ -f "$WEIGHT/model/$2.pth" ]; then WEIGHT=$WEIGHT/model/$2.pth; fi
    [ ! -e "$WEIGHT" ] || return 0
    case $1 in */* | *.pth | *.safetensors) fail "-w $1: no such file or folder" ;; esac
    WEIGHT=$(PYTHONPATH="$ROOT_DIR${PYTHONPATH:+:$PYTHONPATH}" LAM3C_ENGINE=embedded "$PYTHON" -m lam3c_plugin.zoo.state "$1") || exit 1
}

# PATH: as the caller, who may stand in another folder, sees it
caller_path() {
    case $1 in /*) ;; *) if [ -e "$CALLER_DIR/$1" ]; then echo "$CALLER_DIR/$1"; return; fi ;; esac
    echo "$1"
}

# FILE ARGUMENT...: runs tools/FILE.py of the checkout, or the embedded engine's module of that name
run_engine() {
    tool=$1
    shift
    ulimit -n 65536 2>/dev/null || true
    export LAM3C_ENGINE="$ENGINE" OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" # why: see setup_env.sh
    if [ "$ENGINE" = pointcept ]; then
        export PYTHONPATH="$POINTCEPT:$ROOT_DIR${PYTHONPATH:+:$PYTHONPATH}"
        exec "$PYTHON" "$POINTCEPT/tools/$tool.py" "$@"
    fi
    export PYTHONPATH="$ROOT_DIR${PYTHONPATH:+:$PYTHONPATH}"
    exec "$PYTHON" -m "lam3c_plugin.embedded.$tool" "$@"
}
