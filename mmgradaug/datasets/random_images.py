"""Noise in place of images, for measuring what a training costs."""

from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmgradaug.registry import DATASETS


@DATASETS.register_module()
class RandomImages(BaseDataset):
    """Images of noise with labels in turn. A pipeline needs no loading step.

    Args:
        size: width and height in pixels.
        num_classes: labels are 0 to ``num_classes - 1``.
        length: how many images.
        pipeline, **kwargs: of mmpretrain's ``BaseDataset``.
    """

    def __init__(
        self, size: tuple[int, int] = (500, 375), num_classes: int = 1000, length: int = 2000, **kwargs: Any
    ) -> None:  # fmt: skip
        self.size = size
        self.num_classes = num_classes
        self.length = length
        super().__init__(ann_file='', metainfo=dict(classes=list(range(num_classes))), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        width, height = self.size
        # One array for all: noise is noise, and 2,000 photographs would take a gigabyte.
        rng = np.random.default_rng(0)
        self._image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return [{'gt_label': i % self.num_classes} for i in range(self.length)]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        data = super().get_data_info(idx)
        shape = self._image.shape[:2]
        return {**data, 'img': self._image.copy(), 'img_shape': shape, 'ori_shape': shape}
