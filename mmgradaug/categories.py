"""The names of a data set's classes, and the order in which a COCO file numbers them."""

import json
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from mmgradaug.arguments import shown
from mmgradaug.wrapped_datasets import inner_datasets


def classes_of(dataset: Any) -> Optional[Sequence[str]]:
    """The names of a data set's classes; None if it does not say them."""
    meta = getattr(dataset, 'metainfo', None) or {}
    return meta.get('classes')


def wrong_categories(dataset: Any) -> Iterator[str]:
    """Where labels of a COCO file are of other names than ``metainfo.classes``, in wrapped data sets too.

    MMDetection numbers labels by ``cat_ids``, in the order of the file's categories that ``metainfo.classes`` names.
    """
    for each in inner_datasets(dataset):
        classes, file = classes_of(each), getattr(each, 'ann_file', None)
        if classes is None or getattr(each, 'cat_ids', None) is None:
            continue
        categories = categories_of(Path(str(file)))
        if len(each.cat_ids) != len(classes):
            known = f', which are {shown([*categories.values()])}' if categories else ''
            yield (
                f'{file} has {len(each.cat_ids)} of the {len(classes)} classes of metainfo.classes '
                f'({shown(classes)}): write the names that are in its categories{known}'
            )
            continue
        names = [categories.get(number, '') for number in each.cat_ids]
        # Other names altogether are a data set's own matter: LVIS's are spelt in another way.
        if sorted(names) == sorted(classes) and names != list(classes):
            yield (
                f'{file} numbers labels in the order {shown(names)}, that of its categories, and '
                f'metainfo.classes is in the order {shown(classes)}: write metainfo=dict(classes='
                f'{tuple(names)!r}) of training and validation, or bring the categories of the file into the '
                'other order'
            )


def categories_of(file: Path) -> dict[int, str]:
    """A COCO file's categories, names by number, without reading all of it; none if that cannot be told."""
    for text in lists_in(file, 'categories'):
        try:
            found, _ = json.JSONDecoder().raw_decode(text)
            return {category['id']: category['name'] for category in found}
        except (ValueError, TypeError, KeyError):
            pass
    return {}


def lists_in(file: Path, key: str) -> Iterator[str]:
    """What stands from ``[`` on in each ``"key": [{`` of a JSON file, 4 MB at most; it may be another's key."""
    if not file.is_file() or not file.stat().st_size:
        return
    with file.open('rb') as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for found in re.finditer(rb'"%s"\s*:\s*(\[)\s*\{' % key.encode(), data):
            yield data[found.start(1) : found.start(1) + 2**22].decode(errors='replace')
