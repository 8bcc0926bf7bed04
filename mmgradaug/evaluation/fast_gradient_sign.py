"""The fast gradient sign method (Table 9)."""

from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .parsers import SPACES


def loss_gradient(forward: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the summed cross entropy of the true labels by the images; weights get none.

    A sum, so that an image's gradient does not depend on the others of its batch (in eval mode).

    Args:
        forward: the network, from images to logits (N, classes). In eval mode: batch norms must neither
            normalise by the batch nor move their statistics.
        inputs: (N, C, H, W), preprocessed.
        labels: (N,), class indices.

    Returns:
        (N, C, H, W).
    """
    images = inputs.detach().clone().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(forward(images), labels, reduction='sum')
        (gradient,) = torch.autograd.grad(loss, images)
    return gradient


def fgsm(
    inputs: Tensor,
    gradient: Tensor,
    eps: float,
    mean: Tensor,
    std: Tensor,
    space: str = 'pixel',
    clamp: bool = True,
) -> Tensor:
    """Images moved by ``eps`` along the gradient's sign (Goodfellow et al., arXiv:1412.6572, Section 4).

    The paper (Section 4.5, Table 9) gives eps = 0.05 to 0.25 and says neither in which space that is nor
    whether images are kept in the range of pixels; no code was released. So both are options.

    Args:
        inputs: (N, C, H, W), preprocessed: (pixels - mean) / std.
        gradient: of the loss by ``inputs``, of which only signs count.
        eps: 0 or more.
        mean, std: (C, 1, 1), of the preprocessor, for pixels of 0 to 255; 0 and 1 where it does not
            normalise.
        space: 'pixel': ``eps`` is for pixels in [0, 1], so 0.05 is 12.75 of 255; 'normalised': for the
            preprocessed image, so 0.05 is 0.05 * std of 255 (about 3).
        clamp: keep pixels between 0 and 255.

    Raises:
        ValueError: an unknown space, or a negative ``eps``.
    """
    if space not in SPACES:
        raise ValueError(f'space must be one of {", ".join(SPACES)}; got {space!r}')
    if not eps >= 0:
        raise ValueError(f'eps must not be negative, got {eps}')
    step = 255.0 * eps / std if space == 'pixel' else eps
    moved = inputs + step * gradient.sign()
    if clamp:
        moved = torch.minimum(torch.maximum(moved, (0.0 - mean) / std), (255.0 - mean) / std)
    return moved
