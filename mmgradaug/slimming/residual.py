"""Residual blocks, as the trace sees them: what goes in comes out again, with a branch added."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

from torch import nn

ADDITIONS = ('add', 'add_', '__add__')
# An activation behind the addition, which a block without its branch still has.
ACTIVATIONS = {'relu': 'relu', 'relu_': 'relu'}
UNCHANGED = ('clone', 'alias', 'detach', '_to_copy', 'contiguous')


@dataclass(frozen=True)
class Route:
    """How an input of a module reaches a tensor.

    Args:
        argument: which input: its position, or its name.
        through: the name of a submodule that it passes, a projection for instance; None if it does not.
        computed: whether the module itself computed something of it, without a submodule: no branch that can be
            told from a shortcut.
        added: whether something was added to it.
        activation: what was applied after that.
    """

    argument: Union[int, str] = 0
    through: Optional[str] = None
    computed: bool = False
    added: bool = False
    activation: Optional[str] = None

    @property
    def direct(self) -> bool:
        return self == Route(self.argument)


def follow_addition(
    name: str, inputs: Sequence[dict[int, Route]], active: Sequence[int], alpha: Any = 1
) -> dict[int, Route]:
    """The routes to an operation's result from those to its inputs, for the calls that run, the innermost last."""
    own = active[-1]
    computed: dict[int, Route] = {}
    for each in inputs:
        if own in each and (each[own].direct or each[own].computed):
            computed[own] = replace(each[own], computed=True)
    if alpha != 1:  # a shortcut that is scaled
        return computed
    if name in UNCHANGED:
        routes = inputs[0]
    elif name in ACTIVATIONS:
        routes = dict(computed)
        for call, route in inputs[0].items():
            if route.added and route.activation is None:
                routes[call] = replace(route, activation=ACTIVATIONS[name])
    elif name in ADDITIONS and len(inputs) == 2:
        routes = {}
        for call in {*inputs[0], *inputs[1]}:
            open_routes = [
                each[call] for each in inputs if call in each and each[call].activation is None
            ]
            # The shortcut, if a branch of one submodule could be taken for it too.
            known = [each for each in open_routes if not each.computed]
            shortcut = min(known, key=lambda r: r.through is not None, default=None)
            if shortcut is not None and (
                shortcut.through is None or len(known) == len(open_routes)
            ):
                routes[call] = replace(shortcut, added=True)
            elif open_routes:
                routes[call] = replace(open_routes[0], computed=True)
    else:
        return computed
    return {call: route for call, route in routes.items() if call in active}


def find_blocks(model: nn.Module, routes: dict[str, Optional[Route]]) -> dict[str, Route]:
    """The residual blocks among traced modules: elements of a list of layers, the innermost ones."""
    modules = dict(model.named_modules())
    found = {}
    for name, route in routes.items():
        parent = modules.get(name.rpartition('.')[0])
        listed = isinstance(parent, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
        if route is not None and route.added and not route.computed and listed:
            found[name] = route
    return {
        name: found[name]
        for name in modules
        if name in found and not any(other.startswith(f'{name}.') for other in found)
    }
