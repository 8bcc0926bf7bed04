#!/usr/bin/env python
"""GradAug against plain training on bundled digits, in a few minutes on a CPU."""

import argparse
import importlib.util
import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ROOT / 'tools' / 'train.py'
BASELINE = ROOT / 'configs' / 'quickstart' / 'digits_baseline.py'
GRADAUG = ROOT / 'configs' / 'quickstart' / 'digits_gradaug.py'

# A method's key in the results, its name, its config; in the order of the table.
PLAIN, WITH_GRADAUG, EQUAL_COST = 'plain', 'gradaug', 'plain_equal_cost'
NAMES = {
    PLAIN: 'plain',
    WITH_GRADAUG: 'GradAug',
    EQUAL_COST: 'plain, equal cost',
}
CONFIGS = {PLAIN: BASELINE, WITH_GRADAUG: GRADAUG, EQUAL_COST: BASELINE}

EVALUATIONS = 10  # of each run, equally far apart
LOG_INTERVAL = 10  # iterations; the configs'
TAIL = 30  # lines of a failed run's output
# What this tool sets itself in each run.
OWN_SETTINGS = (
    'train_cfg',
    'param_scheduler',
    'randomness',
    'train_dataloader.dataset.label_seed',
    'work_dir',
)
MEMORY_NOTE = 'peak memory: largest resident set of a training process, nearly all of it libraries'


class QuickstartError(Exception):
    """What the user has to know; the message is all that is shown."""


@dataclass
class Run:
    """One training: one call of tools/train.py."""

    method: str
    seed: int
    iterations: int
    work_dir: Path
    started: float = 0.0
    process: Optional['subprocess.Popen[bytes]'] = None
    wall_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    # (iteration, top-1 in per cent), (iteration, loss of the full network against the labels),
    # (iteration, mean seconds an iteration since the entry before)
    top1: list[tuple[int, float]] = field(default_factory=list)
    loss: list[tuple[int, float]] = field(default_factory=list)
    seconds: list[tuple[int, float]] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.work_dir / 'output.txt'

    @property
    def name(self) -> str:
        return f'{NAMES[self.method]}, seed {self.seed}'

    def command(self, cfg_options: Sequence[str]) -> list[str]:
        options = [
            f'randomness.seed={self.seed}',
            f'train_dataloader.dataset.label_seed={self.seed}',
            f'train_cfg.max_iters={self.iterations}',
            f'train_cfg.val_interval={max(1, self.iterations // EVALUATIONS)}',
            f'param_scheduler.end={self.iterations}',
        ]
        if self.method != WITH_GRADAUG:  # the plain model has no such setting
            cfg_options = [option for option in cfg_options if not _is_gradaug_option(option)]
        command = [sys.executable, str(TRAIN), str(CONFIGS[self.method])]
        return [*command, '--work-dir', str(self.work_dir), '--cfg-options', *options, *cfg_options]

    def start(self, cfg_options: Sequence[str]) -> None:
        if self.work_dir.exists():
            shutil.rmtree(self.work_dir)
        self.work_dir.mkdir(parents=True)
        environment = dict(
            os.environ,
            # The layers are too small to share among threads; runs side by side use the cores.
            OMP_NUM_THREADS='1',
            MKL_NUM_THREADS='1',
            CUDA_VISIBLE_DEVICES='',
        )
        self.started = time.monotonic()
        with self.output.open('wb') as output:
            self.process = subprocess.Popen(
                self.command(cfg_options),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def ended(self) -> bool:
        """Whether it is over. If so, its figures have been read.

        Raises:
            QuickstartError: it failed, or left no figures.
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
            raise QuickstartError(
                f'{self.name}: training failed '
                + (f'(exit code {code})' if code > 0 else f'(signal {-code})')
                + f'\n{self._tail()}'
            )
        self.read_log()
        if not self.top1 or not self.seconds or self.top1[-1][0] != self.iterations:
            raise QuickstartError(f'{self.name}: training left no final accuracy\n{self._tail()}')
        if not all(math.isfinite(loss) for _, loss in self.loss):
            raise QuickstartError(f'{self.name}: the loss became infinite or NaN\n{self._tail()}')
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
        """Read MMEngine's scalars.json as far as it is written."""
        self.top1, self.loss, self.seconds = [], [], []
        for file in self.work_dir.glob('*/vis_data/scalars.json'):
            for entry in _json_lines(file):
                if 'accuracy/top1' in entry:
                    self.top1.append((entry['step'], entry['accuracy/top1']))
                elif 'loss' in entry:
                    self.loss.append((entry['step'], entry.get('loss_full', entry['loss'])))
                    self.seconds.append((entry['step'], entry['time']))

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

    def _tail(self) -> str:
        lines = self.output.read_text(errors='replace').splitlines()[-TAIL:]
        return '\n'.join(
            [f'the last lines of {_short(self.output)}:', *(f'  | {line}' for line in lines)]
        )


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # a line still being written
            return


def _is_gradaug_option(option: str) -> bool:
    return option.startswith(('model.gradaug', 'custom_hooks'))


def _short(path: Path) -> str:
    """A path as seen from the current directory, if it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


class Progress:
    """Says which run of how many, and how much time is left."""

    def __init__(self, total: int, jobs: int) -> None:
        self.total = total
        self.jobs = jobs
        self.done: list[Run] = []
        self._live = sys.stdout.isatty()

    def finished(self, run: Run, waiting: Sequence[Run], running: Sequence[Run]) -> None:
        self.done.append(run)
        self.say(
            f'[{len(self.done)}/{self.total}] {run.name}: {run.top1[-1][1]:.1f} % top-1 after '
            f'{run.iterations} iterations, {run.wall_seconds:.0f} s' + self._left(waiting, running)
        )

    def tick(self, waiting: Sequence[Run], running: Sequence[Run]) -> None:
        """On a terminal, a line about the current runs, which the next line overwrites."""
        if not self._live:
            return
        parts = [f'{run.name} {run.iterations_done}/{run.iterations}' for run in running]
        line = f'[{len(self.done)}/{self.total}] ' + '; '.join(parts) + self._left(waiting, running)
        columns = shutil.get_terminal_size().columns - 1
        print(f'\r\033[K{line[:columns]}', end='', flush=True)

    def say(self, line: str) -> None:
        print(('\r\033[K' if self._live else '') + line, flush=True)

    def _left(self, waiting: Sequence[Run], running: Sequence[Run]) -> str:
        seconds = self._seconds_left(waiting, running)
        if seconds is None or not (waiting or running):
            return ''
        if seconds < 60:
            return f'; about {10 * math.ceil(seconds / 10)} s left'
        return f'; about {seconds / 60:.1f} min left'

    def _seconds_left(self, waiting: Sequence[Run], running: Sequence[Run]) -> Optional[float]:
        """From what the runs so far took; None before there is something to go by."""
        pace = {}
        for method in NAMES:
            known = [r for r in [*self.done, *running] if r.method == method and r.iterations_done]
            if known:
                done = sum(r.iterations_done for r in known)
                pace[method] = sum(r.logged_seconds for r in known) / done
        if PLAIN not in pace or WITH_GRADAUG not in pace:
            return None
        pace.setdefault(EQUAL_COST, pace[PLAIN])
        overheads = [r.wall_seconds - r.train_seconds for r in self.done]
        overhead = statistics.mean(overheads) if overheads else 8.0
        # The equally expensive runs are added once their length is known; until then they count as
        # long as GradAug's.
        seeds = {r.seed for r in [*self.done, *waiting, *running]}
        planned = [r for r in [*self.done, *waiting, *running] if r.method == EQUAL_COST]
        work = 0.0
        if not planned:
            example = next(r for r in [*self.done, *running, *waiting] if r.method == WITH_GRADAUG)
            work += len(seeds) * (overhead + pace[WITH_GRADAUG] * example.iterations)
        for run in waiting:
            work += overhead + pace[run.method] * run.iterations
        longest = 0.0
        for run in running:
            left = pace[run.method] * (run.iterations - run.iterations_done)
            left += overhead if not run.iterations_done else 0.0
            work += left
            longest = max(longest, left)
        return max(longest, work / self.jobs)


def train_all(
    runs: Sequence[Run], jobs: int, cfg_options: Sequence[str], progress: Progress
) -> None:
    """Train runs, ``jobs`` at a time; if one fails, or on Ctrl-C, end the others.

    Raises:
        QuickstartError: a run failed.
    """
    waiting = list(runs)
    running: list[Run] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                running.append(run)
                run.start(cfg_options)
            time.sleep(0.2)
            for run in list(running):
                if run.ended():
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


def cost_ratio(runs: Sequence[Run]) -> float:
    """How many times as long a GradAug iteration takes as a plain one, on this machine, today.

    The median over logged windows of all seeds: other programs slow a window now and then.
    """
    median = {
        method: statistics.median(s for r in runs if r.method == method for _, s in r.seconds)
        for method in (PLAIN, WITH_GRADAUG)
    }
    return median[WITH_GRADAUG] / median[PLAIN]


def summarise(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Figures of each method over its seeds."""
    ratio = cost_ratio(runs)
    methods = {}
    for method, name in NAMES.items():
        mine = [run for run in runs if run.method == method]
        top1 = [run.top1[-1][1] for run in mine]
        methods[method] = {
            'name': name,
            'config': str(CONFIGS[method].relative_to(ROOT)),
            'iterations': mine[0].iterations,
            'top1_mean': statistics.mean(top1),
            'top1_std': statistics.stdev(top1) if len(top1) > 1 else None,
            'minutes_mean': statistics.mean(run.train_seconds for run in mine) / 60,
            'seconds_per_iteration': statistics.median(s for r in mine for _, s in r.seconds),
            # Both plain trainings have the same step; their times differ by what else ran.
            'cost_ratio_per_iteration': ratio if method == WITH_GRADAUG else 1.0,
            'peak_memory_mb': max(run.peak_memory_mb for run in mine),
            'runs': [
                {
                    'seed': run.seed,
                    'work_dir': _short(run.work_dir),
                    'top1': run.top1[-1][1],
                    'train_seconds': run.train_seconds,
                    'wall_seconds': run.wall_seconds,
                    'peak_memory_mb': run.peak_memory_mb,
                    'top1_curve': run.top1,
                    'loss_curve': run.loss,
                }
                for run in mine
            ],
        }
    return methods


def compare(methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """GradAug minus plain training at equal cost, seed by seed, and a sentence about it.

    The same seed means the same labelled images and the same initial weights.
    """
    differences = [
        ours['top1'] - plain['top1']
        for ours, plain in zip(methods[WITH_GRADAUG]['runs'], methods[EQUAL_COST]['runs'])
    ]
    mean, count = statistics.mean(differences), len(differences)
    error = statistics.stdev(differences) / math.sqrt(count) if count > 1 else None
    better = sum(difference > 0 for difference in differences)
    sentence = (
        f'At equal cost GradAug is {abs(mean):.1f} points {"above" if mean >= 0 else "below"} '
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
    minutes = [methods[method]['minutes_mean'] for method in (EQUAL_COST, WITH_GRADAUG)]
    times = minutes[0] / minutes[1]
    time_sentence = f"Plain training at equal cost took {times:.2f} times GradAug's time."
    if not 0.8 < times < 1.25:
        time_sentence += (
            ' So the machine was not equally busy throughout: for an equal time, run it again on '
            'an idle one.'
        )
    return {
        'differences': differences,
        'mean': mean,
        'standard_error': error,
        'seeds_better': better,
        'sentence': sentence,
        'equal_cost_time_ratio': times,
        'time_sentence': time_sentence,
    }


def table(methods: dict[str, dict[str, Any]]) -> str:
    """The figures for reading."""
    rows = [
        ('method', 'top-1 %', 'iterations', 'minutes', 'cost/iteration', 'peak memory'),
    ]
    for figures in methods.values():
        spread = '' if figures['top1_std'] is None else f' +- {figures["top1_std"]:.1f}'
        rows.append(
            (
                figures['name'],
                f'{figures["top1_mean"]:.1f}{spread}',
                str(figures['iterations']),
                f'{figures["minutes_mean"]:.2f}',
                f'{figures["cost_ratio_per_iteration"]:.2f}',
                f'{figures["peak_memory_mb"]:.0f} MB',
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append('  '.join(cells))
    lines.insert(1, '-' * len(lines[0]))
    return '\n'.join(lines)


def draw(results: dict[str, Any], file: Path) -> None:
    """Test accuracy and training loss over what training cost."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    # Told apart without colours too: by their dashes.
    looks = {PLAIN: ('#7f7f7f', ':'), EQUAL_COST: ('#1f77b4', '--'), WITH_GRADAUG: ('#d62728', '-')}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.4), layout='constrained')
    for method, (colour, dashes) in looks.items():
        figures = results['methods'][method]
        cost = 1.0 if method != WITH_GRADAUG else results['cost_ratio']
        spread = figures['top1_std']
        label = f'{figures["name"]}: {figures["top1_mean"]:.1f}'
        label += '' if spread is None else f' ± {spread:.1f} %'
        for axes, curve in ((left, 'top1_curve'), (right, 'loss_curve')):
            curves = [run[curve] for run in figures['runs']]
            x = [cost * iteration for iteration, _ in curves[0]]
            points = list(zip(*([y for _, y in one] for one in curves)))
            mean = [statistics.mean(ys) for ys in points]
            axes.plot(x, mean, dashes, color=colour, linewidth=2, label=label, zorder=3)
            if curve == 'top1_curve' and len(curves) > 1:
                deviation = [statistics.stdev(ys) for ys in points]
                axes.fill_between(
                    x,
                    [m - d for m, d in zip(mean, deviation)],
                    [min(m + d, 100) for m, d in zip(mean, deviation)],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
    seeds = len(results['setting']['seeds'])
    left.set_title(f'Test accuracy: mean of {seeds} seeds, band: one deviation', fontsize=10)
    left.set_ylabel('top-1 accuracy on the test images (%)')
    # The first iterations' rise from chance level would flatten what the end tells apart.
    ends = [figures['top1_mean'] for figures in results['methods'].values()]
    left.set_ylim(bottom=max(0, min(ends) - 25))
    left.legend(loc='lower right', fontsize=9)
    right.set_title('Training loss of the full network: mean', fontsize=10)
    right.set_ylabel('cross-entropy (log scale)')
    right.set_yscale('log')
    for axes in (left, right):
        axes.set_xlabel('training cost (in plain iterations, by measured time)')
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    title = "A small ResNet on scikit-learn's digits. Small scale, none of the paper's figures."
    if results['setting']['cfg_options']:
        title += '\nwith ' + ' '.join(results['setting']['cfg_options'])
    figure.suptitle(title, fontsize=11)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _usable_cpus() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_requirements() -> None:
    """Raise QuickstartError, with what to type, if a package is missing."""
    distributions = {'sklearn': 'scikit-learn', 'matplotlib': 'matplotlib'}
    missing = [
        name for module, name in distributions.items() if not importlib.util.find_spec(module)
    ]
    if missing:
        raise QuickstartError(
            f'the quick start needs {" and ".join(missing)}, not installed here. Type: '
            f'{sys.executable} -m pip install {" ".join(missing)}'
        )
    for module in ('mmengine', 'mmpretrain', 'mmgradaug'):
        if not importlib.util.find_spec(module):
            raise QuickstartError(
                f'{module} is not installed for {sys.executable}. Type: make setup, then '
                'make quickstart. `make doctor` says what else is missing'
            )


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train a small network on the digits that come with scikit-learn, on the CPU: '
        'plainly, with GradAug, and plainly for as long as GradAug took. Writes results.json and '
        'curves.png to the work dir. Each seed has its own labelled images, weights and draws.',
        epilog='Everything is trained anew each time, and what an earlier quick start left in the '
        'work dir is replaced. Examples: python tools/quickstart.py --seeds 3; '
        'python tools/quickstart.py --cfg-options model.gradaug.min_width=0.9 --work-dir '
        'work_dirs/wider',
    )
    parser.add_argument(
        '--seeds', type=int, metavar='N', help='seeds 0 to N-1 for each method (default: 5)'
    )
    parser.add_argument(
        '--iterations',
        type=int,
        metavar='N',
        help='of plain training and of GradAug (default: those of the config); plain training at '
        'equal cost gets more, by measured time',
    )
    parser.add_argument(
        '--quick',
        action='store_true',
        help='2 seeds, 20 iterations: to see that it works; the accuracies say nothing',
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=min(4, _usable_cpus()),
        metavar='N',
        help='trainings side by side, one thread each (default: %(default)s)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'quickstart',
        metavar='DIR',
        help='where everything goes (default: work_dirs/quickstart in the repository)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='overrides for every training, as in tools/train.py; those of model.gradaug go to '
        "GradAug's alone",
    )
    args = parser.parse_args(argv)
    if args.seeds is None:
        args.seeds = 2 if args.quick else 5
    if args.iterations is None and args.quick:
        args.iterations = 20
    for name in ('seeds', 'iterations', 'jobs'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name} must be 1 or more, got {value}')
    for option in args.cfg_options:
        key = option.split('=')[0]
        if '=' not in option:
            parser.error(f'--cfg-options takes KEY=VALUE, got {option!r}')
        if any(key == own or key.startswith(f'{own}.') for own in OWN_SETTINGS):
            parser.error(
                f'--cfg-options: {key} is set by the quick start; use --seeds, --iterations'
            )
    args.work_dir = args.work_dir.resolve()
    return args


def _setting(args: argparse.Namespace, iterations: int) -> dict[str, Any]:
    """What the figures depend on."""
    packages = ('torch', 'mmengine', 'mmpretrain', 'mmgradaug', 'scikit-learn')
    return {
        'seeds': list(range(args.seeds)),
        'iterations': iterations,
        'cfg_options': args.cfg_options,
        'jobs': args.jobs,
        'python': platform.python_version(),
        'packages': {package: metadata.version(package) for package in packages},
        'platform': platform.platform(),
        'cpus': _usable_cpus(),
    }


def _configured_iterations() -> int:
    from mmengine.config import Config

    # Without the imports that it names: they take seconds and nothing here needs them.
    return Config.fromfile(GRADAUG, import_custom_modules=False).train_cfg.max_iters


def quickstart(args: argparse.Namespace) -> None:
    """Train, and tell.

    Raises:
        QuickstartError: something is missing, or a training failed.
    """
    check_requirements()
    begin = time.monotonic()
    iterations = args.iterations or _configured_iterations()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    results_file, picture = args.work_dir / 'results.json', args.work_dir / 'curves.png'
    for old in (results_file, picture):  # if this fails midway, nothing old passes for new
        old.unlink(missing_ok=True)

    def plan(method: str, length: int) -> list[Run]:
        return [
            Run(method, seed, length, args.work_dir / f'{method}-seed{seed}')
            for seed in range(args.seeds)
        ]

    # Alternating, so that both are timed while the machine is equally busy.
    pairs = zip(plan(PLAIN, iterations), plan(WITH_GRADAUG, iterations))
    runs = [run for pair in pairs for run in pair]
    progress = Progress(3 * args.seeds, args.jobs)
    print(
        f"{3 * args.seeds} trainings on scikit-learn's digits, {args.jobs} side by side: plain, "
        f'GradAug, plain at equal cost, {args.seeds} seed{"s" * (args.seeds > 1)} each.',
        flush=True,
    )
    train_all(runs, args.jobs, args.cfg_options, progress)
    ratio = cost_ratio(runs)
    # Whole log intervals, so that the last iterations are in the log.
    longer = max(1, round(iterations * ratio / LOG_INTERVAL)) * LOG_INTERVAL
    progress.say(
        f'A GradAug iteration took {ratio:.2f} times as long as a plain one (median of the logged '
        f'times), so plain training at equal cost gets {longer} iterations.'
    )
    more = plan(EQUAL_COST, longer)
    train_all(more, args.jobs, args.cfg_options, progress)

    methods = summarise([*runs, *more])
    results = {
        'created': datetime.now().astimezone().isoformat(timespec='seconds'),
        'setting': _setting(args, iterations),
        'cost_ratio': ratio,
        'cost_ratio_from': 'median of the logged times of an iteration, GradAug / plain',
        'peak_memory_is': MEMORY_NOTE,
        'wall_seconds': time.monotonic() - begin,
        'methods': methods,
        'comparison': compare(methods),
    }
    draw(results, picture)
    results_file.write_text(json.dumps(results, indent=1) + '\n')
    print(
        f'\n{table(methods)}\n'
        f'top-1: mean and deviation over {args.seeds} seeds, final weights; '
        f'minutes: of one training, without start-up;\n{MEMORY_NOTE}\n'
        f'\n{results["comparison"]["sentence"]}\n{results["comparison"]["time_sentence"]}\n'
        'This is a small-scale demonstration: it says nothing about ImageNet.\n'
        f'\nFigures: {_short(results_file)}   picture: {_short(picture)}   '
        f'({results["wall_seconds"] / 60:.1f} minutes in all)\n'
        'Next, your own setting: '
        f'{_short(Path(sys.executable))} tools/train.py configs/quickstart/digits_gradaug.py '
        "--cfg-options model.gradaug.num_subnets=2; the paper's: configs/gradaug_r50_imagenet.py"
    )


def main() -> int:
    args = parse_args()

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        quickstart(args)
    except QuickstartError as error:
        print(f'\nquickstart: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nquickstart: stopped; no results were written', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
