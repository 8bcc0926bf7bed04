"""The regularisers that the paper compares with, as far as OpenMMLab lacks them.

Mixup, CutMix, Cutout, label smoothing and stochastic depth are MMPretrain's own.
"""

from .add_regularizers import add_regularizers
from .distillation import DistillationClsDataPreprocessor, DistillationClsHead
from .drop_block import DropBlock
from .shake_drop import ShakeDrop

__all__ = [
    'DistillationClsDataPreprocessor',
    'DistillationClsHead',
    'DropBlock',
    'ShakeDrop',
    'add_regularizers',
]
