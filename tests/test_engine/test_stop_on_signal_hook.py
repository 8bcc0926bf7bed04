"""Signals, sent to processes: what is saved, how they end, what is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ROOT
from resumable import differences, final_state, fork, train

# Far more iterations than can be done before the signal comes.
LONG = dict(epochs=2000, save_every=500, signals=True, tell=True, exact=True)


class Training:
    """In a process of its own."""

    def __init__(self, folder, **options):
        reads, writes = os.pipe()

        def work():
            signal.alarm(120)  # the end of one that hangs
            train(folder, **{**LONG, **options})

        self.pid = fork(work, writes)
        os.close(writes)
        self.stdout = open(reads)

    def wait_for(self, text):
        """Read until a line begins with the text."""
        lines = []
        for line in self.stdout:
            lines.append(line)
            if line.startswith(text):
                return
        raise AssertionError(''.join(lines))

    def finish(self):
        """The exit code, and the rest of what it says."""
        with self.stdout:
            said = self.stdout.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), said


def left_behind(process):
    """Processes of the session that are still there, a while after."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        alive = []
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                fields = (folder / 'stat').read_text().rsplit(')', 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == process.pid and fields[0] != 'Z':
                alive.append(folder.name)
        if not alive:
            return []
        time.sleep(0.2)
    return alive


@pytest.mark.parametrize(
    ('number', 'code', 'workers', 'to_group'),
    [
        (signal.SIGUSR1, 75, 0, False),
        (signal.SIGTERM, 75, 2, True),  # as Slurm does: the workers get it too
        (signal.SIGINT, 130, 2, True),  # as a terminal does
    ],
)
def test_it_saves_leaves_and_goes_on_exactly(tmp_path, number, code, workers, to_group):
    process = Training(tmp_path / 'stopped', workers=workers)
    process.wait_for('iteration 5\n')
    (os.killpg if to_group else os.kill)(process.pid, number)
    returned, said = process.finish()
    assert returned == code, said
    assert 'saved, exit code' in said and not left_behind(process)
    assert (tmp_path / 'stopped' / 'last_checkpoint').read_text() == 'interrupted.pth'
    # Gone on from to the end of the epoch, where the interruption's file goes away.
    iteration = [int(line.split()[1]) for line in said.splitlines() if line.startswith('iteration')]
    epochs = max(iteration, default=5) // 8 + 2
    options = dict(LONG, epochs=2000, save_every=1, stop_at=epochs * 8 + 1, tell=False)
    train(tmp_path / 'alone', **options)
    train(tmp_path / 'stopped', resume=True, **options)
    runs = ('alone', 'stopped')
    one, other = (final_state(tmp_path / run, f'epoch_{epochs}.pth') for run in runs)
    assert not differences(one, other)
    assert not (tmp_path / 'stopped' / 'interrupted.pth').exists()


def test_a_second_interrupt_ends_it_at_once(tmp_path):
    process = Training(tmp_path, hooks=[dict(type='SleepsAt', iteration=5)])
    process.wait_for('asleep')
    os.kill(process.pid, signal.SIGINT)
    process.wait_for('SIGINT: saving at the end of this iteration')
    os.kill(process.pid, signal.SIGINT)
    returned, said = process.finish()
    assert returned != 0 and 'KeyboardInterrupt' in said
    assert not (tmp_path / 'interrupted.pth').exists() and not left_behind(process)


def test_a_killed_process_leaves_no_workers_behind(tmp_path):
    process = Training(tmp_path, workers=2)
    process.wait_for('iteration 5\n')
    os.kill(process.pid, signal.SIGKILL)
    assert process.finish()[0] == -signal.SIGKILL
    assert not left_behind(process)


def digits(folder, *options):
    """The command of a training of iterations, whose workers wait for more when it is done."""
    command = [
        sys.executable,
        'tools/train.py',
        'configs/quickstart/digits_gradaug.py',
        '--work-dir',
        folder,
    ]
    return [*command, '--cfg-options', 'train_dataloader.num_workers=2', *options]


def test_a_finished_training_ends_its_workers(tmp_path):
    command = digits(tmp_path, 'train_cfg.max_iters=2')
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=300, check=True)
    assert json.loads((tmp_path / 'run.json').read_text())['status'] == 'done'


def test_workers_of_the_validation_outlive_the_signal_too(tmp_path):
    command = digits(
        tmp_path,
        *(
            'train_cfg.max_iters=2000',
            'train_cfg.val_interval=3',
            'default_hooks.logger.interval=1',
        ),
        *('val_dataloader.num_workers=2', 'val_dataloader.persistent_workers=True'),
    )
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if '/2000]' in line and 'Iter(train) [   4' in line:  # after the first validation
            os.killpg(process.pid, signal.SIGTERM)
    process.stdout.close()
    assert process.wait(60) == 75, ''.join(said)
    assert (tmp_path / 'interrupted.pth').is_file() and not left_behind(process)


def test_it_needs_something_to_save_by(tmp_path):
    with pytest.raises(TypeError, match="type='mmgradaug.WholeCheckpointHook'"):
        train(tmp_path, signals=True, checkpoint=dict(type='CheckpointHook'))


def test_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    train(tmp_path, signals=True, epochs=1)
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
