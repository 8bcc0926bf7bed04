"""Rules of the operations that have weights, normalise, or look at neighbouring positions."""

from typing import Optional

import torch
from torch import Tensor

from .errors import SlimmingError
from .labels import Labels, Shadow, to_numpy, varying
from .operations import Call, Factors, operation_rule

aten = torch.ops.aten


@operation_rule('convolution', '_convolution')
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


@operation_rule('mm', 'bmm', 'addmm', 'baddbmm', 'mv', 'linear', 'matmul')
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
    results, *inner = labels.contract(lifted[0], lifted[1], adapts)
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


@operation_rule(
    'native_batch_norm', '_native_batch_norm_legit', '_native_batch_norm_legit_no_training',
    '_native_batch_norm_legit_functional', '_batch_norm_with_update', '_batch_norm_no_update',
    'cudnn_batch_norm', 'batch_norm',
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


@operation_rule('_weight_norm_interface')
def weight_norm(labels: Labels, call: Call) -> Factors:
    return [labels.combine(call.shadows, call.shapes, call.results[0].dim()), None]


@operation_rule('native_layer_norm', 'layer_norm', '_fused_rms_norm')
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


@operation_rule('native_group_norm')
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


@operation_rule(
    'max_pool2d_with_indices', 'avg_pool2d', '_adaptive_avg_pool2d', 'adaptive_max_pool2d',
    'max_pool2d', 'avg_pool1d', '_adaptive_avg_pool3d', 'avg_pool3d',
    'max_pool3d_with_indices', 'adaptive_avg_pool2d', 'adaptive_avg_pool1d',
    'upsample_nearest1d', 'upsample_nearest2d', '_upsample_nearest_exact2d',
    'upsample_bilinear2d', 'upsample_bicubic2d', '_upsample_bilinear2d_aa',
    '_upsample_bicubic2d_aa', 'upsample_linear1d', 'upsample_trilinear3d',
    'grid_sampler_2d', 'reflection_pad2d', 'replication_pad2d',
)  # fmt: skip
def spatial(labels: Labels, call: Call) -> Factors:
    factors = call.shadows[0].factors
    if any(d > 1 for factor in factors for d in varying(factor)):
        raise SlimmingError('it mixes positions of which only some exist in a sub-network')
    return [list(factors) for _ in call.results]
