#!/bin/sh
# Trains a config on Pointcept where there is one, else on the embedded engine. `sh scripts/train.sh -h` for the flags.

usage() {
    cat <<'HELP'
usage: sh scripts/train.sh -c CONFIG [flags] [-- key=value ...]

  -c CONFIG   configs/DATASET/CONFIG.py, or configs/CONFIG.py
  -d DATASET  folder of the config and of the run (default: scannet, or CONFIG's own folder)
  -n NAME     name of the run; it lies in exp/DATASET/NAME (default: debug)
  -w WEIGHT   checkpoint to start from: a training checkpoint of LAM3C or Sonata, or backbone weights of their zoos
  -r true     go on with the run from its last checkpoint (its own config.py is used; -c is not needed)
  -g GPUS     GPUs of this machine (default: all; on a CPU the number of processes, default 1)
  -m MACHINES number of machines (default: 1); under SLURM they find each other, else set NODE_RANK and DIST_URL
  -p PYTHON   Python interpreter (default: .venv/bin/python where quickstart.sh made one, else python)
  -h          this text
  key=value   settings over the config's, e.g. batch_size=8 model.backbone.drop_path=0.1

engine: Pointcept when POINTCEPT_ROOT names a checkout or `import pointcept` works, else the embedded one;
        LAM3C_ENGINE=pointcept or LAM3C_ENGINE=embedded decides otherwise. The checkout is not written to.

examples:
  sh scripts/train.sh -c lam3c/pretrain-lam3c-v1m1-2-tiny -n first
  POINTCEPT_ROOT=../Pointcept sh scripts/train.sh -d lam3c -c pretrain-lam3c-v1m1-0-base -n base -g 8
  sh scripts/train.sh -d lam3c -n base -g 8 -r true
  sh scripts/train.sh -c lam3c/pretrain-lam3c-v1m1-0-base -n warm -w sonata.pth -- batch_size=24 epoch=50 eval_epoch=50
HELP
}

fail() {
    echo "error: $*" >&2
    exit 1
}

CALLER_DIR=$(pwd)
cd "$(dirname "$0")/.." || exit 1
ROOT_DIR=$(pwd)

DATASET=''
CONFIG=''
EXP_NAME=debug
WEIGHT=''
RESUME=false
NUM_GPU=''
NUM_MACHINE=1
if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}${PYTHON:-}" ] && [ -x .venv/bin/python ]; then
    PYTHON=.venv/bin/python
fi
PYTHON=${PYTHON:-python}

while getopts "p:d:c:n:w:g:m:r:h" opt; do
    case $opt in
        p) PYTHON=$OPTARG ;;
        d) DATASET=$OPTARG ;;
        c) CONFIG=$OPTARG ;;
        n) EXP_NAME=$OPTARG ;;
        w) WEIGHT=$OPTARG ;;
        g) NUM_GPU=$OPTARG ;;
        m) NUM_MACHINE=$OPTARG ;;
        r) RESUME=$OPTARG ;;
        h) usage; exit 0 ;;
        *) echo "sh scripts/train.sh -h shows the flags" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
for option in "$@"; do
    case $option in
        ?*=*) ;;
        *) fail "'$option' is not of the form key=value (settings come last, after --)" ;;
    esac
done
case $RESUME in true | false) ;; *) fail "-r $RESUME: true or false" ;; esac
"$PYTHON" -c '' 2>/dev/null || fail "no Python interpreter '$PYTHON'; name one with -p, or run sh scripts/quickstart.sh first"

# ---- which engine
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

# ---- which config, which run
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
EXP_DIR=exp/$DATASET/$EXP_NAME
LAST=$EXP_DIR/model/model_last.pth

if [ "$RESUME" = true ] && [ -f "$LAST" ] && [ -f "$EXP_DIR/config.py" ]; then
    CONFIG_FILE=$EXP_DIR/config.py
    WEIGHT=$LAST
else
    if [ "$RESUME" = true ]; then
        [ -n "$CONFIG" ] || fail "nothing to go on with: there is no $LAST (-d and -n name the run)"
        echo "Nothing to go on with in $EXP_DIR: a new run"
        RESUME=false
    fi
    [ -n "$CONFIG" ] || { usage >&2; exit 2; }
    if [ -z "$CONFIG_FILE" ]; then
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
    fi
    if [ -n "$WEIGHT" ] && [ "$WEIGHT" != None ]; then
        # a path as the caller sees it
        case $WEIGHT in /*) ;; *) if [ -f "$CALLER_DIR/$WEIGHT" ]; then WEIGHT=$CALLER_DIR/$WEIGHT; fi ;; esac
        [ -f "$WEIGHT" ] || fail "-w $WEIGHT: no such file"
    else
        WEIGHT=''
    fi
    if [ -f "$LAST" ]; then echo "$EXP_DIR holds a run already: it is overwritten (-r true goes on with it instead)"; fi
fi

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

echo "Engine:  $ENGINE${POINTCEPT:+ ($POINTCEPT)}"
echo "Config:  $CONFIG_FILE"
echo "Run:     $EXP_DIR (resume: $RESUME${WEIGHT:+; weight: $WEIGHT})"
echo "GPUs:    $NUM_GPU on each of $NUM_MACHINE machine(s); this is machine $MACHINE_RANK; $DIST_URL"
mkdir -p "$EXP_DIR/model" || exit 1
ulimit -n 65536 2>/dev/null || true

set -- "save_path=$EXP_DIR" "$@"
if [ -n "$WEIGHT" ]; then set -- "$@" "resume=$RESUME" "weight=$WEIGHT"; fi
set -- --config-file "$CONFIG_FILE" --num-gpus "$NUM_GPU" --num-machines "$NUM_MACHINE" \
    --machine-rank "$MACHINE_RANK" --dist-url "$DIST_URL" --options "$@"
LAM3C_ENGINE=$ENGINE
LAM3C_RESUME_COMMAND="sh scripts/train.sh -d $DATASET -n $EXP_NAME -g $NUM_GPU -r true"
OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # why: scripts/setup_env.sh
export LAM3C_ENGINE LAM3C_RESUME_COMMAND OMP_WAIT_POLICY
if [ "$ENGINE" = pointcept ]; then
    PYTHONPATH=$POINTCEPT:$ROOT_DIR${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONPATH
    exec "$PYTHON" "$POINTCEPT/tools/train.py" "$@"
fi
PYTHONPATH=$ROOT_DIR${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "$PYTHON" -m lam3c_plugin.standalone.train "$@"
