"""Taking a sub-network away: a plain, smaller network."""

import copy
from collections.abc import Iterable
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .convert import SLIMMABLE_TYPES, runnable_copy
from .layers import SlimmingError, _Slimmable
from .narrow import narrow_layer
from .width import subnetwork

# Of several plain types that become the same slimmable one, the plainest comes first.
PLAIN_TYPES: dict[type[nn.Module], type[nn.Module]] = {
    slimmable: plain for plain, slimmable in reversed(SLIMMABLE_TYPES.items())
}


def extract_subnetwork(
    model: nn.Module,
    width: float,
    example_input: Any = None,
    forward: Callable[..., Any] = nn.Module.__call__,
) -> nn.Module:
    """The sub-network of ``width`` as a network of its own, really smaller, with cloned weights.

    Its layers are plain ones (``nn.Conv2d``, ...) under the same names. In eval mode it computes what
    ``model`` does inside ``subnetwork(model, width)``, bit for bit: with the first entries of the full
    network's running statistics, which are *not* the sub-network's own, as training moves them in
    the full pass alone (paper, Section 3.1). :func:`recalibrate_statistics` measures those.

    Modules other than layers keep their attributes, a ``feat_dim`` or ``out_channels`` for instance, of
    the full network.

    Args:
        model: with slimmable layers. It stays as it is.
        width: in (0, 1]; at 1.0 the extracted network is the full one.
        example_input: a batch that the model accepts, of any values, from which numbers of channels are
            found out; by default batches of images of several sizes are tried.
        forward: what to run, as ``forward(model, *example)``; by default the model itself.

    Raises:
        ValueError: ``width`` is not in (0, 1].
        SlimmingError: nothing in ``model`` is slimmable, a layer does not run, or the model accepts no
            example.
    """
    if not 0.0 < width <= 1.0:
        raise ValueError(f'width must be in (0, 1], got {width}')
    channels = subnetwork_channels(model, width, example_input, forward)
    small = copy.deepcopy(model)
    for name, layer in list(small.named_modules()):
        if isinstance(layer, _Slimmable):
            layer.__class__ = PLAIN_TYPES[type(layer)]
            for attribute in ('_dial', 'keep_outputs', 'layer_name'):
                layer.__dict__.pop(attribute, None)
            narrow_layer(layer, *channels[name])
    return small


def subnetwork_channels(
    model: nn.Module,
    width: float,
    example_input: Any = None,
    forward: Callable[..., Any] = nn.Module.__call__,
) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of each slimmable layer in the sub-network; arguments as above."""
    # A deep copy would share no dial with anything else, which this one must not either.
    trial, _, arguments = runnable_copy(model, example_input, forward)
    channels: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            dim = -1 if isinstance(layer, nn.Linear) else 1
            found = (output.shape[dim], inputs[0].shape[dim])
            if channels.setdefault(name, found) != found:
                raise SlimmingError(
                    f'layer {name!r} is used twice with different numbers of channels, so its '
                    'sub-network cannot be taken out'
                )

        return hook

    names = [name for name, layer in trial.named_modules() if isinstance(layer, _Slimmable)]
    for name in names:
        trial.get_submodule(name).register_forward_hook(note(name))
    trial.eval()
    with torch.no_grad(), subnetwork(trial, width):
        forward(trial, *arguments)
    unused = [name for name in names if name not in channels]
    if unused:
        raise SlimmingError(
            f'layer {unused[0]!r} does not run in eval mode, so its number of channels in a sub-network '
            'is not known'
        )
    return channels


def recalibrate_statistics(
    model: nn.Module,
    batches: Iterable[Tensor],
    forward: Optional[Callable[[nn.Module, Tensor], Any]] = None,
) -> int:
    """Measure the running statistics of a plain network's batch norms anew.

    Each becomes the mean over the batches of the batches' own statistics. Meanwhile batch norms
    normalise by the batch, everything else (dropout, stochastic depth) is in eval mode. US-Net
    (arXiv:1903.05134, Section 3.4), from which the paper takes its training tricks, does so after
    training.

    Args:
        model: a network that :func:`extract_subnetwork` gave, or any other without slimmable layers.
        batches: of preprocessed training images, (N, C, H, W), N above 1.
        forward: what to run; by default the model itself.

    Returns:
        The number of batches.

    Raises:
        ValueError: there is no batch; or the model has slimmable layers, whose running statistics are
            the full network's. Then, and after any other error, the statistics are as they were.
    """
    if any(isinstance(layer, _Slimmable) for layer in model.modules()):
        raise ValueError(
            'recalibrate_statistics is for plain networks: extract_subnetwork(model, width) gives one'
        )
    norms = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    before = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    number = 0
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean
            norm.train()
        with torch.no_grad():
            for batch in batches:
                model(batch) if forward is None else forward(model, batch)
                number += 1
        if not number:
            raise ValueError('recalibrate_statistics got no batch of images')
    except BaseException:
        for norm, buffers in zip(norms, before):
            for name, value in buffers.items():
                getattr(norm, name).copy_(value)
        raise
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
    return number
