"""Backbones that OpenMMLab lacks, and ResNets with regularisers. GradAug narrows any other as well."""

from .efficientnet_lite import EfficientNetLite
from .pyramidnet import PyramidNet
from .resnet_cifar import SlimmableResNetCIFAR
from .slimmable_resnet import SlimmableResNet
from .wide_resnet import WideResNet

__all__ = [
    'EfficientNetLite',
    'PyramidNet',
    'SlimmableResNet',
    'SlimmableResNetCIFAR',
    'WideResNet',
]
