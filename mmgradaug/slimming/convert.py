"""Conversion in place: a stock network becomes slimmable and stays stock to everything else."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Optional, Union

import torch
from mmcv.cnn.bricks import Conv2d as MMCVConv2d
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.cnn.bricks import Linear as MMCVLinear
from mmengine.model.utils import _BatchNormXd
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm as MMEngineSyncBatchNorm
from torch import Tensor, nn

from .layers import (
    SlimmableBatchNorm1d,
    SlimmableBatchNorm2d,
    SlimmableBatchNormXd,
    SlimmableConv2d,
    SlimmableConv2dAdaptivePadding,
    SlimmableLinear,
    SlimmableSyncBatchNorm,
    SlimmingError,
    WidthDial,
    _Slimmable,
)
from .width import subnetwork

# By exact type: a subclass may compute something else from its weights (weight standardisation, a
# cosine classifier), and slicing it unseen would train something else.
SLIMMABLE_TYPES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: SlimmableConv2d,
    MMCVConv2d: SlimmableConv2d,
    Conv2dAdaptivePadding: SlimmableConv2dAdaptivePadding,
    nn.Linear: SlimmableLinear,
    MMCVLinear: SlimmableLinear,
    nn.BatchNorm1d: SlimmableBatchNorm1d,
    nn.BatchNorm2d: SlimmableBatchNorm2d,
    nn.SyncBatchNorm: SlimmableSyncBatchNorm,
    MMEngineSyncBatchNorm: SlimmableSyncBatchNorm,  # norm_cfg=dict(type='SyncBN')
    _BatchNormXd: SlimmableBatchNormXd,
}

# The check inside the layers sees numbers of channels only, and where C * w is whole a concatenation
# has the right number of the wrong channels. So the trial runs where joining and splitting show: at
# one channel a layer (two joined are two), and at widths that round differently in part and whole.
PROBE_WIDTHS = (1e-9, 0.3, 0.55, 0.9)
PROBE_SIZES = (224, 64, 32, 299)


def make_slimmable(
    module: nn.Module,
    keep_outputs: Union[bool, Sequence[str], None] = None,
    example_input: Any = None,
) -> int:
    """Make a convolutional network slimmable, in place.

    Parameters, buffers, hooks, names and state_dict stay as they are: only the layers' classes change.
    All layers share one dial, which :func:`~mmgradaug.slimming.subnetwork` sets. The converted network
    is then tried out, see :func:`try_subnetworks`. Calling it again is harmless and picks up layers
    that were replaced meanwhile (by ``sync_bn``, for instance).

    Args:
        module: a backbone, or a head or neck together with ``keep_outputs=True``.
        keep_outputs: True for a module whose layers all keep their outputs and only take fewer inputs
            (a classification head, an FPN). A sequence of layer names does so for these layers, the
            rest is slimmed (``['fc']`` for a torchvision ResNet). By default layers keep what an
            earlier call said of them, and others are slimmed.
        example_input: what :func:`try_subnetworks` takes. Without effect where ``keep_outputs`` is
            True: a head alone has no input to be tried with, so try the model that it is part of.

    Returns:
        The number of slimmable layers, those that were slimmable before included.

    Raises:
        SlimmingError: a layer has parameters and is not a convolution (dense or depthwise), linear or
            batch norm layer, or channels are concatenated, split or regrouped somewhere, or nothing
            could be tried. The message names the layer. The module is then as it was.
    """
    if isinstance(keep_outputs, str):
        raise TypeError(f'keep_outputs takes a list of layer names: write [{keep_outputs!r}]')
    before = [(layer, layer.__class__, dict(layer.__dict__)) for layer in module.modules()]
    try:
        num_layers = convert_layers(module, keep_outputs)
        if keep_outputs is not True and num_layers:
            try_subnetworks(module, example_input)
    except Exception:
        for layer, old_class, old_dict in before:
            layer.__class__ = old_class
            layer.__dict__.clear()
            layer.__dict__.update(old_dict)
        raise
    return num_layers


def convert_layers(module: nn.Module, keep_outputs: Union[bool, Sequence[str], None] = None) -> int:
    """The conversion of :func:`make_slimmable`, without the trial; same arguments, errors and result."""
    layers = list(_slimmable_layers(module, keeps_all=keep_outputs is True))
    if keep_outputs is not None and not isinstance(keep_outputs, bool):
        names = [name for name, _, _ in layers]
        unknown = sorted(set(keep_outputs) - set(names))
        if unknown:
            raise SlimmingError(f'keep_outputs names {unknown}; the slimmable layers are {names}')
    dial = WidthDial()
    for name, layer, slimmable_type in layers:
        layer.__class__ = slimmable_type
        layer.dial = dial
        layer.layer_name = name
        if isinstance(keep_outputs, bool):
            layer.keep_outputs = keep_outputs
        elif keep_outputs is not None:
            layer.keep_outputs = name in keep_outputs
        # In a head or neck a grouped convolution is all right as long as its inputs are not slimmed.
        if isinstance(layer, SlimmableConv2d) and not layer.keep_outputs:
            layer.check_groups()
    return len(layers)


def slimmable_layers(module: nn.Module) -> list[nn.Module]:
    """The slimmable layers of a network, in ``modules()`` order."""
    return [layer for layer in module.modules() if isinstance(layer, _Slimmable)]


def _slimmable_layers(
    module: nn.Module, keeps_all: bool
) -> Iterator[tuple[str, nn.Module, type[nn.Module]]]:
    """Name, layer and slimmable type of each layer that has to be slimmed."""
    for name, layer in module.named_modules():
        if isinstance(layer, _Slimmable) or type(layer) in SLIMMABLE_TYPES:
            if 'weight' not in layer._parameters:
                raise SlimmingError(
                    f'layer {name!r} of type {type(layer).__name__} cannot be slimmed: its weight is '
                    'computed from something else (weight norm or spectral norm)'
                )
            yield name, layer, SLIMMABLE_TYPES.get(type(layer), type(layer))
        # In a head, an unknown layer that only meets channels that are kept is all right; the trial of
        # the whole model tells. Parameters, not buffers: a loss that counts classes is all right too.
        elif not keeps_all and next(layer.parameters(recurse=False), None) is not None:
            raise SlimmingError(
                f'layer {name or "(the module itself)"!r} of type {type(layer).__name__} cannot be '
                'slimmed: it has parameters of its own and is none of '
                f'{sorted({t.__name__ for t in SLIMMABLE_TYPES})}. Use a backbone built of these, with '
                "norm_cfg=dict(type='BN')."
            )


def try_subnetworks(
    module: nn.Module,
    example_input: Any = None,
    forward: Callable[..., Any] = nn.Module.__call__,
) -> None:
    """Run a converted network as several sub-networks, to see that they exist.

    A copy runs, in train and eval mode, at widths where concatenated, split or regrouped channels do
    not fit. On PyTorch's meta device (shapes only, no memory) where the network allows it, else on the
    CPU.

    Args:
        module: with slimmable layers; called with the example.
        example_input: a batch that it accepts, of any values, or a tuple of arguments. By default a
            batch of images of several sizes is tried, with 3 channels or those of a convolution.
        forward: what to run, as ``forward(module, *example)``; by default the module itself.

    Raises:
        SlimmingError: a sub-network does not run, or the full network accepts no example. The message
            names the layer.
    """
    trial, running, arguments = runnable_copy(module, example_input, forward)
    for width in PROBE_WIDTHS:
        running.clear()
        try:
            _run(trial, forward, arguments, width)
        except SlimmingError:
            raise
        except Exception as error:
            raise SlimmingError(
                f'layer {running[-1]!r} cannot be slimmed: {type(module).__name__} runs at full '
                f'width, but as a sub-network of width {width:g} it fails there with '
                f'{type(error).__name__}: {error}'
            ) from error


def runnable_copy(
    module: nn.Module, example_input: Any, forward: Callable[..., Any]
) -> tuple[nn.Module, list[str], tuple[Tensor, ...]]:
    """A copy to try things out on, and a batch that it accepts; arguments as of :func:`try_subnetworks`.

    Returns:
        The copy, on the meta or the CPU device; the names of its modules that are running, at any time;
        and the arguments of ``forward``.

    Raises:
        SlimmingError: it accepts no example.
    """
    examples = _example_images(module) if example_input is None else [example_input]
    problem = None
    for device in ('meta', 'cpu'):
        trial = copy.deepcopy(module).to(device)
        running = _watch(trial)
        for example in examples:
            arguments = example if isinstance(example, tuple) else (example,)
            arguments = tuple(a.detach().to(device) for a in arguments)
            try:
                _run(trial, forward, arguments, width=None)
                return trial, running, arguments
            except Exception as error:  # whatever a network says to an input that it can't take
                problem = problem or error  # the first example is the likeliest
    raise SlimmingError(
        f'{type(module).__name__} could not be tried out as a sub-network, since it accepts no batch of '
        f'images of {PROBE_SIZES} pixels ({type(problem).__name__}: {problem}). Say what it accepts: '
        'make_slimmable(..., example_input=tensor), or in a config gradaug=dict(..., '
        'example_shape=[channels, height, width])'
    )


def _run(
    trial: nn.Module,
    forward: Callable[..., Any],
    arguments: tuple[Tensor, ...],
    width: Optional[float],
) -> None:
    for training in (True, False):
        trial.train(training)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            if width is None:
                forward(trial, *arguments)
            else:
                with subnetwork(trial, width):
                    forward(trial, *arguments)


def _watch(trial: nn.Module) -> list[str]:
    """The names of the modules that are running, the innermost last; after an error, the failing ones."""
    running: list[str] = []
    for name, layer in trial.named_modules():
        label = name or type(layer).__name__
        layer.register_forward_pre_hook(lambda *_, label=label: running.append(label))
        layer.register_forward_hook(lambda *_: running.pop() and None)
    return running


def _example_images(module: nn.Module) -> list[Tensor]:
    dtype = next((p.dtype for p in module.parameters()), torch.get_default_dtype())
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    if not convolutions:
        first = slimmable_layers(module)[0]
        features = first.in_features if isinstance(first, nn.Linear) else first.num_features
        return [torch.zeros(2, features, *rest, dtype=dtype) for rest in ((), (8, 8))]
    # The stem need not be declared first.
    channels = dict.fromkeys([3, 1, convolutions[0].in_channels])
    return [torch.zeros(2, c, s, s, dtype=dtype) for c in channels for s in PROBE_SIZES]
