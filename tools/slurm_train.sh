#!/usr/bin/env bash
usage() {
    cat <<'EOF'
usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]

Trains as a Slurm job, one task per GPU. Two minutes before its time limit, and when it is preempted, it saves
and is queued again, to go on from there:
  GPUS=16 GPUS_PER_NODE=8 tools/slurm_train.sh gpu gradaug_r50 CONFIG work_dirs/gradaug_r50

environment: GPUS (8), GPUS_PER_NODE (GPUS, at most 8), CPUS_PER_TASK (5),
             SRUN_ARGS (further arguments of srun), PY_ARGS (further arguments of tools/train.py),
             PYTHON (.venv/bin/python if there, else python)
EOF
}

source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"
check_arguments 4 "$@"
# PY_ARGS is unquoted on purpose: it holds several arguments.
# shellcheck disable=SC2086
run_slurm "$1" "$2" train.py "$3" --work-dir="$4" --launcher=slurm ${PY_ARGS:-} "${@:5}"
