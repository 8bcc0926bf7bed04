"""Handwritten digits that come with scikit-learn."""

from typing import Any, Optional

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmgradaug.registry import DATASETS


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 real scans of digits bundled with scikit-learn: 8 x 8 grey pixels, ten classes.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, its test part. No download. A sample has ``img``, an uint8 array (8, 8, 3)
    of three equal channels (0 to 255), and ``gt_label``; a pipeline needs no loading step and resizes
    as it likes.

    The 1,000 images of the training part come first in the file, the 797 of the test part after them.

    Args:
        split: 'train' or 'test'.
        labels_per_class: with 'train', only so many images of each class; None for all.
        label_seed: which ones, drawn at random.
        pipeline, **kwargs: of mmpretrain's ``BaseDataset``.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: an unknown split, or more labels per class than there are images.
    """

    METAINFO = {'classes': [str(digit) for digit in range(10)]}
    NUM_TRAIN = 1000

    def __init__(
        self,
        split: str = 'train',
        labels_per_class: Optional[int] = None,
        label_seed: int = 0,
        pipeline: Any = (),
        **kwargs: Any,
    ) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        if labels_per_class is not None and (labels_per_class < 1 or split != 'train'):
            raise ValueError(
                f'labels_per_class={labels_per_class} with split={split!r}: it takes 1 or more images '
                "of each class from split='train'"
            )
        self.split = split
        self.labels_per_class = labels_per_class
        self.label_seed = label_seed
        super().__init__(ann_file='', pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ImportError(
                'the digits come with scikit-learn: pip install scikit-learn'
            ) from error
        images, labels = load_digits(return_X_y=True)
        part = slice(None, self.NUM_TRAIN) if self.split == 'train' else slice(self.NUM_TRAIN, None)
        images, labels = images[part], labels[part]
        chosen = np.arange(len(labels))
        if self.labels_per_class is not None:
            chosen = self._choose(labels, self.labels_per_class)
        grey = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        return [dict(img=np.repeat(grey[i], 3, axis=2), gt_label=int(labels[i])) for i in chosen]

    def _choose(self, labels: np.ndarray, number: int) -> np.ndarray:
        rng = np.random.default_rng(self.label_seed)
        chosen = []
        for digit in range(10):
            of_digit = np.flatnonzero(labels == digit)
            if len(of_digit) < number:
                raise ValueError(
                    f'{number} images of digit {digit} were asked for, the training '
                    f'part has {len(of_digit)}'
                )
            chosen.append(rng.choice(of_digit, number, replace=False))
        return np.sort(np.concatenate(chosen))
