"""The regularisers that the paper compares with, as far as OpenMMLab lacks them.

Mixup, CutMix, label smoothing and stochastic depth are MMPretrain's own; Cutout is a step of the data
pipeline, :class:`mmgradaug.datasets.Cutout`.
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
