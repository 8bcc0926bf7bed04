"""Finding out which channels a network's sub-networks have, and that these sub-networks run."""

import random
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.backends import mha

from .errors import SlimmingError
from .labels import ANY, LABEL_TYPE, to_numpy
from .narrowing import narrowed, possible_counts
from .plan import ChannelPlan, Kept
from .residual import find_blocks
from .trace import Step, Trace, tensors_in, trial_copy

# Widths at which planned sub-networks are run. Where every layer has the first channels of one run, the
# first will do; parts of a whole round differently at different widths.
PROBE_WIDTHS = (0.3, 0.9)
PROBE_SIZES = (224, 64, 32, 299)
# Networks of fewer parameters run faster on the CPU than their shapes do on the meta device.
SMALL = 2_000_000

_PLANS: 'weakref.WeakKeyDictionary[nn.Module, ChannelPlan]' = weakref.WeakKeyDictionary()


def plan_channels(
    model: nn.Module,
    example_input: Any = None,
    *,
    forward: Callable[..., Any] = nn.Module.__call__,
    within: Optional[Sequence[str]] = None,
    widths: Sequence[float] = (),
) -> ChannelPlan:
    """Find out which channels each sub-network of a model has, and try some of these sub-networks.

    A copy of the model is run once in training and once in evaluation mode, on PyTorch's meta device
    (shapes only) where it can, else on the CPU. Channels are followed through every operation. What the
    model returns keeps all its channels. The plan is remembered for ``subnetwork(model, width)``.

    Args:
        model: any network. It stays as it is.
        example_input: a batch that it accepts, of any values, or a tuple of arguments. By default a batch
            of two images of several sizes is tried, with 3 channels or those of the first convolution.
        forward: what is run, as ``forward(model, *example)``; by default the model itself.
        within: names of the submodules whose channels may be narrowed, such as ``['backbone']``; None
            for all. Layers elsewhere give all their channels and may take fewer.
        widths: at which sub-networks are tried out, besides some of our own choice.

    Returns:
        The plan.

    Raises:
        SlimmingError: the model accepts no example, or has no sub-networks; the message names the layer
            and the operation.
    """
    plan = _make_plan(model, example_input, forward, within, widths)
    _PLANS[model] = plan
    return plan


def remember_plan(model: nn.Module, plan: ChannelPlan) -> None:
    """Use a plan for ``subnetwork(model, width)`` that was made for another object: the model it is a copy of."""
    _PLANS[model] = plan


def plan_of(model: nn.Module) -> ChannelPlan:
    """The plan that was made for a model; made now, with an ordinary example, if none was."""
    return _PLANS[model] if model in _PLANS else plan_channels(model)


def _make_plan(
    model: nn.Module,
    example_input: Any,
    forward: Callable[..., Any],
    within: Optional[Sequence[str]],
    widths: Sequence[float],
) -> ChannelPlan:
    trial, arguments, trace = _traced(model, example_input, forward, within)
    with _quiet():
        plan = ChannelPlan(trace, find_blocks(trial, trace.blocks))
        if not len(plan.runs):
            raise SlimmingError(
                f'{type(model).__name__} has no channels that could be narrowed, so every sub-network '
                'would be the full network'
            )
        probed = dict.fromkeys([*(PROBE_WIDTHS if plan.has_parts else PROBE_WIDTHS[:1]), *widths])
        for width in probed:
            # Two of each at least: of one channel nothing can be told from a dimension without channels.
            kept = Kept([max(n, min(2, size)) for n, size in zip(plan.kept(width).numbers, plan.runs)])
            for number, training in enumerate((True, False)):
                trial.train(training)
                check = partial(_check, trial, arguments, forward, plan, kept, trace, number)
                while (failure := check()) is not None:
                    _learn_a_count(trial, plan, kept, check, failure)
    plan.example, plan.forward = arguments, forward
    plan.forget_trace()
    return plan


def check_sizes(model: nn.Module, plan: ChannelPlan, sizes: Sequence[tuple[int, int]]) -> None:
    """Check that a model takes images of each of these (height, width).

    Its smallest batch of images, with their size changed, is run in training mode, the full network.

    Raises:
        SlimmingError: it does not; the message names the size and the layer.
    """
    if not (plan.example and isinstance(plan.example[0], Tensor) and plan.example[0].dim() == 4):
        return
    images, *rest = plan.example
    trial = trial_copy(model, str(images.device))
    trial.train()
    running = _watch(trial)
    for size in dict.fromkeys(sizes):
        del running.names[1:]
        try:
            with _quiet():
                plan.forward(trial, images.new_zeros(*images.shape[:2], *size), *rest)
        except Exception as error:
            raise SlimmingError(
                f'{type(model).__name__} cannot take images of {size[0]} x {size[1]} pixels, which '
                f'transforms may draw: its {running.innermost!r} fails with {type(error).__name__}: {error}. '
                'Leave that size out, or choose one that the network can take (many need multiples of 32)'
            ) from error


def runs_alone(model: nn.Module, plan: ChannelPlan, width: float) -> None:
    """Check that an extracted sub-network runs without the context.

    Raises:
        SlimmingError: it does not.
    """
    trial = trial_copy(model, _device(plan.example))
    trial.eval()
    try:
        with _quiet():
            plan.forward(trial, *plan.example)
    except Exception as error:
        raise SlimmingError(
            f'the sub-network of width {width:g} cannot be taken out of {type(model).__name__}: its code '
            'splits or views channels in a way that has no room for the parts that are left '
            f'({type(error).__name__}: {error}). Inside subnetwork(model, width) it runs'
        ) from error


def _device(arguments: Sequence[Any]) -> str:
    return next((str(t.device) for t in tensors_in(list(arguments))), 'cpu')


def _traced(
    model: nn.Module,
    example_input: Any,
    forward: Callable[..., Any],
    within: Optional[Sequence[str]],
) -> tuple[nn.Module, tuple[Any, ...], Trace]:
    """A copy on the meta or the CPU device, arguments that it accepts, and its passes in both modes.

    Raises:
        SlimmingError: it accepts no example, or an operation breaks the trace.
    """
    small = sum(p.numel() for p in model.parameters()) < SMALL
    examples = _example_images(model, small) if example_input is None else [example_input]
    problem = refusal = None
    for device in ('cpu', 'meta') if small else ('meta', 'cpu'):
        trial = trial_copy(model, device)
        for example in examples:
            arguments = example if isinstance(example, tuple) else (example,)
            arguments = tuple(_moved(a, device) for a in arguments)
            trace = Trace()
            try:
                with _quiet():
                    for training in (True, False):
                        trial.train(training)
                        trace.run(trial, arguments, forward, within)
                return trial, arguments, trace
            except SlimmingError as error:
                refusal = refusal or error
            except Exception as error:  # whatever a network says to an input that it can't take
                problem = problem or error  # the first example is the likeliest
    if refusal is not None:
        raise refusal
    raise SlimmingError(
        f'{type(model).__name__} could not be tried out, since it accepts no batch of images of '
        f'{PROBE_SIZES} pixels ({type(problem).__name__}: {problem}). Say what it accepts: '
        'plan_channels(model, example_input=tensor), GradAug(..., example_input=tensor), or in a config '
        'gradaug=dict(..., example_shape=[channels, height, width])'
    )


def _moved(value: Any, device: str) -> Any:
    return value.detach().to(device) if isinstance(value, Tensor) else value


@contextmanager
def _numpy_kept() -> Iterator[None]:
    states = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])


@contextmanager
def _quiet() -> Iterator[None]:
    """No gradients, no random numbers used up, and attention computed step by step."""
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _numpy_kept():
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                yield
    finally:
        mha.set_fastpath_enabled(fast)


def _example_images(model: nn.Module, small: bool) -> list[Tensor]:
    dtype = next((p.dtype for p in model.parameters()), torch.get_default_dtype())
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        first = next((m for m in model.modules() if isinstance(m, nn.Linear)), None)
        if first is not None:
            return [torch.zeros(2, first.in_features, dtype=dtype)]
    # The stem need not be declared first.
    channels = dict.fromkeys([3, 1, *(c.in_channels for c in convolutions[:1])])
    sizes = sorted(PROBE_SIZES, key=lambda size: size != 64) if small else PROBE_SIZES
    return [torch.zeros(2, c, s, s, dtype=dtype) for c in channels for s in sizes]


@dataclass
class _Failure:
    """Why a sub-network does not run: in which module, after how many operations."""

    module: str
    operations: int
    reason: str
    cause: Exception


def _check(
    trial: nn.Module,
    arguments: tuple[Any, ...],
    forward: Callable[..., Any],
    plan: ChannelPlan,
    kept: Kept,
    trace: Trace,
    number: int,
) -> Optional[_Failure]:
    """Trace a sub-network too, and compare: its channels have to be those that were planned.

    Its parameters carry the labels of the channels that are left. Whatever meets in an operation has to be
    tied in the plan already, and each result has to have just the channels that are left of the full
    network's. So ``x[:, :4]`` in a network whose first four channels are three is found, though shapes fit.
    """
    small = Trace()
    small.labels.classes = trace.labels.classes
    small.parameters = {
        name: [_left(plan, kept, factor) for factor in factors]
        for name, factors in trace.parameters.items()
    }
    comparison = _Comparison(plan, kept, trace.steps[number])
    trace.labels.classes.frozen = True
    try:
        with narrowed(trial, plan, kept):
            small.run(trial, arguments, forward, None, comparison)
        if small.outputs[0] != trace.outputs[number]:
            raise SlimmingError(f'it gives {small.outputs[0]} instead of {trace.outputs[number]}')
    except Exception as error:
        name = small.watcher.running[-1][0]
        return _Failure(name, small.watcher.operations, f'{type(error).__name__}: {error}', error)
    finally:
        trace.labels.classes.frozen = False
    return None


def _left(plan: ChannelPlan, kept: Kept, factor: Tensor) -> Tensor:
    """The labels of the channels that are left."""
    labels = plan.canonical(to_numpy(factor))
    mask = kept.mask(plan.selection(labels.reshape(-1))).reshape(labels.shape)
    for dim in range(mask.ndim):
        if mask.shape[dim] > 1:
            others = tuple(d for d in range(mask.ndim) if d != dim)
            chosen = np.flatnonzero(mask.any(axis=others))
            labels, mask = labels.take(chosen, dim), mask.take(chosen, dim)
    if not mask.all():
        raise SlimmingError('the channels that are left do not fill a tensor')
    return torch.from_numpy(labels).to(LABEL_TYPE)


class _Comparison:
    """Compares the operations of a sub-network with those of the full network, module by module.

    Only operations that run whatever the memory layout is; views and copies come and go with that.
    """

    def __init__(self, plan: ChannelPlan, kept: Kept, steps: Sequence[Step]) -> None:
        self.plan, self.kept = plan, kept
        self.steps: dict[str, list[Step]] = {}
        for step in steps:
            if step.kind:
                self.steps.setdefault(step.module, []).append(step)

    def __call__(self, found: Step) -> None:
        expected = self.steps.get(found.module, [])
        same = [i for i, step in enumerate(expected) if found.kind and step.kind == found.kind]
        if not same:
            return
        step = expected[same[0]]
        del expected[: same[0] + 1]
        for shape, ours, theirs in zip(found.shapes, found.factors, step.factors):
            # Where padding took the place of channels, they are not known from here.
            if ours is None or theirs is None or any((f == ANY).any() for f in (*ours, *theirs)):
                continue
            left = [_left(self.plan, self.kept, factor) for factor in theirs]
            if self.described(ours) != self.described(left):
                raise SlimmingError(
                    f'{step.operation} gives other channels (shape {shape}) than the first ones of each layer'
                )

    def described(self, factors: Sequence[Tensor]) -> list[tuple[Any, bytes]]:
        """Factors for comparing: without dimensions of size 1, and without channels that are always there."""
        described = []
        for factor in factors:
            labels = self.plan.canonical(to_numpy(factor)).squeeze()
            if len(np.unique(labels)) > 1:
                described.append((labels.shape, labels.tobytes()))
        return sorted(described)


def _learn_a_count(
    trial: nn.Module,
    plan: ChannelPlan,
    kept: Kept,
    check: Callable[[], Optional[_Failure]],
    failure: _Failure,
) -> None:
    """Find attributes that have to shrink for a failing sub-network to get further.

    The layer that fails, or the one around it, may have attributes that count channels or heads
    (``num_heads``), and others that have the same value by accident (``sr_ratio``). So as few as possible are
    taken: the one with which the sub-network gets furthest, or, where one alone is not enough, all without
    those that it gets as far without.

    Raises:
        SlimmingError: there are none.
    """

    def reached(counts: set[Any]) -> int:
        before = set(plan.counts)
        plan.counts |= counts
        after = check()
        plan.counts = before
        return sys.maxsize if after is None else after.operations

    name: Optional[str] = failure.module
    places = []
    while name is not None:
        places.append([name])
        name = name.rpartition('.')[0] if name else None
    # Or the layer reads an attribute of one of its parts.
    inside = trial.get_submodule(failure.module).named_modules(prefix=failure.module)
    places.append([part for part, _ in inside])
    for names in places:
        possible = {
            (type(trial.get_submodule(each)), attribute)
            for each in names
            for attribute in possible_counts(plan, each, trial.get_submodule(each), kept)
        }
        open_counts = sorted(possible - plan.counts, key=lambda count: (count[1], str(count[0])))
        if open_counts:
            furthest, found = max(
                ((reached({count}), {count}) for count in open_counts), key=lambda each: each[0]
            )
            if furthest <= failure.operations and len(open_counts) > 1:
                found = set(open_counts)
                furthest = reached(found)
                for count in open_counts:
                    if reached(found - {count}) >= furthest:
                        found = found - {count}
            if furthest > failure.operations:
                plan.counts |= found
                return
    raise SlimmingError(
        f'{failure.module or type(trial).__name__!r} cannot be slimmed: {type(trial).__name__} runs at full '
        f'width, but its sub-network fails there with {failure.reason}'
    ) from failure.cause


class _watch:  # noqa: N801  used like a function
    """Which modules are running: their names, the innermost last; after an error, the failing one's."""

    def __init__(self, model: nn.Module) -> None:
        self.names: list[str] = ['']
        self.model = model
        self.hooks = ExitStack()
        for name, module in model.named_modules():
            if module is not model:
                enter = partial(self._enter, name)
                self.hooks.callback(module.register_forward_pre_hook(enter).remove)
                self.hooks.callback(module.register_forward_hook(self._leave).remove)

    def _enter(self, name: str, *_: Any) -> None:
        self.names.append(name)

    def _leave(self, *_: Any) -> None:
        self.names.pop()

    @property
    def innermost(self) -> str:
        return self.names[-1] or type(self.model).__name__
