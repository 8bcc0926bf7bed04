"""What the full network says of a batch, and how a sub-network learns it on the transformed batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads.anchor_free_head import AnchorFreeHead
from mmdet.models.dense_heads.anchor_head import AnchorHead
from mmdet.models.detectors import BaseDetector
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import Tensor, nn

from mmgradaug.slimming import subnetwork
from mmgradaug.subnets import SoftLabelLoss

from .detection_batch import DetectionBatch, image_factors

PARTS = ('classification', 'boxes', 'masks')


@dataclass
class RoISoftLabels:
    """One RoI head's output on the proposals of the full pass.

    Args:
        extractor: cuts the RoIs out of feature maps.
        head: a BBoxHead or FCNMaskHead.
        rois: (K, 5): number of the image, then x1, y1, x2, y2 in the original batch.
        cls_score: (K, classes + 1) logits, the background last; for a mask head those of the box head
            on the same RoIs.
        values: box deltas (K, 4) or (K, 4 * classes), or mask logits (K, classes or 1, h, w).
    """

    extractor: nn.Module
    head: nn.Module
    rois: Tensor
    cls_score: Optional[Tensor]
    values: Optional[Tensor]


@dataclass
class DetectionSoftLabels:
    """The full network's output on a batch, and the losses of a sub-network against it.

    *RPN, or the head of a one-stage detector*: classification logits of each location and anchor. A
    location of the transformed image is compared with the same point of the original (where a location
    is, the head's own prior generator says), between whose neighbours the full network's logits are
    interpolated. (An anchor has the same size in pixels in
    both, so in the smaller image it stands for a larger object; these logits teach where objects are,
    and are not exact in their size.) The divergences are summed over locations within the images and
    divided by the full network's expected number of foreground anchors, the sum of their
    probabilities.

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
            if model.roi_head.with_shared_head:
                roi_feats = model.roi_head.shared_head(roi_feats)
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
        self, head: nn.Module, feats: Sequence[Tensor], batch: DetectionBatch, loss: SoftLabelLoss
    ) -> Tensor:
        sigmoid = head.use_sigmoid_cls
        total = foreground = batch.inputs.new_zeros(())
        for level, (full, sub) in enumerate(zip(self.dense, head(feats)[0])):
            # Half precision would neither hold positions in pixels nor the sum over locations.
            full = full.to(batch.inputs.dtype)
            points, inside = _same_points(
                self.batch, batch, full, sub, *_stride_and_offset(head, level)
            )
            full = F.grid_sample(full, points, padding_mode='border', align_corners=False)
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


def dense_head(model: BaseDetector) -> Optional[nn.Module]:
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
    if dense is not None and not isinstance(dense, (AnchorHead, AnchorFreeHead)):
        refuse(f'its {type(dense).__name__} does not give class logits by location')
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

    if dense_head(model) is not None:
        watch(dense_head(model), note_dense)
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
    for labels in found.rois:
        if labels.cls_score is None:
            # Which class's mask counts: the box head's word on the same RoIs, as at test time.
            extractor, head = box_parts[-1]
            feats = seen[labels.extractor][0]
            # As a sub-network of full width, so that a batch norm does not count the batch twice.
            with torch.no_grad(), subnetwork(model, 1.0):
                roi_feats = extractor(feats, labels.rois)
                if roi_head.with_shared_head:
                    roi_feats = roi_head.shared_head(roi_feats)
                labels.cls_score = head(roi_feats)[0]


def _modules(part: nn.Module) -> list[nn.Module]:
    """The stages of a cascade, or the one module."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def _stride_and_offset(head: nn.Module, level: int) -> tuple[tuple[int, int], float]:
    """Location i of a level is at pixel (i + offset) * stride; strides in x and y."""
    generator = head.prior_generator
    offset = generator.offset if hasattr(generator, 'offset') else generator.center_offset
    return generator.strides[level], offset


def _same_points(
    before: DetectionBatch,
    after: DetectionBatch,
    full: Tensor,
    sub: Tensor,
    stride: tuple[int, int],
    offset: float,
) -> tuple[Tensor, Tensor]:
    """Where the locations of ``sub``, a map of the transformed batch, lie in ``full``, of the original.

    Returns:
        (N, h, w, 2) in the coordinates of ``F.grid_sample`` on ``full``, and (N, h, w), true for
        locations inside their image.
    """
    height, width = sub.shape[-2:]
    pixel_y = (torch.arange(height).to(full) + offset) * stride[1]
    pixel_x = (torch.arange(width).to(full) + offset) * stride[0]
    points, inside = [], []
    for sample, (x_factor, y_factor) in zip(after.data_samples, image_factors(before, after)):
        image_height, image_width = sample.img_shape[:2]
        inside.append((pixel_y < image_height)[:, None] & (pixel_x < image_width)[None, :])
        # Index i of a map is at (2 i + 1) / size - 1 for grid_sample.
        y = (2 * (pixel_y / y_factor / stride[1] - offset) + 1) / full.shape[-2] - 1
        x = (2 * (pixel_x / x_factor / stride[0] - offset) + 1) / full.shape[-1] - 1
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
    classes, foreground = _likely_class(labels.cls_score)
    own, full = (
        _of_class(values.unflatten(1, (-1, 4)), classes) for values in (deltas, labels.values)
    )
    return loss.weight * ((own - full).abs().sum(1) * foreground).mean()


def _mask_loss(logits: Tensor, labels: RoISoftLabels, loss: SoftLabelLoss) -> Tensor:
    if not len(logits):
        return logits.sum() * 0
    classes, _ = _likely_class(labels.cls_score)
    own, full = (_of_class(values, classes).reshape(-1, 1) for values in (logits, labels.values))
    return loss(own, full, multi_label=True)
