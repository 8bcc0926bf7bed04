"""ResNets of 6n + 2 layers for CIFAR, whose sub-networks GradAug trains."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock

from mmgradaug.models.regularizers import add_regularizers
from mmgradaug.registry import MODELS


@MODELS.register_module()
class SlimmableResNetCIFAR(ResNet_CIFAR):
    """ResNet-20, -32, -56, -110, ... of "Deep Residual Learning" (arXiv:1512.03385, Section 4.2).

    MMPretrain's ``ResNet_CIFAR`` has the depths of ImageNet only, with four stages. This one is a 3x3
    convolution and three stages of n basic blocks with 16, 32 and 64 channels, all MMPretrain's.

    The shortcuts of the two blocks where the shape changes are MMPretrain's too: a 1x1 convolution and a
    batch norm, where the paper pads with zeros (its option A). That makes 2,752 parameters more: with
    a linear head for 10 classes ResNet-110 has 1,730,714, the paper's 1.7 million.

    (N, in_channels, H, W) -> a tuple with one feature map for each of ``out_indices``, of (N, 16, H, W),
    (N, 32, H/2, W/2) and (N, 64, H/4, W/4), sizes rounded up.

    Example:
        >>> import torch
        >>> from mmgradaug.models import SlimmableResNetCIFAR
        >>> model = SlimmableResNetCIFAR(depth=20)
        >>> model(torch.rand(2, 3, 32, 32))[0].shape
        torch.Size([2, 64, 8, 8])
        >>> sum(each.numel() for each in model.parameters())  # the paper's 0.27 million
        271824

    Args:
        depth: 6n + 2: 8, 14, 20, 32, 44, 56, 110, ...
        regularizers: of the residual blocks: ShakeDrop, DropPath, DropBlock; see
            :func:`~mmgradaug.models.regularizers.add_regularizers`.
        **kwargs: of ``mmpretrain.ResNet_CIFAR``. By default ``base_channels=16, stem_channels=16,
            out_indices=(2,)``. ``zero_init_residual=True`` is MMPretrain's; the paper has no such thing.

    Raises:
        ValueError: ``depth`` is none of these.
    """

    def __init__(
        self, depth: int = 110, regularizers: Sequence[dict[str, Any]] = (), **kwargs: Any
    ) -> None:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(
                f'depth of SlimmableResNetCIFAR must be 6n + 2 (8, 14, 20, 32, 44, 56, 110, ...), got {depth}'
            )
        self.arch_settings = {depth: (BasicBlock, ((depth - 2) // 6,) * 3)}
        defaults = dict(
            stem_channels=16,
            base_channels=16,
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
        )
        super().__init__(depth, **{**defaults, **kwargs})
        add_regularizers(self, regularizers)
