"""What a training leaves for the tools that read it: one file, run.json."""

import json
import math
import platform
import statistics
import subprocess
import sys
import time
from datetime import datetime
from numbers import Real
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor

from mmgradaug.config_types import lower_is_better
from mmgradaug.files import write_json
from mmgradaug.iteration_time import seconds_per_iteration
from mmgradaug.registry import HOOKS

RECORD = 'run.json'
VERSION = 1  # of the file's form
POINTS = 50  # of the training curves
SECONDS_BETWEEN_WRITES = 10.0  # while nothing is evaluated
PACKAGES = ('torch', 'torchvision', 'numpy', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmgradaug')


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Writes ``run.json`` to the work dir: what is trained, on what, and what has come of it.

    The main process writes it at every evaluation and checkpoint, at the end, and in between every ten seconds;
    each time the whole file is replaced, so a reader never sees half of it. A resumed training goes on
    with the file from the iteration of its checkpoint. A disk
    that refuses costs a warning, not the training. Our configs have the hook in ``default_hooks``; in a
    config of your own write ``default_hooks = dict(run_record=dict(type='mmgradaug.RunRecordHook'))``.

    The file is an object with

    - ``version``: 1, of its form; ``status``: 'running' or 'done' (a killed training stays 'running');
      ``started`` and ``updated``: ISO dates;
    - ``config``: the whole config as an object, ``config_file``, ``seed``, ``commit`` of mmgradaug's
      checkout and ``dirty``, if it is one; ``versions`` by package; ``device``, ``world_size``;
    - ``unit``: 'epoch' or 'iteration', what the training counts in; ``length``: how many of these;
      ``max_iters``; ``dataset_length``: images; ``iterations``: done; ``images_seen``: by the
      full network, of all processes;
    - ``evaluations``: a list of ``{'iteration': ..., 'epoch': ..., 'metrics': {name: value}}``; ``last``:
      the metrics of the last one; ``best``: of each metric the best of all evaluations (the lowest of
      losses and errors, else the highest);
    - ``training``: a list of about 50 windows ``{'iteration': ..., 'loss': ..., 'by_subnets': ...,
      'total_seconds': ...}``: the full network's mean loss against the labels; by the number of sub-networks,
      how many ``iterations`` had it and their median ``seconds``; and the time of all of the window's;
    - ``seconds_per_iteration``: see :func:`mmgradaug.iteration_time.seconds_per_iteration`;
      ``train_seconds``: of all iterations,
      without start-up and evaluation; ``peak_memory_mb``: of the main process; ``memory_of``: 'GPU'
      (allocated by PyTorch) or 'process' (resident set, most of it libraries).
    """

    # After the timer and the evaluation, and before checkpoints: what is resumed has been recorded.
    priority = 'LOW'

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}  # empty while nothing is recorded
        # Of an iteration: loss, seconds and number of sub-networks.
        self._window: list[tuple[float, float, int]] = []
        self._done = 0  # iterations
        self._written = 0.0

    def before_train(self, runner: Runner) -> None:
        if not is_main_process():
            return
        loader = runner.train_dataloader
        # A loader with a batch sampler of its own, ExactResumeHook's for instance, has no batch size.
        batch = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size or 1
        self._images = batch * get_world_size()
        self._length = max(1, math.ceil(runner.max_iters / POINTS))
        self._window = []
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        self._data = {
            'version': VERSION,
            'status': 'running',
            'started': _now(),
            'updated': None,
            'config': json.loads(json.dumps(runner.cfg.to_dict(), default=str)),
            'config_file': runner.cfg.filename,
            'seed': runner.seed,
            **_commit(),
            'versions': {
                'python': platform.python_version(),
                **{name: _version(name) for name in PACKAGES if name in sys.modules},
            },
            'device': _device(),
            'world_size': get_world_size(),
            'unit': 'iteration' if by_iteration else 'epoch',
            'length': runner.max_iters if by_iteration else runner.max_epochs,
            'max_iters': runner.max_iters,
            'dataset_length': len(loader.dataset),
            'evaluations': [],
            'training': [],
            'peak_memory_mb': 0.0,
            'memory_of': 'GPU' if torch.cuda.is_available() else 'process',
        }
        self._done = runner.iter
        if runner.iter:
            self._take_over(_read(self._file(runner)), runner.iter)
        self._write(runner)

    def _take_over(self, earlier: dict[str, Any], done: int) -> None:
        """What an earlier start recorded, up to the iteration that its checkpoint has."""
        self._data['started'] = earlier.get('started', self._data['started'])
        self._data['peak_memory_mb'] = earlier.get('peak_memory_mb', 0.0)
        for key in ('evaluations', 'training'):
            self._data[key] = [e for e in earlier.get(key, []) if e['iteration'] <= done]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict[str, Any]] = None,
    ) -> None:
        if not self._data:
            return
        scalars = runner.message_hub.log_scalars
        loss = scalars.get('train/loss_full', scalars.get('train/loss'))
        seconds = scalars.get('train/time')
        self._window.append(
            (
                float(loss.current()) if loss is not None else math.nan,
                float(seconds.current()) if seconds is not None else math.nan,
                sum(name.startswith('loss_subnet') for name in outputs or ()),
            )
        )
        self._done = runner.iter + 1
        if self._done % self._length == 0 or self._done == runner.max_iters:
            self._close_window()
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self._write(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """What is resumed from the checkpoint must not lack what came before it."""
        if self._data:
            self._close_window()
            self._write(runner)

    def _close_window(self) -> None:
        if not self._window:
            return
        losses, seconds, numbers = zip(*self._window)
        by_subnets = {}
        for number in sorted(set(numbers)):
            own = [each for each, its in zip(seconds, numbers) if its == number]
            median = _finite(statistics.median(own))
            by_subnets[str(number)] = {'iterations': len(own), 'seconds': median}
        self._data['training'].append(
            {
                'iteration': self._done,
                'loss': _finite(statistics.fmean(losses)),
                'by_subnets': by_subnets,
                'total_seconds': _finite(math.fsum(seconds)),
            }
        )
        self._window = []

    def after_val_epoch(self, runner: Runner, metrics: Optional[dict[str, Any]] = None) -> None:
        if not self._data:  # a validation on its own, or not the main process
            return
        # Of one's own metrics NumPy's and PyTorch's numbers too.
        numbers = {
            name: _finite(float(value))
            for name, value in (metrics or {}).items()
            if isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)
        }
        self._data['evaluations'].append(
            {'iteration': runner.iter, 'epoch': runner.epoch, 'metrics': numbers}
        )
        self._write(runner)

    def after_train(self, runner: Runner) -> None:
        if not self._data:
            return
        self._close_window()  # if the training ended before its maximum
        self._data['status'] = 'done'
        self._write(runner)
        self._data = {}

    def _write(self, runner: Runner) -> None:
        data = self._data
        evaluations, training = data['evaluations'], data['training']
        data['updated'] = _now()
        data['iterations'] = self._done
        data['images_seen'] = self._done * self._images
        data['last'] = evaluations[-1]['metrics'] if evaluations else {}
        data['best'] = best_of(evaluations)
        data['seconds_per_iteration'] = seconds_per_iteration(training)
        data['train_seconds'] = math.fsum(w['total_seconds'] or 0.0 for w in training)
        data['peak_memory_mb'] = max(data['peak_memory_mb'], _memory_mb())
        try:
            write_json(self._file(runner), data)
        except OSError as error:
            runner.logger.warning(
                f'{RECORD} could not be written ({error}); the next time it will be with all of it'
            )
        self._written = time.monotonic()

    @staticmethod
    def _file(runner: Runner) -> Path:
        return Path(runner.work_dir) / RECORD


def best_of(evaluations: list[dict[str, Any]]) -> dict[str, float]:
    """By metric the best value of all evaluations: the lowest of losses and errors, else the highest."""
    best: dict[str, float] = {}
    for evaluation in evaluations:
        for name, value in evaluation['metrics'].items():
            if value is None:
                continue
            choose = min if lower_is_better(name) else max
            best[name] = choose(best.get(name, value), value)
    return best


def _finite(value: float) -> Optional[float]:
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec='seconds')


def _read(file: Path) -> dict[str, Any]:
    """An earlier record of this form; empty if there is none."""
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and data.get('version') == VERSION else {}


def _version(module: str) -> str:
    return str(getattr(sys.modules[module], '__version__', 'unknown'))


def _device() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU ({torch.get_num_threads()} thread{"s" * (torch.get_num_threads() > 1)})'


def _memory_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == 'darwin' else 2**10)


def _commit() -> dict[str, Any]:
    """The commit of the checkout that this package lies in, and whether files differ from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():  # installed from a wheel
        return {'commit': None, 'dirty': None}

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {'commit': git('rev-parse', 'HEAD'), 'dirty': bool(git('status', '--porcelain'))}
    except (OSError, subprocess.CalledProcessError):
        return {'commit': None, 'dirty': None}
