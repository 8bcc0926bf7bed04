"""Finding out which channels a network's sub-networks have, and that these sub-networks run."""

import math
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import SlimmingError
from .labels import ANY, to_numpy
from .narrowing import narrowed, possible_counts
from .plan import ChannelPlan, Kept
from .residual import find_blocks
from .trace import Step, Trace, kind_of, tensors_in, trial_copy

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

    Returns:
        The plan.

    Raises:
        SlimmingError: the model accepts no example, or has no sub-networks; the message names the layer
            and the operation.
    """
    plan = _make_plan(model, example_input, forward, within)
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
) -> ChannelPlan:
    trial, arguments, trace = _traced(model, example_input, forward, within)
    with _quiet():
        plan = ChannelPlan(trace, find_blocks(trial, trace.blocks))
        if not len(plan.runs):
            raise SlimmingError(
                f'{type(model).__name__} has no channels that could be narrowed, so every sub-network '
                'would be the full network'
            )
        for width in PROBE_WIDTHS if plan.has_parts else PROBE_WIDTHS[:1]:
            for training, steps in zip((True, False), trace.steps):
                trial.train(training)
                check = partial(_check, trial, arguments, forward, plan, plan.kept(width), steps)
                while (failure := check()) is not None:
                    _learn_a_count(trial, plan, plan.kept(width), check, failure)
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
    problem = None
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
            except SlimmingError:
                raise
            except Exception as error:  # whatever a network says to an input that it can't take
                problem = problem or error  # the first example is the likeliest
    raise SlimmingError(
        f'{type(model).__name__} could not be tried out, since it accepts no batch of images of '
        f'{PROBE_SIZES} pixels ({type(problem).__name__}: {problem}). Say what it accepts: '
        'plan_channels(model, example_input=tensor), GradAug(..., example_input=tensor), or in a config '
        'gradaug=dict(..., example_shape=[channels, height, width])'
    )


def _moved(value: Any, device: str) -> Any:
    return value.detach().to(device) if isinstance(value, Tensor) else value


@contextmanager
def _quiet() -> Iterator[None]:
    """No gradients, no random numbers used up, and attention computed step by step."""
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
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
    steps: Sequence[Step],
) -> Optional[_Failure]:
    """Run a sub-network and compare the results of its layers with what was traced."""
    running = _watch(trial)
    checker = _Checker(plan, kept, steps, running.names)
    with running.hooks, narrowed(trial, plan, kept):
        try:
            with checker:
                forward(trial, *arguments)
        except Exception as error:
            name = running.names[-1]
            return _Failure(name, checker.operations, f'{type(error).__name__}: {error}', error)
    return None


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


class _Checker(TorchDispatchMode):
    """Compares shapes of the operations that compute; views and copies come and go with the memory layout."""

    def __init__(
        self, plan: ChannelPlan, kept: Kept, steps: Sequence[Step], running: list[str]
    ) -> None:
        super().__init__()
        self.plan, self.kept, self.running = plan, kept, running
        self.operations = 0
        self.steps: dict[str, list[Step]] = {}
        for step in steps:
            if step.kind:
                self.steps.setdefault(step.module, []).append(step)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Optional[dict] = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        expected = self.steps.get(self.running[-1], [])
        kind = kind_of(str(operation))
        same = [i for i, step in enumerate(expected) if kind and step.kind == kind]
        if same:
            step = expected[same[0]]
            del expected[: same[0] + 1]
            self.compare(step, tensors_in(result))
        self.operations += 1
        return result

    def compare(self, step: Step, results: Sequence[Tensor]) -> None:
        # Where padding took the place of channels, the size is not known from here.
        used = [
            i
            for i, factors in enumerate(step.factors)
            if factors is not None and not any((f == ANY).any() for f in factors)
        ]
        found = [tuple(results[i].shape) for i in used]
        expected = [self.expected(step.shapes[i], step.factors[i]) for i in used]
        differs = found != expected
        if step.kind == 'product':  # which may be done in a batch, or not
            differs = [(math.prod(s), s[-1]) for s in found] != [
                (math.prod(s), s[-1]) for s in expected
            ]
        if differs:
            raise SlimmingError(
                f'{step.operation} gives shapes {found} where the channels are {expected}'
            )

    def expected(self, shape: tuple[int, ...], factors: Any) -> tuple[int, ...]:
        sizes = list(shape)
        for factor in factors:
            selection = self.plan.select(to_numpy(factor).reshape(-1))
            if selection is None:
                continue
            mask = self.kept.mask(selection).reshape(factor.shape)
            for dim in range(mask.ndim):
                if mask.shape[dim] > 1:
                    others = tuple(d for d in range(mask.ndim) if d != dim)
                    sizes[dim] = int(mask.any(axis=others).sum())
        return tuple(sizes)
