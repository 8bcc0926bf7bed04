"""What is done to a batch of images once it is drawn: plain values that are callable, compared and printed."""

import functools
from dataclasses import dataclass, field
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

BatchOperation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class NoChange:
    """The original images.

    Example:
        >>> import torch
        >>> from mmgradaug.subnets import NoChange
        >>> images = torch.zeros(2, 3, 32, 32)
        >>> NoChange()(images) is images
        True
    """

    def __call__(self, images: Tensor) -> Tensor:
        return images


@dataclass(frozen=True)
class Resize:
    """Resize to (height, width) by interpolation; the same tensor where it has that size already.

    Example:
        >>> import torch
        >>> from mmgradaug.subnets import Resize
        >>> Resize((1, 5))(torch.tensor([[[[0.0, 4.0]]]]))
        tensor([[[[0., 1., 2., 3., 4.]]]])
    """

    size: tuple[int, int]
    mode: str = 'bilinear'
    align_corners: bool = True

    def __call__(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) == self.size:
            return images
        align_corners = self.align_corners if self.mode in ('bilinear', 'bicubic') else None
        return F.interpolate(images, size=self.size, mode=self.mode, align_corners=align_corners)


@dataclass(frozen=True)
class Scale:
    """Resize by one factor in both directions, to whole pixels as OpenMMLab's Resize rounds them.

    Pixels lie as in OpenMMLab's and OpenCV's resizing (``align_corners=False``), so boxes and masks
    scale with the images.

    Example:
        >>> import torch
        >>> from mmgradaug.subnets import Scale
        >>> Scale(0.5)(torch.zeros(2, 3, 5, 8)).shape
        torch.Size([2, 3, 3, 4])
    """

    factor: float

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels of an image after the scaling; at least 1."""
        return max(int(height * self.factor + 0.5), 1), max(int(width * self.factor + 0.5), 1)

    def __call__(self, images: Tensor) -> Tensor:
        return Resize(self.scaled_size(*images.shape[-2:]), align_corners=False)(images)


@dataclass(frozen=True)
class Rotate90:
    """Rotate by ``quarter_turns * 90`` degrees, counter-clockwise; exact, no interpolation.

    Example:
        >>> import torch
        >>> from mmgradaug.subnets import Rotate90
        >>> Rotate90(1)(torch.tensor([[1, 2], [3, 4]]))
        tensor([[2, 4],
                [1, 3]])
    """

    quarter_turns: int

    def __call__(self, images: Tensor) -> Tensor:
        return (
            torch.rot90(images, self.quarter_turns, dims=(-2, -1)) if self.quarter_turns else images
        )


@dataclass(frozen=True)
class Crop:
    """Cut (height, width) pixels out, after padding with zeros where ``padding`` is above 0.

    ``top`` and ``left`` in [0, 1) say where: shares of the possible positions, from the first to the last.

    Example:
        >>> import torch
        >>> from mmgradaug.subnets import Crop
        >>> Crop((2, 2), top=0.5, left=0.0)(torch.arange(16).view(4, 4))
        tensor([[4, 5],
                [8, 9]])
    """

    size: tuple[int, int]
    top: float
    left: float
    padding: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        if self.padding:
            images = F.pad(images, [self.padding] * 4)
        height, width = images.shape[-2:]
        if height < self.size[0] or width < self.size[1]:
            raise ValueError(
                f'RandomCrop: a crop of {self.size} does not fit into images of {(height, width)} pixels; '
                'give smaller sizes, or padding'
            )
        top = int(self.top * (height - self.size[0] + 1))
        left = int(self.left * (width - self.size[1] + 1))
        return images[..., top : top + self.size[0], left : left + self.size[1]]


@dataclass(frozen=True)
class TorchvisionOperation:
    """One draw of a torchvision transform: its own random numbers follow from ``seed``.

    Example:
        >>> import torch
        >>> from mmgradaug.subnets import TorchvisionOperation
        >>> noise = TorchvisionOperation('noise', 7, lambda images: images + torch.rand_like(images))
        >>> images = torch.zeros(2, 3, 8, 8)
        >>> torch.equal(noise(images), noise(images))
        True
    """

    name: str
    seed: int
    transform: Callable[[Tensor], Tensor] = field(repr=False, compare=False)

    def __call__(self, images: Tensor) -> Tensor:
        devices = [images.device] if images.device.type == 'cuda' else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            return self.transform(images)


@dataclass(frozen=True)
class Chain:
    """One operation after the other.

    Example:
        >>> import torch
        >>> from mmgradaug.subnets import Chain, Rotate90, Scale
        >>> Chain((Rotate90(1), Scale(0.5)))(torch.zeros(2, 3, 4, 8)).shape
        torch.Size([2, 3, 4, 2])
    """

    operations: tuple[BatchOperation, ...]

    def __call__(self, images: Tensor) -> Tensor:
        return functools.reduce(lambda batch, operation: operation(batch), self.operations, images)
