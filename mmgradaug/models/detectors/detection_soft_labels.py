"""What the full network says of a batch, and how a sub-network learns it on the transformed batch."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import (
    ATSSHead,
    CondInstBboxHead,
    FCOSHead,
    FreeAnchorRetinaHead,
    FSAFHead,
    GFLHead,
    PAAHead,
    RetinaHead,
    RPNHead,
)
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import BaseDetector
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from torch import Tensor, nn

from mmgradaug.subnets import SoftLabelLoss

from .detection_batch import DetectionBatch, image_factors

PARTS = ('classification', 'boxes', 'masks')
# By exact type: others may give probabilities (TOOD), one level only (YOLOF), or no class logits at all.
DENSE_HEADS = (
    ATSSHead, CondInstBboxHead, FCOSHead, FreeAnchorRetinaHead, FSAFHead, GFLHead, PAAHead, RetinaHead,
    RPNHead,
)  # fmt: skip


@dataclass
class RoISoftLabels:
    """One RoI head's output on the proposals of the full pass.

    Args:
        extractor: cuts the RoIs out of feature maps.
        head: a BBoxHead or FCNMaskHead.
        rois: (K, 5): number of the image, then x1, y1, x2, y2 in the original batch.
        cls_score: (K, classes + 1) logits, the background last; for a mask head those of the box head of
            its stage on the same RoIs.
        values: box deltas (K, 4) or (K, 4 * classes), or mask logits (K, classes or 1, h, w).
    """

    extractor: BaseRoIExtractor
    head: Union[BBoxHead, FCNMaskHead]
    rois: Tensor
    cls_score: Optional[Tensor]
    values: Optional[Tensor]


@dataclass
class DetectionSoftLabels:
    """The full network's output on a batch, and the losses of a sub-network against it.

    *RPN, or the head of a one-stage detector*: classification logits of each location and anchor. A
    location of the transformed image is compared with the same point of the original (where a location
    is, the head's own prior generator says), between whose neighbours the full network's logits are
    interpolated. At scale f an object is f times as large, so what a level of stride s sees there, a
    level of stride s / f sees in the original: the full network's logits are interpolated between the
    two levels next to that, too, and a level without such neighbours (the coarsest, for f < 1) learns
    nothing. The divergences are summed over locations within the images and anchors, and divided by the
    full network's expected number of foreground anchors, the sum of the probability of each one's
    likeliest class, at least 1.

    *RoI heads*: sub-networks look at the full network's own proposals, scaled like the images, so what
    is compared belongs to the same part of the scene. Classification: mean divergence over the RoIs.
    Boxes: L1 between the deltas (relative to the RoI, so scale does not matter) of the full network's
    most likely class, weighted by the probability that it is foreground; mean over the RoIs. Masks:
    mean binary divergence over the pixels of the positive RoIs, again of that class.

    The paper does not say how soft labels of a detector are compared; all this is our choice.
    """

    batch: DetectionBatch
    parts: Sequence[str]
    dense: list[Tensor] = field(default_factory=list)
    rois: list[RoISoftLabels] = field(default_factory=list)

    def losses(
        self, model: BaseDetector, batch: DetectionBatch, loss: SoftLabelLoss
    ) -> dict[str, Tensor]:
        """Losses of the sub-network that ``model`` is at the moment, on the transformed ``batch``."""
        feats = model.extract_feat(batch.inputs)
        losses: dict[str, Tensor] = {}
        head = dense_head(model)
        if head is not None and 'classification' in self.parts:
            losses['loss_soft_dense'] = self._dense_loss(head, feats, batch, loss)
        factors = image_factors(self.batch, batch)
        for index, labels in enumerate(self.rois):
            rois = labels.rois.clone()
            rois[:, 1:] *= factors[rois[:, 0].long()].repeat(1, 2)
            roi_feats = labels.extractor(feats[: labels.extractor.num_inputs], rois)
            outputs = labels.head(roi_feats)
            if isinstance(labels.head, FCNMaskHead):
                losses[f'loss_soft_mask{index}'] = _mask_loss(outputs, labels, loss)
                continue
            cls_score, deltas = outputs
            if 'classification' in self.parts:
                losses[f'loss_soft_cls{index}'] = (
                    loss(cls_score, labels.cls_score) if len(rois) else cls_score.sum() * 0
                )
            if 'boxes' in self.parts:
                losses[f'loss_soft_box{index}'] = _box_loss(deltas, labels, loss)
        return losses

    def _dense_loss(
        self,
        head: BaseDenseHead,
        feats: Sequence[Tensor],
        batch: DetectionBatch,
        loss: SoftLabelLoss,
    ) -> Tensor:
        sigmoid = head.use_sigmoid_cls
        strides = [stride[0] for stride in head.prior_generator.strides]
        factor = float(image_factors(self.batch, batch).log2().mean().exp2())
        total = foreground = batch.inputs.new_zeros(())
        for level, sub in enumerate(head(feats)[0]):
            shares = levels_of_stride(strides, strides[level] / factor)
            if not shares:
                continue
            full, inside = batch.inputs.new_zeros(()), None
            for other, share in shares.items():
                # Half precision would neither hold positions in pixels nor the sum over locations.
                maps = self.dense[other].to(batch.inputs.dtype)
                points, inside = _same_points(self.batch, batch, head, other, level, maps, sub)
                sampled = F.grid_sample(maps, points, padding_mode='border', align_corners=False)
                full = full + share * sampled
            # Anchors one by one: (locations * anchors, classes).
            classes = head.cls_out_channels
            anchors = sub.shape[1] // classes
            full, sub = (
                maps.unflatten(1, (anchors, classes)).permute(0, 3, 4, 1, 2)[inside].flatten(0, 1)
                for maps in (full, sub)
            )
            if not len(sub):  # no location of so coarse a level is inside its image
                continue
            total = total + loss(sub, full, multi_label=sigmoid) * len(sub)
            scores = full.sigmoid() if sigmoid else full.softmax(1)[:, :-1]
            foreground = foreground + scores.max(1).values.sum()
        return total / foreground.clamp(min=1)


def levels_of_stride(strides: Sequence[int], stride: float) -> dict[int, float]:
    """Between which levels a stride lies, and the share of each; on a scale of octaves.

    Args:
        strides: of the levels, growing.
        stride: in pixels.

    Returns:
        One level with share 1, or two neighbours; nothing if the stride is finer or coarser than all.
    """
    octaves = [math.log2(each) for each in strides]
    octave = math.log2(stride)
    for level, each in enumerate(octaves):
        if abs(octave - each) < 0.01:  # sizes are whole pixels, so factors are not exact
            return {level: 1.0}
        if level and octaves[level - 1] < octave < each:
            share = (octave - octaves[level - 1]) / (each - octaves[level - 1])
            return {level - 1: 1 - share, level: share}
    return {}


def dense_head(model: BaseDetector) -> Optional[BaseDenseHead]:
    """The RPN, or the head of a one-stage detector; None if there is neither."""
    for name in ('rpn_head', 'bbox_head'):
        head = getattr(model, name, None)
        if head is not None:
            return head
    return None


def check_soft_labels(model: BaseDetector, parts: Sequence[str]) -> None:
    """Refuse a detector whose heads do not give the soft labels that are asked for.

    Raises:
        TypeError: a head is not of the kinds that :class:`DetectionSoftLabels` describes.
    """

    def refuse(what: str) -> None:
        raise TypeError(
            f'{type(model).__name__} has no soft labels for {list(parts)}: {what}. Write '
            "subnets_learn='ground_truth', which works for every detector"
        )

    dense = dense_head(model)
    if dense is not None and type(dense) not in DENSE_HEADS:
        refuse(f'its {type(dense).__name__} is none of {[kind.__name__ for kind in DENSE_HEADS]}')
    if dense is not None and len(dense.prior_generator.strides) < 2:
        refuse(
            'it has one pyramid level only, in which objects of another scale are not found again'
        )
    roi_head = getattr(model, 'roi_head', None)
    if roi_head is None:
        if dense is None:
            refuse('it has neither an RPN or one-stage head nor RoI heads')
        if set(parts) != {'classification'}:
            refuse('soft labels of boxes and masks need RoI heads')
        return
    # Other RoI heads add features of their own on the way from the RoIs to the head.
    known = (StandardRoIHead, CascadeRoIHead)
    if not any(
        isinstance(roi_head, kind) and type(roi_head)._bbox_forward is kind._bbox_forward
        for kind in known
    ):
        refuse(f'its {type(roi_head).__name__} is neither a StandardRoIHead nor a CascadeRoIHead')
    if roi_head.with_shared_head:
        refuse('its RoI heads share a network')
    for head in _modules(roi_head.bbox_head):
        if not isinstance(head, BBoxHead) or head.custom_cls_channels or head.loss_cls.use_sigmoid:
            refuse(f'its {type(head).__name__} does not classify by a softmax')
        if 'boxes' in parts and not head.with_reg:
            refuse(f'its {type(head).__name__} does not predict boxes')
    if 'masks' in parts:
        if not roi_head.with_mask:
            refuse('it has no mask head')
        if roi_head.share_roi_extractor:
            refuse('its mask head has no RoI extractor of its own')
        if not all(isinstance(head, FCNMaskHead) for head in _modules(roi_head.mask_head)):
            refuse('its mask head is not an FCNMaskHead')


@contextmanager
def record_soft_labels(
    model: BaseDetector, batch: DetectionBatch, parts: Sequence[str]
) -> Iterator[DetectionSoftLabels]:
    """Inside the context, the heads' outputs in the full pass are noted down, detached."""
    found = DetectionSoftLabels(batch, parts)
    hooks, seen = [], {}

    def watch(module: nn.Module, react: Any) -> None:
        hooks.append(module.register_forward_hook(react))

    def note_dense(module: nn.Module, inputs: Any, outputs: Any) -> None:
        found.dense = [maps.detach() for maps in outputs[0]]

    def note_rois(module: nn.Module, inputs: Any, outputs: Any) -> None:
        seen[module] = (inputs[0], inputs[1].detach())

    def note_box(extractor: nn.Module) -> Any:
        def note(module: nn.Module, inputs: Any, outputs: Any) -> None:
            cls_score, deltas = outputs
            rois = seen[extractor][1]
            found.rois.append(
                RoISoftLabels(
                    extractor, module, rois, cls_score.detach(),
                    deltas.detach() if 'boxes' in parts else None,
                )
            )  # fmt: skip

        return note

    def note_mask(extractor: nn.Module) -> Any:
        def note(module: nn.Module, inputs: Any, outputs: Any) -> None:
            rois = seen[extractor][1]
            found.rois.append(RoISoftLabels(extractor, module, rois, None, outputs.detach()))

        return note

    dense = dense_head(model)
    if dense is not None:
        watch(dense, note_dense)
    roi_head = getattr(model, 'roi_head', None)
    if roi_head is not None:
        box_parts = list(zip(_modules(roi_head.bbox_roi_extractor), _modules(roi_head.bbox_head)))
        for extractor, head in box_parts:
            watch(extractor, note_rois)
            watch(head, note_box(extractor))
        if 'masks' in parts:
            mask_parts = zip(_modules(roi_head.mask_roi_extractor), _modules(roi_head.mask_head))
            for extractor, head in mask_parts:
                watch(extractor, note_rois)
                watch(head, note_mask(extractor))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
    box_head: Optional[RoISoftLabels] = None
    for labels in found.rois:
        if isinstance(labels.head, BBoxHead):
            box_head = labels
        else:
            # Which class's mask counts: what the box head of the same stage said of the same RoIs, the
            # positive ones among its own. It ran before.
            assert box_head is not None and box_head.cls_score is not None
            same = (labels.rois[:, None] == box_head.rois[None]).all(-1)
            labels.cls_score = box_head.cls_score[same.int().argmax(1)]


def _modules(part: nn.Module) -> list[nn.Module]:
    """The stages of a cascade, or the one module."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def _same_points(
    before: DetectionBatch,
    after: DetectionBatch,
    head: BaseDenseHead,
    full_level: int,
    sub_level: int,
    full: Tensor,
    sub: Tensor,
) -> tuple[Tensor, Tensor]:
    """Where the locations of ``sub``, a level of the transformed batch, lie in a level of the original.

    Location i of a level is at pixel ``(i + offset) * stride``, by the head's prior generator.

    Returns:
        (N, h, w, 2) in the coordinates of ``F.grid_sample`` on ``full``, and (N, h, w), true for
        locations inside their image.
    """
    generator = head.prior_generator
    offset = generator.offset if hasattr(generator, 'offset') else generator.center_offset
    (full_x, full_y), (sub_x, sub_y) = (generator.strides[i] for i in (full_level, sub_level))
    height, width = sub.shape[-2:]
    pixel_y = (torch.arange(height).to(full) + offset) * sub_y
    pixel_x = (torch.arange(width).to(full) + offset) * sub_x
    points, inside = [], []
    for sample, (x_factor, y_factor) in zip(after.data_samples, image_factors(before, after)):
        image_height, image_width = sample.img_shape[:2]
        inside.append((pixel_y < image_height)[:, None] & (pixel_x < image_width)[None, :])
        # Index i of a map is at (2 i + 1) / size - 1 for grid_sample.
        y = (2 * (pixel_y / y_factor / full_y - offset) + 1) / full.shape[-2] - 1
        x = (2 * (pixel_x / x_factor / full_x - offset) + 1) / full.shape[-1] - 1
        points.append(torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1))
    return torch.stack(points), torch.stack(inside)


def _likely_class(cls_score: Tensor) -> tuple[Tensor, Tensor]:
    """The most likely class that is not background, and the probability of foreground; (K,) each."""
    probabilities = cls_score.softmax(1)
    return probabilities[:, :-1].argmax(1), 1 - probabilities[:, -1]


def _of_class(values: Tensor, classes: Tensor) -> Tensor:
    """(K, C, ...) -> (K, ...), each RoI's own class; values without classes pass through."""
    if values.shape[1] == 1:
        return values[:, 0]
    return values[torch.arange(len(values), device=values.device), classes]


def _box_loss(deltas: Tensor, labels: RoISoftLabels, loss: SoftLabelLoss) -> Tensor:
    if not len(deltas):
        return deltas.sum() * 0
    assert labels.cls_score is not None and labels.values is not None  # of a box head
    classes, foreground = _likely_class(labels.cls_score)
    own, full = (
        _of_class(values.unflatten(1, (-1, 4)), classes) for values in (deltas, labels.values)
    )
    return loss.weight * ((own - full).abs().sum(1) * foreground).mean()


def _mask_loss(logits: Tensor, labels: RoISoftLabels, loss: SoftLabelLoss) -> Tensor:
    if not len(logits):
        return logits.sum() * 0
    assert labels.cls_score is not None and labels.values is not None  # its box head's, and its own
    classes, _ = _likely_class(labels.cls_score)
    own, full = (_of_class(values, classes).reshape(-1, 1) for values in (logits, labels.values))
    return loss(own, full, multi_label=True)
