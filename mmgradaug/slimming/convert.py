"""Conversion in place: a stock network becomes slimmable and stays stock to everything else."""

import copy
from collections.abc import Sequence
from typing import Optional, Union

import torch
from mmcv.cnn.bricks import Conv2d as MMCVConv2d
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.cnn.bricks import Linear as MMCVLinear
from mmengine.logging import print_log
from mmengine.model.utils import _BatchNormXd
from mmengine.utils.dl_utils.parrots_wrapper import SyncBatchNorm as MMEngineSyncBatchNorm
from torch import Tensor, nn

from .layers import (
    SlimmableBatchNorm1d,
    SlimmableBatchNorm2d,
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
    # What MMEngine puts in place of a SyncBN on a single device.
    _BatchNormXd: SlimmableBatchNorm2d,
}

# The check inside the layers sees numbers of channels only, and where C * w is whole a concatenation
# has the right number of the wrong channels. So the trial runs where joining and splitting show: at
# one channel a layer (two joined are two), and at widths that round differently in part and whole.
PROBE_WIDTHS = (1e-9, 0.3, 0.55, 0.9)
PROBE_SIZES = (224, 64, 32, 299)


def make_slimmable(
    module: nn.Module,
    keep_outputs: Union[bool, Sequence[str]] = False,
    example_input: Optional[Tensor] = None,
) -> int:
    """Make a convolutional network slimmable, in place.

    Parameters, buffers, hooks, names and state_dict stay as they are: only the layers' classes change.
    All layers share one dial, which :func:`~mmgradaug.slimming.subnetwork` sets. Calling it again is
    harmless and picks up layers that were replaced meanwhile (by ``sync_bn``, for instance).

    Args:
        module: a backbone, or a head or neck together with ``keep_outputs=True``.
        keep_outputs: True for a module whose layers all keep their outputs and only take fewer inputs
            (a classification head, an FPN). A sequence of layer names does so for these layers, the
            rest is slimmed (``['fc']`` for a torchvision ResNet).
        example_input: a batch that ``module`` accepts, of any values. The converted network is tried
            with it, on PyTorch's meta device (shapes only, no memory), to find concatenations. By
            default an image batch of the first convolution's channels. Without effect where
            ``keep_outputs`` is True.

    Returns:
        The number of slimmable layers, those that were slimmable before included.

    Raises:
        SlimmingError: a layer has parameters and is not a convolution (dense or depthwise), linear or
            batch norm layer, or channels are concatenated, split or regrouped somewhere. The message
            names the layer. The module is then as it was.
    """
    if isinstance(keep_outputs, str):
        raise TypeError(f'keep_outputs takes a list of layer names: write [{keep_outputs!r}]')
    layers = _slimmable_layers(module)
    names = {name for name, _, _ in layers}
    if not isinstance(keep_outputs, bool):
        unknown = sorted(set(keep_outputs) - names)
        if unknown:
            raise SlimmingError(
                f'keep_outputs names {unknown}; the slimmable layers are {sorted(names)}'
            )

    before = [(layer, layer.__class__, dict(layer.__dict__)) for _, layer, _ in layers]
    dial = WidthDial()
    for name, layer, slimmable_type in layers:
        layer.__class__ = slimmable_type
        layer.dial = dial
        layer.layer_name = name
        layer.keep_outputs = (
            keep_outputs if isinstance(keep_outputs, bool) else name in keep_outputs
        )
    try:
        for _, layer, _ in layers:
            if isinstance(layer, SlimmableConv2d):
                layer.check_groups()
        if keep_outputs is not True and layers:
            _try_out(module, example_input)
    except Exception:
        for layer, old_class, old_dict in before:
            layer.__class__ = old_class
            layer.__dict__.clear()
            layer.__dict__.update(old_dict)
        raise
    return len(layers)


def slimmable_layers(module: nn.Module) -> list[nn.Module]:
    """The slimmable layers of a network, in ``modules()`` order."""
    return [layer for layer in module.modules() if isinstance(layer, _Slimmable)]


def _slimmable_layers(module: nn.Module) -> list[tuple[str, nn.Module, type[nn.Module]]]:
    """Name, layer and slimmable type of each layer that has to be slimmed."""
    layers = []
    for name, layer in module.named_modules():
        if isinstance(layer, _Slimmable):
            layers.append((name, layer, type(layer)))
        elif type(layer) in SLIMMABLE_TYPES:
            layers.append((name, layer, SLIMMABLE_TYPES[type(layer)]))
        # Parameters, not buffers: a loss that counts classes lies in a head too. Buffers of the size of
        # a layer's channels show when the network is tried out.
        elif next(layer.parameters(recurse=False), None) is not None:
            raise SlimmingError(
                f'layer {name or "(the module itself)"!r} of type {type(layer).__name__} cannot be '
                'slimmed: it has parameters of its own and is none of '
                f'{sorted({t.__name__ for t in SLIMMABLE_TYPES})}. Use a backbone built of these, with '
                "norm_cfg=dict(type='BN')."
            )
    return layers


def _try_out(module: nn.Module, example_input: Optional[Tensor]) -> None:
    """Run the converted network at the probe widths; an error there is one of slimming."""
    trial = copy.deepcopy(module).to('meta')
    trial.eval()  # on its own line: OpenMMLab's backbones return None
    examples = [example_input] if example_input is not None else _example_images(trial)
    problem: Optional[Exception] = None
    for example in examples:
        example = example.detach().to('meta')
        try:
            with torch.no_grad():
                trial(example)
        except Exception as error:  # whatever a network says to an input it can't take
            problem = error
            continue
        for width in PROBE_WIDTHS:
            try:
                with torch.no_grad(), subnetwork(trial, width):
                    trial(example)
            except SlimmingError:
                raise
            except Exception as error:
                raise SlimmingError(
                    f'{type(module).__name__} runs at full width but not as a sub-network of width '
                    f'{width:g}: {type(error).__name__}: {error}. Something in it relies on its exact '
                    'number of channels.'
                ) from error
        return
    print_log(
        f'{type(module).__name__} could not be tried out ({type(problem).__name__}: {problem}), so '
        'concatenated channels were not looked for. Pass make_slimmable(..., example_input=) a batch '
        'it accepts.',
        logger='current',
        level=30,  # logging.WARNING
    )


def _example_images(module: nn.Module) -> list[Tensor]:
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        first = next(m for m in module.modules() if isinstance(m, _Slimmable))
        features = getattr(first, 'in_features', getattr(first, 'num_features', 1))
        return [torch.empty(2, features, device='meta')]
    return [torch.empty(2, first.in_channels, size, size, device='meta') for size in PROBE_SIZES]
