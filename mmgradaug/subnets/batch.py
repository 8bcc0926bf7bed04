"""What a sub-network sees: a batch as a value, which can be transformed and of which a part can be chosen."""

from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from .transforms import BatchOperation


class Batch(Protocol):
    """A preprocessed batch of some task. A new task is one such class."""

    def __len__(self) -> int:
        """The number of its images."""

    def transform(self, operation: BatchOperation) -> 'Batch':
        """The batch after an operation; this one stays as it is."""

    def select(self, indices: Tensor) -> 'Batch':
        """A batch of the images with these numbers, (K,) int64."""


@dataclass(frozen=True)
class ImageBatch:
    """Images alone, (N, C, H, W)."""

    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def transform(self, operation: BatchOperation) -> 'ImageBatch':
        return replace(self, images=operation(self.images))

    def select(self, indices: Tensor) -> 'ImageBatch':
        return replace(self, images=self.images[indices])
