"""A few labelled images of each class."""

from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS

from mmgradaug.registry import DATASETS


@DATASETS.register_module()
def LabelledSplit(of: str, num_labels: int, split_seed: int = 0, **kwargs: Any) -> BaseDataset:  # noqa: N802
    """Another dataset, cut down to ``num_labels`` images, the same number of each class (Section 4.6).

    Args:
        of: the dataset's type, 'CIFAR10' for instance.
        num_labels: in all; a multiple of the number of classes.
        split_seed: which images; the same for every run and machine.
        **kwargs: the dataset's arguments.

    Returns:
        The dataset itself, with these images alone, in the order of the whole.

    Raises:
        ValueError: the number is no multiple of the number of classes, or a class has too few images.
    """
    dataset = MMPRETRAIN_DATASETS.build(dict(kwargs, type=of))
    dataset.full_init()
    classes = dataset.CLASSES
    if num_labels < 1 or num_labels % len(classes):
        raise ValueError(
            f'num_labels must be a multiple of the number of classes, {len(classes)}, got {num_labels}'
        )
    each = num_labels // len(classes)
    labels = dataset.get_gt_labels()
    rng = np.random.RandomState(split_seed)
    chosen = []
    for label, name in enumerate(classes):
        images = np.flatnonzero(labels == label)
        if len(images) < each:
            raise ValueError(
                f'num_labels={num_labels} takes {each} images of each class, but class {name!r} has '
                f'{len(images)}'
            )
        chosen.extend(rng.choice(images, each, replace=False).tolist())
    dataset.get_subset_(sorted(chosen))
    return dataset
