"""Backbones made to be slimmed. Any other convolutional backbone is converted by the model itself."""

from .pyramidnet import PyramidNet
from .resnet_cifar import SlimmableResNetCIFAR
from .slimmable_resnet import SlimmableResNet
from .wide_resnet import WideResNet

__all__ = ['PyramidNet', 'SlimmableResNet', 'SlimmableResNetCIFAR', 'WideResNet']
