"""The networks of gpu_checks.py, from torchvision alone; ``tiny`` ones for a trial on the CPU."""

from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor, nn
from torchvision import models


class _WideBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.downsample = (
            nn.Identity()
            if inputs == outputs
            else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(x).relu()
        shortcut = x if isinstance(self.downsample, nn.Identity) else self.downsample(out)
        out = self.bn2(self.conv1(out)).relu()
        return self.conv2(out) + shortcut


class WideResNet(nn.Module):
    """arXiv:1605.07146; ``depth`` is 6 n + 4."""

    def __init__(self, depth: int = 28, widen: int = 10, classes: int = 100) -> None:
        super().__init__()
        channels, layers = 16, []
        self.stem = nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        for stage in range(3):
            for block in range((depth - 4) // 6):
                outputs = 16 * widen * 2**stage
                layers.append(_WideBlock(channels, outputs, 2 if stage and not block else 1))
                channels = outputs
        self.blocks = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.bn(self.blocks(self.stem(images))).relu()
        return self.fc(features.mean((2, 3)))


@dataclass(frozen=True)
class Network:
    """How to make one, the size of its images, and to which sizes sub-networks' are resized (none: as they are)."""

    make: Callable[[], nn.Module]
    size: int
    sizes: tuple[int, ...] = ()

    def build(self, device: str = 'cpu') -> nn.Module:
        torch.manual_seed(0)
        return self.make().train().to(device)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Images and labels, on the CPU."""
        rng = torch.Generator().manual_seed(1)
        images = torch.randn(number, 3, self.size, self.size, generator=rng)
        return images, torch.randint(10, (number,), generator=rng)


def _tiny_convnext() -> nn.Module:
    blocks = [models.convnext.CNBlockConfig(16, 32, 1), models.convnext.CNBlockConfig(32, None, 1)]
    return models.ConvNeXt(blocks, num_classes=10)


def _tiny_vit() -> nn.Module:
    return models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10)


def _tiny_swin() -> nn.Module:
    return models.SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0, num_classes=10
    )


def _swin_without_depth() -> nn.Module:
    """Swin-T; torchvision's function does not let stochastic depth be set to 0."""
    return models.SwinTransformer(
        [4, 4], 96, [2, 2, 6, 2], [3, 6, 12, 24], [7, 7], stochastic_depth_prob=0.0, num_classes=10
    )


def for_equality(tiny: bool) -> dict[str, Network]:
    """Nothing in them is random, so that devices can be compared."""
    if tiny:
        return {
            'ResNet-18': Network(lambda: WideResNet(10, 1, 10), 32, (32, 24)),
            'ConvNeXt-T': Network(_tiny_convnext, 64, (64, 32)),
            'ViT-B/16': Network(_tiny_vit, 32),
            'Swin-T': Network(_tiny_swin, 32),
        }
    return {
        'ResNet-18': Network(lambda: models.resnet18(num_classes=10), 64, (64, 48)),
        'ResNet-50': Network(lambda: models.resnet50(num_classes=10), 96, (96, 64)),
        'ConvNeXt-T': Network(
            lambda: models.convnext_tiny(stochastic_depth_prob=0.0, num_classes=10), 96, (96, 64)
        ),
        'ViT-B/16': Network(lambda: models.vit_b_16(image_size=96, num_classes=10), 96),
        'Swin-T': Network(_swin_without_depth, 96, (96, 64)),
    }


def for_speed(tiny: bool) -> dict[str, Network]:
    """The paper's sizes, in proportion where images are smaller."""
    sizes = (224, 192, 160, 128)
    if tiny:
        return {
            'ResNet-50': Network(lambda: WideResNet(10, 1, 10), 32, (32, 24)),
            'WRN-28-10': Network(lambda: WideResNet(10, 2, 10), 16, (16, 12)),
        }
    return {
        'ResNet-50': Network(models.resnet50, 224, sizes),
        'WRN-28-10': Network(WideResNet, 32, (32, 28, 24)),
        'EfficientNet-B0': Network(models.efficientnet_b0, 224, sizes),
        'ConvNeXt-T': Network(models.convnext_tiny, 224, sizes),
    }
