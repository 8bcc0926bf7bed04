# Sourced by dist_train.sh, dist_test.sh, slurm_train.sh and slurm_test.sh: how they start their
# processes. Each of them defines usage() first.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-}
if [[ -z $python ]]; then
    python=python
    [[ ! -x $root/.venv/bin/python ]] || python=$root/.venv/bin/python
fi

# check_arguments NEEDED ARGUMENT...: the usage on --help, or if there are too few.
check_arguments() {
    local needed=$1
    shift
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then
        usage
        exit 0
    fi
    [[ $# -ge $needed ]] || wrong_usage
}

wrong_usage() {
    usage >&2
    exit 2
}

# run_distributed GPUS SCRIPT ARGUMENT...: GPUS processes on this machine, of NNODES machines.
run_distributed() {
    [[ $1 =~ ^[1-9][0-9]*$ ]] || wrong_usage
    # The value that torchrun takes when none is set, after a warning from every machine.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    exec "$python" -m torch.distributed.run \
        --nnodes="${NNODES:-1}" \
        --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --nproc_per_node="$1" \
        --master_port="${PORT:-29500}" \
        "$root/tools/$2" "${@:3}"
}

# run_slurm PARTITION JOB_NAME SCRIPT ARGUMENT...: a Slurm job, one task per GPU.
run_slurm() {
    local gpus=${GPUS:-8}
    # A job of 4 GPUS must not ask its node for 8.
    local gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    # SRUN_ARGS is unquoted on purpose: it holds several arguments.
    # shellcheck disable=SC2086
    exec srun -p "$1" \
        --job-name="$2" \
        --gres="gpu:$gpus_per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="$gpus_per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        "$python" -u "$root/tools/$3" "${@:4}"
}
