"""STL-10 in its binary files, with the unlabelled images."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from filelock import FileLock
from mmpretrain.datasets import BaseDataset
from torchvision.datasets import STL10 as TorchvisionSTL10
from torchvision.datasets.utils import download_and_extract_archive

from mmgradaug.registry import DATASETS

BYTES = 3 * 96 * 96  # of an image
SPLITS = ('train', 'test', 'unlabeled')


@DATASETS.register_module()
class STL10(BaseDataset):
    """STL-10 (Coates, Ng, Lee, AISTATS 2011): 96 x 96 pixels in colour, ten classes.

    5,000 images for training, 8,000 for the test, and 100,000 without labels, which are from a wider
    distribution than the others. A sample has ``img``, uint8 (96, 96, 3) in RGB order, read from the
    file when it is needed, and ``gt_label`` in [0, 9], in the order of ``class_names.txt``; those of
    'unlabeled' have no label.

    Args:
        data_root: the folder that has, or gets, ``stl10_binary/``.
        split: 'train', 'test' or 'unlabeled' (the files' spelling).
        fold: with 'train', one of the ten predefined folds, 0 to 9, of 1,000 images each (100 of each
            class); None for all 5,000.
        download: fetch the archive (2.6 GB) if the files are not there.
        pipeline, **kwargs: of mmpretrain's ``BaseDataset``.

    Raises:
        ValueError: an unknown split or fold; or a file is cut off.
        FileNotFoundError: the files are not there, and ``download`` is off.
    """

    METAINFO = {
        'classes': [
            'airplane', 'bird', 'car', 'cat', 'deer', 'dog', 'horse', 'monkey', 'ship', 'truck',
        ]
    }  # fmt: skip

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        fold: Optional[int] = None,
        download: bool = True,
        pipeline: Any = (),
        **kwargs: Any,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'split must be one of {", ".join(SPLITS)}; got {split!r}')
        if fold is not None and (split != 'train' or fold not in range(10)):
            raise ValueError(f"fold is 0 to 9, with split='train'; got {fold} with {split!r}")
        self.split = split
        self.fold = fold
        self.download = download
        self.folder = Path(data_root) / TorchvisionSTL10.base_folder
        super().__init__(ann_file='', data_root=str(data_root), pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        if self.download and not self._there():
            self._download()
        for file in self._files():
            if not file.is_file():
                raise FileNotFoundError(
                    f'{file} is not there: extract {TorchvisionSTL10.filename} in {self.data_root}, or '
                    'write download=True'
                )
        images = self._files()[0]
        size = images.stat().st_size
        number = size // BYTES
        labels = None
        if self.split != 'unlabeled':
            labels = np.fromfile(self._files()[1], dtype=np.uint8)
        if size % BYTES or not number or (labels is not None and len(labels) != number):
            raise ValueError(
                f'{images} is cut off, or of something else: {size} bytes, {BYTES} an image, and '
                f'{"no" if labels is None else len(labels)} labels. Extract the archive again'
            )
        chosen: Sequence[int] = range(number)
        if self.fold is not None:
            chosen = self._fold(self.fold, number)
        if labels is None:
            return [dict(position=i) for i in chosen]
        # The file counts classes from 1.
        return [dict(position=i, gt_label=int(labels[i]) - 1) for i in chosen]

    def _files(self) -> list[Path]:
        names = [f'{self.split}_X.bin']
        if self.split != 'unlabeled':
            names.append(f'{self.split}_y.bin')
        if self.fold is not None:
            names.append(TorchvisionSTL10.folds_list_file)
        return [self.folder / name for name in names]

    def _there(self) -> bool:
        return all(file.is_file() for file in self._files())

    def _download(self) -> None:
        """By one of the processes that want it at the same time; a file is whole when it appears."""
        root = Path(self.data_root)
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f'.{TorchvisionSTL10.base_folder}.lock'):
            if self._there():
                return
            with tempfile.TemporaryDirectory(dir=root, prefix='.extracting-') as folder:
                download_and_extract_archive(
                    TorchvisionSTL10.url,
                    str(root),
                    extract_root=folder,
                    filename=TorchvisionSTL10.filename,
                    md5=TorchvisionSTL10.tgz_md5,
                )
                self.folder.mkdir(exist_ok=True)
                for file in (Path(folder) / TorchvisionSTL10.base_folder).iterdir():
                    os.replace(file, self.folder / file.name)

    def _fold(self, fold: int, number: int) -> list[int]:
        file = self._files()[-1]
        lines = file.read_text().splitlines()
        chosen = [int(i) for i in lines[fold].split()] if fold < len(lines) else []
        if not chosen or not all(0 <= i < number for i in chosen):
            raise ValueError(f'{file} has no fold {fold} of these images')
        return chosen

    def prepare_data(self, idx: int) -> Any:
        info = self.get_data_info(idx)
        # Read when needed: all of them together are 2.8 GB. By colour, then column, then row.
        pixels = np.fromfile(
            self._files()[0], dtype=np.uint8, count=BYTES, offset=BYTES * info['position']
        )
        info['img'] = np.ascontiguousarray(pixels.reshape(3, 96, 96).transpose(2, 1, 0))
        info['img_shape'] = info['ori_shape'] = (96, 96)
        return self.pipeline(info)
