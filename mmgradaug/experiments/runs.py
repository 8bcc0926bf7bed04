"""Trainings as processes: started, watched by their run.json, resumed, and ended together."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from mmgradaug.files import UserError, short, write_json
from mmgradaug.iteration_time import seconds_per_iteration
from mmgradaug.resources import TOOLS

if TYPE_CHECKING:
    from .watch import Watch


TRAIN = TOOLS / 'train.py'

RECORD = 'run.json'  # written by RunRecordHook
REQUEST = 'request.json'  # written here, before the training starts: what was asked for
TAIL = 30  # lines of a failed run's output
ENOUGH_WINDOWS = 10  # of run.json's training curve, to know how long an iteration takes
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(eq=False)
class Run:
    """One training: one call of tools/train.py.

    Args:
        key: what is trained; runs of one key differ in their seed alone.
        seed: which repetition of it.
        folder: its work dir; emptied at the start, unless the run is resumed.
        config: a config file.
        options: KEY=VALUE, as for --cfg-options.
        arguments: further ones of tools/train.py.
        about: further facts for request.json, which the report reads: label, tables, ...
        on_gpu: else on the CPU, by one thread.
        processes: of one training, which are as many batches an iteration.
        lock: a file descriptor that the process holds open as long as it lives.
    """

    key: str
    seed: int
    folder: Path
    config: Path
    options: Sequence[str] = ()
    arguments: Sequence[str] = ()
    about: dict[str, Any] = field(default_factory=dict)
    on_gpu: bool = False
    processes: int = 1
    lock: Optional[int] = None
    process: Optional['subprocess.Popen[bytes]'] = None
    said_before: int = 0  # bytes that earlier processes left in its output

    @property
    def title(self) -> str:
        return f'{self.key}, seed {self.seed}'

    @property
    def output(self) -> Path:
        return self.folder / 'output.txt'

    @property
    def command(self) -> list[str]:
        command = [sys.executable, str(TRAIN), str(self.config), '--work-dir', str(self.folder)]
        command += self.arguments
        return [*command, '--cfg-options', *self.options] if self.options else command

    @property
    def fingerprint(self) -> str:
        """Of what is trained: the config's whole text, options, arguments and number of processes."""
        # A split's file moves with the folder of the sweep.
        options = [re.sub(r'(?<=\.split_file=).*/', '', option) for option in self.options]
        parts = [_config_text(self.config), *options, *self.arguments]
        parts += [f'{self.processes} processes'] * (self.processes > 1)
        return hashlib.sha256('\n'.join(parts).encode()).hexdigest()

    def request(self) -> dict[str, Any]:
        return _read(self.folder / REQUEST)

    def record(self) -> dict[str, Any]:
        """What the run has written so far; empty if it is of another training, or there is none."""
        if self.request().get('fingerprint') != self.fingerprint:
            return {}
        return _read(self.folder / RECORD)

    @property
    def holds_another(self) -> bool:
        """Whether its work dir has something that is not this training's."""
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return False
        return self.request().get('fingerprint') != self.fingerprint

    @property
    def is_done(self) -> bool:
        record = self.record()
        return record.get('status') == 'done' and not problem_of(record)

    @property
    def is_timed(self) -> bool:
        """Whether the record tells how long an iteration takes."""
        return self.is_done or len(self.record().get('training', [])) >= ENOUGH_WINDOWS

    @property
    def share_done(self) -> float:
        record = self.record()
        return record['iterations'] / record['max_iters'] if record else 0.0

    def prepare(self, **more: Any) -> bool:
        """Make the work dir; say whether there is something of this training to resume."""
        resume = bool(self.request()) and not self.holds_another
        if not resume:
            remove(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_request(**more)
        return resume and (self.folder / 'last_checkpoint').exists()

    def write_request(self, **more: Any) -> None:
        request = {
            'fingerprint': self.fingerprint,
            'key': self.key,
            'seed': self.seed,
            'options': list(self.options),
            **self.about,
            **more,
        }
        write_json(self.folder / REQUEST, request)

    def start(self) -> None:
        """Start the process, from the last checkpoint of the same training if there is one."""
        resume = self.prepare()
        environment = dict(os.environ)
        if not self.on_gpu:
            # The layers are too small to share among threads; runs side by side use the cores.
            environment |= dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
        # Interrupted in between, there would be a process that nobody knows of and nobody ends.
        with self.output.open('ab') as output, signals_later():
            self.said_before = output.tell()
            self.process = subprocess.Popen(
                [*self.command, '--resume'] if resume else self.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=() if self.lock is None else (self.lock,),
            )

    def failure(self) -> Optional[str]:
        """None while it runs; empty if it ended well; else what went wrong."""
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return None
        if code != 0:
            how = f'exit code {code}' if code > 0 else f'signal {-code}'
            return f'{self.title}: training failed ({how})\n{self.tail()}'
        problem = problem_of(self.record())
        return f'{self.title}: {problem}\n{self.tail()}' if problem else ''

    def stop(self) -> None:
        """End the process, if there is one, and wait for it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> list[str]:
        """Of a process that failed the last paragraph of its output, which is the error; a few lines of a long one."""
        if self.process is None or (self.process.returncode or 0) <= 0 or not self.output.exists():
            return []
        output = self.output.read_bytes()[self.said_before :].decode(errors='replace').rstrip()
        _, traceback, error = output.rpartition('Traceback (most recent call last)')
        if traceback:
            return error.splitlines()[-8:]
        lines = re.split(r'\n\s*\n', output)[-1].splitlines()
        return lines if len(lines) <= 8 else [*lines[:5], '...', *lines[-2:]]

    def tail(self) -> str:
        """The last lines of its output."""
        if not self.output.exists():
            return ''
        lines = self.output.read_text(errors='replace').splitlines()[-TAIL:]
        return '\n'.join([f'the last lines of {short(self.output)}:', *(f'  | {x}' for x in lines)])


def problem_of(record: dict[str, Any]) -> str:
    """Why a record's figures do not count, or nothing."""
    if not record:
        return 'training left no run.json'
    if any(window['loss'] is None for window in record['training']):
        return 'the loss became infinite or NaN'
    evaluations = record['evaluations']
    if record['status'] == 'done' and (
        not evaluations or evaluations[-1]['iteration'] != record['max_iters']
    ):
        return 'training left no final evaluation'
    if record['status'] == 'done' and not evaluations[-1]['metrics']:
        return (
            'the final evaluation has no figures, as in MMDetection where a detector finds nothing at all: train '
            'for longer, or with another learning rate'
        )
    return ''


def cost_ratio(plain: Sequence[Run], gradaug: Sequence[Run]) -> float:
    """How many times as long a GradAug training takes as a plain one, on this machine, today.

    By the time of an iteration over all seeds, see :func:`~mmgradaug.iteration_time.seconds_per_iteration`,
    and the number of iterations, which may be another with GradAug.
    """
    times = []
    for runs in (plain, gradaug):
        seconds = seconds_per_iteration(w for run in runs for w in run.record()['training'])
        assert seconds is not None  # they are done
        times.append(seconds * runs[0].record()['max_iters'])
    return times[1] / times[0]


def train_all(
    runs: Sequence[Run],
    jobs: int,
    watch: 'Watch',
    more: Callable[[], Sequence[Run]] = tuple,
    keep_going: bool = True,
) -> None:
    """Train runs, ``jobs`` at a time; those that ended well before are kept, others are resumed.

    Args:
        runs: each with a work dir of its own.
        jobs: how many at a time.
        watch: told of each that ends; ``watch.failures`` has what went wrong.
        more: asked for further runs whenever a job is free and none waits.
        keep_going: train the others if one fails.

    Raises:
        UserError: a run failed, without ``keep_going``.
    """
    waiting: list[Run] = []
    running: list[Run] = []

    def add(new: Sequence[Run]) -> None:
        for run in new:
            if run.is_done:
                run.write_request()  # labels may have changed
                watch.ended(run, '', running, recalled=True)
            else:
                waiting.append(run)

    with stoppable() as asked_to_stop, watch.bar:
        try:
            add(runs)
            while True:
                # Again and again: those that come may have been done before.
                while not waiting and len(running) < jobs and (new := more()):
                    add(new)
                # Python drops an interrupt that comes in the middle of a destructor.
                if asked_to_stop.is_set():
                    raise KeyboardInterrupt
                if not waiting and not running:
                    return
                while waiting and len(running) < jobs:
                    run = waiting.pop(0)
                    running.append(run)
                    run.start()
                time.sleep(0.2)
                for run in list(running):
                    failure = run.failure()
                    if failure is None:
                        continue
                    running.remove(run)
                    if failure and not keep_going:
                        raise UserError(failure)
                    watch.ended(run, failure, running)
                watch.tick(running)
        finally:
            for run in running:
                run.stop()


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM raise KeyboardInterrupt, and set the event."""
    asked = threading.Event()

    def end(*_: Any) -> None:
        asked.set()
        raise KeyboardInterrupt

    # Ignored ones stay so, as in a script's background job.
    numbers = [n for n in STOP_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_later() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect at the end of the block."""
    came: list[int] = []
    # Handlers of the main thread; a mask would be inherited by the processes started here.
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)


def read_config(config: Path) -> Any:
    """A config without the imports that it names: they take seconds and nothing here needs them."""
    from mmgradaug.launch import read_config

    return read_config(config, imports=False)


@cache
def _config_text(config: Path) -> str:
    return read_config(config).pretty_text


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


def remove(folder: Path) -> None:
    """Delete a folder with all that is in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def usable_cpus() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
