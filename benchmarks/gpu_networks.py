"""The networks of gpu_checks.py, from torchvision alone; ``tiny`` ones for a trial on the CPU."""

from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor, nn
from torchvision import models
from wide_resnet import WideResNet


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
            'ResNet-18': Network(lambda: WideResNet(10, 1, classes=10), 32, (32, 24)),
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
            'ResNet-50': Network(lambda: WideResNet(10, 1, classes=10), 32, (32, 24)),
            'WRN-28-10': Network(lambda: WideResNet(10, 2, classes=10), 16, (16, 12)),
        }
    return {
        'ResNet-50': Network(models.resnet50, 224, sizes),
        'WRN-28-10': Network(WideResNet, 32, (32, 28, 24)),
        'EfficientNet-B0': Network(models.efficientnet_b0, 224, sizes),
        'ConvNeXt-T': Network(models.convnext_tiny, 224, sizes),
    }
