"""Wide residual networks for small images, whose sub-networks GradAug trains."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Callable, Optional, Union

import torch
from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmgradaug.models.regularizers import add_regularizers
from mmgradaug.registry import MODELS

INIT_CFG: list[dict[str, Any]] = [
    dict(type='Kaiming', layer=['Conv2d']),  # normal, fan_out
    dict(type='Constant', val=1, layer=['_BatchNorm']),
]
NORM_CFG = dict(type='BN')
RELU = dict(type='ReLU', inplace=True)


def drop_path_rates(drop_path_rate: float, num_blocks: int) -> list[float]:
    """Rates that rise linearly from 0 to ``drop_path_rate``, as in MMPretrain's ResNet.

    Raises:
        ValueError: ``drop_path_rate`` is not in [0, 1).
    """
    if not 0.0 <= drop_path_rate < 1.0:
        raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')
    return torch.linspace(0, drop_path_rate, num_blocks, device='cpu').tolist()


def build_drop_path(rate: float) -> nn.Module:
    return DropPath(rate) if rate > 1e-5 else nn.Identity()


def checked_out_indices(out_indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """``out_indices`` as a tuple.

    Raises:
        ValueError: it is empty or names a stage that does not exist.
    """
    if not out_indices or not set(out_indices) <= set(range(num_stages)):
        raise ValueError(f'out_indices must be some of 0 to {num_stages - 1}, got {out_indices}')
    return tuple(out_indices)


def run_branch(block: nn.Module, branch: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``branch(x)``; where ``block.with_cp`` is set, its activations are computed again for the gradient.

    The batch norms' running statistics move once, not once more in the second computation.
    """
    if not (block.with_cp and torch.is_grad_enabled()):
        return branch(x)
    ran = False

    def first_or_again(x: Tensor) -> Tensor:
        nonlocal ran
        with _scratch_buffers(block) if ran else nullcontext():
            ran = True
            return branch(x)

    return checkpoint(first_or_again, x, use_reentrant=False)


@contextmanager
def _scratch_buffers(module: nn.Module) -> Iterator[None]:
    """Inside, what the layers write into their buffers is lost; the same tensors are saved for backward."""
    before = [(layer, dict(layer._buffers)) for layer in module.modules() if layer._buffers]
    for layer, buffers in before:
        layer._buffers.update({k: None if v is None else v.clone() for k, v in buffers.items()})
    try:
        yield
    finally:
        for layer, buffers in before:
            layer._buffers.update(buffers)


class WideBasicBlock(BaseModule):
    """Pre-activation basic block: BN, ReLU, 3x3, BN, ReLU, (dropout), 3x3, (BN); plus the shortcut.

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input, else the input
    itself. (N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)); in a
    sub-network the kept numbers of channels.

    Attributes:
        drop_path: applied to the branch's output just before the addition; stochastic depth or
            ShakeDrop go here.
        drop_shortcut: applied to the shortcut just before the addition; DropBlock goes here.

    Args:
        in_channels: of the input.
        out_channels: of both convolutions.
        stride: of the first convolution and of the shortcut.
        dropout: in [0, 1], of the second convolution's input.
        norm_at_end: a batch norm after the second convolution.
        drop_path_rate: in [0, 1); 0 leaves ``drop_path`` an ``nn.Identity``.
        conv_cfg, norm_cfg, act_cfg: of mmcv.
        with_cp: compute the branch again during the backward pass, to save memory. Not ``drop_path``,
            which draws once.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        dropout: float = 0.0,
        norm_at_end: bool = False,
        drop_path_rate: float = 0.0,
        conv_cfg: Optional[dict[str, Any]] = None,
        norm_cfg: dict[str, Any] = NORM_CFG,
        act_cfg: dict[str, Any] = RELU,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        self.with_cp = with_cp
        self.norm1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.conv1 = build_conv_layer(
            conv_cfg, in_channels, out_channels, 3, stride=stride, padding=1, bias=False
        )
        self.norm2 = build_norm_layer(norm_cfg, out_channels)[1]
        self.conv2 = build_conv_layer(
            conv_cfg, out_channels, out_channels, 3, padding=1, bias=False
        )
        self.norm3 = build_norm_layer(norm_cfg, out_channels)[1] if norm_at_end else None
        self.projection = None
        if stride != 1 or in_channels != out_channels:
            self.projection = build_conv_layer(
                conv_cfg, in_channels, out_channels, 1, stride=stride, bias=False
            )
        self.act = build_activation_layer(act_cfg)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.drop_path = build_drop_path(drop_path_rate)
        self.drop_shortcut = nn.Identity()

    def shortcut(self, x: Tensor) -> Tensor:
        """The block's output if its branch is dropped altogether; of the branch nothing is computed.

        A projection's input is the activated one, so the first batch norm runs where there is one.
        """
        if self.projection is not None:
            x = self.projection(self._activated(x))
        return self.drop_shortcut(x)

    def forward(self, x: Tensor) -> Tensor:
        if self.projection is None:
            branch = run_branch(self, lambda x: self._convolved(self._activated(x)), x)
            return self.drop_path(branch) + self.drop_shortcut(x)
        activated = self._activated(x)
        branch = run_branch(self, self._convolved, activated)
        return self.drop_path(branch) + self.drop_shortcut(self.projection(activated))

    def _activated(self, x: Tensor) -> Tensor:
        return self.act(self.norm1(x))

    def _convolved(self, activated: Tensor) -> Tensor:
        out = self.conv1(activated)
        out = self.conv2(self.dropout(self.act(self.norm2(out))))
        return out if self.norm3 is None else self.norm3(out)


@MODELS.register_module()
class WideResNet(BaseBackbone):
    """WRN-depth-widen_factor of "Wide Residual Networks" (arXiv:1605.07146).

    As in its authors' Torch code: a 3x3 convolution to 16 channels, three stages of (depth - 4) / 6
    pre-activation basic blocks with 16k, 32k and 64k channels (k is ``widen_factor``), a batch norm and
    an activation. With a linear head for 10 classes WRN-28-10 has 36.5 million parameters.

    (N, in_channels, H, W) -> a tuple with one feature map for each of ``out_indices``, of
    (N, 16k, H, W), (N, 32k, H/2, W/2) and (N, 64k, H/4, W/4), sizes rounded up. The last stage's is
    normalised and activated, others are not. The head's ``in_channels`` is ``feat_dim``, 64k, behind
    a GlobalAveragePooling neck.

    Example:
        >>> import torch
        >>> from mmgradaug.models import WideResNet
        >>> model = WideResNet(depth=10, widen_factor=2, out_indices=(0, 2))
        >>> [tuple(maps.shape) for maps in model(torch.rand(1, 3, 32, 32))], model.feat_dim
        ([(1, 32, 32, 32), (1, 128, 8, 8)], 128)

    Args:
        depth: 6n + 4: 10, 16, 22, 28, 34, 40, ...
        widen_factor: k, 1 or more.
        in_channels: of the image.
        dropout: in [0, 1], between the convolutions of a block, after the activation (the authors
            train with 0 or 0.3).
        norm_at_end: a batch norm after the second convolution of each block. ShakeDrop needs it
            (arXiv:1802.02375, Table 5b).
        out_indices: stages whose output is given, of 0, 1, 2.
        drop_path_rate: in [0, 1), of the last block's stochastic depth; it rises linearly from 0.
        input_noise: standard deviation, 0 or more, of Gaussian noise on the input in training, drawn in
            each pass (Oliver et al., arXiv:1804.09170, have 0.15 in this network).
        regularizers: of the residual blocks: ShakeDrop, DropPath, DropBlock; see
            :func:`~mmgradaug.models.regularizers.add_regularizers`.
        conv_cfg, norm_cfg, act_cfg: of mmcv; ``dict(type='LeakyReLU', negative_slope=0.1)`` for
            leaky activations.
        with_cp: compute the branches again during the backward pass, to save memory.
        init_cfg: by default Kaiming (normal, fan_out) for convolutions, 1 and 0 for batch norms.

    Raises:
        ValueError: ``depth``, ``widen_factor``, ``out_indices``, ``dropout``, ``drop_path_rate`` or
            ``input_noise`` is out of range.
    """

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 10,
        in_channels: int = 3,
        dropout: float = 0.0,
        norm_at_end: bool = False,
        out_indices: Sequence[int] = (2,),
        drop_path_rate: float = 0.0,
        input_noise: float = 0.0,
        regularizers: Sequence[dict[str, Any]] = (),
        conv_cfg: Optional[dict[str, Any]] = None,
        norm_cfg: dict[str, Any] = NORM_CFG,
        act_cfg: dict[str, Any] = RELU,
        with_cp: bool = False,
        init_cfg: Union[dict[str, Any], list[dict[str, Any]], None] = INIT_CFG,
    ) -> None:
        super().__init__(init_cfg)
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(
                f'depth of WideResNet must be 6n + 4 (10, 16, 22, 28, 34, 40, ...), got {depth}'
            )
        if widen_factor < 1 or widen_factor != int(widen_factor):
            raise ValueError(f'widen_factor must be a whole number from 1, got {widen_factor}')
        if not input_noise >= 0:
            raise ValueError(f'input_noise of WideResNet must not be negative, got {input_noise}')
        self.depth, self.widen_factor = depth, int(widen_factor)
        self.input_noise = input_noise
        self.out_indices = checked_out_indices(out_indices, 3)
        blocks = (depth - 4) // 6
        rates = drop_path_rates(drop_path_rate, 3 * blocks)
        self.conv1 = build_conv_layer(conv_cfg, in_channels, 16, 3, padding=1, bias=False)
        channels = 16
        for stage in range(3):
            layers = []
            for i in range(blocks):
                out_channels = 16 * 2**stage * self.widen_factor
                layers.append(
                    WideBasicBlock(
                        channels,
                        out_channels,
                        stride=2 if stage and i == 0 else 1,
                        dropout=dropout,
                        norm_at_end=norm_at_end,
                        drop_path_rate=rates[stage * blocks + i],
                        conv_cfg=conv_cfg,
                        norm_cfg=norm_cfg,
                        act_cfg=act_cfg,
                        with_cp=with_cp,
                    )
                )
                channels = out_channels
            self.add_module(f'layer{stage + 1}', nn.Sequential(*layers))
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.act = build_activation_layer(act_cfg)
        self.feat_dim = channels
        self.res_layers = ['layer1', 'layer2', 'layer3']  # by MMPretrain's name
        add_regularizers(self, regularizers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.training and self.input_noise:
            x = x + self.input_noise * torch.randn_like(x)
        x = self.conv1(x)
        outs = []
        for stage, layer in enumerate((self.layer1, self.layer2, self.layer3)):
            x = layer(x)
            if stage in self.out_indices:
                outs.append(self.act(self.norm(x)) if stage == 2 else x)
        return tuple(outs)
