"""GradAug models, one adapter for each task, and backbones."""

from mmgradaug.registry import MODELS, register_missing

from .backbones import SlimmableResNet
from .gradaug_classifier import GradAugClassifier

__all__ = ['GradAugClassifier', 'GradAugDetector', 'GradAugMaskRCNN', 'SlimmableResNet']

try:
    from .detectors import GradAugDetector, GradAugMaskRCNN
except (ImportError, AssertionError) as problem:
    GradAugDetector = GradAugMaskRCNN = register_missing(
        MODELS, ['GradAugMaskRCNN', 'GradAugDetector'], problem
    )
