"""GradAug models, one adapter for each task, and backbones."""

from mmgradaug.registry import MODELS, register_missing

from .backbones import (
    EfficientNetLite,
    PyramidNet,
    SlimmableResNet,
    SlimmableResNetCIFAR,
    WideResNet,
)
from .gradaug_classifier import GradAugClassifier
from .gradaug_semi_classifier import GradAugSemiClassifier
from .mean_teacher_classifier import MeanTeacherClassifier
from .semi_supervised import SemiClsDataPreprocessor
from .subnetwork_classifier import SubnetworkClassifier

__all__ = [
    'EfficientNetLite',
    'GradAugClassifier',
    'GradAugDetector',
    'GradAugMaskRCNN',
    'GradAugSemiClassifier',
    'MeanTeacherClassifier',
    'PyramidNet',
    'SemiClsDataPreprocessor',
    'SlimmableResNet',
    'SlimmableResNetCIFAR',
    'SubnetworkClassifier',
    'WideResNet',
]

try:
    from .detectors import GradAugDetector, GradAugMaskRCNN
except (ImportError, AssertionError) as problem:
    # In place of classes a function, which raises.
    GradAugDetector = GradAugMaskRCNN = register_missing(  # type: ignore[misc]
        MODELS, ['GradAugMaskRCNN', 'GradAugDetector'], problem
    )
