"""Datasets that OpenMMLab lacks."""

from mmgradaug.registry import DATASETS, register_missing

from .digits import Digits

__all__ = ['Digits', 'Shapes']

try:
    from .shapes import Shapes
except (ImportError, AssertionError) as problem:
    Shapes = register_missing(DATASETS, ['Shapes'], problem)
