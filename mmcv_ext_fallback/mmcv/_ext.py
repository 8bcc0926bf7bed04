"""A stand-in for the compiled ``mmcv._ext``: torchvision's operators behind mmcv's names.

``mmcv.ops`` imports ``mmcv._ext`` and asserts that each of its operators is there, so without it
nothing of MMDetection can be imported. Here NMS and RoIAlign (average pooling) come from torchvision,
and the sigmoid focal loss is written in PyTorch. Every other name is a function that raises when it
is called.

The parameters have the names of the compiled module's. As there, the results of ``*_forward`` and
``*_backward`` are written into a tensor that the caller hands over.

Beside a compiled ``_ext``, Python imports that one: extension modules come before ``.py`` files.
"""

from __future__ import annotations

from typing import Any, Callable

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 - registers torch.ops.torchvision
from torch import Tensor

SERVED = (
    'nms',
    'roi_align_forward',
    'roi_align_backward',
    'sigmoid_focal_loss_forward',
    'sigmoid_focal_loss_backward',
    'get_compiler_version',
    'get_compiling_cuda_version',
)
"""The names that do something; every other one raises when called."""

_INSTEAD = (
    'mmcv is installed without its compiled operators. What stands in for them, '
    'mmcv-ext-fallback, has NMS, RoIAlign (average pooling) and the sigmoid focal loss. Choose a '
    'model that needs no other, or change to a compiled mmcv: uninstall mmcv-lite, then install an '
    'mmcv that fits this torch, as https://mmcv.readthedocs.io/en/latest/get_started/'
    'installation.html says. There is no wheel for every torch: for a recent one, mmcv has to be '
    'compiled.'
)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Give the indices of the boxes to keep, by falling score; of equal ones, the first wins.

    The width of a box is ``x2 - x1 + offset``, and its height likewise.
    """
    boxes, scores = _computable(boxes, scores)
    if offset:
        # Widths, heights and overlaps all grow by the offset if these two coordinates do.
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    # On the CPU, torchvision compares overlaps with a float64; mmcv rounds it to their precision.
    threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    return torch.ops.torchvision.nms(boxes, scores, threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool the regions of ``input`` into ``output``. Raises for max pooling (``pool_mode`` 0)."""
    _refuse_max_pooling(pool_mode)
    features, regions = _computable(input, rois)
    pooled = torch.ops.torchvision.roi_align(
        features, regions, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient by the features into ``grad_input``. Raises for max pooling."""
    _refuse_max_pooling(pool_mode)
    gradient, regions = _computable(grad_output, rois)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            gradient,
            regions,
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the loss of each logit into ``output``.

    With p the probability of the right answer, that is ``-alpha * (1 - p)**gamma * log(p)`` for the
    column of the target, and the same with ``1 - alpha`` for every other one. A target without a
    column is background. ``weight`` is empty, or has a factor for each class; then all targets must
    have one.
    """
    (logits,) = _computable(input)
    p, q = logits.sigmoid(), (-logits).sigmoid()
    positive = -alpha * q**gamma * F.logsigmoid(logits)
    negative = (alpha - 1) * p**gamma * F.logsigmoid(-logits)
    output.copy_(_by_target(positive, negative, target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each loss by its logit into ``grad_input``."""
    (logits,) = _computable(input)
    p, q = logits.sigmoid(), (-logits).sigmoid()
    positive = -alpha * q**gamma * (q - gamma * p * F.logsigmoid(logits))
    negative = (alpha - 1) * p**gamma * (gamma * q * F.logsigmoid(-logits) - p)
    grad_input.copy_(_by_target(positive, negative, target, weight))


def get_compiler_version() -> str:
    """Say that there is none: ``mmcv.collect_env`` asks, for reports."""
    return 'n/a (mmcv-ext-fallback)'


def get_compiling_cuda_version() -> str:
    """Say that there is none."""
    return 'n/a (mmcv-ext-fallback)'


def __getattr__(name: str) -> Callable[..., Any]:
    """Make a function that raises, for the operators that are not here."""
    # No operator begins with an underscore, but what Python and tools ask modules for does.
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def missing(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(f'the operator {name!r} is not available. {_INSTEAD}')

    missing.__name__ = missing.__qualname__ = name
    return missing


def _computable(*tensors: Tensor) -> list[Tensor]:
    """Give tensors of one data type that all kernels have.

    torchvision's kernels take no mixture and no bfloat16, and that of NMS no float16 on the CPU.
    Float32 is what torchvision's own autocast computes them in.
    """
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return [tensor.to(torch.float64 if double else torch.float32) for tensor in tensors]


def _refuse_max_pooling(pool_mode: int) -> None:
    if pool_mode == 0:
        raise NotImplementedError(f"RoIAlign with pool_mode='max' is not available. {_INSTEAD}")


def _by_target(positive: Tensor, negative: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    classes = torch.arange(positive.shape[1], device=target.device)
    values = torch.where(target[:, None] == classes, positive, negative)
    return values * weight[target][:, None] if weight.numel() else values
