"""GradAug models, one adapter for each task, and backbones."""

from typing import Any

from mmgradaug.registry import MODELS

from .backbones import SlimmableResNet
from .gradaug_classifier import GradAugClassifier

__all__ = ['GradAugClassifier', 'GradAugDetector', 'GradAugMaskRCNN', 'SlimmableResNet']

try:
    from .detectors import GradAugDetector, GradAugMaskRCNN
except (ImportError, AssertionError) as problem:
    # Without MMDetection, with one that asks for another mmcv, or with an mmcv without operators,
    # classification works all the same.
    _problem = f'{type(problem).__name__}: {problem}'

    def _detection_is_missing(*args: Any, **kwargs: Any) -> None:
        raise ImportError(
            f'detection needs MMDetection and operators of mmcv, which cannot be imported here '
            f'({_problem}). In the folder of mmgradaug write: pip install -r requirements.txt; or in an '
            "environment of your own: pip install 'mmdet>=3.3,<4' pycocotools, and "
            'pip install ./mmcv_ext_fallback if your mmcv has no compiled operators'
        )

    GradAugDetector = GradAugMaskRCNN = _detection_is_missing
    for _name in ('GradAugDetector', 'GradAugMaskRCNN'):
        MODELS.register_module(name=_name, module=_detection_is_missing)
