"""The images that ``mmgradaug shapes`` draws, which have COCO's format."""

from typing import Any, Optional

import numpy as np
from mmdet.datasets import CocoDataset

from mmgradaug.registry import DATASETS


@DATASETS.register_module()
class Shapes(CocoDataset):
    """Circles, squares and triangles with boxes and masks, drawn by ``mmgradaug shapes``.

    MMDetection's CocoDataset with these classes, a draw of training images, and an error that says
    how to make the images if they are not there.

    Args:
        num_images: only so many of the images that are left by ``filter_cfg``; None for all.
        image_seed: which ones, drawn at random.
        **kwargs: of mmdet's ``CocoDataset``.

    Raises:
        FileNotFoundError: the annotations are not there.
        ValueError: more images are asked for than there are, or less than one.
    """

    METAINFO = {
        'classes': ('circle', 'square', 'triangle'),
        'palette': [(220, 20, 60), (0, 120, 220), (0, 150, 80)],
    }

    def __init__(
        self, *args: Any, num_images: Optional[int] = None, image_seed: int = 0, **kwargs: Any
    ) -> None:
        if num_images is not None and num_images < 1:
            raise ValueError(f'num_images must be 1 or more, or None for all; got {num_images}')
        self.num_images = num_images
        self.image_seed = image_seed
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        try:
            return super().load_data_list()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'the shapes are not there ({self.ann_file}). Make them, in the folder of mmgradaug: '
                f'mmgradaug shapes {self.data_root}'
            ) from error

    def filter_data(self) -> list[dict[str, Any]]:
        images = super().filter_data()
        if self.num_images is None:
            return images
        if self.num_images > len(images):
            raise ValueError(
                f'{self.num_images} images were asked for, {self.ann_file} has {len(images)} '
                'after filtering'
            )
        rng = np.random.default_rng(self.image_seed)
        chosen = np.sort(rng.choice(len(images), self.num_images, replace=False))
        return [images[i] for i in chosen]
