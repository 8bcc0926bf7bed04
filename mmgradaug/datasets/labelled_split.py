"""A few labelled images of each class; the rest without labels."""

import copy
import json
import os
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from mmengine.dataset import BaseDataset, Compose, ConcatDataset
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS

from mmgradaug.files import write_whole
from mmgradaug.registry import DATASETS
from mmgradaug.wrapped_datasets import inner_configs

PARTS = ('labelled', 'unlabelled', 'both')


@DATASETS.register_module()
def LabelledSplit(  # noqa: N802
    of: str,
    num_labels: int,
    split_seed: int = 0,
    part: str = 'labelled',
    unlabelled: Optional[dict[str, Any]] = None,
    split_file: Union[str, os.PathLike[str], None] = None,
    **kwargs: Any,
) -> Union[BaseDataset, ConcatDataset]:
    """Another dataset with ``num_labels`` labels, the same number of each class (paper, Section 4.6).

    The paper: "Training images are sampled uniformly from 10 categories. We run each model on 5 random
    data splits". Which images is a function of the dataset and ``split_seed`` alone.

    Args:
        of: the dataset's type: 'CIFAR10', 'mmgradaug.STL10', 'CustomDataset', 'mmgradaug.ImageFolder' or
            any other of MMPretrain's with one label an image.
        num_labels: in all; a multiple of the number of classes.
        split_seed: 0 to 2^32 - 1.
        part: 'labelled', these images alone; 'unlabelled', all others, without labels; 'both', one
            after the other, in a ``ConcatDataset`` as mmdet's ``MultiSourceSampler`` wants it.
        unlabelled: the config of another dataset, whose images are the unlabelled ones instead of the
            rest. Without a ``pipeline`` of its own it has this one's. Its labels, classes and sizes, if
            it has any, do not matter.
        split_file: a JSON file with the indices of the labelled images by class. If it is there, it says
            which; otherwise it is written.
        **kwargs: the dataset's arguments.

    Returns:
        The dataset itself, cut down, in the order of the whole.

    Raises:
        TypeError: the number is no whole one, or a dataset is a wrapper such as ConcatDataset.
        ValueError: the dataset does not name its classes; the number is no multiple of their number; a
            class has too few images; nothing is left unlabelled; or the file is of another split or of
            other images, has an image twice or, with a seed, not the same number of each class.
    """
    if part not in PARTS:
        raise ValueError(f'part must be one of {", ".join(PARTS)}; got {part!r}')
    if isinstance(num_labels, bool) or not isinstance(num_labels, int):
        raise TypeError(f'num_labels must be a whole number, got {num_labels!r}')
    if unlabelled is not None and part == 'labelled':
        raise ValueError("unlabelled=... takes part='both' or part='unlabelled'")
    whole = _whole(of, kwargs)
    known = Path(split_file) if split_file is not None else None
    if known is not None and known.exists():
        by_class = _read(known, whole, of, num_labels, split_seed)
    else:
        by_class = _draw(whole, num_labels, split_seed)
        if known is not None:
            _write(known, whole, of, num_labels, split_seed, by_class)
    chosen = sorted(index for indices in by_class.values() for index in indices)
    rest = np.setdiff1d(np.arange(len(whole)), chosen).tolist()
    labelled = whole
    # In place, and a second time for the rest: get_subset() copies with a memory of all earlier copies,
    # by addresses that other objects may have by now (MMEngine 0.10.7).
    labelled.get_subset_(chosen)
    if part == 'labelled':
        return labelled
    if unlabelled is None:
        if not rest:
            raise ValueError(
                f'num_labels={num_labels} is all of {of}: no image is left unlabelled; take fewer labels, '
                'or unlabelled=dict(type=...) of another dataset'
            )
        others = _whole(of, kwargs)
        others.get_subset_(rest)
    else:
        others = MMPRETRAIN_DATASETS.build(
            {'pipeline': kwargs.get('pipeline', ()), **copy.deepcopy(unlabelled)}
            if inner_configs(unlabelled) == [unlabelled]
            else copy.deepcopy(unlabelled)
        )
        others.full_init()
        if not isinstance(others, BaseDataset):
            raise TypeError(
                f'LabelledSplit: unlabelled is a {type(others).__name__} of other data sets: write one data '
                'set itself, dict(type=...); several folders make one by links in one folder'
            )
    # Before anything else in the pipeline: no transform and no model gets to see them.
    others.pipeline = Compose([_without_labels, *others.pipeline.transforms])
    if part == 'unlabelled':
        return others
    return ConcatDataset(
        [labelled, others], ignore_keys=[*{**labelled.metainfo, **others.metainfo}]
    )


def _whole(of: str, kwargs: dict[str, Any]) -> BaseDataset:
    dataset = MMPRETRAIN_DATASETS.build(copy.deepcopy(dict(kwargs, type=of)))
    dataset.full_init()
    if not isinstance(dataset, BaseDataset):
        raise TypeError(
            f'LabelledSplit cannot tell which images of {of} to take, a wrapper of other data sets: write the '
            "one data set itself, of='CustomDataset' for instance, with its arguments; several folders "
            'make one data set by links in one folder, or by an ann_file'
        )
    classes = dataset.metainfo.get('classes')
    if not classes or isinstance(classes, str):
        raise ValueError(
            f'LabelledSplit takes as many images of each class, and {of} '
            + (
                'does not say which classes it has'
                if not classes
                else f'has as classes a string, {classes!r}'
            )
            + ": write metainfo=dict(classes=['ant', 'bee', ...]), in the order of the labels"
        )
    return dataset


def _without_labels(results: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if key not in ('gt_label', 'gt_score')}


def _draw(whole: BaseDataset, num_labels: int, split_seed: int) -> dict[str, list[int]]:
    classes = whole.metainfo['classes']
    if num_labels < 1 or num_labels % len(classes):
        raise ValueError(
            f'num_labels must be a multiple of the number of classes, {len(classes)}, got {num_labels}'
        )
    each = num_labels // len(classes)
    labels = whole.get_gt_labels()
    rng = np.random.RandomState(split_seed)
    chosen = {}
    for label, name in enumerate(classes):
        images = np.flatnonzero(labels == label)
        if len(images) < each:
            raise ValueError(
                f'num_labels={num_labels} takes {each} images of each class, but class {name!r} has '
                f'{len(images)}'
            )
        chosen[name] = sorted(rng.choice(images, each, replace=False).tolist())
    return chosen


def _write(
    file: Path,
    whole: BaseDataset,
    of: str,
    num_labels: int,
    split_seed: int,
    by_class: dict[str, list[int]],
) -> None:
    """In one move: another process may be about to read it."""
    content = dict(
        dataset=of,
        num_images=len(whole),
        num_labels=num_labels,
        split_seed=split_seed,
        labelled=by_class,
    )
    write_whole(file, json.dumps(content) + '\n')


def _read(
    file: Path, whole: BaseDataset, of: str, num_labels: int, split_seed: int
) -> dict[str, list[int]]:
    """The labelled images of a file, which must be about this dataset and this split."""
    advice = 'Name another split_file, or move this one away to have it written anew'
    try:
        content = json.loads(file.read_text())
        by_class = {
            name: [int(i) for i in indices] for name, indices in content['labelled'].items()
        }
        num_images = content['num_images']
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{file} is no split file ({error!r}). {advice}') from error
    seed = content.get('split_seed')
    # A split that somebody else drew has no seed.
    if seed is not None and (content.get('num_labels'), seed) != (num_labels, split_seed):
        raise ValueError(
            f'{file} is the split of {content.get("num_labels")} labels with seed {seed}, not of '
            f'{num_labels} with seed {split_seed}. {advice}'
        )
    number = sum(len(indices) for indices in by_class.values())
    if number != num_labels:
        raise ValueError(f'{file} has {number} labelled images, not {num_labels}. {advice}')
    if len({i for indices in by_class.values() for i in indices}) != number:
        raise ValueError(f'{file} has an image twice. {advice}')
    classes = list(whole.metainfo['classes'])
    sizes = {name: len(by_class.get(name, ())) for name in classes}
    if seed is not None and len(set(sizes.values())) > 1:
        raise ValueError(
            f'{file} is of seed {seed} but has not the same number of each class: {sizes}. If it is '
            f'meant, remove "split_seed" from it. {advice}'
        )
    fits = num_images == len(whole) and all(
        name in classes
        and 0 <= i < len(whole)
        and whole.get_data_info(i)['gt_label'] == classes.index(name)
        for name, indices in by_class.items()
        for i in indices
    )
    if not fits:
        raise ValueError(
            f'{file} is about other images than this {of} has, or in another order. {advice}'
        )
    return by_class
