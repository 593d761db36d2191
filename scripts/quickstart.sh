#!/bin/sh
# Sets everything up and pre-trains LAM3C on this machine, CPU or GPU: scenes in; checkpoint, TensorBoard logs,
# a table and a picture out.
#   sh scripts/quickstart.sh                     16 generated noisy rooms, the tiny config
#   sh scripts/quickstart.sh --data scans/       your clouds (.ply .pcd .npz .npy .xyz .las .laz) or scene folders
#   sh scripts/quickstart.sh --video [FILE...]   videos become rooms first (no FILE: a synthetic flat is filmed)
#   sh scripts/quickstart.sh --steps 300         longer
#   sh scripts/quickstart.sh --help              every option
# A second run goes to exp/quickstart/run-2 and so on; --resume goes on with the last.
LAM3C_CALLER_DIR=$(pwd)
export LAM3C_CALLER_DIR
cd "$(dirname "$0")/.." || exit 1
. scripts/setup_env.sh
case "${1:-}" in -h | --help) PY=$(lam3c_find_python) && exec "$PY" scripts/quickstart.py --help || exit 1 ;; esac
case " $* " in *" --video "*) lam3c_setup video ;; *) lam3c_setup core ;; esac
exec "$PY" scripts/quickstart.py "$@"
