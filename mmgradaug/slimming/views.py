"""Views of the first channels of parameters, and the way of their gradients back.

Autograd goes backward through what was made last first. So a view that is made when its layer is called gives
its gradient on right after the layer's own backward pass. A view that is made before the forward pass would
hold it to the very end of the backward pass, where the gradients of all layers would be there at once.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .plan import Kept, Selection

Selections = list[tuple[int, Selection]]


def first_channels(value: Tensor, selections: Selections, kept: Kept) -> Tensor:
    """What is left of a parameter or buffer: a view, a copy if these are not the first channels, or all of it."""
    shape = list(value.shape)
    for dim, selection in selections:
        shape[dim], indices = kept.count(selection), kept.indices(selection)
        if indices is not None:
            value = value.index_select(dim, torch.from_numpy(indices).to(value.device))
    if shape == list(value.shape):
        return value
    # One view for all dimensions, so that the backward pass fills one full gradient, not one for each of them.
    return value.as_strided(shape, value.stride())


@dataclass
class Entry:
    """An entry of a module's dict that is replaced for a while."""

    owner: dict[str, Any]
    key: str
    before: Any
    value: Any


class RenewedViews:
    """A hook of a layer's calls: the first one that autograd records makes the layer's views anew.

    The first one alone: a layer that is called twice adds up its narrow gradients before they are given on,
    and goes backward through its first call last.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[Entry, Tensor, Selections, Kept]] = []

    def __call__(self, layer: nn.Module, inputs: Any) -> None:
        # What is compiled goes backward in one piece, so the views that are there do.
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        if not self.waiting or torch._C._are_functorch_transforms_active():
            return
        for entry, value, selections, kept in self.waiting:
            # Else something else has taken its place, such as a value of torch.func.functional_call.
            if entry.owner.get(entry.key) is entry.value:
                entry.value = first_channels(value, selections, kept)
                entry.owner[entry.key] = entry.value
        self.waiting.clear()
