#!/usr/bin/env bash
set -euo pipefail

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

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    usage
    exit 0
fi
if [[ $# -lt 4 ]]; then
    usage >&2
    exit 2
fi
partition=$1
job_name=$2
config=$3
checkpoint=$4
shift 4

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-}
if [[ -z $python ]]; then
    python=python
    [[ ! -x $root/.venv/bin/python ]] || python=$root/.venv/bin/python
fi

gpus=${GPUS:-8}
# A job of 4 GPUS must not ask its node for 8.
gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# SRUN_ARGS and PY_ARGS are unquoted on purpose: each holds several arguments.
# shellcheck disable=SC2086
exec srun -p "$partition" \
    --job-name="$job_name" \
    --gres="gpu:$gpus_per_node" \
    --ntasks="$gpus" \
    --ntasks-per-node="$gpus_per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "$python" -u "$root/tools/test.py" "$config" "$checkpoint" --launcher=slurm \
    ${PY_ARGS:-} "$@"
