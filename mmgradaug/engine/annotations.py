"""Annotations of detection data sets that MMDetection answers with a traceback, or not at all."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Optional

from mmengine.dataset import BaseDataset
from PIL import Image

from mmgradaug.arguments import shown
from mmgradaug.categories import lists_in

# What MMDetection and pycocotools read of each, and what to write where it is missing.
READ = dict(
    images=dict(id='a number', file_name='', width='of the file', height='of the file'),
    annotations=dict(
        id='a number', image_id='', category_id='', bbox='[x, y, width, height]',
        area='width times height of the box, or the pixels of the mask', iscrowd='0',
    ),
)  # fmt: skip
MOST = 100  # lists of one name, those within other entries included
SAMPLES, PICTURES = 200, 20  # how many annotations and image files are looked at


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


def left_out_annotations(dataset: BaseDataset) -> list[str]:
    """Which annotations of a COCO file MMDetection leaves out without a word, a sentence each kind.

    All are read. Nothing is said of datasets that are not from COCO files on this machine.

    Raises:
        ValueError: there are category ids that the file itself does not know, ids that it has twice, or no annotation
            is of one of its images.
    """
    content, path = _coco_file(dataset)
    if not content:
        return []
    check_ids(dataset, content)
    names = {each['id']: each['name'] for each in content.get('categories', [])}
    images = {each['id']: each for each in content.get('images', [])}
    used = set(dataset.metainfo.get('classes', ()))
    kinds: dict[str, list[Any]] = {}
    for annotation in content.get('annotations', []):
        found = _why_left_out(annotation, names, images, used)
        if found is not None:
            kinds.setdefault(found[0], []).append(found[1])
    # A part of the images with the annotations of all of them is fine; none of theirs is not.
    number = sum(not each.get('ignore') for each in content.get('annotations', []))
    for kind in [kind for kind in kinds if kind == NO_IMAGE and len(kinds[kind]) == number]:
        kinds[f'an image_id {WRONG}'] = kinds.pop(kind)
    said = []
    for kind, found_in in sorted(kinds.items()):
        some = shown(list(dict.fromkeys(found_in)))
        said.append(f'{path}: {len(found_in)} annotations have {kind} ({some})')
    wrong = [sentence for sentence in said if WRONG in sentence]
    if wrong:
        raise ValueError(f'{" ".join(wrong)}. Mend the file')
    return [f'{sentence}: they are left out' for sentence in said]


def check_ids(dataset: BaseDataset, content: Optional[dict[str, Any]] = None) -> None:
    """Refuse a COCO file that uses an id of an image or a category twice, as merged files do.

    pycocotools takes the last of an id, and gives it the boxes of all.

    Args:
        content: the file's, if it was read already.

    Raises:
        ValueError: there is such an id.
    """
    if content is None:
        content = _coco_file(dataset)[0]
    for kind, name in (('images', 'file_name'), ('categories', 'name')):
        seen: dict[Any, dict[str, Any]] = {}
        for each in content.get(kind, ()):
            first = seen.setdefault(each['id'], each)
            if first is not each and (first.get(name) != each.get(name) or kind == 'categories'):
                raise ValueError(
                    f'{dataset.ann_file}: the id {each["id"]} stands twice among its {kind}, of {first.get(name)} '
                    f"and of {each.get(name)}, whose boxes would become one's. Number them anew"
                )


def missing_fields(file: Path, evaluated: bool) -> Iterator[str]:
    """What the first image and the first annotation of a COCO file lack, as files of other tools do.

    Args:
        evaluated: whether pycocotools is to evaluate with the file; MMDetection alone reads no ``iscrowd``.
    """
    for kind, fields in READ.items():
        needed = [field for field in fields if evaluated or field != 'iscrowd']
        lacking = []
        # Lists of that name within other entries are few, if there are any.
        for text in islice(lists_in(file, kind), MOST):
            first = _first_that_counts(text, kind)
            if first is not None:
                lacking.append([field for field in needed if field not in first])
            if first is None or not lacking[-1]:
                lacking = []
                break
        # Of so many another one may be the list itself.
        if lacking and len(lacking) < MOST:
            missing = min(lacking, key=len)
            what = [f'"{m}"' + (f' ({fields[m]})' if fields[m] else '') for m in missing]
            yield f'the first of its {kind} has no {" and no ".join(what)}: add it to all of them'


def _first_that_counts(text: str, kind: str) -> Optional[dict[str, Any]]:
    """The first entry of a list, without annotations to ignore, of which MMDetection reads no further."""
    place, decoder = 1, json.JSONDecoder()
    try:
        while True:
            while text[place] in ', \r\n\t':
                place += 1
            entry, place = decoder.raw_decode(text, place)
            if kind != 'annotations' or not entry.get('ignore'):
                return entry
    except (ValueError, IndexError):  # the list, or what was read of it, ends
        return None


def _coco_file(dataset: BaseDataset) -> tuple[dict[str, Any], Path]:
    """What a data set's COCO file holds; nothing if it has none on this machine."""
    path = Path(str(getattr(dataset, 'ann_file', '')))
    if not hasattr(dataset, 'COCOAPI') or not path.is_file():
        return {}, path
    return json.loads(path.read_text()), path


WRONG = 'which the file does not know'
NO_IMAGE = 'an image_id of no image of the file'


def _why_left_out(
    annotation: dict[str, Any], names: dict[Any, str], images: dict[Any, Any], used: set[str]
) -> Optional[tuple[str, Any]]:
    """In which way an annotation cannot be learned from, and what to show of it; None if it can."""
    number, category = annotation.get('id'), annotation.get('category_id')
    image = images.get(annotation.get('image_id'))
    if 'segments_info' in annotation or annotation.get(
        'ignore'
    ):  # panoptic; MMDetection reads no further
        return None
    if category not in names:
        return f'a category_id {WRONG}', category
    if image is None:
        return NO_IMAGE, annotation.get('image_id')
    if names[category] not in used:
        return 'a category that metainfo.classes does not have', names[category]
    x, y, width, height = annotation['bbox']
    if width < 1 or height < 1 or annotation.get('area', 1) <= 0:
        return 'a box or an area below one pixel, ids', number
    if min(x + width, image['width']) <= max(x, 0) or min(y + height, image['height']) <= max(y, 0):
        return 'a box outside of the image, ids', number
    return None


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
