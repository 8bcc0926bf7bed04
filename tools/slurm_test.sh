#!/usr/bin/env bash
usage() {
    cat <<'EOF'
usage: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]

Evaluates a checkpoint as a Slurm job, one task per GPU:
  GPUS=8 tools/slurm_test.sh gpu gradaug_r50 CONFIG work_dirs/gradaug_r50/epoch_120.pth

environment: GPUS (8), GPUS_PER_NODE (GPUS, at most 8), CPUS_PER_TASK (5),
             SRUN_ARGS (further arguments of srun), PY_ARGS (further arguments of tools/test.py),
             PYTHON (.venv/bin/python if there, else python)
EOF
}

source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
check_arguments 4 "$@"
# PY_ARGS is unquoted on purpose: it holds several arguments.
# shellcheck disable=SC2086
run_slurm "$1" "$2" test.py "$3" "$4" --launcher=slurm ${PY_ARGS:-} "${@:5}"
