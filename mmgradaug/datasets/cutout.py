"""Cutout (arXiv:1708.04552)."""

from collections.abc import Sequence
from typing import Any, Union

import numpy as np
from mmcv.transforms import BaseTransform

from mmgradaug.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Cutout(BaseTransform):
    """Fill a square around a random pixel of an image of (H, W, C), with what of it lies inside.

    As in its authors' code (uoguelph-mlrg/Cutout, util/cutout.py): the centre is any pixel, and what lies
    beyond an edge is cut off. So on average a hole of even side s masks (s - s^2 / 4H) (s - s^2 / 4W) pixels.
    (MMPretrain's ``Cutout``, by mmcv's ``cutout``, moves the far edge along when it cuts the near one
    off: its holes are 8% larger for 8 of 32 pixels, 17% for 16 of 32 and 112 of 224.)

    Draws are from NumPy's global generator, as those of OpenMMLab's transforms.

    Args:
        shape: side of the square in pixels, 1 or more.
        pad_val: what fills it, one number or one for each channel in the image's own order and range. Zero
            after normalisation, as in its authors' code, is the data set's mean before it.
        prob: of an image to be cut, in [0, 1].

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self, shape: int, pad_val: Union[float, Sequence[float]] = 0, prob: float = 1.0
    ) -> None:
        if isinstance(shape, bool) or not isinstance(shape, int) or shape < 1:
            raise ValueError(f'Cutout: shape is the side of a square in pixels, got {shape!r}')
        if not 0.0 <= prob <= 1.0:
            raise ValueError(f'Cutout: prob is in [0, 1], got {prob!r}')
        self.shape = shape
        self.pad_val = pad_val
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if np.random.random() >= self.prob:
            return results
        image = results['img'].copy()
        row, column = (np.random.randint(size) - self.shape // 2 for size in image.shape[:2])
        image[
            max(row, 0) : max(row + self.shape, 0), max(column, 0) : max(column + self.shape, 0)
        ] = self.pad_val
        results['img'] = image
        return results

    def __repr__(self) -> str:
        return f'Cutout(shape={self.shape}, pad_val={self.pad_val}, prob={self.prob})'
