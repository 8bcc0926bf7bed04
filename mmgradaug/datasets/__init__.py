"""Datasets that OpenMMLab lacks."""

from typing import Any

from mmgradaug.registry import DATASETS

from .digits import Digits

__all__ = ['Digits', 'Shapes']

try:
    from .shapes import Shapes
except (ImportError, AssertionError) as problem:
    # Without a working MMDetection, classification works all the same; see mmgradaug.models.
    _problem = f'{type(problem).__name__}: {problem}'

    def Shapes(*args: Any, **kwargs: Any) -> None:  # noqa: N802  stands in for the class
        raise ImportError(
            f'the shapes need MMDetection, which cannot be imported here ({_problem})'
        )

    DATASETS.register_module(name='Shapes', module=Shapes)
