"""ImageNet-C in its official folders."""

from pathlib import Path
from typing import Any, Optional

from mmpretrain.datasets import CustomDataset

from mmgradaug.registry import DATASETS

from .corruptions import CORRUPTIONS, SEVERITIES

GROUPS = ('', 'noise', 'blur', 'weather', 'digital')


def imagenet_c_folder(
    data_root: str, corruption: str, severity: int, num_classes: Optional[int] = None
) -> Path:
    """Where a set is: below ``data_root`` itself, or below the folder of its archive (noise, blur, ...).

    Args:
        data_root, corruption, severity, num_classes: as in :class:`ImageNetC`; None for any number of classes.

    Raises:
        ValueError: an unknown corruption or severity, or another number of classes.
        FileNotFoundError: it is not there.
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(f'corruption must be one of {", ".join(CORRUPTIONS)}; got {corruption!r}')
    if severity not in SEVERITIES:
        raise ValueError(f'severity is 1 to 5, got {severity!r}')
    for group in GROUPS:
        folder = Path(data_root) / group / corruption / str(severity)
        if folder.is_dir():
            classes = sum(path.is_dir() for path in folder.iterdir())
            if num_classes not in (None, classes):
                raise ValueError(
                    f'{folder} has {classes} classes instead of {num_classes}, so labels would be '
                    'wrong: extract its archive again'
                )
            return folder
    raise FileNotFoundError(
        f'{corruption} of severity {severity} is not in {data_root}: extract the archives of ImageNet-C there, '
        f'so that there is {Path(data_root) / corruption / str(severity)}'
    )


@DATASETS.register_module()
class ImageNetC(CustomDataset):
    """One of the 75 sets of ImageNet-C (Hendrycks and Dietterich, arXiv:1903.12261).

    The images are ImageNet's validation images, 224 x 224 pixels, corrupted. Labels are the places of the
    class folders in alphabetical order, which are ImageNet's.

    Args:
        data_root: the folder with ``gaussian_noise/1/n01440764/...``, or with ``noise/gaussian_noise/...``.
        corruption: one of the fifteen.
        severity: 1 to 5.
        num_classes: how many class folders there must be.
        **kwargs: of ``mmpretrain.CustomDataset``.

    Raises:
        ValueError: an unknown corruption or severity, or another number of classes: labels would shift.
        FileNotFoundError: the set is not there.
    """

    def __init__(
        self, data_root: str, corruption: str, severity: int, num_classes: int = 1000, **kwargs: Any
    ) -> None:
        folder = imagenet_c_folder(data_root, corruption, severity, num_classes)
        super().__init__(data_root=str(folder), **kwargs)
