"""GradAug models, one adapter for each task, and backbones."""

from mmgradaug.registry import MODELS, register_missing

from .backbones import PyramidNet, SlimmableResNet, SlimmableResNetCIFAR, WideResNet
from .gradaug_classifier import GradAugClassifier

__all__ = [
    'GradAugClassifier',
    'GradAugDetector',
    'GradAugMaskRCNN',
    'PyramidNet',
    'SlimmableResNet',
    'SlimmableResNetCIFAR',
    'WideResNet',
]

try:
    from .detectors import GradAugDetector, GradAugMaskRCNN
except (ImportError, AssertionError) as problem:
    GradAugDetector = GradAugMaskRCNN = register_missing(
        MODELS, ['GradAugMaskRCNN', 'GradAugDetector'], problem
    )
