"""Datasets that OpenMMLab lacks."""

from .digits import Digits

__all__ = ['Digits']
