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

# run_distributed GPUS SCRIPT ARGUMENT...: GPUS processes on this machine, of NNODES machines. If one dies, all
# are started again, MAX_RESTARTS times at most.
run_distributed() {
    [[ $1 =~ ^[1-9][0-9]*$ ]] || wrong_usage
    # The value that torchrun takes when none is set, after a warning from every machine.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    local address=${MASTER_ADDR:-127.0.0.1} port=${PORT:-29500}
    local meet=(--node_rank="${NODE_RANK:-0}" --master_addr="$address" --master_port="$port")
    if [[ -n ${MAX_RESTARTS:-} ]]; then
        # Otherwise torchrun keeps the addresses of the dead processes, and the new ones try them.
        export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
        meet=(
            --max_restarts="$MAX_RESTARTS"
            --rdzv_backend=c10d
            --rdzv_endpoint="$address:$port"
            --rdzv_id=mmgradaug
        )
    fi
    exec "$python" -m torch.distributed.run \
        --nnodes="${NNODES:-1}" \
        --nproc_per_node="$1" \
        "${meet[@]}" \
        "$root/tools/$2" "${@:3}"
}

# run_slurm PARTITION JOB_NAME SCRIPT ARGUMENT...: a Slurm job, one task per GPU. Exit code 75 of it means
# that it has saved and wants to go on: it is queued again, by Slurm's requeue where this is a batch job.
run_slurm() {
    local gpus=${GPUS:-8}
    # A job of 4 GPUS must not ask its node for 8.
    local gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    local code again child signal
    while :; do
        # Signals before the time limit. A task that ends leaves the others time to end as well; with
        # --kill-on-bad-exit=1 a rank that saves slowly would be killed by one that has left.
        # SRUN_ARGS is unquoted on purpose: it holds several arguments.
        # shellcheck disable=SC2086
        srun -p "$1" \
            --job-name="$2" \
            --gres="gpu:$gpus_per_node" \
            --ntasks="$gpus" \
            --ntasks-per-node="$gpus_per_node" \
            --cpus-per-task="${CPUS_PER_TASK:-5}" \
            --kill-on-bad-exit=0 \
            --wait=120 \
            --signal=USR1@120 \
            ${SRUN_ARGS:-} \
            "$python" -u "$root/tools/$3" "${@:4}" &
        child=$!
        for signal in TERM USR1 INT; do
            # shellcheck disable=SC2064
            trap "kill -$signal $child 2>/dev/null || true" "$signal"
        done
        code=0
        # A signal ends wait, not srun.
        while :; do
            wait "$child" && code=0 || code=$?
            kill -0 "$child" 2>/dev/null || break
        done
        # If it ended right after a signal had ended wait: its own code, which bash remembers.
        wait "$child" 2>/dev/null && code=0 || { again=$?; [[ $again == 127 ]] || code=$again; }
        trap - TERM USR1 INT
        [[ $code == 75 ]] || exit "$code"
        if [[ -n ${SLURM_JOB_ID:-} ]]; then
            scontrol requeue "$SLURM_JOB_ID"
            exit 75
        fi
        export SLURM_RESTART_COUNT=$((${SLURM_RESTART_COUNT:-0} + 1))
    done
}
