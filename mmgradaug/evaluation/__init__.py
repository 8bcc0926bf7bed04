"""Measures of trained models that OpenMMLab lacks; pure functions of arrays and tensors."""

from .corruption_error import ALEXNET_ERRORS, corruption_errors, mean_corruption_error
from .fgsm import fgsm, loss_gradient

__all__ = [
    'ALEXNET_ERRORS',
    'corruption_errors',
    'fgsm',
    'loss_gradient',
    'mean_corruption_error',
]
