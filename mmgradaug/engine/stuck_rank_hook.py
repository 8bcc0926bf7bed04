"""Naming the process that all others wait for."""

import json
import math
import socket
import sys
import threading
import time
import traceback
from typing import Any, Optional

import torch.distributed as dist
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmgradaug.registry import HOOKS


@HOOKS.register_module()
class StuckRankHook(Hook):
    """Says which of several processes hangs, while the others wait for it; for any config.

    In a config: ``default_hooks = dict(stuck_rank=dict(type='mmgradaug.StuckRankHook'), ...)``. If an
    iteration takes longer than ``timeout``, one error is logged: which ranks give no sign of life, which
    still wait for their data, and where in the code each one is. Nothing is ended: that is done by the
    time-out of the process group (``env_cfg.dist_cfg.timeout``, in seconds). Validation is not watched. In a
    single process the hook does nothing.

    Args:
        timeout: seconds, above 0. An iteration with its data, and a checkpoint, must take less.

    Raises:
        ValueError: ``timeout`` is out of its range.
    """

    priority = 'VERY_LOW'

    def __init__(self, timeout: float = 300.0) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
            raise ValueError(f'StuckRankHook: timeout is in seconds, above 0, got {timeout!r}')
        self.timeout = timeout
        self._since = math.inf  # when the rank got where it is; never while it is not watched
        self._place = (0, False)  # the iteration, and whether its data are there
        self._ended: Optional[threading.Event] = None

    def before_train(self, runner: Runner) -> None:
        if get_world_size() == 1:
            return
        self._ended = threading.Event()
        self._reached(runner.iter, False)
        watch = threading.Thread(target=self._watch, args=(runner, self._ended), daemon=True)
        watch.start()

    def _reached(self, iteration: int, has_data: bool) -> None:
        self._place, self._since = (iteration, has_data), time.monotonic()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None
    ) -> None:
        self._reached(runner.iter, True)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[Any] = None,
        outputs: Optional[dict[str, Any]] = None,
    ) -> None:
        self._reached(runner.iter + 1, False)

    def before_val(self, runner: Runner) -> None:
        self._since = math.inf

    def after_val(self, runner: Runner) -> None:
        self._reached(*self._place)

    def after_train(self, runner: Runner) -> None:
        if self._ended is not None:
            self._ended.set()

    def _watch(self, runner: Runner, ended: threading.Event) -> None:
        """In a thread of its own. Through the store ranks can speak while they wait for each other."""
        store = dist.distributed_c10d._get_default_store()
        main = threading.main_thread().ident
        said = None
        while not ended.wait(self.timeout / 10):
            place = self._place
            if place == said or time.monotonic() - self._since < self.timeout:
                continue
            said = place
            frames = traceback.extract_stack(sys._current_frames()[main or 0])
            at = f'{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}'
            mine = dict(iteration=place[0], has_data=place[1], host=socket.gethostname(), at=at)
            keys = [
                f'stuck_rank/{runner._experiment_name}/{place[0]}/{r}'
                for r in range(get_world_size())
            ]
            store.set(keys[get_rank()], json.dumps(mine))
            ended.wait(self.timeout / 2)
            told = {
                r: json.loads(store.get(key)) for r, key in enumerate(keys) if store.check([key])
            }
            if get_rank() == min(told):  # which is logged on every rank at this level
                runner.logger.error(report(told, get_world_size(), self.timeout))


def report(told: dict[int, dict[str, Any]], ranks: int, timeout: float) -> str:
    """What is known of an iteration that does not end.

    Args:
        told: by rank, what it says: ``iteration``, whether it ``has_data``, ``host``, and where it is ``at``.
        ranks: how many there are.
        timeout: seconds for which there was no progress.
    """
    iteration = min(each['iteration'] for each in told.values())
    silent = [rank for rank in range(ranks) if rank not in told]
    waiting = [rank for rank, each in told.items() if not each['has_data']]
    text = f'no progress for {timeout:g} s in iteration {iteration}.'
    if silent:
        text += f' No sign of life from {_ranks(silent)}: stopped, dead, or another machine.'
    elif 0 < len(waiting) < ranks:
        text += f' The others wait for {_ranks(waiting)}, which waits for its data.'
    places = '; '.join(f'rank {r} ({each["host"]}) at {each["at"]}' for r, each in told.items())
    return f'{text} The others: {places}' if silent else f'{text} {places}'


def _ranks(ranks: list[int]) -> str:
    return f'rank{"s" * (len(ranks) > 1)} {", ".join(map(str, ranks))}'
