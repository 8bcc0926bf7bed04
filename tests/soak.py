"""Trainings that are killed again and again: ``make test-soak``, or ``python tests/soak.py --help``.

Prints, and appends to a file, a table: case, runs, failures here, and the same with MMEngine's own hooks.
A run fails if it does not end, or its weights, optimizer, average of weights and schedulers are not bit for
bit those of a run that was left alone.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Optional

import torch

torch.set_num_threads(1)  # before anything starts threads, which do not survive a fork

sys.path.insert(0, str(Path(__file__).parent / 'test_engine'))
from resumable import Stopped, differences, final_state, toy_config, train  # noqa: E402, F401
from test_exact_resume_hook import SET_UPS  # noqa: E402

STOCK = dict(exact=False, checkpoint=dict(type='CheckpointHook'))
# 8 epochs of 8 iterations, saved after each iteration.
CHAINS = {
    'by epochs, 2 workers, accumulation over 3': dict(workers=2, accumulate=3, keep=2),
    'by epochs, average of weights, one checkpoint kept': dict(ema=True, keep=1),
    'by iterations, endless sampler, persistent workers, one kept': dict(
        by_epoch=False, sampler='InfiniteSampler', workers=2, persistent=True, keep=1
    ),
}
LONG = dict(epochs=8, save_every=1, save_by_epoch=False)
LAST = 'iter_64.pth'


def fork(work: Callable[[], None], log: Path) -> int:
    """A process of its own that does the work; modules are loaded already."""
    process = os.fork()
    if process:
        return process
    os.setpgid(0, 0)  # to be killed with its workers
    code = 1
    with log.open('a') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)


def ended(process: int, seconds: Optional[float] = None) -> Optional[int]:
    """The exit code, negative for a signal; None if it is still running after so long."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(process, 0 if deadline is None else os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


def die_inside_a_save(number: int) -> None:
    """From here on: be killed with half of the ``number``-th file on the disk."""
    fsync, put = os.fsync, open
    written = [0]

    def half(path: str) -> None:
        written[0] += 1
        if written[0] == number:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(descriptor: int) -> None:
        path = os.readlink(f'/proc/self/fd/{descriptor}')
        if '.pth.' in path and path.endswith('.partial'):
            half(path)
        fsync(descriptor)

    os.fsync = watched
    # MMEngine's own way: straight onto the final path.
    from mmengine.fileio import LocalBackend

    def straight(self: Any, obj: bytes, filepath: str) -> None:
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        with put(filepath, 'wb') as file:
            file.write(obj)
        half(str(filepath))

    LocalBackend.put = straight


def chain(options: dict[str, Any], kills: int, folder: Path, rng: random.Random) -> tuple[str, int]:
    """Kill a training ``kills`` times, each time resumed; as often from new as that takes.

    Returns:
        How many trainings were killed how often; and how many of them did not end as if left alone.
    """
    alone = folder / 'alone'
    assert ended(fork(lambda: train(alone, **LONG, **options), folder / 'log')) == 0
    expected = final_state(alone, LAST)
    done = failures = runs = 0
    while done < kills:
        runs += 1
        work_dir = folder / f'run{runs}'
        started = 0
        while True:
            in_save = rng.random() < 1 / 3
            number = rng.randint(1, 12)

            def work(in_save: bool = in_save, number: int = number) -> None:
                if in_save:
                    die_inside_a_save(number)
                train(work_dir, resume=True, **LONG, **options)  # noqa: B023

            process = fork(work, folder / 'log')
            code = ended(process, None if in_save or done >= kills else rng.uniform(0.1, 2.0))
            if code is None:
                os.killpg(process, signal.SIGKILL)
                code = ended(process)
            started += 1
            if code != -signal.SIGKILL:
                break
            done += 1
            if started > 10 * kills:
                code = 1
                break
        try:
            equal = code == 0 and not differences(expected, final_state(work_dir, LAST))
        except FileNotFoundError:
            equal = False
        failures += not equal
        shutil.rmtree(work_dir)
    return f'{runs} (killed {done} times)', failures


def set_up(options: dict[str, Any], runs: int, folder: Path, rng: random.Random) -> tuple[int, int]:
    """Stop a training after a random iteration, ``runs`` times, and resume it."""
    options = {**options, 'save_every': 1, 'save_by_epoch': False}
    options.pop('stop_at')
    seeds = options.get('seed', 0) is None
    expected = None
    failures = 0
    for run in range(runs):
        work_dir, seed_file = folder / f'run{run}', folder / f'seed{run}'

        def first(work_dir: Path = work_dir, seed_file: Path = seed_file) -> None:
            runner = train(work_dir, stop_at=rng.randint(1, 23), **options)
            seed_file.write_text(str(runner.seed))

        rng.random()  # a fork has its own copy
        code = ended(fork(first, folder / 'log'))
        if expected is None or seeds:
            given = {**options, 'seed': int(seed_file.read_text())} if seeds else options
            alone = folder / f'alone{run}'
            assert ended(fork(lambda: train(alone, **given), folder / 'log')) == 0  # noqa: B023
            expected = final_state(alone, 'iter_24.pth')
        again = fork(lambda: train(work_dir, resume=True, **options), folder / 'log')  # noqa: B023
        code = code or ended(again)
        try:
            equal = code == 0 and not differences(expected, final_state(work_dir, 'iter_24.pth'))
        except FileNotFoundError:
            equal = False
        failures += not equal
    return runs, failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--kills', type=int, default=24, help='SIGKILLs a chain, of which there are 3'
    )
    parser.add_argument('--runs', type=int, default=4, help='stops a set-up')
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument('--only', default='', help='cases whose names match a regular expression')
    parser.add_argument('--stock', action='store_true', help="with MMEngine's own hooks as well")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    total = 0
    print('| case | runs | failures |' + (' with MMEngine alone |' if arguments.stock else ''))
    print('|---|---|---|' + ('---|' if arguments.stock else ''), flush=True)
    work = [
        *((f'SIGKILL: {name}', chain, CHAINS[name], arguments.kills) for name in CHAINS),
        *((f'stopped: {name}', set_up, SET_UPS[name], arguments.runs) for name in SET_UPS),
    ]
    for name, function, options, count in work:
        if not re.search(arguments.only, name):
            continue
        with contextlib.ExitStack() as stack:
            folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
            state = rng.getstate()
            runs, failures = function(options, count, folders[0], rng)
            line = f'| {name} | {runs} | {failures} |'
            total += failures
            if arguments.stock:
                rng.setstate(state)
                stock = {**options, **STOCK}
                try:
                    stock_runs, stock_failures = function(stock, count, folders[1], rng)
                    line += f' {stock_failures} of {stock_runs} |'
                except AssertionError:
                    line += ' fails uninterrupted |'
            print(line, flush=True)
            if failures:
                print((folders[0] / 'log').read_text()[-3000:], file=sys.stderr)
    sys.exit(1 if total else 0)


if __name__ == '__main__':
    main()
