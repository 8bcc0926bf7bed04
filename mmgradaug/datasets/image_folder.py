"""Small images in class folders, as MMPretrain's CIFAR hands them out."""

from typing import Any

import cv2
import mmcv
from mmpretrain.datasets import CustomDataset

from mmgradaug.registry import DATASETS


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """``data_root/split/class/image``: CIFAR, say, as a folder of images.

    A sample has ``img``, uint8 (H, W, 3) in RGB order, and ``gt_label`` by the classes' names in
    alphabetical order, like the samples of MMPretrain's ``CIFAR10``: so the same pipelines, without a
    loading step, fit both.

    Args:
        data_root: the folder.
        split: folder below it, 'train' or 'test' for instance.
        **kwargs: of ``mmpretrain.CustomDataset``.

    Raises:
        FileNotFoundError: there is no such folder; or no image in a class.
        ValueError: an image, when it is asked for, cannot be read.
    """

    def __init__(self, data_root: str, split: str = '', **kwargs: Any) -> None:
        super().__init__(data_root=data_root, data_prefix=split, **kwargs)

    def prepare_data(self, idx: int) -> Any:
        info = self.get_data_info(idx)
        # Read when needed: a subset of a big folder need not wait for all of it.
        try:
            info['img'] = mmcv.imread(info['img_path'], channel_order='rgb')
        except (cv2.error, ValueError) as error:
            raise ValueError(f'{info["img_path"]} cannot be read as an image: {error}') from error
        info['img_shape'] = info['ori_shape'] = info['img'].shape[:2]
        return self.pipeline(info)
