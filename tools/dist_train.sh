#!/usr/bin/env bash
usage() {
    cat <<'EOF'
usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]

Trains on GPUS devices of this machine. On several machines, run it on each of them:
  NNODES=2 NODE_RANK=0 PORT=29500 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG GPUS
  NNODES=2 NODE_RANK=1 PORT=29500 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG GPUS

With MAX_RESTARTS=3 it goes on from the last checkpoint, at most three times, when a process dies.

environment: MAX_RESTARTS (0), NNODES (1), NODE_RANK (0), PORT (29500), MASTER_ADDR (127.0.0.1),
             OMP_NUM_THREADS (1), PYTHON (.venv/bin/python if there, else python)
EOF
}

source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
check_arguments 2 "$@"
run_distributed "$2" train.py "$1" --launcher pytorch "${@:3}"
