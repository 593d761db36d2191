#!/bin/sh
# Tests a trained model on Pointcept where there is one, else on the embedded engine. `sh scripts/test.sh -h`: the flags.

usage() {
    cat <<'HELP'
usage: sh scripts/test.sh -n NAME [flags] [-- key=value ...]

  -n NAME     name of the run in exp/DATASET/NAME (default: debug)
  -d DATASET  folder of the run (default: scannet, or CONFIG's own folder)
  -w WEIGHT   checkpoint in the run's model folder (default: model_best), a path to one, a run's folder, or a zoo name
  -c CONFIG   configs/DATASET/CONFIG.py or configs/CONFIG.py (default: the run's own config.py)
  -g GPUS     GPUs of this machine (default: all; on a CPU the number of processes, default 1)
  -m MACHINES number of machines (default: 1); under SLURM they find each other, else set NODE_RANK and DIST_URL
  -p PYTHON   Python interpreter (default: .venv/bin/python where quickstart.sh made one, else python)
  -h          this text
  key=value   settings over the config's, e.g. data.test.data_root=/scans/scannet

Predictions, and from the embedded engine scores.json, go to exp/DATASET/NAME/result.
engine: as for scripts/train.sh.

examples:
  sh scripts/test.sh -d lam3c -n lin
  sh scripts/test.sh -d lam3c -n lin -w model_last -g 8
  sh scripts/test.sh -c lam3c/semseg-lam3c-v1m1-0c-scannet-ft -n other -w /models/finetuned.pth
HELP
}

CALLER_DIR=$(pwd)
cd "$(dirname "$0")/.." || exit 1
ROOT_DIR=$(pwd)
. scripts/launch_env.sh

DATASET=''
CONFIG=''
EXP_NAME=debug
WEIGHT=model_best
NUM_GPU=''
NUM_MACHINE=1
default_python

while getopts "p:d:c:n:w:g:m:h" opt; do
    case $opt in
        p) PYTHON=$OPTARG ;;
        d) DATASET=$OPTARG ;;
        c) CONFIG=$OPTARG ;;
        n) EXP_NAME=$OPTARG ;;
        w) WEIGHT=$OPTARG ;;
        g) NUM_GPU=$OPTARG ;;
        m) NUM_MACHINE=$OPTARG ;;
        h) usage; exit 0 ;;
        *) echo "sh scripts/test.sh -h shows the flags" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
check_settings "$@"
choose_engine
find_config

EXP_DIR=exp/$DATASET/$EXP_NAME
if [ -n "$CONFIG" ]; then
    [ -n "$CONFIG_FILE" ] || no_config
else
    CONFIG_FILE=$EXP_DIR/config.py
    [ -f "$CONFIG_FILE" ] || fail "there is no run $EXP_DIR (-d and -n name it; -c CONFIG tests without one)"
fi
if [ -f "$EXP_DIR/model/${WEIGHT%.pth}.pth" ]; then
    WEIGHT=$EXP_DIR/model/${WEIGHT%.pth}.pth
else
    case $WEIGHT in model_*) fail "-w $WEIGHT: there is no $EXP_DIR/model/${WEIGHT%.pth}.pth" ;; esac
    find_weight "$WEIGHT" model_best
fi
choose_ranks

echo "Engine:  $ENGINE${POINTCEPT:+ ($POINTCEPT)}"
echo "Config:  $CONFIG_FILE"
echo "Weight:  $WEIGHT"
echo "GPUs:    $NUM_GPU on each of $NUM_MACHINE machine(s); this is machine $MACHINE_RANK; $DIST_URL"

set -- --config-file "$CONFIG_FILE" --num-gpus "$NUM_GPU" --num-machines "$NUM_MACHINE" \
    --machine-rank "$MACHINE_RANK" --dist-url "$DIST_URL" --options "save_path=$EXP_DIR" "weight=$WEIGHT" "$@"
run_engine test "$@"
