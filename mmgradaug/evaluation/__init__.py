"""Measures of trained models that OpenMMLab lacks; pure functions of arrays and tensors."""

from .fgsm import fgsm, loss_gradient

__all__ = ['fgsm', 'loss_gradient']
