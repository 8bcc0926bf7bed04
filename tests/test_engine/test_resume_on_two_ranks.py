"""Two processes under torchrun, one of which is killed: the group starts again and ends as if left alone."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from command_line import NO_GPU, ROOT, load_tool, run
from resumable import differences, final_state, fork, toy_config, train

# Two ranks with batches of 3 of 48 images: 8 iterations an epoch, saved after each.
OPTIONS = dict(count=48, save_every=1, save_by_epoch=False, guard={}, signals=True, workers=1)


def write_config(path, work_dir, **options):
    cfg = toy_config(work_dir, **{**OPTIONS, **options})
    # toy_config counts the images of one process.
    cfg.param_scheduler.T_max = 24
    cfg.custom_imports = dict(imports=['resumable'], allow_failed_imports=False)
    cfg.env_cfg = dict(dist_cfg=dict(backend='gloo'))
    cfg.dump(path)
    return path


def train_on_two(config, *arguments, port, **environment):
    return run(
        'tools/dist_train.sh', config, 2, *arguments, PORT=str(port),
        PYTHONPATH=str(ROOT / 'tests'), **environment,
    )  # fmt: skip


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """A training that nothing disturbed; forked, which spares the imports of torchrun's processes."""
    folder = tmp_path_factory.mktemp('alone')
    config = write_config(folder / 'c.py', folder / 'run', accumulate=3)

    def work(rank):
        group = dict(
            WORLD_SIZE='2', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT='29640'
        )
        os.environ.update(NO_GPU, RANK=rank, LOCAL_RANK=rank, **group)
        sys.argv = ['train.py', str(config), '--launcher=pytorch']
        load_tool('train').main()

    with (folder / 'said').open('w') as said:
        ranks = [fork(partial(work, rank), said.fileno()) for rank in '01']
        codes = [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]
    assert codes == [0, 0], (folder / 'said').read_text()[-3000:]
    return folder / 'run'


def test_a_killed_rank_costs_nothing_with_restarts(tmp_path, alone):
    """In the middle of an epoch and of a window, whose gradients differ between the ranks."""
    hooks = [dict(type='KillsRank', rank=1, iteration=13)]
    config = write_config(tmp_path / 'c.py', tmp_path / 'run', accumulate=3, hooks=hooks)
    code, said = train_on_two(config, port=29641, MAX_RESTARTS='1')
    assert code == 0, said[-3000:]
    assert 'failed (exitcode: -9) local_rank: 1' in said
    states = [final_state(folder, 'iter_24.pth') for folder in (alone, tmp_path / 'run')]
    assert not differences(*states)


def test_a_rank_that_hangs_is_named_and_a_signal_to_it_stops_both(tmp_path):
    """A stopped process first, which goes on; then SIGUSR1."""
    hooks = [dict(type='mmgradaug.StuckRankHook', timeout=2)]
    config = write_config(tmp_path / 'c.py', tmp_path / 'run', epochs=500, tell=True, hooks=hooks)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2',
               '--master_port=29642', str(ROOT / 'tools/train.py'), str(config),
               '--launcher=pytorch']  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
        env={**os.environ, **NO_GPU, 'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}'},
    )  # fmt: skip
    for line in process.stdout:
        if line.startswith('iteration 5'):
            break
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    os.kill(int(children[-1]), signal.SIGSTOP)
    for line in process.stdout:
        if 'no progress for 2 s' in line:
            break
    assert 'No sign of life from rank 1: stopped' in line and 'The others: rank 0' in line
    os.kill(int(children[-1]), signal.SIGCONT)
    os.kill(int(children[-1]), signal.SIGUSR1)
    said = process.communicate(timeout=120)[0]
    # torchrun's own exit code is 1; those of its processes are in what it says.
    assert process.returncode == 1 and 'exitcode  : 75' in said, said[-3000:]
    assert (tmp_path / 'run' / 'last_checkpoint').read_text() == 'interrupted.pth'
    assert not any(Path(f'/proc/{child}').exists() for child in children)


def test_another_number_of_processes(alone, tmp_path, capfd):
    """Works where each iteration can have the same images; otherwise it is said what to write."""
    shutil.copytree(alone, tmp_path / 'run')
    options = dict(OPTIONS, accumulate=3, epochs=4, resume=True)
    with pytest.raises(ValueError, match='train_dataloader.batch_size=6'):
        train(tmp_path / 'run', **options)
    assert train(tmp_path / 'run', batch_size=6, **options).iter == 32
    assert '2 processes made the checkpoint, 1 go on' in ''.join(capfd.readouterr())
