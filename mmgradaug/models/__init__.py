"""GradAug models, one adapter for each task, and backbones."""

from .backbones import SlimmableResNet
from .gradaug_classifier import GradAugClassifier

__all__ = ['GradAugClassifier', 'SlimmableResNet']
