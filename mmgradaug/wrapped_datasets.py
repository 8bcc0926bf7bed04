"""Data sets inside others: ConcatDataset, RepeatDataset, ClassBalancedDataset, KFoldDataset, ..."""

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset, Subset


def inner_configs(dataset: dict[str, Any]) -> list[dict[str, Any]]:
    """The configs of the data sets that have the images, in order; of a plain one itself.

    Wrappers have them under ``dataset`` or ``datasets``.
    """
    inside = dataset.get('datasets') or dataset.get('dataset')
    if inside is None or not isinstance(inside, (dict, list, tuple)):
        return [dataset]
    inside = [inside] if isinstance(inside, dict) else inside
    return [config for part in inside for config in inner_configs(part)]


def inner_datasets(dataset: Dataset[Any]) -> Iterator[BaseDataset]:
    """The same of built ones."""
    if isinstance(dataset, BaseDataset):
        yield dataset
        return
    inside = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for part in inside:
        if part is not None:
            yield from inner_datasets(part)


def evenly_spread(dataset: Any, number: int) -> Any:
    """``number`` of a data set's samples at even distances, or all where there are no more; 0 for all.

    A plain data set is cut down in place, so that its samples are numbered anew; a wrapper, which MMEngine cannot
    cut down, is wrapped once more.
    """
    if not 0 < number < len(dataset):
        return dataset
    indices = [i * len(dataset) // number for i in range(number)]
    if isinstance(dataset, BaseDataset):
        dataset.get_subset_(indices)
        return dataset
    return Subset(dataset, indices)
