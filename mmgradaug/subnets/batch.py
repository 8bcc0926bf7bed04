"""What a sub-network sees: a batch as a value, which can be transformed and of which a part can be chosen."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
from torch import Tensor

from .batch_operations import BatchOperation

if TYPE_CHECKING:
    from typing_extensions import Self

AnyBatch = TypeVar('AnyBatch', bound='Batch')


class Batch(Protocol):
    """A preprocessed batch of some task. A new task is one such class.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from mmgradaug.subnets import Rotate90, Subnet
        >>> @dataclass
        ... class WithMasks:
        ...     images: torch.Tensor
        ...     masks: torch.Tensor
        ...
        ...     def __len__(self):
        ...         return len(self.images)
        ...
        ...     def transform(self, operation):
        ...         return WithMasks(operation(self.images), operation(self.masks))
        ...
        ...     def select(self, indices):
        ...         return WithMasks(self.images[indices], self.masks[indices])
        >>> batch = WithMasks(torch.zeros(4, 3, 8, 6), torch.zeros(4, 1, 8, 6))
        >>> seen, _ = Subnet(Rotate90(1), choices=()).see(batch)
        >>> seen.masks.shape
        torch.Size([4, 1, 6, 8])
    """

    def __len__(self) -> int:
        """The number of its images."""

    def transform(self, operation: BatchOperation) -> 'Self':
        """The batch after an operation; this one stays as it is."""

    def select(self, indices: Tensor) -> 'Self':
        """A batch of the images with these numbers, (K,) int64."""


@dataclass(frozen=True)
class ImageBatch:
    """Images alone, (N, C, H, W).

    Example:
        >>> import torch
        >>> from mmgradaug.subnets import ImageBatch, Scale
        >>> batch = ImageBatch(torch.zeros(4, 3, 8, 8))
        >>> batch.select(torch.tensor([0, 2])).transform(Scale(0.5)).images.shape
        torch.Size([2, 3, 4, 4])
    """

    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def transform(self, operation: BatchOperation) -> 'ImageBatch':
        return replace(self, images=operation(self.images))

    def select(self, indices: Tensor) -> 'ImageBatch':
        return replace(self, images=self.images[indices])


@dataclass(frozen=True)
class BatchPart:
    """Which images of a batch a sub-network sees: some at equal distances, beginning anywhere.

    The data loader has shuffled them, so any are as good; at equal distances each kind of image that
    stands together in a batch is there in its proportion.

    Example:
        >>> from mmgradaug.subnets import BatchPart
        >>> BatchPart(0.5, start=0.25).indices(8), BatchPart(0.5, start=0.25, shift=0.5).indices(8)
        (tensor([2, 4, 6, 0]), tensor([3, 5, 7, 1]))

    Args:
        fraction: of the images, in (0, 1).
        start: in [0, 1), where in the batch they begin.
        shift: in [0, 1), in distances between two of them. Of the n sub-networks of an iteration the i-th
            has i / n, so that they see different images where there are enough.
    """

    fraction: float
    start: float
    shift: float = 0.0

    def indices(self, size: int) -> Tensor:
        """(K,) int64, the numbers of K = ``fraction * size`` images, rounded, at least one."""
        number = max(1, math.floor(size * self.fraction + 0.5))
        places = (torch.arange(number, dtype=torch.float64) + self.shift) * (size / number)
        # The summand keeps 0.99999... from being 0.
        return ((places + 1e-6).floor().long() + int(self.start * size)) % size
