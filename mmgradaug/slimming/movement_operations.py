"""Rules of the operations that move data: labels move as the data does."""

from collections.abc import Sequence

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
from .operations import Call, Factors, operation_rule

aten = torch.ops.aten


@operation_rule('permute', 'transpose', 't', 'unsqueeze', 'movedim', 'flip', 'roll')
def rearrangement(labels: Labels, call: Call) -> Factors:
    """Labels move as the data does."""
    factors = call.shadows[0].factors
    return [_noted(labels, [call.operation(f, *call.args[1:], **call.kwargs) for f in factors])]


@operation_rule(
    'channel_shuffle', 'im2col', 'repeat', 'unfold', 'diagonal', 'rot90', 'native_channel_shuffle',
)  # fmt: skip
def movement(labels: Labels, call: Call) -> Factors:
    spread = [f.expand(call.shapes[0]) for f in call.shadows[0].factors]
    return [_noted(labels, [call.operation(f, *call.args[1:], **call.kwargs) for f in spread])]


@operation_rule('pixel_shuffle', 'pixel_unshuffle')
def pixels(labels: Labels, call: Call) -> Factors:
    """The r x r channels that become the pixels of one channel, or come from them, exist together."""
    dims, square = call.results[0].dim(), call.args[1] ** 2
    moved = []
    for factor in call.shadows[0].factors:
        if dims - 3 in varying(factor):
            if call.operation.overloadpacket is aten.pixel_shuffle:
                split = factor.unflatten(dims - 3, (-1, square))
                factor = labels.merge_along(split, [dims - 2]).squeeze(dims - 2)
            else:
                factor = factor.repeat_interleave(square, dims - 3)
        moved.append(factor)
    return [_noted(labels, moved)]


@operation_rule('glu')
def gated(labels: Labels, call: Call) -> Factors:
    """The second half of the channels gates the first; each half keeps its own first channels."""
    dims = len(call.shapes[0])
    dim = call.argument(1, 'dim', -1) % dims
    halves: list[list[Tensor]] = [[], []]
    for factor in call.shadows[0].factors:
        pieces = factor.chunk(2, dim) if dim in varying(factor) else (factor, factor)
        labels.split_off([factor], pieces)
        for half, piece in zip(halves, pieces):
            half.append(piece)
    return [labels.combine([Shadow(half) for half in halves], [call.results[0].shape] * 2, dims)]


@operation_rule('constant_pad_nd')
def padding(labels: Labels, call: Call) -> Factors:
    """Channels with zeros behind them (PyramidNet's shortcut) fit to whatever they are added to."""
    moved = []
    for factor in call.shadows[0].factors:
        pads = list(call.args[1])
        # Only sizes of dimensions along which there are channels are looked at. In a sub-network what is
        # padded may be rounded to the number that it is padded to.
        padded = [
            pad
            for i, pad in enumerate(pads)
            if (pad or labels.classes.frozen) and factor.shape[-1 - i // 2] > 1
        ]
        moved.append(torch.full_like(factor[(slice(1),) * factor.dim()], ANY) if padded else factor)
    return [moved]


@operation_rule(
    'view', '_unsafe_view', 'reshape', '_reshape_alias', 'squeeze', 'squeeze_',
    'unsqueeze_',
)  # fmt: skip
def reshape(labels: Labels, call: Call) -> Factors:
    old, new = call.shapes[0], tuple(call.results[0].shape)
    if call.operation.overloadpacket.__name__.endswith('_'):
        old = _before(call)
    return [_noted(labels, [reshaped(f, old, new) for f in call.shadows[0].factors])]


def _before(call: Call) -> tuple[int, ...]:
    """The shape that an in-place squeeze or unsqueeze has changed already."""
    return tuple(call.shadows[0].factors[0].shape)


@operation_rule('expand')
def expansion(labels: Labels, call: Call) -> Factors:
    dims = call.results[0].dim()
    return [[aligned(f, dims) for f in call.shadows[0].factors]]


@operation_rule('as_strided', 'as_strided_')
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
    'slice', 'select', 'split', 'split_with_sizes', 'unbind', 'chunk', 'narrow',
    'unsafe_split', 'unsafe_chunk', 'unsafe_split_with_sizes',
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
            line = factor
            for other in range(factor.dim()):
                line = line if other == dim else line.narrow(other, 0, 1)
            along = to_numpy(line.reshape(-1))
            if call.argument(4, 'step', 1) != 1:
                raise SlimmingError('it takes some channels and leaves out those between')
            call.slices(dim, along, start, start + pieces[0].shape[dim])
        for result, each in zip(by_result, pieces):
            each = compress(each)
            if labels.classes.strict and call.operation.overloadpacket is aten.select:
                chosen = labels.classes.find(to_numpy(each))
                if not varying(each) and dim in varying(factor) and (chosen > ALWAYS).any():
                    raise SlimmingError('it chooses another channel')
            if varying(each) or _fix(labels, each):
                result.append(each)
    return by_result


def _position(call: Call, name: str) -> int:
    names = [argument.name for argument in call.operation._schema.arguments]
    return names.index(name)


@operation_rule('cat', 'stack')
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


@operation_rule('index', 'index_select', 'gather', 'embedding')
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
