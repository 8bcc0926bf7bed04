"""Detection and instance segmentation with GradAug, for any detector of MMDetection."""

import functools
import inspect
from typing import Any, Optional

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.models.roi_heads import DynamicRoIHead
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from torch import Tensor

from mmgradaug.engine import GradAugMixin
from mmgradaug.registry import MODELS
from mmgradaug.slimming import operation_rule
from mmgradaug.slimming.layer_operations import spatial
from mmgradaug.subnets import NoChange

from .detection_batch import DetectionBatch
from .detection_soft_labels import PARTS, DetectionSoftLabels, check_soft_labels, record_soft_labels

# RoIs are cut out of each channel alone. (Imported with mmdet, torchvision has registered its operations.)
operation_rule(torch.ops.torchvision.roi_align)(spatial)

GROUND_TRUTH, SOFT_LABELS = 'ground_truth', 'soft_labels'


class GradAugDetectorMixin(GradAugMixin):
    """What a detector needs to train by GradAug; comes first among the bases.

    The backbone's channels are narrowed; neck and heads give all of theirs and may take fewer. (The authors did
    not publish their detection code. Of a sister method the first author says: "replace Conv and BN
    layers (in the backbone network) ... Then just follow the same training scheme as in
    classification", github.com/taoyang1122/MutualNet, issue 10.) The paper trains Mask R-CNN this way,
    see Section 4.4 and Table 7; what its sub-networks learn from is in a supplement that could not be
    found, so it is a choice here:

    - ``subnets_learn='ground_truth'``, the default: the detector's own loss on the transformed batch
      with its boxes and masks. Works for every detector.
    - ``subnets_learn='soft_labels'``: what the full network says of the original batch, as in
      classification (Eq. 4); see :class:`DetectionSoftLabels` for which heads that needs and what is
      compared with what.

    A frozen batch norm (``norm_eval=True``, ``frozen_stages``) normalises a sub-network with the first
    entries of the full network's running statistics, and a frozen parameter stays frozen in every
    pass. The authors advise against it ("you should not fix BN and use a large batch size if
    possible", MutualNet, issue 1): write ``norm_eval=False, frozen_stages=-1``.

    Args:
        gradaug: see :class:`~mmgradaug.engine.GradAugMixin`; besides ``subnets_learn`` as above and, for
            soft labels, ``soft_label_parts``: a list of 'classification' (the default), 'boxes' and
            'masks'. ``transforms`` must be able to transform boxes and masks: ``RandomScale`` or
            ``Identity``.
        *args, **kwargs: the detector's.

    Raises:
        TypeError, ValueError: a hyperparameter is unknown, or does not fit the others or the detector.
        SlimmingError: the backbone has no sub-networks.
    """

    example_transforms = "dict(type='RandomScale', factors=[1.0, 0.857, 0.714, 0.571])"
    own_options = (*GradAugMixin.own_options, 'subnets_learn', 'soft_label_parts')

    def __init__(self, *args: Any, gradaug: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
        options = gradaug if isinstance(gradaug, dict) else {}
        learn = options.get('subnets_learn', GROUND_TRUTH)
        if learn not in (GROUND_TRUTH, SOFT_LABELS):
            raise ValueError(
                f"subnets_learn={learn!r}: write '{GROUND_TRUTH}' (annotations, transformed like the "
                f"images) or '{SOFT_LABELS}' (the full network's output)"
            )
        if learn == GROUND_TRUTH:
            for key in ('soft_label_loss', 'soft_label_parts'):
                if options.get(key):
                    raise ValueError(
                        f'{key} is without effect where sub-networks learn from the ground truth: leave '
                        f"it out, or write subnets_learn='{SOFT_LABELS}'"
                    )
        parts = options.get('soft_label_parts') or ['classification']
        if isinstance(parts, str) or not set(parts) <= set(PARTS):
            raise ValueError(f'soft_label_parts={parts!r}: write a list of {", ".join(PARTS)}')
        super().__init__(*args, gradaug=gradaug, **kwargs)
        if isinstance(getattr(self, 'roi_head', None), DynamicRoIHead):
            raise TypeError(
                'DynamicRoIHead adapts its thresholds to the proposals of each pass, and sub-networks '
                "would adapt them too: use another detector, detector='mmdet.FasterRCNN' with a "
                'StandardRoIHead for instance'
            )
        self.subnets_learn = learn
        self.soft_label_parts = tuple(part for part in PARTS if part in parts)
        if learn == SOFT_LABELS:
            if self.subnet_sampler.batch_fraction < 1:
                raise ValueError(
                    'batch_fraction is for sub-networks that learn from the ground truth: write '
                    f"batch_fraction=1, or subnets_learn='{GROUND_TRUTH}'"
                )
            check_soft_labels(self, self.soft_label_parts)
        # Which kind of operation a transform draws does not depend on the numbers drawn.
        operation = self.subnet_sampler.transform.draw(np.random.default_rng(0))
        example = DetDataSample(metainfo=dict(img_shape=(8, 8)))
        DetectionBatch(torch.zeros(1, 1, 8, 8), [example]).transform(operation)

    @property
    def leaves_parameters_unused(self) -> bool:
        # Soft labels reach some heads' outputs only.
        return super().leaves_parameters_unused or self.subnets_learn == SOFT_LABELS

    def trial_forward(self, images: Tensor) -> Any:
        if self.with_neck:
            return self.extract_feat(images)  # heads behind a neck see whole inputs
        # This is a copy to be thrown away; a handful of proposals will do.
        if getattr(self, 'rpn_head', None) is not None:
            self.rpn_head.test_cfg.update(nms_pre=20, max_per_img=4)
        size = tuple(images.shape[-2:])
        shapes = dict.fromkeys(('ori_shape', 'img_shape', 'pad_shape', 'batch_input_shape'), size)
        samples = [DetDataSample(metainfo=dict(shapes, scale_factor=(1.0, 1.0))) for _ in images]
        return self._forward(images, samples)

    def make_batch(self, inputs: Tensor, data_samples: list[DetDataSample]) -> DetectionBatch:
        preprocessor = self.data_preprocessor
        return DetectionBatch(
            inputs,
            data_samples,
            size_divisor=getattr(preprocessor, 'pad_size_divisor', 1),
            pad_value=float(getattr(preprocessor, 'pad_value', 0)),
            pad_masks=getattr(preprocessor, 'pad_mask', False),
            pad_segmentation=getattr(preprocessor, 'pad_seg', False),
            segmentation_padding=getattr(preprocessor, 'seg_pad_value', 255),
        )

    def full_pass(
        self, batch: DetectionBatch, record: bool
    ) -> tuple[dict[str, Any], Optional[DetectionSoftLabels]]:
        """Losses of the full network, and its soft labels where sub-networks learn from them."""
        # Some heads write into the annotations, which sub-networks still need.
        batch = batch.transform(NoChange())
        if not record or self.subnets_learn == GROUND_TRUTH:
            return self.loss(batch.inputs, batch.data_samples), None
        with record_soft_labels(self, batch, self.soft_label_parts) as soft_labels:
            losses = self.loss(batch.inputs, batch.data_samples)
        return losses, soft_labels

    def subnet_pass(
        self, batch: DetectionBatch, recorded: Optional[DetectionSoftLabels]
    ) -> dict[str, Any]:
        """Losses of the sub-network that the model is at the moment, on the transformed batch."""
        if recorded is None:
            return self.loss(batch.inputs, batch.data_samples)
        return recorded.losses(self, batch, self.soft_label_loss)


def _is_detector(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseDetector)


def __getattr__(name: str) -> Any:
    """The GradAug form of a registered detector by its name, which pickle looks up."""
    found = MMDET_MODELS.get(name[len('GradAug') :]) if name.startswith('GradAug') else None
    if _is_detector(found):
        return gradaug_detector_class(found)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


@functools.cache
def gradaug_detector_class(detector: type[BaseDetector]) -> type[BaseDetector]:
    """The GradAug form of a detector's class, ``GradAugRetinaNet`` of ``RetinaNet`` for instance."""
    return type(
        f'GradAug{detector.__name__}',
        (GradAugDetectorMixin, detector),
        {
            '__doc__': f"MMDetection's {detector.__name__}, trained by GradAug.",
            '__module__': __name__,
        },
    )


@MODELS.register_module()
def GradAugDetector(detector: Optional[str] = None, **config: Any) -> BaseDetector:  # noqa: N802  a type in configs
    """Any detector of MMDetection, trained by GradAug; see :class:`GradAugDetectorMixin`.

    Example::

        model = dict(
            type='mmgradaug.GradAugDetector', detector='mmdet.RetinaNet',
            gradaug=dict(num_subnets=3, min_width=0.9,
                         transforms=dict(type='RandomScale', factors=[1.0, 0.857, 0.714, 0.571])),
            backbone=..., neck=..., bbox_head=...)

    Args:
        detector: the name of the detector's class in MMDetection's registry.
        **config: its arguments, and ``gradaug``.

    Raises:
        TypeError: there is no such detector, or it is none (a wrapper of several networks, for
            instance).
    """
    found: Any = MMDET_MODELS.get(detector) if isinstance(detector, str) else detector
    if not _is_detector(found):
        raise TypeError(
            f'detector={detector!r} is not a detector of MMDetection: write for instance '
            "detector='mmdet.RetinaNet'"
        )
    if issubclass(found, GradAugDetectorMixin):
        raise TypeError(
            f"{found.__name__} trains by GradAug already: write type='mmgradaug.{found.__name__}'"
        )
    known = inspect.signature(found).parameters
    if 'backbone' not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        raise TypeError(
            f'{found.__name__} has no backbone of its own whose channels could be narrowed'
        )
    return gradaug_detector_class(found)(**config)
