"""Trainings that are killed again and again: ``make test-soak``, or ``python tests/soak.py --help``.

Prints a table: case, runs, failures here, and the same with MMEngine's own hooks. A run fails if it does not
end, or its weights, optimizer, average of weights and schedulers are not bit for bit those of a run that was
left alone; one of the faults also if it does not go on from the newest checkpoint that is whole.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import torch

torch.set_num_threads(1)  # before anything starts threads, which do not survive a fork

sys.path.insert(0, str(Path(__file__).parent / 'test_engine'))
import resumable  # noqa: E402
from conftest import write_classifier  # noqa: E402
from faults import TO_FILES, TO_THE_DISK, HarmsTheDisk, removed_folder  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.runner import CheckpointLoader  # noqa: E402
from mmengine.runner import checkpoint as mmengines  # noqa: E402
from resumable import Stopped, differences, final_state, toy_config, train  # noqa: E402, F401
from test_exact_resume_hook import SET_UPS, WITH_IMAGES  # noqa: E402
from test_resume_on_two_ranks import train_on_two, write_config  # noqa: E402

from mmgradaug.checkpoint import load_from_local  # noqa: E402

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
# Of 24 iterations, saved after each. In the loop by iterations MMEngine alone goes on where it was.
FAULTY = dict(by_epoch=False)
TWO_RANKS = dict(accumulate=3, signals=False, guard=None)
KILLED = 'killed inside a save'
FAULTS = [KILLED, *TO_THE_DISK, *TO_FILES]


def fork(work: Callable[[], Any], log: Path) -> int:
    """A process of its own that does the work, and what it says."""
    with log.open('a') as file:
        return resumable.fork(work, file.fileno())


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


def wrong(code: Optional[int], expected: dict[str, Any], work_dir: Path, last: str) -> list[str]:
    """What keeps a training from having ended as if left alone."""
    if code != 0:
        return ['ends with an error']
    if not (work_dir / last).is_file():
        return ['another number of iterations']
    return ['not equal'] if differences(expected, final_state(work_dir, last)) else []


def chain(
    options: dict[str, Any], kills: int, folder: Path, rng: random.Random
) -> tuple[str, Counter[str]]:
    """Kill a training ``kills`` times, each time resumed; as often from new as that takes.

    Returns:
        How many trainings were killed how often; and how many of them went wrong in which way.
    """
    alone = folder / 'alone'
    assert ended(fork(lambda: train(alone, **LONG, **options), folder / 'log')) == 0
    expected = final_state(alone, LAST)
    done = runs = 0
    failures: Counter[str] = Counter()
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
        failures.update(wrong(code, expected, work_dir, LAST))
        shutil.rmtree(work_dir)
    return f'{runs} (killed {done} times)', failures


def set_up(
    options: dict[str, Any], runs: int, folder: Path, rng: random.Random
) -> tuple[int, Counter[str]]:
    """Stop a training after a random iteration, ``runs`` times, and resume it."""
    options = {**options, 'save_every': 1, 'save_by_epoch': False}
    options.pop('stop_at', None)
    seeds = options.get('seed', 0) is None
    expected = None
    failures: Counter[str] = Counter()
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
        failures.update(wrong(code, expected, work_dir, 'iter_24.pth'))
    return runs, failures


def with_images(
    config: Any, options: dict[str, Any], runs: int, folder: Path, rng: random.Random
) -> tuple[int, Counter[str]]:
    """As :func:`set_up`, by a config that reads images."""
    write_classifier(folder / 'data')
    return set_up(dict(config=partial(config, data=folder / 'data'), **options), runs, folder, rng)


def two_ranks(
    options: dict[str, Any], runs: int, folder: Path, rng: random.Random
) -> tuple[int, Counter[str]]:
    """Kill one of two ranks after a random iteration, ``runs`` times; torchrun starts both again."""

    def trained(name: str, **more: Any) -> int:
        config = write_config(folder / f'{name}.py', folder / name, **options, **more)
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        code, said = train_on_two(config, port=port, MAX_RESTARTS='1')
        (folder / f'{name}.log').write_text(said)
        return code

    assert trained('alone') == 0
    expected = final_state(folder / 'alone', 'iter_24.pth')
    failures: Counter[str] = Counter()
    for run in range(runs):
        kill = dict(type='KillsRank', rank=rng.randrange(2), iteration=rng.randint(1, 23))
        code = trained(f'run{run}', hooks=[kill])
        failures.update(wrong(code, expected, folder / f'run{run}', 'iter_24.pth'))
    return runs, failures


class Began(Hook):
    """Writes down from which iteration a training went on."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def before_train(self, runner: Any) -> None:
        self.file.write_text(str(runner.iter))


def harmed(case: str, work_dir: Path, options: dict[str, Any], rng: random.Random) -> Any:
    """Train until something goes wrong.

    Returns:
        The exit code that this should have; the real one; the folder to go on in; the iteration to go on from.
    """
    log = work_dir.with_suffix('.log')
    number = rng.randint(3, 18)
    if case == KILLED:

        def work() -> None:
            die_inside_a_save(number)
            train(work_dir, keep=1, **options)

        return -signal.SIGKILL, ended(fork(work, log)), work_dir, number - 1
    if case in TO_THE_DISK:
        harm = HarmsTheDisk(TO_THE_DISK[case], number, saves=2)
        if case == 'work dir removed':
            harm = HarmsTheDisk(removed_folder, number)
        stop_at = number + rng.randint(0, 3)
        code = ended(fork(lambda: train(work_dir, [harm], keep=1, stop_at=stop_at, **options), log))
        is_refused = stop_at in harm.refused and harm.harm is not removed_folder
        return 0, code, work_dir, number - 1 if is_refused else stop_at
    harm_file, is_lost = TO_FILES[case]
    code = ended(fork(lambda: train(work_dir, keep=2, stop_at=number, **options), log))
    renamed = harm_file(work_dir / 'last_checkpoint', work_dir / f'iter_{number}.pth')
    return 0, code, renamed or work_dir, number - is_lost


def fault(
    case: str, options: dict[str, Any], runs: int, folder: Path, rng: random.Random
) -> tuple[int, Counter[str]]:
    """Harm a training's disk or files at a random iteration, ``runs`` times, and resume it."""
    alone = folder / 'alone'
    assert ended(fork(lambda: train(alone, **options), folder / 'log')) == 0
    expected = final_state(alone, 'iter_24.pth')
    failures: Counter[str] = Counter()
    for run in range(runs):
        place = folder / f'run{run}'
        place.mkdir()
        fitting, code, work_dir, iteration = harmed(case, place / 'work_dir', options, rng)
        if code != fitting:
            failures['ends with an error'] += 1
            continue
        began = Began(place / 'began')
        again = fork(lambda: train(work_dir, [began], resume=True, **options), place / 'log')  # noqa: B023
        code = ended(again)
        where = int(began.file.read_text()) if began.file.is_file() else None
        if where is None:
            failures['cannot be resumed'] += 1
        elif where != iteration:
            way = 'a damaged one' if where > iteration else 'an older one'
            failures[f'goes on from {way}' if where else 'begins afresh'] += 1
        else:
            failures.update(wrong(code, expected, work_dir, 'iter_24.pth'))
    return runs, failures


@contextlib.contextmanager
def mmengines_loading() -> Iterator[None]:
    """Without the checksums that mmgradaug compares in whatever MMEngine loads."""
    CheckpointLoader.register_scheme(prefixes='', loader=mmengines.load_from_local, force=True)
    yield
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)


def told(failures: Counter[str], of: str = '') -> str:
    """How many failed, and in which ways: '2 of 2: begins afresh'."""
    ways = ', '.join(way if len(failures) == 1 else f'{way} ({failures[way]})' for way in failures)
    return f'{sum(failures.values())}{of}' + (f': {ways}' if ways else '')


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
        *(
            (f'stopped: {name}', partial(with_images, config), options, arguments.runs)
            for name, (config, options) in WITH_IMAGES.items()
        ),
        (
            'one of two ranks killed, accumulation over 3',
            two_ranks,
            dict(accumulate=3),
            arguments.runs,
        ),
        *((f'fault: {name}', partial(fault, name), FAULTY, arguments.runs) for name in FAULTS),
    ]
    for name, function, options, count in work:
        if not re.search(arguments.only, name):
            continue
        with contextlib.ExitStack() as stack:
            folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
            state = rng.getstate()
            runs, failures = function(options, count, folders[0], rng)
            line = f'| {name} | {runs} | {told(failures)} |'
            total += sum(failures.values())
            if arguments.stock:
                rng.setstate(state)
                stock = {**options, **STOCK}
                try:
                    with mmengines_loading():
                        stock_runs, stock_failures = function(stock, count, folders[1], rng)
                    line += f' {told(stock_failures, f" of {stock_runs}")} |'
                except AssertionError:
                    line += ' fails uninterrupted |'
            print(line, flush=True)
            if failures:
                for log in sorted(folders[0].rglob('*log')):
                    print(log, log.read_text()[-3000:], sep='\n', file=sys.stderr)
    sys.exit(1 if total else 0)


if __name__ == '__main__':
    main()
