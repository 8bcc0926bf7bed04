"""Trainings as Slurm jobs, by submitit: they have job ids, so a dead one is seen."""

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

from mmgradaug.files import UserError

from .runs import Run

if TYPE_CHECKING:
    from .sweep import Sweep

# States in which Slurm is still going to end the job, or has it waiting.
ALIVE = ('PENDING', 'RUNNING', 'REQUEUED', 'SUSPENDED', 'COMPLETING', 'CONFIGURING', 'RESIZING')


class Training:
    """What a job does: the command of a run, again from its checkpoint if the job is requeued."""

    def __init__(self, command: list[str]) -> None:
        self.command = command

    def __call__(self) -> None:
        # By each of the job's tasks; tools/train.py reads Slurm's variables.
        subprocess.run([*self.command, '--resume'], check=True)

    def checkpoint(self) -> Any:
        """Called by submitit before a preempted job is requeued."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Training(self.command))


def executor(sweep: 'Sweep', run: Run) -> Any:
    """A submitit executor for a run: one task for each GPU.

    Raises:
        UserError: submitit or Slurm is missing, or an argument of srun makes no sense.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError('--slurm needs submitit: pip install submitit') from error
    args = sweep.args
    try:
        made = submitit.SlurmExecutor(folder=run.folder / 'slurm')
    except RuntimeError as error:
        raise UserError(f'--slurm: {error}') from error
    gpus_per_node = min(args.gpus, 8)
    extra = dict(part.lstrip('-').split('=', 1) for part in shlex.split(args.srun_args or ''))
    made.update_parameters(
        partition=args.slurm,
        job_name=f'{run.key}-seed{run.seed}',
        nodes=-(-args.gpus // gpus_per_node),
        ntasks_per_node=gpus_per_node,
        gpus_per_node=gpus_per_node,
        cpus_per_task=int(os.environ.get('CPUS_PER_TASK', 5)),
        time=int(extra.pop('time', 60 * 24 * 7)),
        additional_parameters={key.replace('-', '_'): value for key, value in extra.items()},
    )
    return made


def state_of(run: Run) -> str:
    """Slurm's word for the run's job, or nothing if it has none."""
    job = run.request().get('job')
    if not job:
        return ''
    import submitit

    return submitit.SlurmJob(folder=run.folder / 'slurm', job_id=job).state


def submit(sweep: 'Sweep') -> None:
    """Submit every run that is neither done nor with Slurm already; say how the others stand."""
    runs = sweep.runs_of(sweep.items)
    _submit(sweep, runs)
    for triple in sweep.triples:
        plain, gradaug, longer = triple
        pair = [run for run in runs if run.key in (plain.key, gradaug.key)]
        if all(run.is_done for run in pair):
            print(sweep.plan_equal_cost(triple, pair))
            _submit(sweep, sweep.runs_of([longer]))
        else:
            print(f'{longer.key}: not before the others are done; then type the same command again')


def _submit(sweep: 'Sweep', runs: list[Run]) -> None:
    for run in runs:
        if run.is_done:
            print(f'{run.title}: done')
            continue
        job = '' if run.holds_another else run.request().get('job', '')
        state = state_of(run) if job else ''
        if state.split()[:1] and state.split()[0] in ALIVE and not sweep.args.resubmit:
            print(f'{run.title}: job {job}, {state.lower()}, {100 * run.share_done:.0f} % done')
            continue
        if job:
            print(f'{run.title}: job {job} ended ({state.lower() or "unknown"}) before it was done')
        run.prepare()
        number = executor(sweep, run).submit(Training(run.command)).job_id
        run.write_request(job=number)
        print(f'{run.title}: submitted as job {number}', flush=True)
