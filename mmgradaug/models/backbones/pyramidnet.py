"""Deep pyramidal residual networks for small images, whose sub-networks GradAug trains."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from mmengine.model import BaseModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmgradaug.models.regularizers import add_regularizers
from mmgradaug.registry import MODELS

from .wide_resnet import (
    INIT_CFG,
    NORM_CFG,
    RELU,
    build_drop_path,
    checked_out_indices,
    drop_path_rates,
    run_branch,
)


class _PyramidBlock(BaseModule):
    """What the two blocks share: the zero-padded shortcut, and how branch and shortcut are joined.

    (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)); in a sub-network
    the kept numbers of channels.

    Attributes:
        drop_path: applied to the branch's output just before the addition; stochastic depth or
            ShakeDrop go here.
        drop_shortcut: applied to the shortcut just before the addition; DropBlock goes here.

    Args:
        in_channels: of the input.
        channels: of the 3x3 convolution.
        stride: 1 or 2, of the 3x3 convolution (the first one of two) and of the shortcut's pooling.
        drop_path_rate: in [0, 1); 0 leaves ``drop_path`` an ``nn.Identity``.
        conv_cfg, norm_cfg, act_cfg: of mmcv.
        with_cp: compute the branch again during the backward pass, to save memory. Not ``drop_path``,
            which draws once.

    Raises:
        ValueError: ``stride`` is neither 1 nor 2, or there are fewer output than input channels.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        drop_path_rate: float = 0.0,
        conv_cfg: Optional[dict[str, Any]] = None,
        norm_cfg: dict[str, Any] = NORM_CFG,
        act_cfg: dict[str, Any] = RELU,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, channels * self.expansion
        if stride not in (1, 2):
            raise ValueError(f'stride must be 1 or 2, got {stride}')
        if self.out_channels < in_channels:
            raise ValueError(
                f'a shortcut that is padded with zeros cannot go from {in_channels} channels to '
                f'{self.out_channels}'
            )
        self.stride, self.with_cp = stride, with_cp
        self.norm1 = build_norm_layer(norm_cfg, in_channels)[1]
        self._build_convs(channels, conv_cfg, norm_cfg)
        self.act = build_activation_layer(act_cfg)
        # Of what is left over at an odd edge the mean is taken too, so any size of input will do.
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.drop_path = build_drop_path(drop_path_rate)
        self.drop_shortcut = nn.Identity()

    def shortcut(self, x: Tensor) -> Tensor:
        """The block's output if its branch is dropped altogether; of the branch nothing is computed.

        The input, pooled where there is a stride. Behind its channels come zeros, as many as the
        branch of the (sub-)network that runs has channels more.
        """
        # In a sub-network the weight has fewer outputs than the layer says.
        missing = self.last_conv.weight.shape[0] - x.shape[1]
        x = self.pool(x)
        if self.in_channels != self.out_channels:
            # Also by 0, where both are rounded to the same number: so it is seen that they are padded.
            x = F.pad(x, (0, 0, 0, 0, 0, missing))
        return self.drop_shortcut(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop_path(run_branch(self, self._branch, x)) + self.shortcut(x)


class PyramidBasicBlock(_PyramidBlock):
    """BN, 3x3, BN, ReLU, 3x3, BN; plus the input, padded with channels of zeros.

    ``out_channels`` is ``channels``. Shapes, arguments, attributes and errors: see the base class.
    """

    def _build_convs(
        self, channels: int, conv_cfg: Optional[dict[str, Any]], norm_cfg: dict[str, Any]
    ) -> None:
        self.conv1 = build_conv_layer(
            conv_cfg, self.in_channels, channels, 3, stride=self.stride, padding=1, bias=False
        )
        self.norm2 = build_norm_layer(norm_cfg, channels)[1]
        self.conv2 = build_conv_layer(conv_cfg, channels, channels, 3, padding=1, bias=False)
        self.norm3 = build_norm_layer(norm_cfg, channels)[1]

    @property
    def last_conv(self) -> nn.Conv2d:
        return self.conv2

    def _branch(self, x: Tensor) -> Tensor:
        out = self.conv1(self.norm1(x))
        return self.norm3(self.conv2(self.act(self.norm2(out))))


class PyramidBottleneck(_PyramidBlock):
    """BN, 1x1, BN, ReLU, 3x3, BN, ReLU, 1x1, BN; plus the input, padded with channels of zeros.

    ``out_channels`` is 4 ``channels``. Shapes, arguments, attributes and errors: see the base class.
    """

    expansion = 4

    def _build_convs(
        self, channels: int, conv_cfg: Optional[dict[str, Any]], norm_cfg: dict[str, Any]
    ) -> None:
        self.conv1 = build_conv_layer(conv_cfg, self.in_channels, channels, 1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, channels)[1]
        self.conv2 = build_conv_layer(
            conv_cfg, channels, channels, 3, stride=self.stride, padding=1, bias=False
        )
        self.norm3 = build_norm_layer(norm_cfg, channels)[1]
        self.conv3 = build_conv_layer(conv_cfg, channels, self.out_channels, 1, bias=False)
        self.norm4 = build_norm_layer(norm_cfg, self.out_channels)[1]

    @property
    def last_conv(self) -> nn.Conv2d:
        return self.conv3

    def _branch(self, x: Tensor) -> Tensor:
        out = self.conv1(self.norm1(x))
        out = self.conv2(self.act(self.norm2(out)))
        return self.norm4(self.conv3(self.act(self.norm3(out))))


@MODELS.register_module()
class PyramidNet(BaseBackbone):
    """PyramidNet-depth of "Deep Pyramidal Residual Networks" (arXiv:1610.02915) for CIFAR.

    Additive widening: a 3x3 convolution to 16 channels and a batch norm, then three stages of n blocks,
    of which each has alpha / 3n channels more than the one before (rounded to whole channels, times 4
    behind a bottleneck), a batch norm and an activation. With a linear head for 100 classes PyramidNet-200
    with bottlenecks and alpha 240 has 26.8 million parameters, PyramidNet-110 of basic blocks with alpha
    270 has 28.5 million.

    (N, in_channels, H, W) -> a tuple with one feature map for each of ``out_indices``, of
    (N, C1, H, W), (N, C2, H/2, W/2) and (N, C3, H/4, W/4), sizes rounded up. C3 is ``feat_dim``,
    16 + alpha, times 4 for bottlenecks; the head's ``in_channels`` behind a GlobalAveragePooling neck.
    The last stage's map is normalised and activated, others are not.

    Example:
        >>> import torch
        >>> from mmgradaug.models import PyramidNet
        >>> model = PyramidNet(depth=11, alpha=24)
        >>> model(torch.rand(1, 3, 32, 32))[0].shape, model.feat_dim  # 4 * (16 + 24) channels
        (torch.Size([1, 160, 8, 8]), 160)

    Args:
        depth: 9n + 2 of bottlenecks (11, 20, ..., 164, 200, 272), 6n + 2 of basic blocks (8, 14, ...,
            110).
        alpha: channels added from the first block to the last, 0 or more.
        bottleneck: bottlenecks, or basic blocks.
        in_channels: of the image.
        out_indices: stages whose output is given, of 0, 1, 2.
        drop_path_rate: in [0, 1), of the last block's stochastic depth; it rises linearly from 0.
        regularizers: of the residual blocks: ShakeDrop, DropPath, DropBlock; see
            :func:`~mmgradaug.models.regularizers.add_regularizers`.
        conv_cfg, norm_cfg, act_cfg: of mmcv.
        with_cp: compute the branches again during the backward pass, to save memory.
        init_cfg: by default Kaiming (normal, fan_out) for convolutions, 1 and 0 for batch norms.

    Raises:
        ValueError: ``depth``, ``alpha``, ``out_indices`` or ``drop_path_rate`` is out of range.
    """

    def __init__(
        self,
        depth: int = 200,
        alpha: float = 240,
        bottleneck: bool = True,
        in_channels: int = 3,
        out_indices: Sequence[int] = (2,),
        drop_path_rate: float = 0.0,
        regularizers: Sequence[dict[str, Any]] = (),
        conv_cfg: Optional[dict[str, Any]] = None,
        norm_cfg: dict[str, Any] = NORM_CFG,
        act_cfg: dict[str, Any] = RELU,
        with_cp: bool = False,
        init_cfg: Union[dict[str, Any], list[dict[str, Any]], None] = INIT_CFG,
    ) -> None:
        super().__init__(init_cfg)
        block = PyramidBottleneck if bottleneck else PyramidBasicBlock
        layers_each = 9 if bottleneck else 6  # of three stages with a block each
        if depth < layers_each + 2 or (depth - 2) % layers_each:
            some = (11, 20, 110, 164, 200, 272) if bottleneck else (8, 14, 20, 56, 110)
            raise ValueError(
                f'depth of PyramidNet must be {layers_each}n + 2 with bottleneck={bottleneck} '
                f'({", ".join(map(str, some))}, ...), got {depth}'
            )
        if alpha < 0:
            raise ValueError(f'alpha must be 0 or more, got {alpha}')
        self.depth, self.alpha, self.bottleneck = depth, alpha, bottleneck
        self.out_indices = checked_out_indices(out_indices, 3)
        blocks = (depth - 2) // layers_each
        rates = drop_path_rates(drop_path_rate, 3 * blocks)
        self.conv1 = build_conv_layer(conv_cfg, in_channels, 16, 3, padding=1, bias=False)
        self.norm1 = build_norm_layer(norm_cfg, 16)[1]
        # Added up in floating point block by block, as the authors do, lest some block rounds otherwise.
        channels, exact = 16, 16.0
        for stage in range(3):
            layers = []
            for i in range(blocks):
                exact += alpha / (3 * blocks)
                layers.append(
                    block(
                        channels,
                        int(round(exact)),
                        stride=2 if stage and i == 0 else 1,
                        drop_path_rate=rates[stage * blocks + i],
                        conv_cfg=conv_cfg,
                        norm_cfg=norm_cfg,
                        act_cfg=act_cfg,
                        with_cp=with_cp,
                    )
                )
                channels = layers[-1].out_channels
            self.add_module(f'layer{stage + 1}', nn.Sequential(*layers))
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.act = build_activation_layer(act_cfg)
        self.feat_dim = channels
        self.res_layers = ['layer1', 'layer2', 'layer3']  # by MMPretrain's name
        add_regularizers(self, regularizers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.norm1(self.conv1(x))
        outs = []
        for stage, layer in enumerate((self.layer1, self.layer2, self.layer3)):
            x = layer(x)
            if stage in self.out_indices:
                outs.append(self.act(self.norm(x)) if stage == 2 else x)
        return tuple(outs)
