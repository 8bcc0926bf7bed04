"""No update, and no checkpoint, of numbers that are not finite."""

import functools
import math
from typing import Any, Optional

import torch
from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from mmgradaug.loading import unwrapped
from mmgradaug.registry import HOOKS

from .non_finite import NonFiniteError, all_finite, describe_pass, explain


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Stops before an update by a loss or a gradient that is not finite; for any config.

    In a config: ``default_hooks = dict(non_finite=dict(type='mmgradaug.NonFiniteHook'), ...)``. Losses of
    all passes and all gradients are looked at once an update, right before the optimizer (and before
    clipping), on all ranks alike. It costs one wait for the device an update. What a checkpoint would hold
    is looked at as well. A loss scaler (mixed precision) has a way of its own, which is left to it.

    Args:
        on_non_finite: 'stop' ends the run with an error that names the pass, the iteration and the images,
            and leaves the last checkpoints alone. 'skip' leaves out the update, and what the batch did to
            running statistics.
        max_skips: with 'skip': how many updates may be left out in a training, resumed ones included.

    Raises:
        NonFiniteError: in training, as above.
        ValueError: an argument is out of range; or, before training, the learning rate is not finite.
    """

    # Before the hooks that save.
    priority = 'HIGH'

    def __init__(self, on_non_finite: str = 'stop', max_skips: int = 10) -> None:
        if on_non_finite not in ('stop', 'skip'):
            raise ValueError(
                f"NonFiniteHook: on_non_finite={on_non_finite!r}; write 'stop', or 'skip' to leave out the "
                'update'
            )
        if isinstance(max_skips, bool) or not isinstance(max_skips, int) or max_skips < 1:
            raise ValueError(
                f'NonFiniteHook: max_skips must be a whole number, 1 or more, got {max_skips!r}'
            )
        self.on_non_finite = on_non_finite
        self.max_skips = max_skips
        self._guards: list[_Guard] = []

    def before_train(self, runner: Runner) -> None:
        wrappers = runner.optim_wrapper
        wrappers = wrappers.values() if isinstance(wrappers, OptimWrapperDict) else [wrappers]
        for wrapper in wrappers:
            for group in wrapper.optimizer.param_groups:
                if not math.isfinite(group['lr']):
                    raise ValueError(
                        f'the learning rate is {group["lr"]}: write a finite optim_wrapper.optimizer.lr'
                    )
        self._guards = [_Guard(self, runner, wrapper) for wrapper in wrappers]

    def after_train(self, runner: Runner) -> None:
        for guard in self._guards:
            guard.remove()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None
    ) -> None:
        for guard in self._guards:
            guard.begin_iteration(data_batch)

    def before_save_on_all_ranks(self, runner: Runner) -> None:
        """WholeCheckpointHook's call before it saves."""
        self._check_weights(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if get_world_size() == 1:
            self._check_weights(runner)

    def _check_weights(self, runner: Runner) -> None:
        weights = runner.model.state_dict()
        if not _everywhere(all_finite(list(weights.values()))):
            _raise(runner, explain([], [], {}, weights, None, None), 'No checkpoint was written.')

    def count_skip(self, runner: Runner, text: str) -> None:
        """Warn of an update that is left out.

        Raises:
            NonFiniteError: it is one too many.
        """
        hub = runner.message_hub
        skips = 1 + hub.runtime_info.get('non_finite_skips', 0)
        hub.update_info('non_finite_skips', skips)
        if skips > self.max_skips:
            _raise(
                runner, text, f'{self.max_skips} updates have been left out before: no more are.'
            )
        runner.logger.warning(
            f'iteration {runner.iter}: update left out ({skips} of at most {self.max_skips}), {text}'
        )


class _Guard:
    """Stands before one optimizer wrapper's ``step``, and sees the losses that go ``backward``."""

    def __init__(self, hook: NonFiniteHook, runner: Runner, wrapper: OptimWrapper) -> None:
        self.hook, self.runner, self.wrapper = hook, runner, wrapper
        self.losses: list[Tensor] = []
        self.passes: list[tuple[int, int, Any]] = []  # iteration, number in it, sub-network
        self.batches: list[tuple[int, Any]] = []  # iteration, what the data loader gave
        self.buffers: Optional[list[tuple[Tensor, Tensor]]] = None
        self.bare: dict[str, Any] = {}
        # Taken here, as in a sub-network's pass, where the update is made, the model has views of them.
        self.parameters: dict[str, Tensor] = dict(unwrapped(runner.model).named_parameters())
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is not None and scaler.is_enabled():
            return
        self.bare = {name: getattr(wrapper, name) for name in ('backward', 'step')}
        wrapper.backward = self.backward
        # With the mark of MMEngine's schedulers, which warn where they do not find it.
        wrapper.step = functools.update_wrapper(functools.partial(self.step), self.bare['step'])

    def remove(self) -> None:
        for name, function in self.bare.items():
            setattr(self.wrapper, name, function)

    def begin_iteration(self, batch: Any) -> None:
        self.batches.append((self.runner.iter, batch))
        if self.hook.on_non_finite == 'skip' and self.buffers is None:
            model = unwrapped(self.runner.model)
            self.buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        if not self.bare:
            self.forget()

    def forget(self) -> None:
        self.losses, self.passes, self.batches, self.buffers = [], [], [], None

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        iteration = self.runner.iter
        number = sum(iteration == other for other, _, _ in self.passes)
        self.losses.append(loss.detach())
        self.passes.append((iteration, number, getattr(self.wrapper, 'current_pass', None)))
        self.bare['backward'](loss, **kwargs)

    def step(self, **kwargs: Any) -> None:
        parameters = [p for group in self.wrapper.optimizer.param_groups for p in group['params']]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if _everywhere(all_finite([*self.losses, *gradients])):
            self.forget()
            self.bare['step'](**kwargs)
            return
        text = self.explain()
        if self.hook.on_non_finite == 'stop':
            _raise(self.runner, text, 'The optimizer was not called.')
        with torch.no_grad():
            for buffer, before in self.buffers or []:
                buffer.copy_(before)
        self.hook.count_skip(self.runner, text)
        self.forget()

    def explain(self) -> str:
        labels = [
            f'{describe_pass(number, subnet)} in iteration {iteration}'
            for iteration, number, subnet in self.passes
        ]
        gradients = {n: p.grad for n, p in self.parameters.items() if p.grad is not None}
        spoilt = {
            iteration
            for (iteration, _, _), loss in zip(self.passes, self.losses)
            if not torch.isfinite(loss).all()
        }
        batches = [
            batch
            for iteration, batch in self.batches
            if isinstance(batch, dict) and (iteration in spoilt or not spoilt)
        ]
        return explain(
            self.losses,
            labels,
            gradients,
            self.parameters,
            [batch.get('inputs') for batch in batches],
            [batch.get('data_samples') for batch in batches],
        )


def _everywhere(finite: Optional[Tensor]) -> bool:
    """Whether what was looked at is finite on all ranks: the one wait for the device."""
    if finite is None:
        return True
    if get_world_size() > 1:
        torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
    return bool(finite)


def _raise(runner: Runner, text: str, done: str) -> None:
    """End on all ranks, each saying what every rank found."""
    found = all_gather_object(text)
    if len(found) > 1:
        text = ' '.join(f'Rank {rank}: {each}' for rank, each in enumerate(found) if each)
    raise NonFiniteError(
        f'{text} {done} The checkpoints in {runner.work_dir} are as they were. If one image does it, mend '
        'or remove it; if losses grew before, lower the learning rate or clip gradients '
        '(optim_wrapper.clip_grad); to leave out such updates: --cfg-options '
        'default_hooks.non_finite.on_non_finite=skip'
    )
