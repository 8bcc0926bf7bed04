"""What a layer's attributes are while its parameters are narrowed.

Parameters and buffers narrow by themselves, from the trace. What is left are numbers that a layer's
``forward`` reads: ``groups`` of a convolution, ``normalized_shape`` of a layer norm, ``num_heads`` of an
attention. One small rule for each kind of layer says what they become; it is found by base class, and
:func:`layer_rule` teaches one for a layer of one's own::

    @layer_rule(MyAttention)
    def _(layer, narrowed):
        return {'num_heads': narrowed.size(layer.num_heads)}

A layer without a rule of its own gets the general one: each whole number among its attributes that is a
number of channels seen in the layer becomes the number of those that are left.
"""

from typing import Any, Callable, Protocol, TypeVar

from torch import nn


class Narrowed(Protocol):
    """What a rule may ask of the sub-network."""

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the layer's own parameter or buffer in the sub-network."""

    def size(self, number: int) -> int:
        """How many are left of this number of channels, heads or groups in the layer."""


Layer = TypeVar('Layer', bound=nn.Module)
LayerRule = Callable[[Layer, Narrowed], dict[str, Any]]
# A rule is called with layers of the kinds that it is registered for, which this type cannot say.
LAYER_RULES: dict[type[nn.Module], LayerRule[Any]] = {}


def layer_rule(*layers: type[Layer]) -> Callable[[LayerRule[Layer]], LayerRule[Layer]]:
    """Register a rule for these layers and their subclasses.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmgradaug import subnetwork
        >>> from mmgradaug.slimming import layer_rule
        >>> class Scale(nn.Module):
        ...     def __init__(self, channels):
        ...         super().__init__()
        ...         self.weight = nn.Parameter(torch.ones(channels))
        ...         self.factor = channels**-0.5
        ...
        ...     def forward(self, x):
        ...         return x * self.weight * self.factor
        >>> @layer_rule(Scale)
        ... def _(layer, narrowed):
        ...     return {'factor': narrowed.shape('weight')[0] ** -0.5}
        >>> model = nn.Sequential(nn.Linear(8, 16), Scale(16), nn.Linear(16, 3))
        >>> with subnetwork(model, 0.25):  # 4 channels
        ...     print(model[1].factor)
        0.5
    """

    def register(rule: LayerRule[Layer]) -> LayerRule[Layer]:
        LAYER_RULES.update(dict.fromkeys(layers, rule))
        return rule

    return register


def find_layer_rule(layer: nn.Module) -> LayerRule[Any]:
    for kind in type(layer).__mro__:
        if kind in LAYER_RULES:
            return LAYER_RULES[kind]
    return any_layer


@layer_rule(nn.modules.conv._ConvNd)
def convolution(layer: nn.modules.conv._ConvNd, narrowed: Narrowed) -> dict[str, Any]:
    groups = 1 if layer.groups == 1 else narrowed.size(layer.groups)
    first, second = narrowed.shape('weight')[:2]
    if layer.transposed:
        return {'in_channels': first, 'out_channels': second * groups, 'groups': groups}
    return {'in_channels': second * groups, 'out_channels': first, 'groups': groups}


@layer_rule(nn.Linear)
def linear(layer: nn.Linear, narrowed: Narrowed) -> dict[str, Any]:
    outputs, inputs = narrowed.shape('weight')
    return {'in_features': inputs, 'out_features': outputs}


@layer_rule(nn.modules.batchnorm._BatchNorm)
def batch_norm(layer: nn.modules.batchnorm._BatchNorm, narrowed: Narrowed) -> dict[str, Any]:
    named = next((n for n in ('weight', 'running_mean') if getattr(layer, n) is not None), None)
    size = narrowed.shape(named)[0] if named else narrowed.size(layer.num_features)
    return {'num_features': size}


@layer_rule(nn.LayerNorm)
def layer_norm(layer: nn.LayerNorm, narrowed: Narrowed) -> dict[str, Any]:
    if layer.weight is not None:
        return {'normalized_shape': narrowed.shape('weight')}
    return {'normalized_shape': tuple(narrowed.size(size) for size in layer.normalized_shape)}


@layer_rule(nn.GroupNorm)
def group_norm(layer: nn.GroupNorm, narrowed: Narrowed) -> dict[str, Any]:
    channels = narrowed.shape('weight')[0] if layer.affine else narrowed.size(layer.num_channels)
    groups = 1 if layer.num_groups == 1 else narrowed.size(layer.num_groups)
    return {'num_groups': groups, 'num_channels': channels}


def any_layer(layer: nn.Module, narrowed: Narrowed) -> dict[str, Any]:
    """Whole numbers, alone or in lists and tuples, that count channels, heads or groups of the layer."""
    values: dict[str, Any] = {}
    for name, value in vars(layer).items():
        if name.startswith('_') or isinstance(value, bool):
            continue
        if isinstance(value, int):
            changed: Any = narrowed.size(value)
        elif type(value) in (list, tuple) and value and all(type(v) is int for v in value):
            changed = type(value)(narrowed.size(each) for each in value)
        else:
            continue
        if changed != value:
            values[name] = changed
    return values
