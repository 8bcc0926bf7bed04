"""Finding out which channels a network's sub-networks have, and that these sub-networks run."""

import copy
import random
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.utils.hooks import RemovableHandle

from .errors import SlimmingError
from .plan import ChannelPlan, Kept
from .residual import find_blocks
from .trace import Trace, tensors_in
from .verification import check_subnetwork, learn_a_count

# Widths at which planned sub-networks are run. Where every layer has the first channels of one run, the
# first will do; parts of a whole round differently at different widths.
PROBE_WIDTHS = (0.3, 0.9)
PROBE_SIZES = (224, 64, 32, 299)
# Networks of fewer parameters run faster on the CPU than their shapes do on the meta device.
SMALL = 8_000_000

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

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmgradaug import plan_channels
        >>> words = torch.zeros(2, 5, dtype=torch.long)
        >>> model = nn.Sequential(
        ...     nn.Embedding(50, 8), nn.Linear(8, 16), nn.Linear(16, 12), nn.Linear(12, 3))
        >>> plan_channels(model, words).runs
        [16, 12]
        >>> plan_channels(model, words, within=['1']).runs
        [16]

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
            and the operation. ``within`` names no submodule.
    """
    parts = dict(model.named_modules())
    for name in within or ():
        if name not in parts:
            raise SlimmingError(
                f'{type(model).__name__} has no submodule {name!r}, whose channels are to be narrowed: '
                f'within takes names of its submodules, such as {", ".join(list(parts)[1:5])}'
            )
    plan = _make_plan(model, example_input, forward, within, widths)
    _PLANS[model] = plan
    return plan


def remember_plan(model: nn.Module, plan: ChannelPlan) -> None:
    """Use a plan for ``subnetwork(model, width)`` that was made for another object: the model it is a copy of.

    Example:
        >>> import copy
        >>> from torch import nn
        >>> from mmgradaug import plan_channels
        >>> from mmgradaug.slimming import plan_of, remember_plan
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 12), nn.Linear(12, 3))
        >>> plan = plan_channels(model, within=['0'])
        >>> copied = copy.deepcopy(model)
        >>> remember_plan(copied, plan)
        >>> plan_of(copied).runs
        [16]
    """
    _PLANS[model] = plan


def plan_of(model: nn.Module) -> ChannelPlan:
    """The plan that was made for a model; made now, with an ordinary example, if none was.

    Example:
        >>> from torch import nn
        >>> from mmgradaug import plan_channels
        >>> from mmgradaug.slimming import plan_of
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> plan_of(model).runs
        [16]
        >>> plan = plan_channels(model)
        >>> plan_of(model) is plan
        True
    """
    return _PLANS[model] if model in _PLANS else plan_channels(model)


@torch.inference_mode(False)
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
        modes = (True, False) if _evaluation_differs(trial, trace) else (True,)
        probed = dict.fromkeys([*PROBE_WIDTHS, *widths] if plan.has_parts else PROBE_WIDTHS[:1])
        for width in probed:
            kept = plan.kept(width)
            # To compare, two of each: of one channel nothing can be told from a dimension without channels.
            two = Kept([max(n, min(2, size)) for n, size in zip(kept.numbers, plan.runs)])
            for number, mode in enumerate(modes):
                trial.train(mode)
                run = partial(check_subnetwork, trial, arguments, forward, plan, trace, number)
                for each in (two, kept) if two.numbers != kept.numbers else (kept,):
                    check = partial(run, each, compare=each.numbers == two.numbers)
                    while (failure := check()) is not None:
                        learn_a_count(trial, plan, each, check, failure)
    plan.example, plan.forward = arguments, forward
    plan.forget_trace()
    return plan


def _evaluation_differs(model: nn.Module, trace: Trace) -> bool:
    """Whether a network does something else in evaluation mode than in training, but for dropout and drop path."""
    dropped = {n for n, m in model.named_modules() if type(m).__name__.startswith('Drop')}
    # The first result: a batch norm gives its statistics in training alone.
    training, evaluation = (
        [(s.operation, s.module, s.shapes[0], s.numbers) for s in steps] for steps in trace.steps
    )
    return [each for each in training if each[1] not in dropped] != evaluation


@torch.inference_mode(False)
def check_sizes(model: nn.Module, plan: ChannelPlan, sizes: Sequence[tuple[int, int]]) -> None:
    """Check that a model takes two images of each of these (height, width).

    The plan's example, with the size of the images changed, is run in training mode, the full network.

    Raises:
        SlimmingError: it does not; the message names the size and the layer.
    """
    if not (plan.example and isinstance(plan.example[0], Tensor) and plan.example[0].dim() == 4):
        return
    images, *rest = plan.example
    trial = trial_copy(model, str(images.device))
    trial.train()
    for size in dict.fromkeys(sizes):
        try:
            with _quiet(), failing_layer(trial) as layer:
                plan.forward(trial, images.new_zeros(2, images.shape[1], *size), *rest)
        except Exception as error:
            raise SlimmingError(
                f'{type(model).__name__} cannot take images of {size[0]} x {size[1]} pixels, which '
                f'transforms may draw: {layer()} fails with {type(error).__name__}: {error}. '
                'Leave that size out, or choose one that the network can take (many need multiples of 32)'
            ) from error


@contextmanager
def failing_layer(model: nn.Module) -> Iterator[Callable[[], str]]:
    """A context whose value names, after an error inside it, the innermost module that was running."""
    running: list[str] = []
    hooks: list[RemovableHandle] = []

    def leave(*_: Any) -> None:
        running.pop()

    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        hooks.append(module.register_forward_hook(leave))
    try:
        yield lambda: next((f'its {name!r}' for name in reversed(running) if name), 'it')
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode(False)
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
    on_meta = any(p.is_meta for p in model.parameters())
    small = not on_meta and sum(p.numel() for p in model.parameters()) < SMALL
    examples = _example_images(model, small) if example_input is None else [example_input]
    problem = refusal = None
    for device in ('cpu', 'meta') if small else ('meta',) if on_meta else ('meta', 'cpu'):
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
    misfit = _misfit(trial, examples, forward, device)
    if misfit is not None:
        raise SlimmingError(
            f'{type(model).__name__} could not be tried out: {misfit}, whatever the size of the images '
            f'({type(problem).__name__}: {problem})'
        ) from problem
    raise SlimmingError(
        f'{type(model).__name__} could not be tried out, since it accepts no batch of images of '
        f'{PROBE_SIZES} pixels ({type(problem).__name__}: {problem}). Say what it accepts: '
        'plan_channels(model, example_input=tensor), GradAug(..., example_input=tensor), or in a config '
        'gradaug=dict(..., example_shape=[channels, height, width])'
    ) from problem


def _misfit(
    trial: nn.Module, examples: Sequence[Any], forward: Callable[..., Any], device: str
) -> Optional[str]:
    """Which linear layer is given a number of features that it does not take, the same from images of any size."""
    given: dict[str, set[int]] = {}
    layers = {name: m for name, m in trial.named_modules() if isinstance(m, nn.Linear)}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: given.setdefault(name, set()).add(inputs[0].shape[-1])
        )
        for name, layer in layers.items()
    ]
    for example in examples:
        arguments = example if isinstance(example, tuple) else (example,)
        with suppress(Exception), _quiet():
            forward(trial, *(_moved(a, device) for a in arguments))
    for hook in hooks:
        hook.remove()
    for name, features in given.items():
        takes = layers[name].in_features
        if len(features) == 1 < len(examples) and takes not in features:
            return f'its {misfit_of(name, takes, features.pop())}'
    return None


def misfit_of(name: str, takes: int, given: int) -> str:
    """What to say of a linear layer that is given a number of features that it does not take."""
    head, _, _ = name.rpartition('.')
    advice = f' (is {head}.in_channels wrong?)' if head else ''
    return f'{name!r} takes {takes} features and is given {given}{advice}'


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
    """No gradients, no random numbers used up, attention computed step by step, and no autocast.

    Inside autocast an operation gets a copy of the weight, of which a trace does not know whose it is.
    """
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _numpy_kept():
            with torch.autocast('cpu', enabled=False), torch.autocast('cuda', enabled=False):
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


class _AnyBatchNorm(nn.modules.batchnorm._BatchNorm):
    """SyncBatchNorm's stand-in where it cannot run; any number of dimensions."""

    def _check_input_dim(self, x: Tensor) -> None:
        pass


def trial_copy(model: nn.Module, device: str) -> nn.Module:
    """A copy to be run and thrown away: on ``device``, its batch norms without counting."""
    trial = copy.deepcopy(model).to(device)
    # On the meta device a tensor is another one in each place; one parameter in two places stays one.
    same: dict[int, Tensor] = {}
    for original, module in zip(model.modules(), trial.modules()):
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (original._parameters, module._parameters),
            (original._buffers, module._buffers),
        ]
        for ours, theirs in pairs:
            for key, value in ours.items():
                if value is not None and theirs.get(key) is not None:
                    theirs[key] = same.setdefault(id(value), theirs[key])
    for module in trial.modules():
        if isinstance(module, nn.SyncBatchNorm):
            # That an object may take another class is nothing a type checker knows.
            module.__class__ = _AnyBatchNorm  # type: ignore[assignment]
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = False
    return trial
