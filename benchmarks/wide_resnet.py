"""WRN for small images, of PyTorch alone."""

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-activation basic block of WRN (arXiv:1605.07146)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels_in), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.conv2(F.relu(self.norm2(self.conv1(activated))))


class WideResNet(nn.Module):
    """WRN-depth-widen for small images."""

    def __init__(
        self, depth: int = 28, widen: int = 10, channels: int = 3, classes: int = 100
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        blocks, last = [], 16
        for stage, width in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for number in range((depth - 4) // 6):
                blocks.append(Block(last, width, 2 if stage and not number else 1))
                last = width
        self.blocks, self.norm = nn.Sequential(*blocks), nn.BatchNorm2d(last)
        self.head = nn.Linear(last, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out')

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3)))
