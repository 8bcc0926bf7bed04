"""DropBlock (arXiv:1810.12890) with its linear schedule, by torchvision's operator."""

from typing import Any

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn
from torchvision.ops import drop_block2d

from mmgradaug.registry import MODELS


@MODELS.register_module()
class DropBlock(nn.Module):
    """Drops squares of feature maps (N, C, H, W), each channel of each image on its own, in training.

    The drop probability rises linearly from 0 to ``drop_prob`` over the whole training, which MMEngine's
    runner counts (paper, Section 3.1, "Scheduled DropBlock"; torchvision and MMDetection have no such
    schedule). Without a runner it is ``drop_prob``.

    Args:
        drop_prob: in [0, 1), at the end of training: 1 - keep_prob.
        block_size: side of a square, in pixels of the feature map. Maps smaller than that, or of the same
            even size, get the largest odd size that fits.
        scheduled: False keeps ``drop_prob`` throughout.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, drop_prob: float, block_size: int = 7, scheduled: bool = True) -> None:
        super().__init__()
        if not 0.0 <= drop_prob < 1.0:
            raise ValueError(f'DropBlock: drop_prob is in [0, 1), got {drop_prob}')
        if block_size < 1:
            raise ValueError(
                f'DropBlock: block_size is a number of pixels, 1 or more, got {block_size}'
            )
        self.drop_prob = drop_prob
        self.block_size = block_size
        self.scheduled = scheduled

    def current_drop_prob(self) -> float:
        """The drop probability of the running iteration."""
        if not self.scheduled:
            return self.drop_prob
        hub = MessageHub.get_current_instance()
        iteration, length = hub.get_info('iter'), hub.get_info('max_iters')
        if iteration is None or not length:
            return self.drop_prob
        return self.drop_prob * min(iteration / length, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        size = min(self.block_size, *x.shape[-2:])
        # In float32: the operator counts the kept elements in the input's type, beyond float16's range.
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        out = drop_block2d(wide, self.current_drop_prob(), size - (size + 1) % 2)
        return out.to(x.dtype)

    def of_input(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """As a forward pre-hook: on what a layer takes."""
        return self(inputs[0]), *inputs[1:]

    def of_output(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """As a forward hook: on what a layer gives."""
        return self(output)

    def extra_repr(self) -> str:
        return f'drop_prob={self.drop_prob:g}, block_size={self.block_size}, scheduled={self.scheduled}'
