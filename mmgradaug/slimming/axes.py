"""What sub-networks are drawn by: width, depth, and whatever comes next."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from torch import nn


class Choice(Protocol):
    """One draw along an axis: a plain value that can be compared and printed.

    Example:
        >>> from mmgradaug import Identity
        >>> from mmgradaug.subnets import SubnetSampler
        >>> sampler = SubnetSampler(1, widths=[0.5], transforms=Identity())
        >>> sampler.sample(seed=0, iteration=0)[0].choices
        (AtWidth(width=0.5, divisor=1),)
    """

    def enter(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """A context in which the model is this sub-network."""

    def log_values(self, model: nn.Module) -> dict[str, float]:
        """What the training log shows of it."""


class Axis(Protocol):
    """A way to draw sub-networks. The sampler, the model and the hook know axes by these methods alone.

    Example:
        >>> from mmgradaug import Identity
        >>> from mmgradaug.slimming import AtWidth
        >>> from mmgradaug.subnets import SubnetSampler
        >>> class HalfOrWhole:
        ...     def bind(self, model):
        ...         pass
        ...
        ...     def draw(self, rng, number):
        ...         return [AtWidth(float(width)) for width in rng.choice([0.5, 1.0], number)]
        ...
        ...     def describe(self):
        ...         return 'width 0.5 or 1'
        >>> sampler = SubnetSampler(20, transforms=Identity(), axes=[HalfOrWhole()])
        >>> sampler.describe()
        '20 sub-networks an iteration, width 0.5 or 1'
        >>> sorted({subnet.width for subnet in sampler.sample(seed=0, iteration=0)})
        [0.5, 1.0]
    """

    def bind(self, model: nn.Module) -> None:
        """Find out what has to be known of the model; an error if it has no such sub-networks."""

    def draw(self, rng: np.random.Generator, number: int) -> Sequence[Choice]:
        """That many choices, from these random numbers alone."""

    def describe(self) -> str:
        """For the log: '0.9 to 1 of the channels'."""
