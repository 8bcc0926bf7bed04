"""Annotations of detection data sets that MMDetection answers with a traceback, or not at all."""

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mmgradaug.registry import HOOKS
from mmgradaug.wrapped_datasets import inner_datasets

SAMPLES, PICTURES = 200, 20  # how many annotations and image files are looked at


@HOOKS.register_module()
class AnnotationCheckHook(Hook):
    """Looks at some annotations and images before the first iteration; see :func:`check_annotations`."""

    def before_train(self, runner: Runner) -> None:
        for dataset in inner_datasets(runner.train_dataloader.dataset):
            check_annotations(dataset)


def check_annotations(dataset: BaseDataset) -> None:
    """Refuse annotations that the data set's own loading step cannot use, of some images evenly spread.

    Raises:
        ValueError: masks are wanted where there are none; or masks in RLE, of which ``poly2mask=False`` ignores
            every instance in silence; or an image file has height and width the other way round than its
            annotation, as photos with EXIF's orientation do.
    """
    steps = list(_all_steps(getattr(getattr(dataset, 'pipeline', None), 'transforms', ())))
    load = next((step for step in steps if getattr(step, 'with_mask', False)), None)
    # By default MMCV turns images as their EXIF data says.
    turns = any(getattr(step, 'color_type', None) in ('color', 'grayscale') for step in steps)
    number = len(dataset)
    for i in range(0, number, max(1, number // SAMPLES)):
        info = dataset.get_data_info(i)
        where = f'{info.get("img_path", f"image {i}")}'
        if load is not None:
            _check_masks(info.get('instances') or [], load, where)
    for i in range(0, number, max(1, number // PICTURES)) if turns else ():
        _check_size(dataset.get_data_info(i))


def _all_steps(steps: Any) -> Iterator[Any]:
    for step in steps:
        yield step
        inside = getattr(step, 'transforms', None)
        if isinstance(inside, (list, tuple)):
            yield from _all_steps(inside)


def _check_masks(instances: list[dict[str, Any]], load: Any, where: str) -> None:
    without = [instance for instance in instances if instance.get('mask') is None]
    if without:
        raise ValueError(
            f'{where}: {len(without)} of {len(instances)} annotations have no "segmentation", but masks are '
            'loaded: add them, or write LoadAnnotations with_mask=False for a detector without masks'
        )
    # Crowds are in RLE, and ignored anyway.
    wanted = [instance for instance in instances if not instance.get('ignore_flag')]
    if not getattr(load, 'poly2mask', True) and any(isinstance(i['mask'], dict) for i in wanted):
        raise ValueError(
            f'{where}: masks in RLE, of which LoadAnnotations(poly2mask=False) ignores every instance: write '
            'poly2mask=True'
        )


def _check_size(info: dict[str, Any]) -> None:
    path, told = info.get('img_path'), (info.get('width'), info.get('height'))
    if path is None or None in told or told[0] == told[1]:
        return
    try:
        with Image.open(path) as image:
            size, turned = image.size, image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except OSError:  # the loading step says so, in its own words, when it gets there
        return
    if turned and size == told:
        raise ValueError(
            f'{path}: EXIF turns this {size[0]}x{size[1]} image by a quarter, and its annotation is for the unturned '
            "one: write LoadImageFromFile(color_type='color_ignore_orientation'), or turn the files and the "
            'annotations'
        )
