"""A training of a second with randomness everywhere, which tests stop, kill and resume."""

import os
import random
import sys
import time
import traceback
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

import mmgradaug  # noqa: F401  registers the hooks

FEATURES, CLASSES = 8, 4


@DATASETS.register_module(force=True)
class ToyImages(torch.utils.data.Dataset):
    """Rows of numbers, augmented by all three of the random generators that pipelines draw from."""

    metainfo = dict(classes=tuple('abcd'))

    def __init__(self, count: int, augment: bool = True) -> None:
        rng = torch.Generator().manual_seed(0)
        self.rows = torch.randn(count, FEATURES, generator=rng)
        self.augment = augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        if self.augment:
            row = row * np.random.uniform(0.8, 1.2) + random.gauss(0, 0.1) + 0.1 * torch.rand(1)
        sample = BaseDataElement(metainfo=dict(img_path=f'row_{index}.png'))
        return dict(inputs=row, data_samples=sample, label=torch.tensor(index % CLASSES))


@MODELS.register_module(force=True)
class ToyNetwork(BaseModel):
    """Mixup, a batch norm, dropout; from its ``poison`` on, ``poison_for`` losses are NaN, or its gradients."""

    def __init__(
        self, poison: Optional[int] = None, poison_for: int = 1, gradients_alone: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(16, CLASSES),
        )
        self.poison = range(0) if poison is None else range(poison, poison + poison_for)
        self.gradients_alone = gradients_alone
        self.seen = 0

    def forward(
        self, inputs: Any, label: Any, data_samples: Any = None, mode: str = 'tensor'
    ) -> Any:
        inputs, label = torch.stack(list(inputs)), torch.stack(list(label))
        if mode != 'loss':
            return [BaseDataElement() for _ in label]
        share = np.random.beta(1.0, 1.0)
        mixed = share * inputs + (1 - share) * inputs[torch.randperm(len(inputs))]
        loss = F.cross_entropy(self.layers(mixed), label)
        if self.training and self.seen in self.poison:
            if self.gradients_alone:
                self.layers[0].weight.register_hook(lambda grad: grad * float('inf'))
            else:
                loss = loss * float('nan')
        self.seen += 1
        return dict(loss=loss)


@HOOKS.register_module(force=True)
class StopsAt(Hook):
    """An end without warning, after everything else of the iteration; tells what is happening."""

    priority = 'LOWEST'

    def __init__(self, iteration: Optional[int] = None, tell: bool = False) -> None:
        self.iteration = iteration
        self.tell = tell

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self.tell:
            print('iteration', runner.iter + 1, flush=True)
        if runner.iter + 1 == self.iteration:
            raise Stopped


@HOOKS.register_module(force=True)
class SleepsAt(Hook):
    """An iteration that takes long: until a file is there, or a minute."""

    def __init__(self, iteration: int, until: str = '') -> None:
        self.iteration = iteration
        self.until = until

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.iteration:
            print('asleep', flush=True)
            for _ in range(600):
                if self.until and Path(self.until).exists():
                    break
                time.sleep(0.1)


@HOOKS.register_module(force=True)
class KillsRank(Hook):
    """SIGKILL for one process of the first start, after an iteration's save."""

    priority = 'LOWEST'

    def __init__(self, rank: int, iteration: int) -> None:
        self.rank, self.iteration = rank, iteration

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        first = os.environ.get('TORCHELASTIC_RESTART_COUNT') == '0'
        if first and (runner.rank, runner.iter + 1) == (self.rank, self.iteration):
            os.kill(os.getpid(), 9)


class Stopped(Exception):
    pass


def toy_config(
    work_dir: Any,
    by_epoch: bool = True,
    epochs: int = 3,
    count: int = 24,
    batch_size: int = 3,
    workers: int = 0,
    persistent: bool = False,
    sampler: str = 'DefaultSampler',
    save_every: int = 1,
    save_by_epoch: Optional[bool] = None,
    keep: int = 2,
    accumulate: int = 1,
    seed: Optional[int] = 0,
    ema: bool = False,
    stop_at: Optional[int] = None,
    tell: bool = False,
    resume: bool = False,
    launcher: str = 'none',
    exact: bool = True,
    guard: Optional[dict[str, Any]] = None,
    signals: bool = False,
    hooks: Optional[list[dict[str, Any]]] = None,
    checkpoint: Optional[dict[str, Any]] = None,
    model: Optional[dict[str, Any]] = None,
    optim: Optional[dict[str, Any]] = None,
    **changes: Any,
) -> Config:
    """A config as a user writes it. ``epochs`` are of 24 rows, in batches of 3 by default: 8 iterations."""
    iterations = epochs * -(-count // batch_size)
    loop = dict(by_epoch=True, max_epochs=epochs)
    if not by_epoch:
        loop = dict(by_epoch=False, max_iters=iterations)
    checkpoint = {
        'type': 'mmgradaug.WholeCheckpointHook',
        'interval': save_every,
        'by_epoch': by_epoch if save_by_epoch is None else save_by_epoch,
        'max_keep_ckpts': keep,
        **(checkpoint or {}),
    }
    default_hooks = dict(
        checkpoint=checkpoint,
        logger=dict(type='LoggerHook', interval=1),
        weights_check=dict(type='mmgradaug.WeightsCheckHook'),
    )
    if exact:
        default_hooks['exact_resume'] = dict(type='mmgradaug.ExactResumeHook')
    if signals:
        default_hooks['stop_on_signal'] = dict(type='mmgradaug.StopOnSignalHook')
    if guard is not None:
        default_hooks['non_finite'] = dict(type='mmgradaug.NonFiniteHook', **guard)
    custom_hooks = [dict(type='StopsAt', iteration=stop_at, tell=tell), *(hooks or [])]
    if ema:
        custom_hooks.append(dict(type='EMAHook', momentum=0.1, update_buffers=True))
    return Config(
        dict(
            model=dict(type='ToyNetwork', **(model or {})),
            work_dir=str(work_dir),
            train_dataloader=dict(
                batch_size=batch_size,
                num_workers=workers,
                persistent_workers=persistent,
                sampler=dict(type=sampler, shuffle=True),
                dataset=dict(type='ToyImages', count=count),
            ),
            train_cfg=loop,
            optim_wrapper={
                'type': 'OptimWrapper',
                'optimizer': dict(type='SGD', lr=0.1, momentum=0.9),
                'accumulative_counts': accumulate,
                **(optim or {}),
            },
            param_scheduler=dict(type='CosineAnnealingLR', T_max=iterations, by_epoch=False),
            default_hooks=default_hooks,
            custom_hooks=custom_hooks,
            resume=resume,
            launcher=launcher,
            default_scope='mmengine',
            # MMEngine keeps loggers by name, which is the second otherwise.
            experiment_name=uuid.uuid4().hex,
            log_level='WARNING',
            **{'randomness': dict(seed=seed), **changes},
        )
    )


def train(
    work_dir: Any,
    register: Sequence[Hook] = (),
    config: Callable[..., Config] = toy_config,
    **options: Any,
) -> Runner:
    """Train; an end by ``stop_at`` is not an error. Hooks of a test's own are registered."""
    runner = Runner.from_cfg(config(work_dir, **options))
    for hook in register:
        runner.register_hook(hook)
    try:
        runner.train()
    except Stopped:
        pass
    return runner


def final_state(work_dir: Any, name: str) -> dict[str, Any]:
    """Weights, optimizer, EMA and schedulers of a checkpoint."""
    contents = torch.load(Path(work_dir) / name, weights_only=True)
    kept = ('state_dict', 'optimizer', 'ema_state_dict', 'param_schedulers')
    return {key: contents[key] for key in kept if key in contents}


def differences(one: Any, other: Any, where: str = '') -> list[str]:
    """The places at which two states are not equal bit for bit."""
    if isinstance(one, Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [where]
        return [d for key in one for d in differences(one[key], other[key], f'{where}/{key}')]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [where]
        pairs = enumerate(zip(one, other))
        return [d for i, (a, b) in pairs for d in differences(a, b, f'{where}/{i}')]
    return [] if one == other else [where]


def fork(work: Callable[[], Any], output: int) -> int:
    """A process of its own, the first of a session, that does the work; modules are loaded already.

    Args:
        work: its SystemExit is the process's.
        output: where it prints to, a file descriptor.
    """
    process = os.fork()
    if process:
        return process
    os.setsid()  # to be signalled with its workers
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (
            open(number, 'w', buffering=1) for number in (1, 2)
        )  # not pytest's
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
