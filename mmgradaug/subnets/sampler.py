"""Which sub-networks an iteration trains, and on which transformation of the batch."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from mmgradaug.slimming import subnetwork

from .transforms import BatchOperation, build_batch_transform


@dataclass(frozen=True)
class Subnet:
    """One drawn sub-network: its width w in [alpha, 1], and the transformation T of its batch."""

    width: float
    transform: BatchOperation

    def enter(self, model: nn.Module) -> AbstractContextManager:
        """A context in which ``model`` is this sub-network."""
        return subnetwork(model, self.width)

    def log_values(self) -> dict[str, float]:
        """What the training log shows of it."""
        return {'width': self.width}


class SubnetSampler:
    """Draws n sub-networks an iteration (paper, Section 3.1 and Algorithm 1).

    For n > 1 the smallest, w = alpha, is always among them and the other n - 1 are uniform on
    [alpha, 1]; for n = 1 the one is uniform. Each has its own draw of the transform. The paper's
    ImageNet setting is n = 3, alpha = 0.9; CIFAR's n = 3, alpha = 0.8; it recommends n >= 3 and alpha
    in [0.7, 0.9] (Section 4.3).

    A draw is a function of (seed, iteration): ranks agree without talking, and a resumed run draws
    what the uninterrupted one would have.

    Args:
        num_subnets: n >= 0; 0 is plain training.
        min_width: alpha, in (0, 1]. 1.0 gives n passes at full width (RandScale of Table 4).
        transforms: a batch transform's config, or a list of them, one after the other.
        smallest_if_single: with n = 1 take alpha instead of a uniform width, as the authors' code
            does; the paper has it uniform.

    Raises:
        TypeError, ValueError: an argument is out of its range; the message says what to write.
    """

    def __init__(
        self,
        num_subnets: int = 3,
        min_width: float = 0.9,
        transforms: Any = None,
        smallest_if_single: bool = False,
    ) -> None:
        if isinstance(num_subnets, bool) or not isinstance(num_subnets, int) or num_subnets < 0:
            raise ValueError(
                f'num_subnets must be a whole number, 0 (plain training) or more, got {num_subnets!r}; '
                'the paper uses 3'
            )
        if isinstance(min_width, bool) or not isinstance(min_width, (int, float)):
            raise TypeError(f'min_width must be a number in (0, 1], got {min_width!r}')
        if not 0.0 < min_width <= 1.0:
            raise ValueError(
                f'min_width is a share of the channels in (0, 1], got {min_width}; '
                'the paper uses 0.9 on ImageNet and 0.8 on CIFAR'
            )
        if transforms is None or (isinstance(transforms, (list, tuple)) and not transforms):
            raise ValueError(
                "transforms is missing: write transforms=dict(type='RandomResize', sizes=[224, 192, "
                "160, 128]), in detection dict(type='RandomScale', factors=[1.0, 0.857, 0.714]), or "
                "dict(type='Identity') to train sub-networks on the original images"
            )
        self.num_subnets = num_subnets
        self.min_width = float(min_width)
        self.transform = build_batch_transform(transforms)
        self.smallest_if_single = smallest_if_single

    def sample(self, seed: int, iteration: int) -> list[Subnet]:
        """The sub-networks of one iteration; ``seed`` and ``iteration`` are not negative."""
        rng = np.random.default_rng((seed, iteration))
        widths = rng.uniform(self.min_width, 1.0, size=self.num_subnets).tolist()
        if widths and (self.num_subnets > 1 or self.smallest_if_single):
            widths[0] = self.min_width
        return [Subnet(width, self.transform.draw(rng)) for width in widths]
