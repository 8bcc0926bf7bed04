"""Datasets that OpenMMLab lacks."""

from mmgradaug.registry import DATASETS, register_missing

from .digits import Digits
from .image_folder import ImageFolder
from .labelled_split import LabelledSplit

__all__ = ['Digits', 'ImageFolder', 'LabelledSplit', 'Shapes']

try:
    from .shapes import Shapes
except (ImportError, AssertionError) as problem:
    Shapes = register_missing(DATASETS, ['Shapes'], problem)
