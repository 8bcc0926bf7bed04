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

from .errors import SlimmingError
from .labels import (
    ALWAYS,
    ANY,
    LABEL_TYPE,
    Labels,
    Shadow,
    aligned,
    compress,
    reshaped,
    to_numpy,
    varying,
)

aten = torch.ops.aten


@dataclass
class Call:
    """One call of an operation.

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
        slices: called with (dimension, labels in front of a slice, labels in it).
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
    slices: Callable[[int, np.ndarray, np.ndarray], None]

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


Factors = list[Optional[list[Tensor]]]
Rule = Callable[[Labels, Call], Factors]
RULES: dict[Any, Rule] = {}


def operation_rule(*operations: Any) -> Callable[[Rule], Rule]:
    """Register a rule for operations: overloads (``aten.add.Tensor``) or all overloads (``aten.add``)."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(operations, rule))
        return rule

    return register


def find_rule(operation: Any) -> Optional[Rule]:
    for key in (operation, operation.overloadpacket):
        if key in RULES:
            return RULES[key]
    return pointwise if torch.Tag.pointwise in operation.tags else None


@operation_rule(
    aten.native_dropout, aten.dropout, aten.where, aten.masked_fill, aten.masked_fill_, aten.copy_,
    aten.fill_, aten.zero_, aten.bernoulli_, aten.uniform_, aten.normal_, aten.lerp, aten.alias,
    aten.detach, aten._to_copy, aten.clone, aten.contiguous, aten.lift_fresh, aten.lift_fresh_copy,
    aten.rrelu_with_noise, aten._prelu_kernel, aten.hardswish, aten.hardswish_, aten.hardsigmoid,
    aten.hardsigmoid_, aten.hardtanh, aten.hardtanh_, aten.relu6, aten.leaky_relu_, aten.silu_, aten.mish_,
    aten.elu_, aten.dropout_, aten.prelu,
)  # fmt: skip
def pointwise(labels: Labels, call: Call) -> Factors:
    """Element by element: what meets in an element exists together."""
    dims = call.results[0].dim()
    return [labels.combine(call.shadows, call.shapes, dims)] * len(call.results)


# --- layers with weights ------------------------------------------------------------------------


@operation_rule(aten.convolution, aten._convolution)
def convolution(labels: Labels, call: Call) -> Factors:
    x, weight, bias = call.args[:3]
    transposed, groups = call.args[6], call.args[8]
    image, kernel = call.shadow_of(x), call.shadow_of(weight)
    dims = x.dim()
    ins = out = None
    for factor in kernel.factors:
        along = varying(factor)
        if along == (int(transposed),):
            out = factor.reshape(-1)
        elif along == (int(not transposed),):
            ins = factor.reshape(-1)
        else:
            labels.always(factor)
    channels, rest = None, []
    for factor in image.factors:
        along = varying(factor)
        if along == (0, 1):  # heads in the batch dimension: whole heads
            rest.append(labels.merge_along(factor, [1]))
        elif along == (1,):
            channels = factor.reshape(-1)
        elif 1 in along or any(d > 1 for d in along):
            raise SlimmingError('it mixes positions of which only some exist in a sub-network')
        else:
            rest.append(factor)
    if groups == 1:
        if channels is None and ins is not None and not image.adapts:
            labels.always(ins)
        elif channels is not None and ins is not None:
            labels.tie(ins, channels)
        elif channels is not None:
            labels.always(channels)
    else:
        out = _grouped(labels, call, channels, ins, out, (x.shape[1], groups), transposed)
    if out is None:
        return [rest]
    if kernel.of_parameters:
        call.produces(out)
    if bias is not None:
        for factor in call.shadow_of(bias).factors:
            labels.tie(factor, out)
    return [[labels.canonical(out.view(1, -1, *[1] * (dims - 2))), *rest]]


def _grouped(
    labels: Labels,
    call: Call,
    channels: Optional[Tensor],
    ins: Optional[Tensor],
    out: Optional[Tensor],
    sizes: tuple[int, int],
    transposed: bool,
) -> Optional[Tensor]:
    """Groups exist as wholes, inputs and outputs alike. Returns the labels of the outputs."""
    num_inputs, groups = sizes
    if transposed:  # weight (inputs, outputs / groups, ...)
        if out is not None:
            labels.always(out)
        if ins is not None and channels is not None:
            labels.tie(ins, channels)
        num_outputs = call.results[0].shape[1]
        source = channels if channels is not None else ins
        if source is None:
            return None
        by_group = labels.merge_along(source.view(groups, -1), [1]).view(-1, 1)
        out = by_group.expand(groups, num_outputs // groups).reshape(-1)
    else:
        if ins is not None:
            labels.always(ins)
        if out is None:
            return None
        by_group = labels.merge_along(out.view(groups, -1), [1]).view(-1)
        if by_group.numel() == 1:
            by_group = by_group.expand(groups)
        if channels is not None:
            labels.tie(channels.view(groups, -1), by_group.view(groups, 1))
        else:
            labels.always(out)
    call.note_size(groups, to_numpy(out.reshape(groups, -1)[:, 0]))
    return out


@operation_rule(aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.mv, aten.linear, aten.matmul)
def product(labels: Labels, call: Call) -> Factors:
    """Matrix products. Where an operand comes from parameters, its other dimension are new channels."""
    name = call.operation.overloadpacket.__name__
    tensors = list(call.args[:3])
    added = tensors.pop(0) if name in ('addmm', 'baddbmm') else None
    left, right = tensors[:2]
    batched = name in ('bmm', 'baddbmm')
    shadows = [call.shadow_of(t) for t in (left, right)]
    lifted = []
    for index, shadow in enumerate(shadows):
        factors = []
        for factor in shadow.factors:
            if not batched:
                factor = factor.unsqueeze(0)
            if index == 0:  # (batch, m, k)
                factor = factor.unsqueeze(2)
            else:  # (batch, k, n), or (batch, k) of a vector
                factor = factor.unsqueeze(-1) if factor.dim() == 2 else factor
                factor = factor.permute(0, 2, 1).unsqueeze(1)
            factors.append(factor)
        lifted.append(Shadow(factors))
    adapts = (shadows[0].adapts, shadows[1].adapts)
    results, *inner = labels.contract(*lifted, adapts)
    for index, shadow in enumerate(shadows):
        if not shadow.of_parameters or not inner[index] or shadows[1 - index].of_parameters:
            continue
        # A weight: what it does not sum over are the layer's outputs.
        for factor in lifted[index].factors:
            if factor.shape[3] == 1:
                call.produces(factor)
                for source in inner[1 - index] or inner[index]:
                    if varying(source) == (3,) and len(varying(factor)) == 1:
                        call.links(source.reshape(-1), factor.reshape(-1))
    out_dims = call.results[0].dim()
    shaped = []
    for factor in results:
        factor = factor.squeeze(3)
        if not batched:
            factor = factor.squeeze(0)
        if name == 'mv':
            factor = factor.squeeze(1)
        shaped.append(factor)
    if added is not None:
        operands = [Shadow(shaped), call.shadow_of(added)]
        shapes = [call.results[0].shape, added.shape]
        shaped = labels.combine(operands, shapes, out_dims)
    return [shaped]


# --- normalisation ------------------------------------------------------------------------------


@operation_rule(
    aten.native_batch_norm, aten._native_batch_norm_legit, aten._native_batch_norm_legit_no_training,
    aten._native_batch_norm_legit_functional, aten._batch_norm_with_update, aten._batch_norm_no_update,
    aten.cudnn_batch_norm, aten.batch_norm,
)  # fmt: skip
def batch_norm(labels: Labels, call: Call) -> Factors:
    x = call.args[0]
    view = (1, -1) + (1,) * (x.dim() - 2)
    operands, shapes = [call.shadow_of(x)], [x.shape]
    for value in call.args[1:5]:
        if isinstance(value, Tensor) and value.dim() == 1:
            factors = [factor.view(view) for factor in call.shadow_of(value).factors]
            operands.append(Shadow(factors, of_parameters=True))
            shapes.append((1, value.numel()) + (1,) * (x.dim() - 2))
    return [labels.combine(operands, shapes, x.dim())] + [None] * (len(call.results) - 1)


@operation_rule(aten._weight_norm_interface)
def weight_norm(labels: Labels, call: Call) -> Factors:
    return [labels.combine(call.shadows, call.shapes, call.results[0].dim()), None]


@operation_rule(aten.native_layer_norm, aten.layer_norm, aten._fused_rms_norm)
def layer_norm(labels: Labels, call: Call) -> Factors:
    x, normalized = call.args[0], len(call.args[1])
    dims = range(x.dim() - normalized, x.dim())
    factors = [
        labels.merge_along(f, sorted(set(varying(f)) & set(dims)))
        if set(varying(f)) & set(dims) and set(varying(f)) - set(dims)
        else f
        for f in call.shadow_of(x).factors
    ]
    operands, shapes = [Shadow(factors)], [x.shape]
    for value in (call.argument(2, 'weight'), call.argument(3, 'bias')):
        if isinstance(value, Tensor):
            operands.append(call.shadow_of(value))
            shapes.append(value.shape)
    return [labels.combine(operands, shapes, x.dim())] + [None] * (len(call.results) - 1)


@operation_rule(aten.native_group_norm)
def group_norm(labels: Labels, call: Call) -> Factors:
    """Groups of channels exist as wholes; one group of all channels is a layer norm."""
    x, groups = call.args[0], call.args[6]
    view = (1, -1) + (1,) * (x.dim() - 2)
    operands, shapes = [call.shadow_of(x)], [x.shape]
    for value in call.args[1:3]:
        if isinstance(value, Tensor):
            factors = [factor.view(view) for factor in call.shadow_of(value).factors]
            operands.append(Shadow(factors))
            shapes.append((1, value.numel()) + (1,) * (x.dim() - 2))
    factors = labels.combine(operands, shapes, x.dim())
    if groups > 1:
        for factor in factors:
            if 1 in varying(factor):
                if varying(factor) != (1,):
                    raise SlimmingError('its groups are of channels that depend on the position')
                by_group = factor.reshape(groups, -1)
                labels.tie(by_group, by_group[:, :1])
                call.note_size(groups, to_numpy(by_group[:, 0]))
    return [[labels.canonical(f) for f in factors]] + [None] * (len(call.results) - 1)


# --- what looks at neighbouring positions -------------------------------------------------------


@operation_rule(
    aten.max_pool2d_with_indices, aten.avg_pool2d, aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d,
    aten.max_pool2d, aten.avg_pool1d, aten._adaptive_avg_pool3d, aten.avg_pool3d,
    aten.max_pool3d_with_indices, aten.adaptive_avg_pool2d, aten.adaptive_avg_pool1d,
    aten.upsample_nearest1d, aten.upsample_nearest2d, aten._upsample_nearest_exact2d,
    aten.upsample_bilinear2d, aten.upsample_bicubic2d, aten._upsample_bilinear2d_aa,
    aten._upsample_bicubic2d_aa, aten.upsample_linear1d, aten.upsample_trilinear3d,
    aten.grid_sampler_2d, aten.reflection_pad2d, aten.replication_pad2d,
)  # fmt: skip
def spatial(labels: Labels, call: Call) -> Factors:
    factors = call.shadows[0].factors
    if any(d > 1 for factor in factors for d in varying(factor)):
        raise SlimmingError('it mixes positions of which only some exist in a sub-network')
    return [list(factors) for _ in call.results]


# --- sums and the like --------------------------------------------------------------------------


@operation_rule(
    aten.mean, aten.sum, aten.amax, aten.amin, aten.var_mean, aten.var, aten.std, aten.std_mean,
    aten.linalg_vector_norm, aten.max, aten.min, aten.logsumexp, aten.prod, aten.argmax, aten.norm,
    aten.any, aten.all, aten.argmin,
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
    aten._softmax,
    aten._safe_softmax,
    aten._log_softmax,
    aten.cumsum,
    aten.logcumsumexp,
    aten.softmax,
)
def softmax(labels: Labels, call: Call) -> Factors:
    x = call.args[0]
    return [labels.reduce(call.shadows[0].factors, [call.args[1] % x.dim()], softmax=True)]


# --- data that moves ----------------------------------------------------------------------------


@operation_rule(
    aten.permute, aten.transpose, aten.t, aten.unsqueeze, aten.movedim, aten.flip, aten.roll
)
def rearrangement(labels: Labels, call: Call) -> Factors:
    """Labels move as the data does."""
    factors = call.shadows[0].factors
    return [_noted(labels, [call.operation(f, *call.args[1:], **call.kwargs) for f in factors])]


@operation_rule(
    aten.pixel_shuffle, aten.pixel_unshuffle, aten.channel_shuffle, aten.im2col, aten.repeat,
    aten.unfold, aten.diagonal, aten.rot90, aten.native_channel_shuffle,
)  # fmt: skip
def movement(labels: Labels, call: Call) -> Factors:
    spread = [f.expand(call.shapes[0]) for f in call.shadows[0].factors]
    return [_noted(labels, [call.operation(f, *call.args[1:], **call.kwargs) for f in spread])]


@operation_rule(aten.constant_pad_nd)
def padding(labels: Labels, call: Call) -> Factors:
    """Channels with zeros behind them (PyramidNet's shortcut) fit to whatever they are added to."""
    moved = []
    for factor in call.shadows[0].factors:
        pads = list(call.args[1])
        # Only sizes of dimensions along which there are channels are looked at.
        padded = [pad for i, pad in enumerate(pads) if pad and factor.shape[-1 - i // 2] > 1]
        moved.append(torch.full_like(factor[(slice(1),) * factor.dim()], ANY) if padded else factor)
    return [moved]


@operation_rule(
    aten.view, aten._unsafe_view, aten.reshape, aten._reshape_alias, aten.squeeze, aten.squeeze_,
    aten.unsqueeze_,
)  # fmt: skip
def reshape(labels: Labels, call: Call) -> Factors:
    old, new = call.shapes[0], tuple(call.results[0].shape)
    if call.operation.overloadpacket.__name__.endswith('_'):
        old = _before(call)
    return [_noted(labels, [reshaped(f, old, new) for f in call.shadows[0].factors])]


def _before(call: Call) -> tuple[int, ...]:
    """The shape that an in-place squeeze or unsqueeze has changed already."""
    return tuple(call.shadows[0].factors[0].shape)


@operation_rule(aten.expand)
def expansion(labels: Labels, call: Call) -> Factors:
    dims = call.results[0].dim()
    return [[aligned(f, dims) for f in call.shadows[0].factors]]


@operation_rule(aten.as_strided, aten.as_strided_)
def restride(labels: Labels, call: Call) -> Factors:
    if call.shapes[0] != tuple(call.args[1]):
        raise SlimmingError('it looks at memory and not at channels')
    return [list(call.shadows[0].factors)]


def _noted(labels: Labels, moved: Sequence[Tensor]) -> list[Tensor]:
    moved = [compress(each) for each in moved]
    labels.crossed.extend(f for f in moved if len(varying(f)) > 1)
    return [f for f in moved if varying(f) or _fix(labels, f)]


def _fix(labels: Labels, factor: Tensor) -> bool:
    """One channel alone has to be there; returns False."""
    labels.always(factor)
    return False


@operation_rule(
    aten.slice, aten.select, aten.split, aten.split_with_sizes, aten.unbind, aten.chunk, aten.narrow,
    aten.unsafe_split, aten.unsafe_chunk, aten.unsafe_split_with_sizes,
)  # fmt: skip
def piece(labels: Labels, call: Call) -> Factors:
    """Movement of a part. Where it is a part of the channels, each part keeps its own first ones."""
    shape = call.shapes[0]
    dim = call.argument(_position(call, 'dim'), 'dim', 0) % len(shape)
    by_result: list[list[Tensor]] = [[] for _ in call.results]
    for factor in call.shadows[0].factors:
        # Along this dimension in full, so that the numbers in the arguments fit.
        sizes = [shape[d] if d == dim else size for d, size in enumerate(factor.shape)]
        pieces = call.operation(factor.expand(sizes), *call.args[1:], **call.kwargs)
        pieces = [pieces] if isinstance(pieces, Tensor) else list(pieces)
        if labels.split_off([factor], pieces) and call.operation.overloadpacket is aten.slice:
            start = call.argument(2, 'start') or 0
            start = min(start + shape[dim] if start < 0 else start, shape[dim])
            along = factor
            for other in range(factor.dim()):
                along = along if other == dim else along.narrow(other, 0, 1)
            along = to_numpy(along.reshape(-1))
            if call.argument(4, 'step', 1) == 1:
                call.slices(dim, along[:start], along[start : start + pieces[0].shape[dim]])
        for result, each in zip(by_result, pieces):
            each = compress(each)
            if varying(each) or _fix(labels, each):
                result.append(each)
    return by_result


def _position(call: Call, name: str) -> int:
    names = [argument.name for argument in call.operation._schema.arguments]
    return names.index(name)


@operation_rule(aten.cat, aten.stack)
def concatenation(labels: Labels, call: Call) -> Factors:
    stacked = call.operation.overloadpacket is aten.stack
    dims = call.results[0].dim()
    dim = call.argument(1, 'dim', 0) % dims
    shadows, shapes = call.shadows, call.shapes
    if stacked:
        shadows = [
            Shadow([f.unsqueeze(dim) for f in s.factors], s.adapts, s.of_parameters)
            for s in shadows
        ]
        shapes = [(*shape[:dim], 1, *shape[dim:]) for shape in shapes]
    across = [  # what does not change along the dimension is the same in all operands
        Shadow([f for f in s.factors if dim not in varying(f)], s.adapts) for s in shadows
    ]
    flat = [(*shape[:dim], 1, *shape[dim + 1 :]) for shape in shapes]
    factors = labels.combine(across, flat, dims)
    along = [[f for f in s.factors if dim in varying(f)] for s in shadows]
    if any(along):
        joined = []
        spread = [1] * dims
        for shadow, own, shape in zip(shadows, along, shapes):
            if len(own) > 1:
                raise SlimmingError('it joins tensors whose channels cross')
            if own:
                spread = [max(a, b) for a, b in zip(spread, own[0].shape)]
            fill = ANY if shadow.adapts else ALWAYS
            part = own[0] if own else torch.full((1,) * dims, fill, dtype=LABEL_TYPE)
            joined.append((part, shape[dim]))
        spread = [1 if d == dim else size for d, size in enumerate(spread)]
        parts = [part.expand([*spread[:dim], size, *spread[dim + 1 :]]) for part, size in joined]
        factors = [*factors, compress(torch.cat(parts, dim))]
    return [[f for f in factors if varying(f)]]


@operation_rule(aten.index, aten.index_select, aten.gather, aten.embedding)
def indexing(labels: Labels, call: Call) -> Factors:
    """Indices are data, so whatever they choose from has to be there in full; other dimensions stay."""
    name = call.operation.overloadpacket.__name__
    x = call.args[0]
    if name == 'index':
        indices = call.args[1]
        chosen = [d for d, index in enumerate(indices) if index is not None]
    else:
        chosen = [0 if name == 'embedding' else call.args[1] % x.dim()]
        indices = [call.args[1] if name == 'embedding' else call.args[2]]
    factors = []
    for factor in call.shadow_of(x).factors:
        if set(varying(factor)) & set(chosen):
            labels.always(factor)
            continue
        filled = factor.expand(x.shape)
        if name == 'index':
            zeros = [i if i is None else torch.zeros(i.shape, dtype=torch.long) for i in indices]
            moved = aten.index(filled, zeros)
        elif name == 'embedding':
            moved = filled[torch.zeros(indices[0].shape, dtype=torch.long)]
        elif name == 'index_select':
            moved = filled.index_select(chosen[0], torch.zeros(indices[0].shape, dtype=torch.long))
        else:
            moved = filled.gather(chosen[0], torch.zeros(indices[0].shape, dtype=torch.long))
        factors.append(compress(moved))
    return [[f for f in factors if varying(f)]]
