"""Sub-networks by depth: residual blocks left out (paper, Section 4.3, after arXiv:1603.09382)."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from .layers import SlimmingError

# By exact type, as a subclass may do more around its branch. By name, since neither package need be
# imported here. Blocks of other networks join by a method ``shortcut(x)``.
RESNET_BLOCKS = {
    f'{package}.models.backbones.resnet.{block}'
    for package in ('mmpretrain', 'mmdet')
    for block in ('BasicBlock', 'Bottleneck')
}


def residual_blocks(model: nn.Module) -> list[nn.Module]:
    """The residual blocks that a sub-network may leave out, in ``modules()`` order: from input to output.

    Those of MMPretrain's and MMDetection's ResNet (also ResNet_CIFAR, ResNetV1c, ResNetV1d), and any
    module with a method ``shortcut(x)`` that returns the block's output without its branch.
    """
    return [m for m in model.modules() if _is_resnet_block(m) or callable(_own_shortcut(m))]


@contextmanager
def without_blocks(model: nn.Module, dropped: Collection[int]) -> Iterator[nn.Module]:
    """Inside the context some residual blocks of ``model`` are their shortcuts alone.

    A dropped block's branch is not computed: it takes no time, and its parameters get no gradient.
    What is kept is not rescaled, as in stochastic depth's training (arXiv:1603.09382, Eq. 2); the full
    network is trained and tested with all its blocks as they are. (The authors' code trains its
    full network so too, but multiplies branches by their survival probability in the test.)
    Backward passes belong inside as well.

    Args:
        model: a network with :func:`residual_blocks`.
        dropped: indices of blocks in their order.

    Raises:
        SlimmingError: there is no such block.
    """
    blocks = residual_blocks(model) if dropped else []
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
            block.forward = _own_shortcut(block) or partial(_resnet_shortcut, block)
            stack.callback(block.__dict__.pop, 'forward')
        yield model


def _own_shortcut(module: nn.Module) -> Any:
    # A class's method; some blocks have a *module* of this name.
    method = getattr(type(module), 'shortcut', None)
    return method and method.__get__(module)


def _is_resnet_block(module: nn.Module) -> bool:
    return f'{type(module).__module__}.{type(module).__qualname__}' in RESNET_BLOCKS


def _resnet_shortcut(block: nn.Module, x: Tensor) -> Tensor:
    # The activation is in place, and the input is still needed in front of the block.
    identity = x.clone() if block.downsample is None else block.downsample(x)
    return block.relu(identity)
