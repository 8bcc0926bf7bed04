"""Cutting a plain layer down to its first channels. It needs nothing but PyTorch."""

import torch
from torch import nn


def narrow_layer(layer: nn.Module, outputs: int, inputs: int) -> None:
    """Keep a layer's first channels, in place: its weights become smaller copies.

    Args:
        layer: a convolution (dense or depthwise), linear or batch norm layer.
        outputs: how many output channels to keep; of a batch norm, as many as inputs.
        inputs: how many input channels to keep; of a depthwise convolution its groups as well. Other
            grouped convolutions keep all.
    """

    def first(value: torch.Tensor, *kept: int) -> torch.Tensor:
        for dim, number in enumerate(kept):
            value = value.narrow(dim, 0, number)
        return value.detach().clone()

    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        layer.num_features = inputs
        kept = {name: (inputs,) for name in ('weight', 'bias', 'running_mean', 'running_var')}
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs, outputs
        kept = {'weight': (outputs, inputs), 'bias': (outputs,)}
    else:
        grouped = layer.groups > 1
        if grouped and inputs != layer.in_channels:
            layer.groups = inputs
        layer.in_channels, layer.out_channels = inputs, outputs
        kept = {'weight': (outputs,) if grouped else (outputs, inputs), 'bias': (outputs,)}
    for name, numbers in kept.items():
        value = getattr(layer, name)
        if isinstance(value, nn.Parameter):
            small = nn.Parameter(first(value, *numbers), requires_grad=value.requires_grad)
            setattr(layer, name, small)
        elif value is not None:
            setattr(layer, name, first(value, *numbers))
