"""Transforming a whole detection batch: images with their boxes, masks and shapes.

What a sub-network sees is what MMDetection's own pipeline would have made of the same images at the
other scale: ``Resize(scale_factor=f)`` on each image, then padding of the batch. One thing is better: a
RoI head's targets are cut out of the original bitmaps, not out of ones that were resized to whole pixels.

An own operation joins by registration::

    @transform_batch.register
    def _(operation: MyFlip, batch: DetectionBatch) -> DetectionBatch: ...
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import scale_boxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor

from mmgradaug.subnets import BatchOperation, Chain, NoChange, Scale

from .resized_masks import ResizedBitmapMasks

INSTANCE_FIELDS = ('gt_instances', 'ignored_instances', 'proposals')
PIXEL_FIELDS = {'gt_sem_seg': 'sem_seg', 'gt_panoptic_seg': 'pan_seg'}
# What a change of size leaves alone; boxes and masks change, anything else is refused.
UNCHANGED = ('labels', 'scores', 'instances_ids')


@dataclass(frozen=True)
class DetectionBatch:
    """A preprocessed batch of MMDetection.

    Args:
        inputs: (N, C, H, W), images of several sizes in one, each in the upper left corner.
        data_samples: N samples; ``img_shape`` says which part of ``inputs`` is the image.
        size_divisor: the height and width of a batch are padded to multiples of it.
        pad_value: of the images' padding, after normalisation.
        pad_masks: whether masks have the size of the batch (``pad_mask`` of the preprocessor) or of
            their image.
        pad_segmentation: the same of segmentation maps.
        segmentation_padding: the value of their padding.
    """

    inputs: Tensor
    data_samples: list[DetDataSample]
    size_divisor: int = 1
    pad_value: float = 0.0
    pad_masks: bool = True
    pad_segmentation: bool = True
    segmentation_padding: int = 255

    def __len__(self) -> int:
        return len(self.inputs)

    def transform(self, operation: BatchOperation) -> 'DetectionBatch':
        """The batch after an operation; see :func:`transform_batch`."""
        return transform_batch(operation, self)

    def select(self, indices: Tensor) -> 'DetectionBatch':
        samples = [self.data_samples[i] for i in indices.tolist()]
        return replace(self, inputs=self.inputs[indices], data_samples=samples)


@functools.singledispatch
def transform_batch(operation: BatchOperation, batch: DetectionBatch) -> DetectionBatch:
    """The batch after an operation; the batch that is handed in stays as it is.

    Raises:
        TypeError: the operation does not know what to do with boxes and masks, or a data sample has
            annotations that are neither boxes, masks nor segmentation maps.
    """
    raise TypeError(
        f'{type(operation).__name__} transforms images, but not their boxes and masks: for detection '
        "write transforms=dict(type='RandomScale', factors=[1.0, 0.857, 0.714, 0.571]), which keeps the "
        "aspect, or transforms=dict(type='Identity'). An own operation is taught to transform them by "
        'mmgradaug.models.detectors.transform_batch.register'
    )


@transform_batch.register
def _(operation: NoChange, batch: DetectionBatch) -> DetectionBatch:
    return replace(batch, data_samples=[fresh(sample) for sample in batch.data_samples])


@transform_batch.register
def _(operation: Chain, batch: DetectionBatch) -> DetectionBatch:
    for part in operation.operations:
        batch = transform_batch(part, batch)
    return batch


@transform_batch.register
def _(operation: Scale, batch: DetectionBatch) -> DetectionBatch:
    """As ``Resize(scale_factor=factor)`` of MMDetection, and padding anew."""
    if operation.factor == 1.0:
        return transform_batch(NoChange(), batch)
    divisor = batch.size_divisor
    sizes = [operation.scaled_size(*sample.img_shape[:2]) for sample in batch.data_samples]
    padded = tuple(-(-max(side) // divisor) * divisor for side in zip(*sizes))
    inputs = batch.inputs.new_full((*batch.inputs.shape[:2], *padded), batch.pad_value)
    data_samples = []
    for image, sample, scaled, size in zip(batch.inputs, batch.data_samples, inputs, sizes):
        height, width = sample.img_shape[:2]
        scaled[:, : size[0], : size[1]] = F.interpolate(
            image[None, :, :height, :width], size=size, mode='bilinear', align_corners=False
        )[0]
        data_samples.append(_Resizing(batch, (height, width), size, padded).sample(sample))
    return replace(batch, inputs=inputs, data_samples=data_samples)


def fresh(sample: DetDataSample) -> DetDataSample:
    """A copy whose annotations can be replaced without touching the original's; tensors are shared."""
    new = sample.new()
    for name, value in sample.items():
        new.set_field(value.new() if isinstance(value, BaseDataElement) else value, name)
    return new


@dataclass(frozen=True)
class _Resizing:
    """One image's change of size, (height, width) each, and what it does to annotations."""

    batch: DetectionBatch
    old_size: tuple[int, int]
    size: tuple[int, int]
    padded: tuple[int, int]

    @property
    def factors(self) -> tuple[float, float]:
        return self.size[1] / self.old_size[1], self.size[0] / self.old_size[0]

    def sample(self, sample: DetDataSample) -> DetDataSample:
        divisor = self.batch.size_divisor
        new = DetDataSample(metainfo=sample.metainfo)
        shapes = dict(
            img_shape=self.size,
            pad_shape=tuple(-(-side // divisor) * divisor for side in self.size),
            batch_input_shape=self.padded,
        )
        if 'scale_factor' in sample:
            pairs = zip(sample.scale_factor, self.factors)
            shapes['scale_factor'] = tuple(old * factor for old, factor in pairs)
        new.set_metainfo(shapes)
        for name, value in sample.items():
            if name in INSTANCE_FIELDS:
                new.set_field(self.instances(value, name), name)
            elif name in PIXEL_FIELDS:
                new.set_field(self.segmentation(value, name), name)
            else:
                _refuse(name)
        return new

    def instances(self, instances: InstanceData, name: str) -> InstanceData:
        new = InstanceData(metainfo=instances.metainfo)
        for key, value in instances.items():
            if key == 'bboxes':
                # MMDetection's box types are scaled in place.
                boxes = value if isinstance(value, Tensor) else value.clone()
                value = scale_boxes(boxes, self.factors)
            elif key == 'masks':
                value = self.masks(value)
            elif key not in UNCHANGED:
                _refuse(f'{name}.{key}')
            new.set_field(value, key)
        return new

    def masks(self, masks: Any) -> Any:
        padded = self.padded if self.batch.pad_masks else self.size
        if isinstance(masks, PolygonMasks):
            return PolygonMasks(masks.masks, *self.old_size).resize(self.size).pad(padded)
        if isinstance(masks, BitmapMasks):
            return ResizedBitmapMasks(masks, self.old_size, self.size, padded)
        raise TypeError(
            f'masks of type {type(masks).__name__} cannot be resized; MMDetection loads BitmapMasks or '
            'PolygonMasks'
        )

    def segmentation(self, data: PixelData, name: str) -> PixelData:
        new = PixelData(metainfo=data.metainfo)
        for key, value in data.items():
            if key != PIXEL_FIELDS[name]:
                _refuse(f'{name}.{key}')
            size: tuple[int, ...] = self.size
            if tuple(value.shape[-2:]) in (self.old_size, tuple(self.batch.inputs.shape[-2:])):
                value = value[..., : self.old_size[0], : self.old_size[1]]
            elif self.batch.pad_segmentation:
                raise TypeError(
                    f'{name} is {tuple(value.shape[-2:])} pixels large, neither as the image '
                    f'{self.old_size} nor as the padded batch: leave SegRescale out of the pipeline, '
                    'or pad_seg=True out of the data preprocessor'
                )
            else:  # a coarser map, of SegRescale
                size = tuple(
                    max(1, int(new * each / old + 0.5))
                    for new, each, old in zip(self.size, value.shape[-2:], self.old_size)
                )
            # Class numbers, which half precision may not hold.
            resized = F.interpolate(value[None].double(), size=size, mode='nearest')[0]
            if self.batch.pad_segmentation:
                borders = (0, self.padded[1] - self.size[1], 0, self.padded[0] - self.size[0])
                resized = F.pad(resized, borders, value=self.batch.segmentation_padding)
            new.set_field(resized.to(value.dtype), key)
        return new


def _refuse(name: str) -> None:
    raise TypeError(
        f'{name} is an annotation that cannot be scaled with the images; boxes (bboxes), masks and '
        'segmentation maps can. Leave it out of PackDetInputs, or train with transforms='
        "dict(type='Identity')"
    )


def image_factors(before: DetectionBatch, after: DetectionBatch) -> Tensor:
    """(N, 2): by how much each image became wider and higher."""
    factors = [
        (new.img_shape[1] / old.img_shape[1], new.img_shape[0] / old.img_shape[0])
        for old, new in zip(before.data_samples, after.data_samples)
    ]
    return torch.tensor(factors, dtype=before.inputs.dtype, device=before.inputs.device)
