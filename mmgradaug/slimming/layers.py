"""Slimmable layers: a layer that can act as its own first channels.

A *sub-network of width w* (paper, Section 3.1) is made of the first ``w * 100%`` channels of every
layer. Each slimmable layer is a subclass of the plain one with the same parameters under the same
names, so a state_dict fits both. It reads one thing from outside, the :class:`WidthDial` it shares
with the other layers of its model; its number of *input* channels it infers from the tensor that
comes in, so neighbouring layers cannot disagree.

In the full state every layer calls its plain parent's ``forward``: bit for bit the plain layer.

Each class repeats its plain class's own base (``_ConvNd``, ``_BatchNorm``) among its bases, because
MMEngine's ``init_cfg`` finds layers by the names of a class and its *direct* bases.
"""

import math
from typing import Optional

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmengine.model.utils import _BatchNormXd
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from mmgradaug.registry import MODELS


class SlimmingError(ValueError):
    """A network, or one of its layers, that cannot be slimmed as it stands."""


class WidthDial:
    """The width at which a model's slimmable layers currently act.

    ``width`` is None for the full network, which is a state of its own and not width 1.0: a
    sub-network of width 1.0 has all channels too, but must not move the BN running statistics.
    """

    def __init__(self) -> None:
        self.width: Optional[float] = None

    def __repr__(self) -> str:
        return f'WidthDial({"full" if self.width is None else self.width})'


def kept_channels(channels: int, width: float) -> int:
    """How many of ``channels`` a sub-network of ``width`` in (0, 1] keeps: round half up, at least 1.

    The authors' code does the same (``make_divisible`` with divisor 1), except in the middle of
    ResNet's bottleneck, where it truncates and may keep one channel fewer.
    """
    return max(1, math.floor(channels * width + 0.5))


class _Slimmable:
    """What the slimmable layers share; comes before the plain layer among the bases.

    ``dial`` and ``keep_outputs`` are set by :func:`~mmgradaug.slimming.make_slimmable`. A layer
    built on its own (through ``conv_cfg``) gets a dial of its own until then.
    """

    keep_outputs: bool = False
    layer_name: str = ''

    @property
    def dial(self) -> WidthDial:
        if '_dial' not in self.__dict__:
            self.__dict__['_dial'] = WidthDial()
        return self.__dict__['_dial']

    @dial.setter
    def dial(self, dial: WidthDial) -> None:
        self.__dict__['_dial'] = dial

    def _kept_outputs(self, channels: int) -> int:
        return channels if self.keep_outputs else kept_channels(channels, self.dial.width)

    def _check_inputs(self, found: int, full: int) -> int:
        """The number of input channels, once it is sure that they are the *first* channels.

        Besides the slimmed number only the full one is possible: the image itself, or a layer in
        front that keeps its outputs. Anything else means that channels were joined, split or
        regrouped on the way, and slicing the first weights would pair the wrong ones.
        """
        if found not in (full, kept_channels(full, self.dial.width)):
            raise SlimmingError(
                f'layer {self.layer_name or type(self).__name__!r} cannot be slimmed: at width '
                f'{self.dial.width:g} it gets {found} channels where the first '
                f'{kept_channels(full, self.dial.width)} of {full} were expected. Something in front of it '
                'concatenates, splits, flattens or regroups channels, so a sub-network of the first '
                'channels does not exist here. Slim the part of the network before it only, or '
                'choose a backbone without concatenation (ResNet, WideResNet, MobileNet, ...).'
            )
        return found


@MODELS.register_module()
class SlimmableConv2d(_Slimmable, nn.Conv2d, _ConvNd):
    """``nn.Conv2d`` that can act as its first output channels; dense or depthwise.

    Depthwise (``groups == in_channels``): the channels that come in decide how many go out.

    Shapes: (N, c_in, H, W) -> (N, c_out, H', W'), where c_in and c_out are the full or the kept
    numbers of channels.

    Raises:
        SlimmingError: in a sub-network, if the incoming channels are not the first ones.
    """

    def check_groups(self) -> None:
        if self.groups not in (1, self.in_channels):
            raise SlimmingError(
                f'convolution {self.layer_name or type(self).__name__!r} has {self.groups} groups on '
                f'{self.in_channels} channels: its first channels are not a smaller grouped '
                'convolution. Dense (groups=1) and depthwise (groups=in_channels) convolutions can be '
                'slimmed; choose a backbone of these (ResNet instead of ResNeXt, for instance).'
            )

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        if self.dial.width is None:
            return super()._conv_forward(x, weight, bias)
        inputs = self._check_inputs(x.shape[1], self.in_channels)
        if self.keep_outputs and inputs == self.in_channels:
            return super()._conv_forward(x, weight, bias)
        self.check_groups()
        if self.groups == 1:
            outputs, groups = self._kept_outputs(self.out_channels), 1
            weight = weight[:outputs, :inputs]
        else:
            outputs, groups = inputs * (self.out_channels // self.in_channels), inputs
            weight = weight[:outputs]
        bias = None if bias is None else bias[:outputs]
        padding = self.padding
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)


@MODELS.register_module()
class SlimmableConv2dAdaptivePadding(SlimmableConv2d, Conv2dAdaptivePadding, nn.Conv2d):
    """mmcv's ``Conv2dAdaptivePadding`` ("same" padding of EfficientNet), slimmable."""

    def forward(self, x: Tensor) -> Tensor:
        if self.dial.width is None:
            return Conv2dAdaptivePadding.forward(self, x)
        pads = []
        for size, kernel, stride, dilation in zip(
            x.shape[-2:], self.kernel_size, self.stride, self.dilation
        ):
            pad = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size
            pad = max(pad, 0)
            pads = [pad // 2, pad - pad // 2, *pads]
        return self._conv_forward(F.pad(x, pads), self.weight, self.bias)


@MODELS.register_module()
class SlimmableLinear(_Slimmable, nn.Linear):
    """``nn.Linear`` that can act as its first output features.

    Shapes: (..., c_in) -> (..., c_out).

    Raises:
        SlimmingError: in a sub-network, if the incoming features are not the first ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.dial.width is None:
            return super().forward(x)
        inputs = self._check_inputs(x.shape[-1], self.in_features)
        outputs = self._kept_outputs(self.out_features)
        bias = None if self.bias is None else self.bias[:outputs]
        return F.linear(x, self.weight[:outputs, :inputs], bias)


class _SlimmableBatchNorm(_Slimmable):
    """What the slimmable batch norms share.

    In a sub-network (paper, Section 3.1, "Training procedure"): in train mode the statistics of the
    batch normalise and the running ones neither serve nor move, while weight and bias learn; in eval
    mode (also a frozen BN, ``norm_eval``) the first entries of the full network's running statistics
    normalise.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.dial.width is None:
            return super().forward(x)
        self._check_input_dim(x)
        channels = self._check_inputs(x.shape[1], self.num_features)
        weight = None if self.weight is None else self.weight[:channels]
        bias = None if self.bias is None else self.bias[:channels]
        if self.training or self.running_mean is None:
            return self._normalise_by_batch(x, weight, bias)
        mean, var = self.running_mean[:channels], self.running_var[:channels]
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, self.eps)

    def _normalise_by_batch(
        self, x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor]
    ) -> Tensor:
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.eps)


@MODELS.register_module()
class SlimmableBatchNorm1d(_SlimmableBatchNorm, nn.BatchNorm1d, _BatchNorm):
    """``nn.BatchNorm1d`` for the first channels; input (N, c) or (N, c, L)."""


@MODELS.register_module()
class SlimmableBatchNorm2d(_SlimmableBatchNorm, nn.BatchNorm2d, _BatchNorm):
    """``nn.BatchNorm2d`` for the first channels; input (N, c, H, W)."""

    _abbr_ = 'bn'


class SlimmableBatchNormXd(_SlimmableBatchNorm, _BatchNormXd, _BatchNorm):
    """What MMEngine puts in place of SyncBatchNorm on a single device, for input of any dimension."""


@MODELS.register_module()
class SlimmableSyncBatchNorm(_SlimmableBatchNorm, nn.SyncBatchNorm, _BatchNorm):
    """``nn.SyncBatchNorm`` for the first channels; input (N, c, ...).

    The full network uses PyTorch's own kernel (which has no CPU form, and DDP refuses SyncBatchNorm
    there); sub-networks use :func:`batch_norm_over_ranks`. In half precision that keeps float32 copies
    of its input, twice what an ordinary batch norm keeps.
    """

    _abbr_ = 'bn'

    def _normalise_by_batch(
        self, x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor]
    ) -> Tensor:
        return batch_norm_over_ranks(x, weight, bias, self.eps, self.process_group)


def batch_norm_over_ranks(
    x: Tensor,
    weight: Optional[Tensor],
    bias: Optional[Tensor],
    eps: float,
    process_group: Optional['dist.ProcessGroup'] = None,
) -> Tensor:
    """Batch norm by the statistics of the batches of all ranks, differentiable through them.

    Args:
        x: (N, C, ...), N may differ between ranks.
        weight: (C,) or None.
        bias: (C,) or None.
        eps: added to the variance.
        process_group: the ranks to share with; None for all.

    Returns:
        The normalised batch. With one rank, or no process group, that is ordinary batch norm.
    """

    def over_ranks(values: Tensor) -> Tensor:
        if not (dist.is_available() and dist.is_initialized()):
            return values
        return all_reduce(values, group=process_group or dist.group.WORLD)

    # Half precision would lose the sums.
    values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    dims = [0, *range(2, x.dim())]
    view = [1, -1] + [1] * (x.dim() - 2)
    channels = x.shape[1]
    local_count = values.new_tensor([x.numel() / channels])
    sums = over_ranks(torch.cat([values.sum(dims), local_count]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = values - mean.view(view)
    # Two passes over the data, since E[x^2] - E[x]^2 cancels.
    var = over_ranks(centred.square().sum(dims)) / count
    scale = torch.rsqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    out = centred * scale.view(view)
    if bias is not None:
        out = out + bias.view(view)
    return out.to(x.dtype)
