"""What tools that train several times share: runs as processes, progress, resuming, tables, curves.

A tool makes a list of :class:`Run` and hands it to :func:`train_all`. Tools that compare GradAug with
plain training call :func:`train_at_equal_cost`, then :func:`summarise`, :func:`compare`, :func:`table`
and :func:`draw_curves`.
"""

import argparse
import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ROOT / 'tools' / 'train.py'

# The methods of a comparison, in the order of its table.
PLAIN, WITH_GRADAUG, EQUAL_COST = 'plain', 'gradaug', 'plain_equal_cost'
NAMES = {
    PLAIN: 'plain',
    WITH_GRADAUG: 'GradAug',
    EQUAL_COST: 'plain, equal cost',
}

LOG_INTERVAL = 10  # iterations; the configs'
TAIL = 30  # lines of a failed run's output
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
asked_to_stop = threading.Event()  # by one of them
EPOCH = re.compile(r'Epoch\(train\)\s*\[\s*\d+\]\[\s*\d+/(\d+)\]')  # in MMEngine's log
RECORD = 'run.json'  # in a run's work dir: what was trained, and what it took
MEMORY_NOTE = 'peak memory: largest resident set of a training process, nearly all of it libraries'

Points = list[tuple[int, float]]


class UserError(Exception):
    """What the user has to know; the message is all that is shown."""


@dataclass(frozen=True)
class Metric:
    """A number that validation leaves in the log.

    Args:
        key: in the results, ``top1`` for instance.
        log_key: in MMEngine's scalars.json, ``accuracy/top1`` for instance.
        name: in a sentence.
        title: of the table's column.
        unit: after a value in a line of text.
        factor: by which what the log has is multiplied.
        required: whether a training without it has failed.
    """

    key: str
    log_key: str
    name: str
    title: str
    unit: str = ''
    factor: float = 1.0
    required: bool = True


@dataclass(eq=False)
class Run:
    """One training: one call of tools/train.py, on one CPU core.

    Args:
        method: what is trained; runs of one method take equally long an iteration.
        seed: which repetition of it.
        iterations: how many the options ask for; of a run by epochs 0, until its log tells.
        work_dir: emptied at the start, unless the run is resumed.
        config: a config file.
        options: KEY=VALUE, as for --cfg-options.
        metrics: what validation logs; the last iteration's must be there in the end.
        name: of the method, for reading.
        epochs: how many, of a run by epochs: MMEngine's log then has validations by epoch, and
            training, in the same file, by iteration.
        arguments: further ones of tools/train.py.
    """

    method: str
    seed: int
    iterations: int
    work_dir: Path
    config: Path = ROOT
    options: Sequence[str] = ()
    metrics: Sequence[Metric] = ()
    name: str = ''
    epochs: Optional[int] = None
    arguments: Sequence[str] = ()
    on_gpu: bool = False  # else on the CPU, by one thread
    started: float = 0.0
    process: Optional['subprocess.Popen[bytes]'] = None
    wall_seconds: float = 0.0  # of the last start
    peak_memory_mb: float = 0.0
    # (iteration, value) of each metric by its key, (iteration, loss of the full network against the
    # labels), (iteration, mean seconds an iteration since the entry before)
    curves: dict[str, Points] = field(default_factory=dict)
    loss: Points = field(default_factory=list)
    seconds: Points = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.work_dir / 'output.txt'

    @property
    def title(self) -> str:
        return f'{self.name or self.method}, seed {self.seed}'

    @property
    def command(self) -> list[str]:
        command = [sys.executable, str(TRAIN), str(self.config), '--work-dir', str(self.work_dir)]
        command += self.arguments
        return [*command, '--cfg-options', *self.options] if self.options else command

    def start(self, resume: bool = False) -> None:
        """Start the process; with ``resume`` from the last checkpoint of the same training, if any."""
        resume = self._prepare(resume)
        environment = dict(os.environ)
        if not self.on_gpu:
            # The layers are too small to share among threads; runs side by side use the cores.
            environment |= dict(OMP_NUM_THREADS='1', MKL_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
        self.started = time.monotonic()
        # Interrupted in between, there would be a process that nobody knows of and nobody ends.
        with self.output.open('ab') as output, signals_later():
            self.process = subprocess.Popen(
                [*self.command, '--resume'] if resume else self.command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _prepare(self, resume: bool) -> bool:
        """Make the work dir; say whether there is something to resume."""
        resume = resume and self._record().get('fingerprint') == self._fingerprint()
        if self.work_dir.exists() and not resume:
            shutil.rmtree(self.work_dir)
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self._write_record({'fingerprint': self._fingerprint()})
        return resume

    def submit(self, command: Sequence[str], environment: dict[str, str], resume: bool) -> None:
        """Have something else train it, which goes on when this program has ended.

        Args:
            command: it and its arguments, up to those of tools/train.py.
            environment: to be added to this process's.
            resume: see :meth:`start`.
        """
        resume = self._prepare(resume)
        record = {'fingerprint': self._fingerprint(), 'submitted': list(command)}
        with self.output.open('ab') as output, signals_later():
            self.process = subprocess.Popen(
                [*command, '--resume'] if resume else command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is not for it
            )
            self._write_record(record)

    @property
    def submitted(self) -> bool:
        """Whether it was, and this very training."""
        record = self._record()
        return 'submitted' in record and record.get('fingerprint') == self._fingerprint()

    @property
    def holds_another(self) -> bool:
        """Whether its work dir has something that is not this training's."""
        if not self.work_dir.exists() or not any(self.work_dir.iterdir()):
            return False
        return self._record().get('fingerprint') != self._fingerprint()

    def recall(self) -> bool:
        """Whether this very training ended well before. If so, its figures have been read."""
        record = self._record()
        if record.get('fingerprint') != self._fingerprint():
            return False
        if 'wall_seconds' not in record and 'submitted' not in record:
            return False
        self.read_log()
        if self._lacks():
            return False
        if 'wall_seconds' in record:
            self.wall_seconds = record['wall_seconds']
            self.peak_memory_mb = record['peak_memory_mb']
        else:  # of what ran elsewhere the log tells
            self.wall_seconds = self.train_seconds
        return True

    def ended(self) -> bool:
        """Whether it is over. If so, its figures have been read.

        Raises:
            UserError: it failed, or left no figures.
        """
        assert self.process is not None
        # Not Popen.poll(), which would throw the child's resource usage away.
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.wall_seconds = time.monotonic() - self.started
        self.peak_memory_mb = usage.ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)
        if self.process.returncode != 0:
            code = self.process.returncode
            raise UserError(
                f'{self.title}: training failed '
                + (f'(exit code {code})' if code > 0 else f'(signal {-code})')
                + f'\n{self._tail()}'
            )
        self.read_log()
        if problem := self._lacks():
            raise UserError(f'{self.title}: {problem}\n{self._tail()}')
        self._write_record(
            {
                'fingerprint': self._fingerprint(),
                'wall_seconds': self.wall_seconds,
                'peak_memory_mb': self.peak_memory_mb,
            }
        )
        return True

    def stop(self) -> None:
        """End the child process, if there is one, and wait for it."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def read_log(self) -> None:
        """Read MMEngine's scalars.json as far as it is written; a resumed run has several."""
        self.curves = {metric.key: [] for metric in self.metrics}
        self.loss, self.seconds = [], []
        if self.epochs is not None and not self.iterations:
            self.iterations = self.epochs * self._iterations_an_epoch()
        for file in sorted(self.work_dir.glob('*/vis_data/scalars.json')):
            begins = False
            for entry in json_lines(file):
                if not begins and 'loss' in entry:
                    # What an earlier start did after the checkpoint was done again.
                    begins = True
                    for points in (self.loss, self.seconds):
                        points[:] = [point for point in points if point[0] < entry['step']]
                    step = entry['step'] if self.epochs is None else entry['epoch']
                    for points in self.curves.values():
                        points[:] = [point for point in points if point[0] < step]
                for metric in self.metrics:
                    if metric.log_key in entry:
                        value = metric.factor * entry[metric.log_key]
                        self.curves[metric.key].append((entry['step'], value))
                if 'loss' in entry:
                    self.loss.append((entry['step'], entry.get('loss_full', entry['loss'])))
                    self.seconds.append((entry['step'], entry['time']))
                    # Of the GPU, if there is one.
                    self.peak_memory_mb = max(self.peak_memory_mb, entry.get('memory', 0.0))

    def final(self, metric: Metric) -> float:
        """What the last validation said."""
        return self.curves[metric.key][-1][1]

    @property
    def length(self) -> int:
        """Where the last validation is: in epochs, of a run by epochs."""
        return self.iterations if self.epochs is None else self.epochs

    @property
    def progress(self) -> str:
        """How much of how much is done."""
        if self.epochs is None:
            return f'{self.iterations_done}/{self.iterations}'
        done = self.epochs * self.iterations_done / self.iterations if self.iterations else 0
        return f'{done:.0f}/{self.epochs} epochs'

    @property
    def iterations_done(self) -> int:
        return self.seconds[-1][0] if self.seconds else 0

    @property
    def logged_seconds(self) -> float:
        """Time in the training iterations logged so far, without start-up and evaluation."""
        total, before = 0.0, 0
        for iteration, seconds in self.seconds:
            total += (iteration - before) * seconds
            before = iteration
        return total

    @property
    def train_seconds(self) -> float:
        """Time in all training iterations; the last few may not be in the log."""
        return self.logged_seconds / self.iterations_done * self.iterations

    def _lacks(self) -> str:
        """What is wrong with the figures that were read, or nothing."""
        for metric in self.metrics:
            points = self.curves[metric.key]
            if not points and not metric.required:
                continue
            if not points or points[-1][0] != self.length:
                return f'training left no final {metric.name}'
        if not self.seconds:
            return 'training left no times'
        if not all(math.isfinite(loss) for _, loss in self.loss):
            return 'the loss became infinite or NaN'
        return ''

    def _iterations_an_epoch(self) -> int:
        """As the log for reading has it, which alone does; 0 before its first entry."""
        for file in sorted(self.work_dir.glob('*/*.log')):
            with file.open(errors='replace') as lines:
                for line in lines:
                    if match := EPOCH.search(line):
                        return int(match[1])
        return 0

    def _fingerprint(self) -> str:
        """Of the command and of the config's text."""
        text = '\n'.join([*self.command[1:], _config_text(self.config)])
        return hashlib.sha256(text.encode()).hexdigest()

    def _record(self) -> dict[str, Any]:
        try:
            return json.loads((self.work_dir / RECORD).read_text())
        except (OSError, ValueError):  # none, or cut off
            return {}

    def _write_record(self, record: dict[str, Any]) -> None:
        (self.work_dir / RECORD).write_text(json.dumps(record) + '\n')

    def _tail(self) -> str:
        lines = self.output.read_text(errors='replace').splitlines()[-TAIL:]
        return '\n'.join(
            [f'the last lines of {short(self.output)}:', *(f'  | {line}' for line in lines)]
        )


@cache
def _config_text(config: Path) -> str:
    return read_config(config).pretty_text


def read_config(config: Path) -> Any:
    """A config without the imports that it names: they take seconds and nothing here needs them."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'pkg_resources is deprecated', UserWarning)
        from mmengine.config import Config

        return Config.fromfile(config, import_custom_modules=False)


def json_lines(file: Path) -> Iterator[dict[str, Any]]:
    """What the lines of a file say, as far as it is written."""
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # a line still being written
            return


def short(path: Path) -> str:
    """A path as seen from the current directory, if it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def usable_cpus() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Progress:
    """Says which run of how many, and how much time is left.

    Args:
        total: how many runs there will be.
        jobs: how many at a time.
    """

    def __init__(self, total: int, jobs: int) -> None:
        self.total = total
        self.jobs = jobs
        self.done: list[Run] = []
        self.failures: dict[Run, UserError] = {}
        # Runs that will come but are not planned yet, as long as these.
        self.unplanned: list[Run] = []
        # A method nobody has timed yet is taken for as fast as this other one.
        self.as_fast_as: dict[str, str] = {}
        self._recalled: list[Run] = []
        self._live = sys.stdout.isatty()

    def finished(
        self,
        run: Run,
        waiting: Sequence[Run],
        running: Sequence[Run],
        recalled: bool = False,
    ) -> None:
        self.done.append(run)
        if recalled:
            self._recalled.append(run)
        values = ', '.join(
            f'{run.final(m):.1f}{m.unit} {m.name}' for m in run.metrics if run.curves[m.key]
        )
        how = 'done before' if recalled else f'{run.wall_seconds:.0f} s'
        self.say(
            f'[{len(self.done)}/{self.total}] {run.title}: {values} after {run.length} '
            f'{"iterations" if run.epochs is None else "epochs"}, {how}'
            + self._left(waiting, running)
        )

    def failed(
        self, run: Run, error: UserError, waiting: Sequence[Run], running: Sequence[Run]
    ) -> None:
        """Where the others go on all the same, see :func:`train_all`."""
        self.failures[run] = error
        message = str(error).splitlines()[0]
        self.say(f'[{len(self.done)}/{self.total}] {message}{self._left(waiting, running)}')

    def tick(self, waiting: Sequence[Run], running: Sequence[Run]) -> None:
        """On a terminal, a line about the current runs, which the next line overwrites."""
        if not self._live:
            return
        parts = [f'{run.title} {run.progress}' for run in running]
        line = f'[{len(self.done)}/{self.total}] ' + '; '.join(parts) + self._left(waiting, running)
        columns = shutil.get_terminal_size().columns - 1
        print(f'\r\033[K{line[:columns]}', end='', flush=True)

    def say(self, line: str) -> None:
        print(('\r\033[K' if self._live else '') + line, flush=True)

    def _left(self, waiting: Sequence[Run], running: Sequence[Run]) -> str:
        seconds = self.seconds_left(waiting, running)
        if seconds is None or not (waiting or running):
            return ''
        if seconds < 60:
            return f'; about {10 * math.ceil(seconds / 10)} s left'
        return f'; about {seconds / 60:.1f} min left'

    def paces(self, waiting: Sequence[Run], running: Sequence[Run]) -> dict[str, float]:
        """Seconds of an iteration by method; of an epoch, where runs are by epochs."""
        times: dict[str, list[tuple[float, float]]] = {}
        for run in [*self.done, *running]:
            if run.iterations_done and run.iterations:
                done = run.length * run.iterations_done / run.iterations
                times.setdefault(run.method, []).append((run.logged_seconds, done))
        pace = {method: sum(s for s, _ in p) / sum(n for _, n in p) for method, p in times.items()}
        for method, other in self.as_fast_as.items():
            if other in pace:
                pace.setdefault(method, pace[other])
        return pace

    def seconds_left(self, waiting: Sequence[Run], running: Sequence[Run]) -> Optional[float]:
        """From what the runs so far took; None before there is something to go by."""
        pace = self.paces(waiting, running)
        if any(run.method not in pace for run in [*waiting, *running, *self.unplanned]):
            return None
        overheads = [r.wall_seconds - r.train_seconds for r in self.done if r not in self._recalled]
        overhead = statistics.mean(overheads) if overheads else 8.0
        work = 0.0
        for run in [*waiting, *self.unplanned]:
            work += overhead + pace[run.method] * run.length
        longest = 0.0
        for run in running:
            left = pace[run.method] * run.length
            if run.iterations:
                left *= 1 - run.iterations_done / run.iterations
            left += overhead if not run.iterations_done else 0.0
            work += left
            longest = max(longest, left)
        return max(longest, work / self.jobs)


def train_all(
    runs: Iterable[Run],
    jobs: int,
    progress: Progress,
    resume: bool = False,
    more: Callable[[], Sequence[Run]] = tuple,
    keep_going: bool = False,
) -> None:
    """Train runs, ``jobs`` at a time; if one fails, or on Ctrl-C, end the others.

    Args:
        runs: each with a work dir of its own.
        jobs: how many at a time.
        progress: is told of each that ends.
        resume: keep those that ended well before, and go on with the others where they have
            checkpoints, if neither command nor config has changed.
        more: asked for further runs whenever a job is free and none waits.
        keep_going: train the others if one fails; ``progress.failures`` has what it said.

    Raises:
        UserError: a run failed, without ``keep_going``.
    """
    waiting: list[Run] = []
    running: list[Run] = []

    def add(new: Sequence[Run]) -> None:
        before = [run for run in new if resume and run.recall()]
        waiting.extend(run for run in new if run not in before)
        for run in before:
            progress.finished(run, waiting, running, recalled=True)

    add(list(runs))
    try:
        while True:
            if not waiting and len(running) < jobs:
                add(more())
            # Python drops the interrupt if it comes in the middle of a destructor.
            if asked_to_stop.is_set():
                raise KeyboardInterrupt
            if not waiting and not running:
                break
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                running.append(run)
                run.start(resume)
            time.sleep(0.2)
            for run in list(running):
                try:
                    ended = run.ended()
                except UserError as error:
                    if not keep_going:
                        raise
                    running.remove(run)
                    progress.failed(run, error, waiting, running)
                    continue
                if ended:
                    running.remove(run)
                    for other in running:
                        other.read_log()
                    progress.finished(run, waiting, running)
                else:
                    run.read_log()
            progress.tick(waiting, running)
    finally:
        for run in running:
            run.stop()


def cost_ratio(
    runs: Sequence[Run],
    windows: Optional[int] = None,
    plain: str = PLAIN,
    ours: str = WITH_GRADAUG,
) -> float:
    """How many times as long a GradAug iteration takes as a plain one, on this machine, today.

    The median over logged windows of all seeds: other programs slow a window now and then.

    Args:
        runs: plain ones and GradAug's.
        windows: of each GradAug run only the first so many count; None for all.
        plain, ours: what the methods of the two are.
    """
    one = [s for r in runs if r.method == plain for _, s in r.seconds]
    other = [s for r in runs if r.method == ours for _, s in r.seconds[:windows]]
    return statistics.median(other) / statistics.median(one)


def train_at_equal_cost(
    plan: Callable[[str, int], list[Run]],
    iterations: int,
    jobs: int,
    progress: Progress,
    resume: bool = False,
    windows: Optional[int] = None,
) -> tuple[list[Run], float]:
    """Train plainly and with GradAug, then plainly for as long as GradAug took.

    Args:
        plan: the runs of a method with so many iterations, one for each seed.
        iterations: of the plain and the GradAug runs.
        jobs, progress, resume: see :func:`train_all`.
        windows: do not wait for the end of GradAug's runs: the first so many log entries of each
            tell what its iterations cost, and a core that is free trains plainly meanwhile.

    Returns:
        All runs, and :func:`cost_ratio`.

    Raises:
        UserError: a run failed.
    """
    # Alternating, so that both are timed while the machine is equally busy.
    pairs = zip(plan(PLAIN, iterations), plan(WITH_GRADAUG, iterations))
    runs = [run for pair in pairs for run in pair]
    longer_runs: list[Run] = []
    progress.unplanned = [run for run in runs if run.method == WITH_GRADAUG]
    progress.as_fast_as = {EQUAL_COST: PLAIN}

    def is_timed(run: Run) -> bool:
        enough = run.method == WITH_GRADAUG and windows is not None and len(run.seconds) >= windows
        return enough or run in progress.done

    def more() -> Sequence[Run]:
        if longer_runs or not all(map(is_timed, runs)):
            return ()
        ratio = cost_ratio(runs, windows)
        # Whole log intervals, so that the last iterations are in the log.
        longer = max(1, round(iterations * ratio / LOG_INTERVAL)) * LOG_INTERVAL
        progress.unplanned = []
        progress.say(
            f'A GradAug iteration took {ratio:.2f} times as long as a plain one (median of the '
            f'logged times), so plain training at equal cost gets {longer} iterations.'
        )
        longer_runs.extend(plan(EQUAL_COST, longer))
        return longer_runs

    train_all(runs, jobs, progress, resume, more)
    return [*runs, *longer_runs], cost_ratio(runs, windows)


def summarise(runs: Sequence[Run], ratio: float) -> dict[str, dict[str, Any]]:
    """Figures of each method over its seeds."""
    methods = {}
    for method in dict.fromkeys(run.method for run in runs):
        mine = [run for run in runs if run.method == method]
        figures = {
            'name': mine[0].name,
            'config': os.path.relpath(mine[0].config, ROOT),
            'iterations': mine[0].iterations,
        }
        for metric in mine[0].metrics:
            values = [run.final(metric) for run in mine]
            figures[f'{metric.key}_mean'] = statistics.mean(values)
            figures[f'{metric.key}_std'] = statistics.stdev(values) if len(values) > 1 else None
        figures |= {
            'minutes_mean': statistics.mean(run.train_seconds for run in mine) / 60,
            'seconds_per_iteration': statistics.median(s for r in mine for _, s in r.seconds),
            # Both plain trainings have the same step; their times differ by what else ran.
            'cost_ratio_per_iteration': ratio if method == WITH_GRADAUG else 1.0,
            'peak_memory_mb': max(run.peak_memory_mb for run in mine),
            'runs': [
                {
                    'seed': run.seed,
                    'work_dir': short(run.work_dir),
                    **{metric.key: run.final(metric) for metric in run.metrics},
                    'train_seconds': run.train_seconds,
                    'wall_seconds': run.wall_seconds,
                    'peak_memory_mb': run.peak_memory_mb,
                    **{f'{key}_curve': points for key, points in run.curves.items()},
                    'loss_curve': run.loss,
                }
                for run in mine
            ],
        }
        methods[method] = figures
    return {method: methods[method] for method in sorted(methods, key=_place)}


def _place(method: str) -> int:
    return list(NAMES).index(method) if method in NAMES else len(NAMES)


def compare(methods: dict[str, dict[str, Any]], key: str, measure: str = '') -> dict[str, Any]:
    """GradAug minus plain training at equal cost, seed by seed, and a sentence about it.

    The same seed means the same training images and the same initial weights.

    Args:
        methods: of :func:`summarise`.
        key: of the metric.
        measure: what the metric is called, where there are several.
    """
    differences = [
        ours[key] - plain[key]
        for ours, plain in zip(methods[WITH_GRADAUG]['runs'], methods[EQUAL_COST]['runs'])
    ]
    mean, count = statistics.mean(differences), len(differences)
    error = statistics.stdev(differences) / math.sqrt(count) if count > 1 else None
    better = sum(difference > 0 for difference in differences)
    sentence = (
        f'At equal cost GradAug is {abs(mean):.1f} points{f" of {measure}" if measure else ""} '
        f'{"above" if mean >= 0 else "below"} '
        f'plain training (better with {better} of {count} seeds'
    )
    if error is None:
        sentence += '); one seed cannot tell a difference from chance.'
    else:
        sentence += f', standard error {error:.1f})'
        if abs(mean) > 2 * error:
            sentence += ', more than two standard errors.'
        else:
            sentence += ': less than two standard errors, so it may be chance.'
    return {
        'differences': differences,
        'mean': mean,
        'standard_error': error,
        'seeds_better': better,
        'sentence': sentence,
    }


def compare_times(methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Whether equal cost was equal time after all, and a sentence about it."""
    minutes = [methods[method]['minutes_mean'] for method in (EQUAL_COST, WITH_GRADAUG)]
    times = minutes[0] / minutes[1]
    sentence = f"Plain training at equal cost took {times:.2f} times GradAug's time."
    if not 0.8 < times < 1.25:
        sentence += (
            ' So the machine was not equally busy throughout: for an equal time, run it again on '
            'an idle one.'
        )
    return {'equal_cost_time_ratio': times, 'time_sentence': sentence}


def table(methods: dict[str, dict[str, Any]], metrics: Sequence[Metric]) -> str:
    """The figures for reading."""
    rows = [
        (
            'method',
            *(metric.title for metric in metrics),
            'iterations',
            'minutes',
            'cost/iteration',
            'peak memory',
        ),
    ]
    for figures in methods.values():
        rows.append(
            (
                figures['name'],
                *(mean_and_deviation(figures, metric.key, ' +- ') for metric in metrics),
                str(figures['iterations']),
                f'{figures["minutes_mean"]:.2f}',
                f'{figures["cost_ratio_per_iteration"]:.2f}',
                f'{figures["peak_memory_mb"]:.0f} MB',
            )
        )
    return in_columns(rows)


def mean_and_deviation(figures: dict[str, Any], key: str, between: str) -> str:
    """12.3 +- 0.4, or 12.3 of one seed."""
    spread = figures[f'{key}_std']
    mean = f'{figures[f"{key}_mean"]:.1f}'
    return mean if spread is None else f'{mean}{between}{spread:.1f}'


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows, of which the first is the head, with the first column on the left and the rest right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append('  '.join(cells))
    lines.insert(1, '-' * len(lines[0]))
    return '\n'.join(lines)


@dataclass(frozen=True)
class Panel:
    """One of the pictures that :func:`draw_curves` puts side by side.

    Args:
        curve: a key of the runs' figures.
        title, ylabel: beside the axes.
        metric: of which the legend names the final values; None for no legend.
        band: whether the deviation over seeds is shown.
        log: whether the scale is logarithmic.
        room: how far below the lowest final mean the axis begins; None for all there is.
        top: the largest possible value.
    """

    curve: str
    title: str
    ylabel: str
    metric: Optional[Metric] = None
    band: bool = False
    log: bool = False
    room: Optional[float] = None
    top: float = 100.0


def draw_curves(results: dict[str, Any], panels: Sequence[Panel], title: str, file: Path) -> None:
    """Means over seeds, over what training cost, of the three methods of a comparison."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    # Told apart without colours too: by their dashes.
    looks = {PLAIN: ('#7f7f7f', ':'), EQUAL_COST: ('#1f77b4', '--'), WITH_GRADAUG: ('#d62728', '-')}
    size = (5 * len(panels), 4.4)
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=size, layout='constrained')
    for axes, panel in zip(all_axes, panels):
        for method, (colour, dashes) in looks.items():
            figures = results['methods'][method]
            cost = 1.0 if method != WITH_GRADAUG else results['cost_ratio']
            label = None
            if panel.metric:
                values = mean_and_deviation(figures, panel.metric.key, ' ± ')
                label = f'{figures["name"]}: {values}{panel.metric.unit}'
            curves = [run[panel.curve] for run in figures['runs']]
            x = [cost * iteration for iteration, _ in curves[0]]
            points = list(zip(*([y for _, y in one] for one in curves)))
            mean = [statistics.mean(ys) for ys in points]
            axes.plot(x, mean, dashes, color=colour, linewidth=2, label=label, zorder=3)
            if panel.band and len(curves) > 1:
                deviation = [statistics.stdev(ys) for ys in points]
                axes.fill_between(
                    x,
                    [m - d for m, d in zip(mean, deviation)],
                    [min(m + d, panel.top) for m, d in zip(mean, deviation)],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
        axes.set_title(panel.title, fontsize=10)
        axes.set_ylabel(panel.ylabel)
        if panel.log:
            axes.set_yscale('log')
        if panel.metric:
            bottom = 0.0
            if panel.room is not None:
                key = f'{panel.metric.key}_mean'
                ends = [figures[key] for figures in results['methods'].values()]
                bottom = max(0, min(ends) - panel.room)
            axes.set_ylim(bottom=bottom)
            axes.legend(loc='lower right', fontsize=9)
        axes.set_xlabel('training cost (in plain iterations, by measured time)')
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    if results['setting']['cfg_options']:
        title += '\nwith ' + ' '.join(results['setting']['cfg_options'])
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def is_gradaug_option(option: str) -> bool:
    """Whether the plain model has no such setting."""
    return option.startswith(('model.gradaug', 'custom_hooks'))


def check_installed(tool: str, distributions: dict[str, str], packages: Sequence[str]) -> None:
    """Raise UserError, with what to type, if something is missing.

    Args:
        tool: what needs it, 'the quick start' for instance.
        distributions: names for pip of what one adds by hand, by module.
        packages: modules that ``make setup`` installs.
    """
    missing = [
        name for module, name in distributions.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        raise UserError(
            f'{tool} needs {" and ".join(missing)}, not installed here. Type: '
            f'{sys.executable} -m pip install {" ".join(missing)}'
        )
    for module in packages:
        if not importlib.util.find_spec(module):
            raise UserError(
                f'{module} is not installed for {sys.executable}. Type: make setup, then '
                'make quickstart. `make doctor` says what else is missing'
            )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of every tool that compares: --iterations, --jobs, --cfg-options."""
    parser.add_argument(
        '--iterations',
        type=int,
        metavar='N',
        help='of plain training and of GradAug (default: those of the config); plain training at '
        'equal cost gets more, by measured time',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=min(4, usable_cpus()),
        metavar='N',
        help='trainings side by side, one thread each (default: %(default)s)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='overrides for every training, as in tools/train.py; those of model.gradaug go to '
        "GradAug's alone",
    )


def check_run_arguments(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    own_settings: Sequence[str],
    flags: str = '--seeds, --iterations',
) -> None:
    """Exit if a number is too small or an option is one of ``own_settings``, which flags set."""
    for name in ('seeds', 'iterations', 'jobs'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name} must be 1 or more, got {value}')
    for option in args.cfg_options:
        key = option.split('=')[0]
        if '=' not in option:
            parser.error(f'--cfg-options takes KEY=VALUE, got {option!r}')
        if any(key == own or key.startswith(f'{own}.') for own in own_settings):
            parser.error(f'--cfg-options: {key} is set by the quick start; use {flags}')


def setting(args: argparse.Namespace, iterations: int, packages: Sequence[str]) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        'seeds': list(range(args.seeds)),
        'iterations': iterations,
        'cfg_options': args.cfg_options,
        'jobs': args.jobs,
        **surroundings(packages),
    }


def surroundings(packages: Sequence[str]) -> dict[str, Any]:
    """Versions and machine."""
    return {
        'python': platform.python_version(),
        'packages': {package: metadata.version(package) for package in packages},
        'platform': platform.platform(),
        'cpus': usable_cpus(),
    }


@contextmanager
def signals_later() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect at the end of the block."""
    came: list[int] = []
    # Handlers of the main thread; a mask would be inherited by the processes started here.
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in STOP_SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def run_tool(name: str, work: Callable[[], None], stopped: str = 'no results were written') -> int:
    """Do the work of a command line tool; return its exit code, with UserError as its message.

    Args:
        name: of the tool.
        work: to be done.
        stopped: what becomes of it on Ctrl-C.
    """

    asked_to_stop.clear()

    def end(*_: Any) -> None:
        asked_to_stop.set()
        raise KeyboardInterrupt

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a script's background job
            signal.signal(number, end)
    try:
        work()
    except BaseException as error:
        # A library under way may make another exception of the interrupt: MMEngine, formatting a
        # config, a SyntaxError.
        if asked_to_stop.is_set():
            print(f'\n{name}: stopped; {stopped}', file=sys.stderr)
            return 130
        if not isinstance(error, UserError):
            raise
        print(f'\n{name}: {error}', file=sys.stderr)
        return 1
    return 0
