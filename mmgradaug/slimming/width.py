"""Sub-networks by width: the first channels of every layer (paper, Section 3.1)."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np
from torch import nn

from .narrowing import narrowed
from .plan import ChannelPlan
from .planning import plan_of


@contextmanager
def subnetwork(
    model: nn.Module, width: float, plan: Optional[ChannelPlan] = None, divisor: int = 1
) -> Iterator[nn.Module]:
    """Inside the context ``model`` is its sub-network of ``width``; on exit it is what it was before.

    Inside, its parameters are views of the first channels of the full ones, which gradients reach. In
    training, batch norms normalise by the batch and leave their running statistics alone; in evaluation
    they use the first entries of these. Outside the model is the stock one; nothing is ever converted.
    Contexts can be nested; the inner width counts. Backward passes belong inside as well: activation
    checkpointing (``with_cp``) computes layers again during the backward pass. A model cannot be copied,
    pickled or saved inside.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmgradaug import subnetwork
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> with subnetwork(model, 0.5):
        ...     print(model[0].weight.shape, model(torch.zeros(2, 8)).shape)
        torch.Size([8, 8]) torch.Size([2, 3])
        >>> model[0].weight.shape
        torch.Size([16, 8])

    Args:
        model: any network; its outputs keep all their channels.
        width: in (0, 1]. 1.0 has every channel but is a sub-network all the same: its batch norms
            leave the running statistics alone.
        plan: what :func:`~mmgradaug.slimming.plan_channels` gave; by default the one it gave last for
            this model, or with which GradAug last trained it, or one that is made now with an ordinary example.
        divisor: >= 1; numbers of channels are rounded to multiples of it.

    Raises:
        ValueError: ``width`` is not in (0, 1].
        SlimmingError: the model has no sub-networks; the message names the layer and the operation.
    """
    if not 0.0 < width <= 1.0:
        raise ValueError(f'width must be in (0, 1], got {width}')
    plan = plan_of(model) if plan is None else plan
    with narrowed(model, plan, plan.kept(width, divisor)):
        yield model


@dataclass(frozen=True)
class AtWidth:
    """One drawn width, and to multiples of which number channels are rounded.

    Example:
        >>> from torch import nn
        >>> from mmgradaug.slimming import AtWidth
        >>> model = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 3))
        >>> with AtWidth(0.77).enter(model):
        ...     print(model[0])
        Linear(in_features=8, out_features=8, bias=True)
        >>> AtWidth(0.77).log_values(model)
        {'width': 0.8}
    """

    width: float
    divisor: int = 1

    def enter(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        return subnetwork(model, self.width, divisor=self.divisor)

    def log_values(self, model: nn.Module) -> dict[str, float]:
        """The share of channels that is really used, after rounding to channels, heads and groups."""
        return {'width': plan_of(model).used_width(self.width, self.divisor)}


class Width:
    """Draws widths: for n > 1 the smallest, alpha, and n - 1 uniform on [alpha, 1] (Section 3.1).

    All arguments but ``min_width`` are ours, each with the paper's setting as its default.

    Example:
        >>> import numpy as np
        >>> from mmgradaug.slimming import Width
        >>> smallest, *others = Width(0.8).draw(np.random.default_rng(0), 4)
        >>> smallest.width, all(0.8 < choice.width < 1 for choice in others)
        (0.8, True)
        >>> Width(widths=[1.0, 0.9, 0.8], divisor=8).describe()
        'widths 0.8, 0.9, 1 in multiples of 8 channels'

    Args:
        min_width: alpha, in (0, 1], by default 0.9. The paper uses 0.9 on ImageNet, 0.8 on CIFAR.
        smallest_if_single: with n = 1 take alpha instead of a uniform width, as the authors' code does;
            the paper has it uniform. A number between 0 and 1 is how likely that is: 0.5 takes turns
            between the two, by chance.
        always_smallest: with n > 1 one is always alpha, the paper's second trick (Section 3.1, after
            arXiv:1903.05134). False draws all n from the range.
        widths: a grid instead of the range: one or more numbers in (0, 1], all equally likely, of which
            the smallest is alpha. Few widths are few shapes, which compilers and kernel caches like.
        divisor: numbers of channels are rounded to multiples of it, at least one. 8 or 16 is what tensor
            cores like.

    Raises:
        TypeError, ValueError: an argument is of another kind or out of its range.
    """

    def __init__(
        self,
        min_width: Optional[float] = None,
        smallest_if_single: Union[bool, float] = False,
        always_smallest: bool = True,
        widths: Optional[Sequence[float]] = None,
        divisor: int = 1,
    ) -> None:
        if not isinstance(smallest_if_single, (bool, float)) or not 0 <= smallest_if_single <= 1:
            raise TypeError(
                f'smallest_if_single is True or False, got {smallest_if_single!r}; or a number such as 0.5, '
                'how likely the smallest is'
            )
        if not isinstance(always_smallest, bool):
            raise TypeError(f'always_smallest is True or False, got {always_smallest!r}')
        if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
            raise ValueError(
                f'width_divisor is a whole number, 1 (no rounding) or more, got {divisor!r}; 8 suits '
                'most hardware'
            )
        self.widths = None if widths is None else _check_grid(widths)
        if min_width is None:
            min_width = self.widths[0] if self.widths else 0.9
        if isinstance(min_width, bool) or not isinstance(min_width, (int, float)):
            raise TypeError(f'min_width must be a number in (0, 1], got {min_width!r}')
        if not 0.0 < min_width <= 1.0:
            raise ValueError(
                f'min_width is a share of the channels in (0, 1], got {min_width}; '
                'the paper uses 0.9 on ImageNet and 0.8 on CIFAR'
            )
        if self.widths and min_width != self.widths[0]:
            raise ValueError(
                f'widths={self.widths} begins at {self.widths[0]}, min_width says {min_width}: leave '
                'min_width out'
            )
        self.min_width = float(min_width)
        self.smallest_if_single = smallest_if_single
        self.always_smallest = always_smallest
        self.divisor = divisor

    def draw(self, rng: np.random.Generator, number: int) -> list[AtWidth]:
        if self.widths:
            widths = [self.widths[i] for i in rng.integers(len(self.widths), size=number)]
        else:
            widths = rng.uniform(self.min_width, 1.0, size=number).tolist()
        if number > 1:
            smallest = self.always_smallest
        elif number and 0 < self.smallest_if_single < 1:
            smallest = bool(rng.random() < self.smallest_if_single)
        else:
            smallest = bool(number and self.smallest_if_single)
        if smallest:
            widths[0] = self.min_width
        return [AtWidth(width, self.divisor) for width in widths]

    def bind(self, model: nn.Module) -> None:
        """Nothing to find out beyond the model's plan."""

    def probe_widths(self) -> list[float]:
        """Widths below 1 at which a network should be tried out: the smallest, and one between."""
        between = self.widths[len(self.widths) // 2] if self.widths else (1.0 + self.min_width) / 2
        return [width for width in dict.fromkeys([self.min_width, between]) if width < 1.0]

    def describe(self) -> str:
        drawn = f'width {self.min_width:g} to 1'
        if self.widths:
            drawn = f'widths {", ".join(f"{width:g}" for width in self.widths)}'
        return drawn if self.divisor == 1 else f'{drawn} in multiples of {self.divisor} channels'


def _check_grid(widths: Sequence[float]) -> list[float]:
    if isinstance(widths, (str, int, float)) or not len(widths):
        raise ValueError(
            f'widths is a list of one or more widths, such as [0.8, 0.9, 1.0]; got {widths!r}'
        )
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width <= 1:
            raise ValueError(f'widths: {width!r} is no share of the channels in (0, 1]')
    return sorted(float(width) for width in widths)
