"""Sub-networks by depth: residual blocks left out (paper, Section 4.3, after arXiv:1603.09382)."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor, nn

from .errors import SlimmingError
from .planning import plan_of
from .residual import Route


def residual_blocks(model: nn.Module) -> list[nn.Module]:
    """The residual blocks that a sub-network may leave out, in ``modules()`` order: from input to output.

    These are the elements of a ``Sequential`` or list of layers whose traced pass adds a branch to their
    input, or to what one submodule (a projection, ``downsample``) makes of it, with nothing but a ReLU
    after that. Where one holds others, the inner ones count. A module with a method ``shortcut(x)`` that
    returns the block's output without its branch is one as well, whatever the trace sees.

    Example:
        >>> from torch import nn
        >>> from mmgradaug.slimming import residual_blocks
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.branch = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        ...
        ...     def forward(self, x):
        ...         return x + self.branch(x)
        >>> model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
        >>> residual_blocks(model) == [model[0], model[1]]
        True
    """
    return list(_shortcuts(model))


@contextmanager
def without_blocks(model: nn.Module, dropped: Collection[int]) -> Iterator[nn.Module]:
    """Inside the context some residual blocks of ``model`` are their shortcuts alone.

    A dropped block's branch is not computed: it takes no time, and its parameters get no gradient.
    What is kept is not rescaled, as in stochastic depth's training (arXiv:1603.09382, Eq. 2); the full
    network is trained and tested with all its blocks as they are. (The authors' code trains its
    full network so too, but multiplies branches by their survival probability in the test.)
    Backward passes belong inside as well.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmgradaug.slimming import without_blocks
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.branch = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        ...
        ...     def forward(self, x):
        ...         return x + self.branch(x)
        >>> model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
        >>> x = torch.ones(2, 8)
        >>> with without_blocks(model, [0, 1]):
        ...     print(torch.equal(model(x), model[2](x)))
        True

    Args:
        model: a network with :func:`residual_blocks`.
        dropped: indices of blocks in their order.

    Raises:
        SlimmingError: there is no such block, or one is left out already.
    """
    shortcuts = _shortcuts(model) if dropped else {}
    blocks = list(shortcuts)
    if any(not 0 <= index < len(blocks) for index in dropped):
        raise SlimmingError(
            f'{type(model).__name__} has {len(blocks)} residual blocks that can be left out, so there '
            f'is none of index {max(dropped)}'
        )
    with ExitStack() as stack:
        for index in dropped:
            block = blocks[index]
            if 'forward' in block.__dict__:
                raise SlimmingError(
                    f'residual block {index} is left out already, or something else has replaced its '
                    'forward'
                )
            block.forward = shortcuts[block]
            stack.callback(block.__dict__.pop, 'forward')
        yield model


def _shortcuts(model: nn.Module) -> dict[nn.Module, Callable[..., Any]]:
    """By residual block, what it computes without its branch."""
    plan = plan_of(model)
    shortcuts: dict[nn.Module, Callable[..., Any]] = {}
    for name, module in model.named_modules():
        # A class's method; some blocks have a *module* of this name.
        if callable(getattr(type(module), 'shortcut', None)):
            shortcuts[module] = module.shortcut
        elif name in plan.blocks:
            shortcuts[module] = partial(_follow, module, plan.blocks[name])
    return shortcuts


def _follow(block: nn.Module, route: Route, *args: Any, **kwargs: Any) -> Tensor:
    x = args[route.argument] if isinstance(route.argument, int) else kwargs[route.argument]
    if route.through is not None:
        x = block.get_submodule(route.through)(x)
    return getattr(torch, route.activation)(x) if route.activation else x


@dataclass(frozen=True)
class WithoutBlocks:
    """One draw of blocks to leave out, by index.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmgradaug.slimming import WithoutBlocks
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.branch = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        ...
        ...     def forward(self, x):
        ...         return x + self.branch(x)
        >>> model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
        >>> x = torch.ones(2, 8)
        >>> with WithoutBlocks(dropped=(0,)).enter(model):
        ...     print(torch.equal(model(x), model[2](model[1](x))))
        True
    """

    dropped: tuple[int, ...]

    def enter(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        return without_blocks(model, self.dropped)

    def log_values(self, model: nn.Module) -> dict[str, float]:
        return {'dropped_blocks': len(self.dropped)}


class Depth:
    """Draws residual blocks to leave out (Section 4.3, Table 6), as stochastic depth does.

    Of L blocks, block l is kept with probability 1 - l / L * (1 - p_L) (arXiv:1603.09382, Eq. 4). The
    paper takes p_L from there, 0.5. The authors' code has 1.0 to 0.8, linear over the blocks.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> from mmgradaug.slimming import Depth
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.branch = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        ...
        ...     def forward(self, x):
        ...         return x + self.branch(x)
        >>> model = nn.Sequential(Block(), Block(), nn.Linear(8, 3))
        >>> depth = Depth(survival_prob=0.5)  # block 1 is kept with probability 0.75, block 2 with 0.5
        >>> depth.bind(model)
        >>> depth.num_blocks
        2
        >>> draws = depth.draw(np.random.default_rng(0), 1000)
        >>> dropped = [sum(block in draw.dropped for draw in draws) / 1000 for block in range(2)]
        >>> 0.2 < dropped[0] < 0.3 and 0.45 < dropped[1] < 0.55
        True

    Args:
        survival_prob: p_L, in (0, 1]: how likely the last residual block is kept.

    Raises:
        TypeError, ValueError: it is not a number in (0, 1].
    """

    def __init__(self, survival_prob: float) -> None:
        if isinstance(survival_prob, bool) or not isinstance(survival_prob, (int, float)):
            raise TypeError(f'survival_prob must be a number in (0, 1], got {survival_prob!r}')
        if not 0.0 < survival_prob <= 1.0:
            raise ValueError(
                f'survival_prob is the probability to keep the last residual block, in (0, 1], got '
                f'{survival_prob}; stochastic depth uses 0.5, 1.0 keeps all blocks'
            )
        self.survival_prob = float(survival_prob)
        self.num_blocks: Optional[int] = None

    def bind(self, model: nn.Module) -> None:
        """Count the residual blocks.

        Raises:
            SlimmingError: there are none.
        """
        self.num_blocks = len(residual_blocks(model))
        if not self.num_blocks:
            raise SlimmingError(
                f'survival_prob={self.survival_prob:g} draws sub-networks by depth, but this '
                f'{type(model).__name__} has no residual blocks that can be left out. Take a network with '
                'residual blocks (ResNet, WideResNet, ConvNeXt, ViT, ...), give your blocks a method '
                'shortcut(x) that returns their output without the branch, or leave survival_prob out'
            )

    def draw(self, rng: np.random.Generator, number: int) -> list[WithoutBlocks]:
        if self.num_blocks is None:
            raise RuntimeError(
                'survival_prob is below 1, but it is not known how many residual blocks there are: call '
                'bind(model) first'
            )
        depth = np.arange(1, self.num_blocks + 1) / self.num_blocks
        draws = []
        for _ in range(number):
            survives = rng.random(self.num_blocks) < 1.0 - depth * (1.0 - self.survival_prob)
            draws.append(WithoutBlocks(tuple(np.flatnonzero(~survives).tolist())))
        return draws

    def describe(self) -> str:
        return (
            f'{self.num_blocks} residual blocks that survive with probability 1 to '
            f'{self.survival_prob:g}'
        )
