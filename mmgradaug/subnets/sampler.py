"""Which sub-networks an iteration trains, and on which transformation of the batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np
from torch import Tensor, nn

from mmgradaug.slimming import AtWidth, Axis, Choice, Depth, Width, WithoutBlocks

from .batch import AnyBatch, BatchPart
from .batch_operations import BatchOperation
from .transforms import BatchTransform, check_batch_transform


@dataclass(frozen=True)
class Subnet:
    """One drawn sub-network, and the transformation T of its batch.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmgradaug.slimming import AtWidth
        >>> from mmgradaug.subnets import BatchPart, ImageBatch, Scale, Subnet
        >>> subnet = Subnet(Scale(0.5), choices=(AtWidth(0.5),), part=BatchPart(0.5, start=0.0))
        >>> seen, chosen = subnet.see(ImageBatch(torch.zeros(4, 3, 8, 8)))
        >>> seen.images.shape, chosen
        (torch.Size([2, 3, 4, 4]), tensor([0, 2]))
        >>> model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1))
        >>> with subnet.enter(model):
        ...     print(model[0].out_channels)
        8

    Args:
        transform: T.
        choices: one along each axis.
        part: of the batch that it sees; None for all of it.
    """

    transform: BatchOperation
    choices: tuple[Choice, ...]
    part: Optional[BatchPart] = None

    @property
    def width(self) -> Optional[float]:
        """The width that was drawn; None where width is not drawn."""
        return next((c.width for c in self.choices if isinstance(c, AtWidth)), None)

    @property
    def dropped_blocks(self) -> Optional[tuple[int, ...]]:
        """Indices of the residual blocks that it leaves out; None where depth is not drawn."""
        return next((c.dropped for c in self.choices if isinstance(c, WithoutBlocks)), None)

    def see(self, batch: AnyBatch) -> tuple[AnyBatch, Optional[Tensor]]:
        """Its part of a batch, transformed; and the numbers of these images, (K,) int64, None for all."""
        chosen = None if self.part is None else self.part.indices(len(batch))
        part = batch if chosen is None else batch.select(chosen)
        return part.transform(self.transform), chosen

    @contextmanager
    def enter(self, model: nn.Module) -> Iterator[nn.Module]:
        """A context in which ``model`` is this sub-network."""
        with ExitStack() as stack:
            for choice in self.choices:
                stack.enter_context(choice.enter(model))
            yield model

    def log_values(self, model: nn.Module) -> dict[str, float]:
        """What the training log shows of it."""
        return {k: v for choice in self.choices for k, v in choice.log_values(model).items()}


class SubnetSampler:
    """Draws n sub-networks an iteration (paper, Section 3.1 and Algorithm 1).

    For n > 1 the smallest, w = alpha, is always among them and the other n - 1 are uniform on
    [alpha, 1]; for n = 1 the one is uniform. Each has its own draw of the transform. The paper's
    ImageNet setting is n = 3, alpha = 0.9; CIFAR's n = 3, alpha = 0.8; it recommends n >= 3 and alpha
    in [0.7, 0.9] (Section 4.3).

    A draw is a function of (seed, iteration): ranks agree without talking, and a resumed run draws
    what the uninterrupted one would have.

    Example:
        >>> from mmgradaug import RandomResize
        >>> from mmgradaug.subnets import SubnetSampler
        >>> sampler = SubnetSampler(num_subnets=3, min_width=0.8, transforms=RandomResize([32, 28, 24]))
        >>> subnets = sampler.sample(seed=0, iteration=7)
        >>> len(subnets), subnets[0].width
        (3, 0.8)
        >>> subnets == sampler.sample(seed=0, iteration=7), subnets == sampler.sample(0, 8)
        (True, False)

    Args:
        num_subnets: n >= 0; 0 is plain training.
        min_width: alpha, in (0, 1], by default 0.9. 1.0 gives n passes at full width (RandScale of Table 4).
        transforms: a batch transform, or a list of them, one after the other.
        smallest_if_single, always_smallest, widths, width_divisor: which widths are drawn, see
            :class:`~mmgradaug.slimming.Width`.
        survival_prob: p_L, in (0, 1]; below 1 sub-networks are drawn by depth too, or with
            ``min_width=1.0`` by depth alone, see :class:`~mmgradaug.slimming.Depth`.
        every: k >= 1: sub-networks are trained in iterations 0, k, 2k, ...; the others are plain. Ours,
            to save time; 1 is the paper's.
        batch_fraction: in (0, 1], the share of the batch's images that each sub-network sees, each its own
            (see :class:`~mmgradaug.subnets.BatchPart`). Ours, to save time; 1 is the paper's.
        axes: what is drawn, instead of what ``min_width``, the second entry and ``survival_prob`` say.

    Raises:
        TypeError, ValueError: an argument is out of its range; the message says what to write.
    """

    def __init__(
        self,
        num_subnets: int = 3,
        min_width: Optional[float] = None,
        transforms: Union[BatchTransform, Sequence[BatchTransform], None] = None,
        smallest_if_single: Union[bool, float] = False,
        survival_prob: float = 1.0,
        axes: Optional[Sequence[Axis]] = None,
        *,
        always_smallest: bool = True,
        widths: Optional[Sequence[float]] = None,
        width_divisor: int = 1,
        every: int = 1,
        batch_fraction: float = 1.0,
    ) -> None:
        if isinstance(num_subnets, bool) or not isinstance(num_subnets, int) or num_subnets < 0:
            raise ValueError(
                f'num_subnets must be a whole number, 0 (plain training) or more, got {num_subnets!r}; '
                'the paper uses 3'
            )
        if transforms is None or (isinstance(transforms, (list, tuple)) and not transforms):
            raise ValueError(
                'transforms is missing: RandomResize(sizes=[224, 192, 160, 128]), RandomScale(factors=[1.0, '
                '0.857, 0.714, 0.571]) for images of any size and detection, or Identity() to train '
                "sub-networks on the original images; in a config dict(type='RandomScale', factors=...)"
            )
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(
                f'every is a whole number of iterations, 1 (each has sub-networks) or more, got {every!r}'
            )
        if (
            isinstance(batch_fraction, bool)
            or not isinstance(batch_fraction, (int, float))
            or not 0 < batch_fraction <= 1
        ):
            raise ValueError(
                f'batch_fraction is a share of the batch in (0, 1], got {batch_fraction!r}; 1 is all of it'
            )
        self.num_subnets = num_subnets
        self.every = every
        self.batch_fraction = float(batch_fraction)
        self.transform = check_batch_transform(transforms)
        depth = Depth(survival_prob)
        if axes is None:
            width = Width(min_width, smallest_if_single, always_smallest, widths, width_divisor)
            axes = [width, depth] if depth.survival_prob < 1.0 else [width]
        self.axes = axes

    def bind(self, model: nn.Module) -> None:
        """Let the axes find out what they need of the model; an error if it has no such sub-networks."""
        for axis in self.axes:
            axis.bind(model)

    def probe_widths(self) -> list[float]:
        """Widths at which a network should be tried out, since they may be drawn: the smallest, and one between."""
        return [w for axis in self.axes if isinstance(axis, Width) for w in axis.probe_widths()]

    @property
    def leaves_parameters_unused(self) -> bool:
        """Whether a sub-network may leave parameters without gradient, which DDP has to be prepared for."""
        return any(isinstance(axis, Depth) for axis in self.axes)

    def describe(self) -> str:
        """For the log."""
        often = 'an iteration' if self.every == 1 else f'every {self.every} iterations'
        parts = [
            f'{self.num_subnets} sub-networks {often}',
            *(axis.describe() for axis in self.axes),
        ]
        if self.batch_fraction < 1:
            parts.append(f'{self.batch_fraction:g} of the batch for each')
        return ', '.join(parts)

    def sample(self, seed: int, iteration: int) -> list[Subnet]:
        """The sub-networks of one iteration; ``seed`` and ``iteration`` are not negative."""
        if iteration % self.every:
            return []
        rng = np.random.default_rng((seed, iteration))
        drawn = []
        for number, axis in enumerate(self.axes):
            drawn.append(axis.draw(rng, self.num_subnets))
            if number == 0:
                operations = [self.transform.draw(rng) for _ in range(self.num_subnets)]
        parts: list[Optional[BatchPart]] = [None] * self.num_subnets
        if self.batch_fraction < 1:
            start = float(rng.random())
            parts = [
                BatchPart(self.batch_fraction, start, i / self.num_subnets)
                for i in range(self.num_subnets)
            ]
        return [
            Subnet(operation, tuple(choices), part)
            for operation, part, *choices in zip(operations, parts, *drawn)
        ]
