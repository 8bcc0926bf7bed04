"""Mask R-CNN with GradAug."""

from mmdet.models import MaskRCNN

from mmgradaug.registry import MODELS

from .gradaug_detector import GradAugDetectorMixin


@MODELS.register_module()
class GradAugMaskRCNN(GradAugDetectorMixin, MaskRCNN):
    """MMDetection's MaskRCNN, trained by GradAug (paper, Section 4.4 and last row of Table 7).

    Everything but training is the stock detector, and so are the state_dict's keys.

    Example::

        model = dict(
            type='mmgradaug.GradAugMaskRCNN',
            gradaug=dict(num_subnets=3, min_width=0.9,
                         transforms=dict(type='RandomScale', factors=[1.0, 0.857, 0.714, 0.571])),
            backbone=dict(norm_eval=False, frozen_stages=-1, ...), ...)

    Args:
        gradaug: see :class:`GradAugDetectorMixin`.
        *args, **kwargs: of ``mmdet.MaskRCNN``.
    """
