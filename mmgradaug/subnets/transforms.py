"""Random transformations T of a whole batch (paper, Sections 3.1 and 4.3).

A transform *draws*; what it draws is an operation, a plain value that says what it does, does it to
any batch, and can be compared, printed and applied again. So every rank and every resumed run agrees
on an iteration's operations from (seed, iteration) alone.

A transform of one's own is a class with a method ``draw``::

    class RandomFlip:
        def draw(self, rng):                    # rng: numpy.random.Generator
            return Flip() if rng.random() < 0.5 else NoChange()

where ``Flip()`` is any callable from a batch of images (N, C, H, W) to one. For configs it is registered
by ``@mmgradaug.registry.BATCH_TRANSFORMS.register_module()``.

A transform may say in ``sizes()`` to which (height, width) its draws resize, so that a network that cannot
take one of them is refused when it is built.
"""

from collections.abc import Sequence
from typing import Any, Callable, Protocol, Union, cast

import numpy as np
from torch import Tensor

from .batch_operations import (
    BatchOperation,
    Chain,
    Crop,
    NoChange,
    Resize,
    Rotate90,
    Scale,
    TorchvisionOperation,
)


class BatchTransform(Protocol):
    """What draws the operations: any object with this method.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from mmgradaug.subnets import NoChange
        >>> class RandomFlip:
        ...     def draw(self, rng):
        ...         return (lambda images: images.flip(-1)) if rng.random() < 0.5 else NoChange()
        >>> rng, images = np.random.default_rng(0), torch.tensor([[[[1, 2]]]])
        >>> sorted({tuple(RandomFlip().draw(rng)(images).flatten().tolist()) for _ in range(20)})
        [(1, 2), (2, 1)]
    """

    def draw(self, rng: np.random.Generator) -> BatchOperation:
        """An operation, from these random numbers alone."""


class Identity:
    """No transformation: sub-networks see the original images (RandWidth of Table 4).

    Example:
        >>> import numpy as np
        >>> from mmgradaug import Identity
        >>> Identity().draw(np.random.default_rng(0))
        NoChange()
    """

    def draw(self, rng: np.random.Generator) -> BatchOperation:
        return NoChange()


class RandomResize:
    """Random scale: the whole batch resized to one of ``sizes``, all equally likely.

    The paper's sizes: {224, 192, 160, 128} on ImageNet, {32, 28, 24} on CIFAR. The authors' code
    interpolates bilinearly with ``align_corners=True``; the paper does not say.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from mmgradaug import RandomResize
        >>> rng, images = np.random.default_rng(0), torch.zeros(2, 3, 32, 32)
        >>> transform = RandomResize([32, 28, (24, 20)])
        >>> sorted({tuple(transform.draw(rng)(images).shape[-2:]) for _ in range(50)})
        [(24, 20), (28, 28), (32, 32)]

    Args:
        sizes: pixels; an int is a square, a pair is (height, width).
        mode: one of F.interpolate's.
        align_corners: as in F.interpolate, for the modes that know it.

    Raises:
        ValueError: ``sizes`` is empty or has a size below 2, of which no image can be seen.
    """

    def __init__(
        self,
        sizes: Sequence[Union[int, tuple[int, int]]],
        mode: str = 'bilinear',
        align_corners: bool = True,
    ) -> None:
        if isinstance(sizes, (int, str)) or not len(sizes):
            raise ValueError(
                f'RandomResize needs a list of one or more sizes, got {sizes!r}: write for instance '
                'sizes=[224, 192, 160, 128]'
            )
        self.pairs: list[tuple[int, int]] = []
        for size in sizes:
            pair = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
            if len(pair) != 2 or not all(isinstance(s, int) and s > 1 for s in pair):
                raise ValueError(
                    f'RandomResize: {pair} is not a size; a size is a number of pixels, 2 or more, or a '
                    '(height, width) pair'
                )
            self.pairs.append((pair[0], pair[1]))
        if mode not in ('nearest', 'nearest-exact', 'bilinear', 'bicubic', 'area'):
            raise ValueError(f'RandomResize: mode {mode!r} is none of F.interpolate for images')
        self.mode = mode
        self.align_corners = align_corners

    def draw(self, rng: np.random.Generator) -> BatchOperation:
        return Resize(self.pairs[rng.integers(len(self.pairs))], self.mode, self.align_corners)

    def sizes(self) -> list[tuple[int, int]]:
        return list(self.pairs)


class RandomScale:
    """Random scale relative to the images' own size, the whole batch by one factor, all equally likely.

    For images of different sizes, as in detection: the aspect of each is kept. The sizes of the
    paper's ImageNet training are ``factors=[1, 192 / 224, 160 / 224, 128 / 224]``.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from mmgradaug import RandomScale
        >>> rng, images = np.random.default_rng(0), torch.zeros(2, 3, 60, 80)
        >>> transform = RandomScale([1, 0.75])
        >>> sorted({tuple(transform.draw(rng)(images).shape[-2:]) for _ in range(50)})
        [(45, 60), (60, 80)]

    Args:
        factors: numbers above 0; 1 is the original size.

    Raises:
        ValueError: ``factors`` is empty or has a number that is not above 0.
    """

    def __init__(self, factors: Sequence[float]) -> None:
        if isinstance(factors, (int, float, str)) or not len(factors):
            raise ValueError(
                f'RandomScale needs a list of one or more factors, got {factors!r}: write for instance '
                'factors=[1.0, 0.857, 0.714, 0.571]'
            )
        for factor in factors:
            if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor > 0:
                raise ValueError(
                    f'RandomScale: {factor!r} is not a factor; a factor is a number above 0, 1 is the '
                    'original size'
                )
        self.factors = [float(factor) for factor in factors]

    def draw(self, rng: np.random.Generator) -> BatchOperation:
        return Scale(self.factors[rng.integers(len(self.factors))])


class RandomRotate90:
    """Random rotation by 0, 90, 180 or 270 degrees, all equally likely (paper, Section 4.3).

    Example:
        >>> import numpy as np
        >>> from mmgradaug import RandomRotate90
        >>> rng = np.random.default_rng(0)
        >>> sorted({RandomRotate90().draw(rng).quarter_turns for _ in range(50)})
        [0, 1, 2, 3]
    """

    def draw(self, rng: np.random.Generator) -> BatchOperation:
        return Rotate90(int(rng.integers(4)))


class RandomCrop:
    """Random crop: the same window of the whole batch (paper, Section 3.1: "random crops").

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from mmgradaug import RandomCrop
        >>> crop = RandomCrop(32, padding=4).draw(np.random.default_rng(0))
        >>> crop(torch.ones(2, 3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])

    Args:
        sizes: pixels, all equally likely; an int is a square, a pair is (height, width).
        padding: zeros (the mean, of normalised images) on each side before.

    Raises:
        ValueError: ``sizes`` is empty or has a size below 1, ``padding`` is negative, or, when it is
            applied, the images are smaller than the crop.
    """

    def __init__(
        self, sizes: Union[int, Sequence[Union[int, tuple[int, int]]]], padding: int = 0
    ) -> None:
        self.pairs = RandomResize([sizes] if isinstance(sizes, int) else sizes).pairs
        if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
            raise ValueError(
                f'RandomCrop: padding is a number of pixels, 0 or more, got {padding!r}'
            )
        self.padding = padding

    def draw(self, rng: np.random.Generator) -> BatchOperation:
        size = self.pairs[rng.integers(len(self.pairs))]
        return Crop(size, float(rng.random()), float(rng.random()), self.padding)

    def sizes(self) -> list[tuple[int, int]]:
        return list(self.pairs)


class TorchvisionTransform:
    """Any transform of ``torchvision.transforms.v2``, drawn once for the whole batch.

    For instance ``dict(type='TorchvisionTransform', transform=dict(type='RandomAffine', degrees=15,
    translate=(0.1, 0.1)))``. It gets the preprocessed batch, (N, C, H, W) floats with mean 0 and deviation
    1: those that move pixels are at home there, those that change colours mostly expect [0, 1].

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from mmgradaug import TorchvisionTransform
        >>> transform = TorchvisionTransform(dict(type='RandomHorizontalFlip', p=1.0))
        >>> transform.draw(np.random.default_rng(0))(torch.tensor([[[[1, 2, 3]]]]))
        tensor([[[[3, 2, 1]]]])

    Args:
        transform: the class's name as ``type``, and its arguments; or a callable.

    Raises:
        ValueError: torchvision has no transform of this name.
        TypeError: the arguments are not the transform's.
    """

    def __init__(self, transform: Union[dict[str, Any], Callable[[Tensor], Tensor]]) -> None:
        self.name = repr(transform)
        if isinstance(transform, dict):
            from torchvision.transforms import v2  # only whoever uses it pays for the import

            options = dict(transform)
            kind = options.pop('type', None)
            found = getattr(v2, kind, None) if isinstance(kind, str) else None
            if not (isinstance(found, type) and issubclass(found, v2.Transform)):
                raise ValueError(
                    f'TorchvisionTransform: torchvision.transforms.v2 has no {kind!r}; write for instance '
                    "transform=dict(type='RandomAffine', degrees=15)"
                )
            if kind in ('MixUp', 'CutMix'):
                raise ValueError(
                    f'TorchvisionTransform: {kind} mixes labels too; write model.train_cfg=dict(augments='
                    "dict(type='CutMix', alpha=1.0)), or type='Mixup'"
                )
            transform = found(**options)
        if not callable(transform):
            raise TypeError(f'TorchvisionTransform: {transform!r} is not a transform')
        self.transform = transform

    def draw(self, rng: np.random.Generator) -> BatchOperation:
        return TorchvisionOperation(self.name, int(rng.integers(2**31)), self.transform)


class Compose:
    """Several transforms one after the other: rotate, then resize, is Scale&Rot of Table 5.

    Example:
        >>> import numpy as np
        >>> from mmgradaug import Compose, RandomResize, RandomRotate90
        >>> transform = Compose([RandomRotate90(), RandomResize([24])])
        >>> [type(each).__name__ for each in transform.draw(np.random.default_rng(0)).operations]
        ['Rotate90', 'Resize']

    Raises:
        TypeError: one of them has no ``draw(rng)``.
        ValueError: there is none.
    """

    def __init__(self, transforms: Sequence[BatchTransform]) -> None:
        if not transforms:
            raise ValueError('Compose needs one or more transforms; for none write Identity()')
        self.transforms = [check_batch_transform(transform) for transform in transforms]

    def draw(self, rng: np.random.Generator) -> BatchOperation:
        return Chain(tuple(transform.draw(rng) for transform in self.transforms))

    def sizes(self) -> list[tuple[int, int]]:
        """Of the last part that resizes."""
        found = [sizes for transform in self.transforms if (sizes := drawn_sizes(transform))]
        return found[-1] if found else []


def drawn_sizes(transform: BatchTransform) -> list[tuple[int, int]]:
    """To which (height, width) a transform's draws resize; none if it does not say.

    Example:
        >>> from mmgradaug import RandomResize, RandomRotate90
        >>> from mmgradaug.subnets import drawn_sizes
        >>> drawn_sizes(RandomResize([32, (24, 28)])), drawn_sizes(RandomRotate90())
        ([(32, 32), (24, 28)], [])
    """
    sizes = getattr(transform, 'sizes', None)
    return list(sizes()) if callable(sizes) else []


def check_batch_transform(
    transform: Union[BatchTransform, Sequence[BatchTransform]],
) -> BatchTransform:
    """The same object, if it is a batch transform; a list becomes one after the other.

    Example:
        >>> from mmgradaug import RandomResize, RandomRotate90
        >>> from mmgradaug.subnets import check_batch_transform
        >>> type(check_batch_transform([RandomRotate90(), RandomResize([24])])).__name__
        'Compose'
        >>> check_batch_transform('RandomResize')
        Traceback (most recent call last):
            ...
        TypeError: str is not a batch transform: it has no draw(rng) that returns ...

    Raises:
        TypeError: the object has no ``draw(rng)``.
    """
    if isinstance(transform, (list, tuple)):
        return Compose(transform)
    if not callable(getattr(transform, 'draw', None)):
        raise TypeError(
            f'{type(transform).__name__} is not a batch transform: it has no draw(rng) that returns a '
            'function of a batch of images. See mmgradaug/subnets/transforms.py for an example'
        )
    return cast(BatchTransform, transform)
