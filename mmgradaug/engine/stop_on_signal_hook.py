"""Saving and leaving when the machine is to be taken away."""

import atexit
import multiprocessing
import os
import signal
import threading
from typing import Any, Optional

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from mmgradaug.registry import HOOKS

from .whole_checkpoint_hook import WholeCheckpointHook

# sysexits.h: "temporary failure; the user is invited to retry".
REQUEUE = 75
INTERRUPTED = 128 + signal.SIGINT


@HOOKS.register_module()
class StopOnSignalHook(Hook):
    """Saves at the end of the iteration and leaves when a signal says so; for any config.

    In a config: ``default_hooks = dict(stop_on_signal=dict(type='mmgradaug.StopOnSignalHook'), ...)``,
    beside a :class:`WholeCheckpointHook`, which writes ``interrupted.pth``. ``--resume`` goes on from there.

    - SIGTERM and SIGUSR1, which Slurm and preemptible machines send: the process exits with 75, on which a
      launcher can queue it again (``tools/slurm_train.sh`` does).
    - SIGINT, as of Ctrl-C: likewise, but with 130. A second one ends the process at once, unsaved.

    On several ranks one of them getting the signal is enough. They ask each other after each iteration, on
    the CPU (gloo), so the devices are not waited for. A signal in a validation is heeded after it.

    Raises:
        TypeError: before training, if no WholeCheckpointHook is there to save.
    """

    # After everything else of the iteration.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._received = 0
        self._group: Optional[Any] = None
        self._saves: Optional[WholeCheckpointHook] = None

    def before_train(self, runner: Runner) -> None:
        hooks = [hook for hook in runner.hooks if isinstance(hook, WholeCheckpointHook)]
        if not hooks:
            raise TypeError(
                'StopOnSignalHook has nothing to save by: write default_hooks=dict(checkpoint=dict('
                "type='mmgradaug.WholeCheckpointHook', ...)), or default_hooks.stop_on_signal=None"
            )
        self._saves = hooks[0]
        self._received = 0
        if get_world_size() > 1:
            self._group = dist.new_group(backend='gloo')
        for loop in (runner.train_loop, runner._val_loop):
            loader = loop.dataloader if isinstance(loop, BaseLoop) else None
            if loader is not None and loader.num_workers:
                loader.worker_init_fn = _SurvivesOneSigterm(loader.worker_init_fn)
                atexit.unregister(self._end_workers)
                atexit.register(self._end_workers)
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('signals reach the main thread alone: this training ignores them')
            return
        process = os.getpid()

        def receive(number: int, frame: Any) -> None:
            if os.getpid() != process:
                return  # a forked worker: its process decides
            if number == signal.SIGINT and self._received:
                self._restore()
                raise KeyboardInterrupt
            self._received = number
            name = signal.Signals(number).name
            os.write(2, f'{name}: saving at the end of this iteration, then leaving\n'.encode())

        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            self._before[number] = signal.signal(number, receive)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[Any] = None,
        outputs: Optional[dict[str, Any]] = None,
    ) -> None:
        number = self._received
        if self._group is not None:
            agreed = torch.tensor(number)
            dist.all_reduce(agreed, dist.ReduceOp.MAX, group=self._group)
            number = int(agreed)
        if not number:
            return
        code = INTERRUPTED if number == signal.SIGINT else REQUEUE
        assert self._saves is not None  # before_train() has found it
        saved = self._saves.save_interrupted(runner)
        runner.logger.warning(
            f'{signal.Signals(number).name} after iteration {runner.iter + 1}: '
            f'{"saved" if saved else "NOT saved"}, exit code {code}; --resume goes on from here'
        )
        self._restore()
        raise SystemExit(code)

    def after_train(self, runner: Runner) -> None:
        self._restore()

    def _end_workers(self) -> None:
        """At exit: Python ends workers by the one SIGTERM that they survive, and would wait forever.

        After a whole training too: that of iterations leaves its workers waiting for more.
        """
        self._restore()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's would report them as lost
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


class _SurvivesOneSigterm:
    """A worker's initialisation after which it outlives its group's SIGTERM, so that its process can save.

    PyTorch's workers die of it, and their process of that. The second one works: should a worker hang, it
    is its process that sends it when it leaves.
    """

    def __init__(self, initialise: Any) -> None:
        self.initialise = initialise

    def __call__(self, worker: int) -> None:
        if self.initialise is not None:
            self.initialise(worker)
        signal.signal(signal.SIGTERM, self._first)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    @staticmethod
    def _first(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
