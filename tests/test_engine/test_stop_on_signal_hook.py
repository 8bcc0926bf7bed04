"""Signals, sent to real processes: what is saved, how they end, what is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import NO_GPU, ROOT
from resumable import differences, final_state, train

# Far more iterations than can be done before the signal comes.
LONG = dict(epochs=2000, save_every=500, signals=True, tell=True, exact=True)


def start(folder, **options):
    words = [f'{key}={value!r}' for key, value in {**LONG, **options}.items()]
    return subprocess.Popen(
        [sys.executable, str(ROOT / 'tests' / 'resumable.py'), str(folder), *words],
        env={**os.environ, **NO_GPU},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process, text):
    """Read until a line begins with the text; give what was read."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(text):
            return lines
    raise AssertionError(''.join(lines))


def finish(process, timeout=60):
    rest = process.communicate(timeout=timeout)[0]
    return process.returncode, rest


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
    process = start(tmp_path / 'stopped', workers=workers)
    wait_for(process, 'iteration 5\n')
    (os.killpg if to_group else os.kill)(process.pid, number)
    returned, said = finish(process)
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
    process = start(tmp_path, hooks=[dict(type='SleepsAt', iteration=5)])
    wait_for(process, 'asleep')
    os.kill(process.pid, signal.SIGINT)
    wait_for(process, 'SIGINT: saving at the end of this iteration')
    os.kill(process.pid, signal.SIGINT)
    returned, said = finish(process)
    assert returned != 0 and 'KeyboardInterrupt' in said
    assert not (tmp_path / 'interrupted.pth').exists() and not left_behind(process)


def test_a_killed_process_leaves_no_workers_behind(tmp_path):
    process = start(tmp_path, workers=2)
    wait_for(process, 'iteration 5\n')
    process.kill()
    process.wait()
    assert not left_behind(process)


def test_it_needs_something_to_save_by(tmp_path):
    with pytest.raises(TypeError, match="type='mmgradaug.WholeCheckpointHook'"):
        train(tmp_path, signals=True, checkpoint=dict(type='CheckpointHook'))


def test_handlers_are_put_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    train(tmp_path, signals=True, epochs=1)
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
