"""CIFAR-10-C and CIFAR-100-C in their official arrays."""

from pathlib import Path
from typing import Any, Optional

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmgradaug.registry import DATASETS

from .corruptions import CORRUPTIONS, SEVERITIES

LABELS = 'labels.npy'


def cifar_c_file(data_root: str, corruption: str, num_classes: Optional[int] = None) -> Path:
    """Where a corruption's images of all severities are.

    Args:
        data_root, corruption, num_classes: as in :class:`CIFARC`; None for any number of classes.

    Raises:
        ValueError: an unknown corruption, or another number of classes.
        FileNotFoundError: they, or their labels, are not there.
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(f'corruption must be one of {", ".join(CORRUPTIONS)}; got {corruption!r}')
    file, labels = Path(data_root) / f'{corruption}.npy', Path(data_root) / LABELS
    for needed in (file, labels):
        if not needed.is_file():
            raise FileNotFoundError(
                f'{needed.name} is not in {data_root}: extract CIFAR-10-C.tar or CIFAR-100-C.tar there'
            )
    classes = int(np.load(labels).max()) + 1
    if num_classes is not None and classes != num_classes:
        raise ValueError(
            f'{labels} has {classes} classes instead of {num_classes}: it is for another network'
        )
    return file


@DATASETS.register_module()
class CIFARC(BaseDataset):
    """One of the 75 sets of CIFAR-10-C or CIFAR-100-C (Hendrycks and Dietterich, arXiv:1903.12261).

    ``data_root`` has ``labels.npy`` and for each corruption an array of uint8 RGB images,
    (50,000, 32, 32, 3): CIFAR's 10,000 test images in severity 1, then in 2, and so on. Samples are like those
    of MMPretrain's ``CIFAR10``: ``img`` in RGB order and ``gt_label``.

    Args:
        data_root: the folder.
        corruption: one of the fifteen.
        severity: 1 to 5.
        num_classes: how many there must be, 10 or 100; None for any number.
        **kwargs: of ``mmpretrain.BaseDataset``.

    Raises:
        ValueError: an unknown corruption or severity, another number of classes, or arrays of other shapes.
        FileNotFoundError: a file is not there.
    """

    def __init__(
        self,
        data_root: str,
        corruption: str,
        severity: int,
        num_classes: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        if severity not in SEVERITIES:
            raise ValueError(f'severity is 1 to 5, got {severity!r}')
        self.file = cifar_c_file(data_root, corruption, num_classes)
        self.severity = severity
        # Serialised, every image would be pickled.
        super().__init__('', data_root=str(data_root), **{'serialize_data': False, **kwargs})

    def load_data_list(self) -> list[dict[str, Any]]:
        images = np.load(self.file, mmap_mode='r')
        labels = np.load(self.file.with_name(LABELS))
        shape_fits = images.ndim == 4 and images.shape[3] == 3 and images.dtype == np.uint8
        if not shape_fits or len(images) != len(labels) or len(images) % len(SEVERITIES):
            raise ValueError(
                f'{self.file} has {images.dtype} of {images.shape} and {len(labels)} labels instead of '
                'uint8 of (50000, 32, 32, 3) and 50000: extract its archive again'
            )
        number = len(images) // len(SEVERITIES)
        rows = range((self.severity - 1) * number, self.severity * number)
        # Copies, which transforms may write to; the severity's alone, not all five.
        return [dict(img=np.array(images[i]), gt_label=int(labels[i])) for i in rows]
