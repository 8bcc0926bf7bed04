"""Datasets that OpenMMLab lacks."""

from mmgradaug.registry import DATASETS, register_missing

from .digits import Digits
from .image_folder import ImageFolder
from .labelled_split import LabelledSplit
from .stl10 import STL10

__all__ = ['Digits', 'ImageFolder', 'LabelledSplit', 'STL10', 'Shapes']

try:
    from .shapes import Shapes
except (ImportError, AssertionError) as problem:
    Shapes = register_missing(DATASETS, ['Shapes'], problem)
