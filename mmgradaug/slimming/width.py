"""Sub-networks by width: the first channels of every layer (paper, Section 3.1)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Optional

import numpy as np
from torch import nn

from .narrowing import narrowed
from .plan import ChannelPlan
from .planning import plan_of


@contextmanager
def subnetwork(
    model: nn.Module, width: float, plan: Optional[ChannelPlan] = None
) -> Iterator[nn.Module]:
    """Inside the context ``model`` is its sub-network of ``width``; on exit it is what it was before.

    Inside, its parameters are views of the first channels of the full ones, which gradients reach. In
    training, batch norms normalise by the batch and leave their running statistics alone; in evaluation
    they use the first entries of these. Outside the model is the stock one; nothing is ever converted.
    Contexts can be nested; the inner width counts. Backward passes belong inside as well: activation
    checkpointing (``with_cp``) computes layers again during the backward pass. A model cannot be copied,
    pickled or saved inside.

    Example::

        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        >>> with subnetwork(model, 0.5):
        ...     print(model[0].weight.shape, model(torch.zeros(2, 8)).shape)
        torch.Size([8, 8]) torch.Size([2, 3])

    Args:
        model: any network; its outputs keep all their channels.
        width: in (0, 1]. 1.0 has every channel but is a sub-network all the same: its batch norms
            leave the running statistics alone.
        plan: what :func:`~mmgradaug.slimming.plan_channels` gave; by default the one it gave last for
            this model, or one that is made now with an ordinary example.

    Raises:
        ValueError: ``width`` is not in (0, 1].
        SlimmingError: the model has no sub-networks; the message names the layer and the operation.
    """
    if not 0.0 < width <= 1.0:
        raise ValueError(f'width must be in (0, 1], got {width}')
    plan = plan_of(model) if plan is None else plan
    with narrowed(model, plan, plan.kept(width)):
        yield model


@dataclass(frozen=True)
class AtWidth:
    """One drawn width."""

    width: float

    def enter(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        return subnetwork(model, self.width)

    def log_values(self, model: nn.Module) -> dict[str, float]:
        """The share of channels that is really used, after rounding to channels, heads and groups."""
        return {'width': plan_of(model).used_width(self.width)}


class Width:
    """Draws widths: for n > 1 the smallest, alpha, and n - 1 uniform on [alpha, 1] (Section 3.1).

    Args:
        min_width: alpha, in (0, 1]. The paper uses 0.9 on ImageNet, 0.8 on CIFAR.
        smallest_if_single: with n = 1 take alpha instead of a uniform width, as the authors' code does;
            the paper has it uniform.

    Raises:
        TypeError, ValueError: ``min_width`` is not a number in (0, 1].
    """

    def __init__(self, min_width: float = 0.9, smallest_if_single: bool = False) -> None:
        if isinstance(min_width, bool) or not isinstance(min_width, (int, float)):
            raise TypeError(f'min_width must be a number in (0, 1], got {min_width!r}')
        if not 0.0 < min_width <= 1.0:
            raise ValueError(
                f'min_width is a share of the channels in (0, 1], got {min_width}; '
                'the paper uses 0.9 on ImageNet and 0.8 on CIFAR'
            )
        if not isinstance(smallest_if_single, bool):
            raise TypeError(f'smallest_if_single is True or False, got {smallest_if_single!r}')
        self.min_width = float(min_width)
        self.smallest_if_single = smallest_if_single

    def draw(self, rng: np.random.Generator, number: int) -> list[AtWidth]:
        widths = rng.uniform(self.min_width, 1.0, size=number).tolist()
        if widths and (number > 1 or self.smallest_if_single):
            widths[0] = self.min_width
        return [AtWidth(width) for width in widths]

    def bind(self, model: nn.Module) -> None:
        """Nothing to find out beyond the model's plan."""

    def describe(self) -> str:
        return f'width {self.min_width:g} to 1'
