"""Measures of trained models that OpenMMLab lacks, and the commands that use them.

The measures are pure functions of arrays and tensors; they are imported when they are first asked for, so
that the commands' ``--help`` needs no torch.
"""

import importlib
from typing import Any

_PLACES = {
    'ALEXNET_ERRORS': 'corruption_error',
    'corruption_errors': 'corruption_error',
    'mean_corruption_error': 'corruption_error',
    'fgsm': 'fast_gradient_sign',
    'loss_gradient': 'fast_gradient_sign',
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'.{_PLACES[name]}', __name__), name)
