#!/usr/bin/env bash
usage() {
    cat <<'EOF'
usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]

Evaluates a checkpoint on GPUS devices of this machine. On several machines, run it on each:
  NNODES=2 NODE_RANK=0 PORT=29500 MASTER_ADDR=10.0.0.1 tools/dist_test.sh CONFIG CHECKPOINT GPUS
  NNODES=2 NODE_RANK=1 PORT=29500 MASTER_ADDR=10.0.0.1 tools/dist_test.sh CONFIG CHECKPOINT GPUS

environment: NNODES (1), NODE_RANK (0), PORT (29500), MASTER_ADDR (127.0.0.1),
             OMP_NUM_THREADS (1), PYTHON (.venv/bin/python if there, else python)
EOF
}

source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
check_arguments 3 "$@"
run_distributed "$3" test.py "$1" "$2" --launcher pytorch "${@:4}"
