"""ShakeDrop (arXiv:1802.02375)."""

from typing import Any

import torch
from torch import Tensor, nn

from mmgradaug.registry import MODELS

LEVELS = ('batch', 'image', 'element')


class _Scale(torch.autograd.Function):
    """Multiply by one number on the way forward and by another on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward_factor: Tensor, backward_factor: Tensor) -> Tensor:
        ctx.save_for_backward(backward_factor)
        return x * forward_factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None, None


@MODELS.register_module()
class ShakeDrop(nn.Module):
    """Disturbs a residual branch's output x of shape (N, C, H, W) (its Eq. 6 and 7).

    In training, with b ~ Bernoulli(1 - drop_prob), alpha ~ U(-1, 1) and beta ~ U(0, 1), forward x * (b +
    alpha - b * alpha) and backward gradient * (b + beta - b * beta); in the test x times the
    forward factor's mean, which is 1 - drop_prob for a symmetric alpha. One b for the whole batch.

    Args:
        drop_prob: in [0, 1).
        alpha: range of the forward factor; (-1, 1) is the paper's for networks without an activation
            after the addition, (0, 0) for others, ResNet for instance. It
            needs batch normalisation at the branch's end.
        beta: range of the backward factor.
        level: who gets an alpha and a beta of its own: each 'element' (the authors' code), each 'image', or
            the 'batch'.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        drop_prob: float = 0.5,
        alpha: tuple[float, float] = (-1.0, 1.0),
        beta: tuple[float, float] = (0.0, 1.0),
        level: str = 'element',
    ) -> None:
        super().__init__()
        if not 0.0 <= drop_prob < 1.0:
            raise ValueError(f'ShakeDrop: drop_prob is in [0, 1), got {drop_prob}')
        for name, (low, high) in (('alpha', alpha), ('beta', beta)):
            if low > high:
                raise ValueError(f'ShakeDrop: {name} is a range (low, high), got {(low, high)}')
        if level not in LEVELS:
            raise ValueError(f'ShakeDrop: level is one of {LEVELS}, got {level!r}')
        self.drop_prob = float(drop_prob)
        self.alpha = tuple(alpha)
        self.beta = tuple(beta)
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x * (1.0 - self.drop_prob + self.drop_prob * sum(self.alpha) / 2)
        keep = torch.rand((), device=x.device) >= self.drop_prob
        shape = {'batch': (), 'image': (len(x),) + (1,) * (x.dim() - 1), 'element': x.shape}
        factors = [
            torch.where(keep, 1.0, x.new_empty(shape[self.level]).uniform_(*bounds)).to(x.dtype)
            for bounds in (self.alpha, self.beta)
        ]
        return _Scale.apply(x, *factors)

    def extra_repr(self) -> str:
        return f'drop_prob={self.drop_prob:g}, alpha={self.alpha}, beta={self.beta}, level={self.level}'
