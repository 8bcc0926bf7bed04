"""Backbones made to be slimmed. Any other convolutional backbone is converted by the model itself."""

from .slimmable_resnet import SlimmableResNet

__all__ = ['SlimmableResNet']
