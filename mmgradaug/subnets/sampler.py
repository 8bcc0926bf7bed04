"""Which sub-networks an iteration trains, and on which transformation of the batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from torch import nn

from mmgradaug.slimming import subnetwork, without_blocks

from .transforms import BatchOperation, build_batch_transform


@dataclass(frozen=True)
class Subnet:
    """One drawn sub-network, and the transformation T of its batch.

    Args:
        width: w in [alpha, 1].
        transform: T.
        dropped_blocks: indices of the residual blocks that it leaves out; None where depth is not drawn.
    """

    width: float
    transform: BatchOperation
    dropped_blocks: Optional[tuple[int, ...]] = None

    @contextmanager
    def enter(self, model: nn.Module) -> Iterator[nn.Module]:
        """A context in which ``model`` is this sub-network."""
        with subnetwork(model, self.width), without_blocks(model, self.dropped_blocks or ()):
            yield model

    def log_values(self) -> dict[str, float]:
        """What the training log shows of it."""
        values = {'width': self.width}
        if self.dropped_blocks is not None:
            values['dropped_blocks'] = len(self.dropped_blocks)
        return values


class SubnetSampler:
    """Draws n sub-networks an iteration (paper, Section 3.1 and Algorithm 1).

    For n > 1 the smallest, w = alpha, is always among them and the other n - 1 are uniform on
    [alpha, 1]; for n = 1 the one is uniform. Each has its own draw of the transform. The paper's
    ImageNet setting is n = 3, alpha = 0.9; CIFAR's n = 3, alpha = 0.8; it recommends n >= 3 and alpha
    in [0.7, 0.9] (Section 4.3).

    A draw is a function of (seed, iteration): ranks agree without talking, and a resumed run draws
    what the uninterrupted one would have.

    With ``survival_prob`` sub-networks are drawn by depth too (Section 4.3, Table 6), or by depth alone
    with ``min_width=1.0``: of L residual blocks, block l is kept with probability
    1 - l / L * (1 - p_L), as in stochastic depth (arXiv:1603.09382, Eq. 4); the full network has all. The
    paper takes p_L from there, 0.5. The authors' code has 1.0 to 0.8, linear over the blocks.

    Args:
        num_subnets: n >= 0; 0 is plain training.
        min_width: alpha, in (0, 1]. 1.0 gives n passes at full width (RandScale of Table 4).
        transforms: a batch transform's config, or a list of them, one after the other.
        smallest_if_single: with n = 1 take alpha instead of a uniform width, as the authors' code
            does; the paper has it uniform.
        survival_prob: p_L, in (0, 1]: how likely the last residual block is kept. 1.0 keeps all.

    ``num_blocks`` is L; whoever knows the network sets it.

    Raises:
        TypeError, ValueError: an argument is out of its range; the message says what to write.
    """

    def __init__(
        self,
        num_subnets: int = 3,
        min_width: float = 0.9,
        transforms: Any = None,
        smallest_if_single: bool = False,
        survival_prob: float = 1.0,
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
        if isinstance(survival_prob, bool) or not isinstance(survival_prob, (int, float)):
            raise TypeError(f'survival_prob must be a number in (0, 1], got {survival_prob!r}')
        if not 0.0 < survival_prob <= 1.0:
            raise ValueError(
                f'survival_prob is the probability to keep the last residual block, in (0, 1], got '
                f'{survival_prob}; stochastic depth uses 0.5, 1.0 keeps all blocks'
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
        self.survival_prob = float(survival_prob)
        self.num_blocks: Optional[int] = None

    def sample(self, seed: int, iteration: int) -> list[Subnet]:
        """The sub-networks of one iteration; ``seed`` and ``iteration`` are not negative."""
        rng = np.random.default_rng((seed, iteration))
        widths = rng.uniform(self.min_width, 1.0, size=self.num_subnets).tolist()
        if widths and (self.num_subnets > 1 or self.smallest_if_single):
            widths[0] = self.min_width
        subnets = [Subnet(width, self.transform.draw(rng)) for width in widths]
        if self.survival_prob == 1.0:
            return subnets
        return [
            replace(subnet, dropped_blocks=self._draw_dropped_blocks(rng)) for subnet in subnets
        ]

    def _draw_dropped_blocks(self, rng: np.random.Generator) -> tuple[int, ...]:
        if self.num_blocks is None:
            raise RuntimeError(
                'survival_prob is below 1, but nobody has said how many residual blocks there are: set '
                'num_blocks'
            )
        depth = np.arange(1, self.num_blocks + 1) / self.num_blocks
        survives = rng.random(self.num_blocks) < 1.0 - depth * (1.0 - self.survival_prob)
        return tuple(np.flatnonzero(~survives).tolist())
