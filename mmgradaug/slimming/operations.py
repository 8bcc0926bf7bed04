"""What each operation of PyTorch does to the channels of its tensors.

One small rule for each kind of operation, found by the operation (``torch.ops.aten...``). A rule gets the
:class:`~mmgradaug.slimming.labels.Labels` and a :class:`Call`, and returns the factors of each result, or None
for one that nobody uses. An operation of one's own is taught by :func:`operation_rule`::

    @operation_rule(torch.ops.mylib.swish_norm.default)
    def _(labels, call):
        return [labels.combine(call.shadows[:1], call.shapes[:1], call.results[0].dim())]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor

from .labels import Labels, Shadow

aten = torch.ops.aten


@dataclass
class Call:
    """One call of an operation.

    Example:
        >>> import torch
        >>> from mmgradaug.slimming import Call
        >>> x = torch.ones(2, 3)
        >>> call = Call(
        ...     torch.ops.aten.cumsum.default, args=(x,), kwargs={'dim': 1}, tensors=[x], shadows=[],
        ...     shapes=[(2, 3)], results=[x.cumsum(1)], shadow_of=None, note_size=None, produces=None,
        ...     links=None, slices=None)
        >>> call.argument(1, 'dim'), call.argument(2, 'dtype', 'none given')
        (1, 'none given')

    Args:
        operation: ``torch.ops.aten.add.Tensor``, for instance.
        args, kwargs: its arguments, positional ones as far as they were given.
        tensors: every tensor among the arguments, in their order, also inside lists.
        shadows: what is known of each of ``tensors``.
        shapes: of each of ``tensors``.
        results: the tensors that came out.
        note_size: called with (size, labels) where a layer's attribute counts something that is no
            dimension of a tensor, such as ``groups``.
        produces: called with labels that become channels here: the outputs of a layer.
        slices: called with (dimension, labels along it, where a slice starts, where it ends).
        links: called with (labels of a layer's inputs, labels of its outputs).
    """

    operation: Any
    args: Sequence[Any]
    kwargs: dict[str, Any]
    tensors: list[Tensor]
    shadows: list[Shadow]
    shapes: list[tuple[int, ...]]
    results: list[Tensor]
    shadow_of: Callable[[Tensor], Shadow]
    note_size: Callable[[int, np.ndarray], None]
    produces: Callable[[Tensor], None]
    links: Callable[[Tensor, Tensor], None]
    slices: Callable[[int, np.ndarray, int, int], None]

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


Factors = Sequence[Optional[list[Tensor]]]
Rule = Callable[[Labels, Call], Factors]
RULES: dict[Any, Rule] = {}


def operation_rule(*operations: Any) -> Callable[[Rule], Rule]:
    """Register a rule for operations.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmgradaug import plan_channels
        >>> from mmgradaug.slimming import operation_rule
        >>> library = torch.library.Library('mylib', 'DEF')
        >>> name = library.define('swish(Tensor x) -> Tensor')
        >>> library.impl('swish', lambda x: x * x.sigmoid(), 'CompositeExplicitAutograd')
        >>> class Swish(nn.Module):
        ...     def forward(self, x):
        ...         return torch.ops.mylib.swish(x)
        >>> model = nn.Sequential(nn.Linear(8, 16), Swish(), nn.Linear(16, 3))
        >>> plan_channels(model)
        Traceback (most recent call last):
            ...
        mmgradaug.slimming.errors.SlimmingError: '1' has no sub-networks that are known of: ...
        >>> @operation_rule(torch.ops.mylib.swish.default)
        ... def _(labels, call):
        ...     return [labels.combine(call.shadows, call.shapes, call.results[0].dim())]
        >>> plan_channels(model).runs
        [16]

    Args:
        operations: overloads (``torch.ops.aten.add.Tensor``), all overloads (``torch.ops.aten.add``), or a name
            among ``torch.ops.aten``, of which a PyTorch may not have every one.
    """
    known = [getattr(aten, each, None) if isinstance(each, str) else each for each in operations]

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys([each for each in known if each is not None], rule))
        return rule

    return register


def import_rules() -> None:
    """Register the rules of the other modules."""
    from . import layer_operations, movement_operations  # noqa: F401  they register themselves


def find_rule(operation: Any) -> Optional[Rule]:
    for key in (operation, operation.overloadpacket):
        if key in RULES:
            return RULES[key]
    return pointwise if torch.Tag.pointwise in operation.tags else None


@operation_rule(
    'native_dropout', 'dropout', 'where', 'masked_fill', 'masked_fill_', 'copy_',
    'fill_', 'zero_', 'bernoulli_', 'uniform_', 'normal_', 'lerp', 'alias',
    'detach', '_to_copy', 'clone', 'contiguous', 'lift_fresh', 'lift_fresh_copy',
    'rrelu_with_noise', '_prelu_kernel', 'hardswish', 'hardswish_', 'hardsigmoid',
    'hardsigmoid_', 'hardtanh', 'hardtanh_', 'relu6', 'leaky_relu_', 'silu_', 'mish_',
    'elu_', 'dropout_', 'prelu',
)  # fmt: skip
def pointwise(labels: Labels, call: Call) -> Factors:
    """Element by element: what meets in an element exists together."""
    dims = call.results[0].dim()
    return [labels.combine(call.shadows, call.shapes, dims)] * len(call.results)


@operation_rule(
    'mean', 'sum', 'amax', 'amin', 'var_mean', 'var', 'std', 'std_mean',
    'linalg_vector_norm', 'max', 'min', 'logsumexp', 'prod', 'argmax', 'norm',
    'any', 'all', 'argmin',
)  # fmt: skip
def reduction(labels: Labels, call: Call) -> Factors:
    x = call.args[0]
    if len(call.tensors) > 1:  # max and min of two tensors
        return pointwise(labels, call)
    dims, keepdim = _reduced(call, x.dim())
    factors = labels.reduce(call.shadows[0].factors, dims)
    if not keepdim:
        kept = [d for d in range(x.dim()) if d not in dims]
        factors = [f.reshape([f.shape[d] for d in kept]) for f in factors]
    return [list(factors) for _ in call.results]


def _reduced(call: Call, num_dims: int) -> tuple[list[int], bool]:
    """The dimensions that are reduced, and whether they stay with size 1."""
    given = {}
    for index, argument in enumerate(call.operation._schema.arguments):
        if argument.name in ('dim', 'keepdim'):
            given[argument.name] = call.argument(index, argument.name)
    dims = given.get('dim')
    dims = [dims] if isinstance(dims, int) else list(dims or range(num_dims))
    return [d % num_dims for d in dims], bool(given.get('keepdim'))


@operation_rule(
    '_softmax',
    '_safe_softmax',
    '_log_softmax',
    'cumsum',
    'logcumsumexp',
    'softmax',
)
def softmax(labels: Labels, call: Call) -> Factors:
    x = call.args[0]
    return [labels.reduce(call.shadows[0].factors, [call.args[1] % x.dim()], softmax=True)]
