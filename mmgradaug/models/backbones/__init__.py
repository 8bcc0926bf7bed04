"""Backbones that OpenMMLab lacks, and ResNets with regularisers. GradAug narrows any other as well."""

from .pyramidnet import PyramidNet
from .resnet_cifar import SlimmableResNetCIFAR
from .slimmable_resnet import SlimmableResNet
from .wide_resnet import WideResNet

__all__ = ['PyramidNet', 'SlimmableResNet', 'SlimmableResNetCIFAR', 'WideResNet']
