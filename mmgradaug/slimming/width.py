"""Entering and leaving a sub-network."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .layers import SlimmingError, _Slimmable


@contextmanager
def subnetwork(model: nn.Module, width: float) -> Iterator[nn.Module]:
    """Inside the context ``model`` is its sub-network of ``width``; on exit, by an exception too, what it was.

    Backward passes belong inside as well: activation checkpointing (``with_cp``) computes layers again
    during the backward pass.

    Args:
        model: a network that :func:`~mmgradaug.slimming.make_slimmable` converted, or one that holds
            such a network.
        width: in (0, 1]. 1.0 has every channel but is a sub-network all the same: its batch norms
            use the batch's statistics and leave the running ones alone.

    Raises:
        ValueError: ``width`` is not in (0, 1].
        SlimmingError: nothing in ``model`` is slimmable.
    """
    if not 0.0 < width <= 1.0:
        raise ValueError(f'width must be in (0, 1], got {width}')
    # In the order of modules(): a set of objects would be ordered by address.
    dials = {
        id(layer.dial): layer.dial for layer in model.modules() if isinstance(layer, _Slimmable)
    }
    if not dials:
        raise SlimmingError(
            f'{type(model).__name__} has no slimmable layer: call make_slimmable(model) first'
        )
    before = {key: dial.width for key, dial in dials.items()}
    for dial in dials.values():
        dial.width = width
    try:
        yield model
    finally:
        for key, dial in dials.items():
            dial.width = before[key]
