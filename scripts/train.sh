#!/bin/sh
# Trains a config on Pointcept where there is one, else on the embedded engine. `sh scripts/train.sh -h` for the flags.

usage() {
    cat <<'HELP'
usage: sh scripts/train.sh -c CONFIG [flags] [-- key=value ...]

  -c CONFIG   configs/DATASET/CONFIG.py, or configs/CONFIG.py
  -d DATASET  folder of the config and of the run (default: scannet, or CONFIG's own folder)
  -n NAME     name of the run; it lies in exp/DATASET/NAME (default: debug)
  -o true     delete the run of this name that is there already, and start anew
  -w WEIGHT   checkpoint to start from: a file (training checkpoint of LAM3C or Sonata, backbone), a folder (a run's, the Hub's),
              or a zoo name that was downloaded (lam3c zoo download NAME)
  -r true     resume the run from its last checkpoint (its own config.py is used; -c is not needed)
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

CALLER_DIR=$(pwd)
cd "$(dirname "$0")/.." || exit 1
ROOT_DIR=$(pwd)
. scripts/launch_env.sh

DATASET=''
CONFIG=''
EXP_NAME=debug
WEIGHT=''
RESUME=false
OVERWRITE=false
NUM_GPU=''
NUM_MACHINE=1
default_python

while getopts "p:d:c:n:w:g:m:r:o:h" opt; do
    case $opt in
        p) PYTHON=$OPTARG ;;
        d) DATASET=$OPTARG ;;
        c) CONFIG=$OPTARG ;;
        n) EXP_NAME=$OPTARG ;;
        w) WEIGHT=$OPTARG ;;
        g) NUM_GPU=$OPTARG ;;
        m) NUM_MACHINE=$OPTARG ;;
        r) RESUME=$OPTARG ;;
        o) OVERWRITE=$OPTARG ;;
        h) usage; exit 0 ;;
        *) echo "sh scripts/train.sh -h shows the flags" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
check_settings "$@"
case $RESUME in true | false) ;; *) fail "-r $RESUME: true or false" ;; esac
case $OVERWRITE in true | false) ;; *) fail "-o $OVERWRITE: true or false" ;; esac
[ "$RESUME$OVERWRITE" != truetrue ] || fail "-r goes on with a run and -o deletes it: give one of them"
choose_engine
find_config
case /$DATASET/$EXP_NAME/ in # -o true deletes the folder: never exp, never one outside
    *//* | */./* | */../*) fail "-d '$DATASET' -n '$EXP_NAME': names of folders are needed" ;;
esac
EXP_DIR=exp/$DATASET/$EXP_NAME
LAST=$EXP_DIR/model/model_last.pth

# what a run leaves once it is under way; an event file without a value has under 128 bytes
checkpoints() { find "$EXP_DIR/model" -name '*.pth' 2>/dev/null; }
events() { find "$EXP_DIR" -maxdepth 1 -name 'events.out.tfevents*' -size +128c 2>/dev/null; }

if [ "$RESUME" = true ] && [ -f "$LAST" ] && [ -f "$EXP_DIR/config.py" ]; then
    CONFIG_FILE=$EXP_DIR/config.py
    WEIGHT=$LAST
else
    if [ "$RESUME" = true ]; then
        [ -n "$CONFIG" ] || fail "nothing to resume: there is no $LAST (-d and -n name the run)"
        echo "Nothing to resume in $EXP_DIR: a new run"
        RESUME=false
        [ -n "$(checkpoints)" ] || OVERWRITE=true # logs of a start that never came to a checkpoint
    fi
    [ -n "$CONFIG" ] || { usage >&2; exit 2; }
    [ -n "$CONFIG_FILE" ] || no_config
    if [ -n "$WEIGHT" ] && [ "$WEIGHT" != None ]; then
        find_weight "$WEIGHT" model_last
    else
        WEIGHT=''
    fi
fi

choose_ranks
if [ "$RESUME" = false ] && [ "$MACHINE_RANK" = 0 ] && [ -n "$(checkpoints)$(events)" ]; then
    [ "$OVERWRITE" = true ] ||
        fail "$EXP_DIR holds a run already: resume it with -r true, name another with -n, or delete it with -o true"
    case $WEIGHT in "$EXP_DIR"/* | "$ROOT_DIR/$EXP_DIR"/*) fail "-o true would delete -w $WEIGHT: copy it first" ;; esac
    if [ "$ENGINE" = pointcept ]; then rm -rf "$EXP_DIR" || exit 1; fi # the embedded engine reads the config first
fi

echo "Engine:  $ENGINE${POINTCEPT:+ ($POINTCEPT)}"
echo "Config:  $CONFIG_FILE"
echo "Run:     $EXP_DIR (resume: $RESUME${WEIGHT:+; weight: $WEIGHT})"
echo "GPUs:    $NUM_GPU on each of $NUM_MACHINE machine(s); this is machine $MACHINE_RANK; $DIST_URL"

set -- "save_path=$EXP_DIR" "$@"
if [ -n "$WEIGHT" ]; then set -- "$@" "resume=$RESUME" "weight=$WEIGHT"; fi
set -- --config-file "$CONFIG_FILE" --num-gpus "$NUM_GPU" --num-machines "$NUM_MACHINE" \
    --machine-rank "$MACHINE_RANK" --dist-url "$DIST_URL" --options "$@"
if [ "$ENGINE$OVERWRITE" = embeddedtrue ]; then set -- --overwrite "$@"; fi
export LAM3C_RESUME_COMMAND="sh scripts/train.sh -d $DATASET -n $EXP_NAME -g $NUM_GPU -r true"
run_engine train "$@"
