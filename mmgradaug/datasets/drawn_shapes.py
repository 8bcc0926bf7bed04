"""``mmgradaug shapes``: a small data set of overlapping shapes in COCO's format and layout, with crowds.

In each split the 2nd image has no annotation, the 3rd a crowd only, the 4th has boxes one pixel wide, the 5th
shapes that are gone at half the size, and the 6th has its sides swapped.
"""

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from rich.console import Console
from rich.progress import track

from mmgradaug.files import UserError

CONSOLE = Console(stderr=True)

# The ids have a gap, as COCO's, so that code which takes an id for a label is found out.
CLASSES = {'circle': 1, 'square': 2, 'triangle': 4}
SPLITS = ('train', 'val')
# What may break a detector's code: the image with this index is of this sort in either split.
SPECIAL = {1: 'empty', 2: 'crowd only', 3: 'one pixel', 4: 'tiny', 5: 'turned'}
ANNOTATIONS = 'annotations'
STAGING = '.incomplete'

MIN_VISIBLE = 0.3  # of a shape's pixels; one that is hidden more is left out
MIN_CONTRAST = 70  # grey levels between a shape and the mean background, in one channel at least


@dataclass(frozen=True)
class Shape:
    """A circle, square or triangle, or a bar or cross, which are clutter."""

    kind: str
    x: float  # the centre, in pixels; whole numbers are pixels' corners
    y: float
    radius: float
    angle: float = 0.0

    def coverage(self, width: int, height: int) -> np.ndarray:
        """How much of each pixel it covers, 0 to 1; more than half makes the pixel its own."""
        covered = np.zeros((height, width))
        reach = 1.5 * self.radius + 2
        left, right = max(0, int(self.x - reach)), min(width, int(self.x + reach) + 1)
        top, bottom = max(0, int(self.y - reach)), min(height, int(self.y + reach) + 1)
        if left >= right or top >= bottom:
            return covered
        dy, dx = np.mgrid[top:bottom, left:right] + 0.5
        dx, dy = dx - self.x, dy - self.y
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        distance = self._distance(cos * dx + sin * dy, cos * dy - sin * dx)
        covered[top:bottom, left:right] = np.clip(0.5 - distance, 0, 1)
        return covered

    def _distance(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Of points from the outline, negative inside (near the outline; elsewhere the sign is)."""
        radius = self.radius
        if self.kind == 'circle':
            return np.hypot(u, v) - radius
        if self.kind == 'square':  # about the circle's area, lest size tell the class
            return np.maximum(abs(u), abs(v)) - 0.9 * radius
        if self.kind == 'triangle':
            side = np.maximum(v, math.sqrt(0.75) * abs(u) - 0.5 * v)
            return side - 0.75 * radius
        bar = np.maximum(abs(u) - radius, abs(v) - 0.12 * radius)
        if self.kind == 'bar':
            return bar
        if self.kind == 'cross':
            return np.minimum(bar, np.maximum(abs(v) - radius, abs(u) - 0.12 * radius))
        raise ValueError(f'unknown shape: {self.kind!r}')


@dataclass(frozen=True)
class Item:
    """What gets one annotation, or none if it is clutter: a shape, or a crowd of small ones."""

    category: Optional[str]
    shapes: tuple[Shape, ...]
    crowd: bool = False

    def coverage(self, width: int, height: int) -> np.ndarray:
        return np.max([shape.coverage(width, height) for shape in self.shapes], axis=0)


@dataclass(frozen=True)
class Scene:
    """An image's size, and what is on it, from the back to the front."""

    width: int
    height: int
    items: tuple[Item, ...]


def compose(
    rng: np.random.Generator, index: int, size: tuple[int, int], shapes: tuple[int, int]
) -> Scene:
    """Draw by lot what is on the image with this index."""
    sort = SPECIAL.get(index, 'ordinary')
    width, height = _image_size(rng, sort, size)
    short = min(width, height)

    def one(kind: str, smallest: float, largest: float) -> Shape:
        radius = short * math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        return Shape(kind, x, y, radius, rng.uniform(0, 2 * math.pi))

    def clutter() -> Item:
        return Item(None, (one(str(rng.choice(['bar', 'cross'])), 0.05, 0.2),))

    items = [clutter() for _ in range(rng.integers(1, 4))]
    if sort == 'crowd only' or (sort == 'ordinary' and rng.random() < 0.15):
        items.append(_crowd(rng, width, height))
    if sort not in ('empty', 'crowd only'):
        for _ in range(rng.integers(shapes[0], shapes[1] + 1)):
            kind = str(rng.choice(list(CLASSES)))
            items.append(Item(kind, (one(kind, 0.07, 0.28),)))
        items.append(clutter())  # one of them may hide a part of an instance
    if sort == 'one pixel':
        items += _one_pixel_wide(rng, width, height)
    if sort == 'tiny':
        items += _tiny(rng, width, height)
    return Scene(width, height, _without_hidden(items, width, height))


def _image_size(rng: np.random.Generator, sort: str, size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    turned = (height, width) if width != height else (width * 3 // 4, height)
    draw, factors = rng.random(), rng.uniform(0.75, 1.25, 2)
    if sort == 'turned' or (sort == 'ordinary' and draw < 0.2):
        return turned
    if sort == 'ordinary' and draw < 0.45:
        return round(width * factors[0]), round(height * factors[1])
    return size


def _crowd(rng: np.random.Generator, width: int, height: int) -> Item:
    short = min(width, height)
    kind = str(rng.choice(list(CLASSES)))
    x, y = rng.uniform(0.2, 0.8, 2) * (width, height)
    members = []
    for _ in range(rng.integers(10, 25)):
        distance, direction = 0.2 * short * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        radius = short * rng.uniform(0.02, 0.035)
        dx, dy = distance * math.cos(direction), distance * math.sin(direction)
        members.append(Shape(kind, x + dx, y + dy, radius, rng.uniform(0, 2 * math.pi)))
    return Item(kind, tuple(members), crowd=True)


def _one_pixel_wide(rng: np.random.Generator, width: int, height: int) -> list[Item]:
    """Boxes of 1 x 1, and of 1 x more: a square of which the image shows its first column."""
    side = 2 * max(3, height // 12)
    x = int(rng.integers(width // 4, 3 * width // 4))
    y = int(rng.integers(side, height - side))
    dot = Shape('square', x + 0.5, y + 0.5, 0.5 / 0.9)
    cut_off = Shape('square', width - 1 + side / 2, y, side / 2 / 0.9)
    return [Item('square', (dot,)), Item('square', (cut_off,))]


def _tiny(rng: np.random.Generator, width: int, height: int) -> list[Item]:
    """Shapes around pixels of odd coordinates, all of whose pixels halving the image skips."""
    xs = rng.choice(np.arange(5, width - 5, 6), 6, replace=False)
    ys = rng.choice(np.arange(5, height - 5, 6), 6, replace=False)
    kinds = [('circle', 1.2), ('square', 0.5 / 0.9), ('triangle', 0.75)]
    return [
        Item(kind, (Shape(kind, x + 0.5, y + 0.5, radius),))
        for x, y, (kind, radius) in zip(xs.tolist(), ys.tolist(), kinds * 2)
    ]


def _without_hidden(items: Sequence[Item], width: int, height: int) -> tuple[Item, ...]:
    kept, hidden = [], np.zeros((height, width), bool)
    for item in reversed(items):
        mask = item.coverage(width, height) > 0.5
        if mask.any() and (mask & ~hidden).sum() >= MIN_VISIBLE * mask.sum():
            kept.append(item)
            hidden |= mask
    return tuple(reversed(kept))


def visible_masks(scene: Scene) -> list[np.ndarray]:
    """Of each item, the pixels that nothing in front of it covers."""
    masks, hidden = [], np.zeros((scene.height, scene.width), bool)
    for item in reversed(scene.items):
        mask = item.coverage(scene.width, scene.height) > 0.5
        masks.append(mask & ~hidden)
        hidden |= mask
    return masks[::-1]


def paint(rng: np.random.Generator, scene: Scene) -> np.ndarray:
    """The scene as RGB pixels. Colours and textures are drawn without regard to the class."""
    y, x = np.mgrid[: scene.height, : scene.width] + 0.5

    def texture(colour: np.ndarray, strength: float) -> np.ndarray:
        frequency = 2 * math.pi / rng.uniform(6, 60)
        direction, phase = rng.uniform(0, 2 * math.pi, 2)
        wave = np.sin(frequency * (math.cos(direction) * x + math.sin(direction) * y) + phase)
        return colour + wave[..., None] * rng.uniform(-strength, strength, 3)

    background = rng.uniform(30, 225, 3)
    image = np.mean([texture(background, 40) for _ in range(3)], axis=0)
    for item in scene.items:
        colour = background
        while abs(colour - background).max() < MIN_CONTRAST:
            colour = rng.uniform(0, 255, 3)
        covered = item.coverage(scene.width, scene.height)[..., None]
        image += covered * (texture(colour, 25) - image)
    image += rng.normal(0, rng.uniform(3, 9), image.shape)
    return (np.clip(image, 0, 255) + 0.5).astype(np.uint8)


def _run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed form: lengths of runs down the columns, the first one outside the mask."""
    pixels = mask.T.ravel()
    changes = np.flatnonzero(np.diff(pixels, prepend=False))
    return {'size': list(mask.shape), 'counts': np.diff([0, *changes, pixels.size]).tolist()}


def annotate(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """COCO's annotations of a scene, front items last."""
    annotations: list[dict[str, Any]] = []
    for item, mask in zip(scene.items, visible_masks(scene)):
        if item.category is None:
            continue
        encoded = coco_mask.encode(np.asfortranarray(mask))
        annotations.append(
            {
                'id': 1000 * image_id + len(annotations),
                'image_id': image_id,
                'category_id': CLASSES[item.category],
                'bbox': coco_mask.toBbox(encoded).astype(int).tolist(),
                'area': int(coco_mask.area(encoded)),
                # Run lengths of crowds as lists, as COCO has them; of the others in COCO's packed form.
                'segmentation': _run_lengths(mask)
                if item.crowd
                else {**encoded, 'counts': encoded['counts'].decode()},
                'iscrowd': int(item.crowd),
            }
        )
    return annotations


def make_image(
    split: str, index: int, size: tuple[int, int], seed: int, shapes: tuple[int, int]
) -> tuple[np.ndarray, int, list[dict[str, Any]]]:
    """An image's pixels, id and annotations; the other images have no say in them."""
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    scene = compose(rng, index, size, shapes)
    # Ids are unique across splits, as in COCO, and none equals its index.
    image_id = len(SPLITS) * index + SPLITS.index(split) + 1
    return paint(rng, scene), image_id, annotate(scene, image_id)


def generate(
    out: Union[str, Path],
    train: int = 300,
    val: int = 60,
    size: tuple[int, int] = (160, 100),
    seed: int = 0,
    shapes: tuple[int, int] = (3, 7),
    image_format: str = 'png',
) -> dict[str, dict[str, Any]]:
    """Write the data set to a new or empty folder; return what its two annotation files hold.

    Nothing is in its place before everything is made, and the annotations come last: a folder
    that has them is whole.

    Raises:
        ValueError: a number makes no sense.
        FileExistsError: the folder is not empty, or no folder.
    """
    counts = {'train': train, 'val': val}
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f'{name} must be 1 image or more, got {count}')
    if min(size) < 48:  # MMDetection's configs drop images of less than 32 pixels
        raise ValueError(f'size must be 48 x 48 or more, got {size[0]} x {size[1]}')
    if not 1 <= shapes[0] <= shapes[1]:
        raise ValueError(
            f'shapes must be two numbers, 1 <= MIN <= MAX, got {shapes[0]} {shapes[1]}'
        )
    if seed < 0:
        raise ValueError(f'seed must be 0 or more, got {seed}')
    if image_format not in ('png', 'jpg'):
        raise ValueError(f"image_format must be 'png' or 'jpg', got {image_format!r}")
    out = Path(out)
    is_new = not out.exists()
    if not is_new and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f'{out} exists and is not an empty folder: name another, or remove it (rm -r {out})'
        )
    staging = out / STAGING  # in the folder itself, so that moving things out of it is a rename
    staging.mkdir(parents=True)
    try:
        (staging / ANNOTATIONS).mkdir()
        contents = {}
        for split, count in counts.items():
            folder = staging / f'{split}2017'
            folder.mkdir()
            content = _empty_content(split)
            for index in track(range(count), f'drawing {split}', console=CONSOLE):
                pixels, image_id, annotations = make_image(split, index, size, seed, shapes)
                height, width = pixels.shape[:2]
                file_name = f'{image_id:012d}.{image_format}'
                Image.fromarray(pixels).save(folder / file_name, quality=95)
                content['images'].append(
                    dict(id=image_id, file_name=file_name, width=width, height=height)
                )
                content['annotations'] += annotations
            file = staging / ANNOTATIONS / f'instances_{split}2017.json'
            file.write_text(json.dumps(content, separators=(',', ':')))
            contents[split] = content
        for name in (*(f'{split}2017' for split in SPLITS), ANNOTATIONS):
            (staging / name).rename(out / name)
        staging.rmdir()
    except BaseException:
        shutil.rmtree(out if is_new else staging, ignore_errors=True)
        raise
    return contents


def _empty_content(split: str) -> dict[str, Any]:
    return {
        'info': {'description': f'Shapes ({split}), drawn by mmgradaug'},
        'licenses': [],
        'images': [],
        'annotations': [],
        'categories': [
            {'id': number, 'name': name, 'supercategory': 'shape'}
            for name, number in CLASSES.items()
        ],
    }


def holds(
    folder: Path,
    train: int,
    val: int,
    size: tuple[int, int],
    seed: int,
    shapes: tuple[int, int],
    image_format: str,
) -> bool:
    """Whether a folder is what :func:`generate` makes of this: as many images, of which first and last are alike."""
    for split, count in (('train', train), ('val', val)):
        try:
            file = folder / ANNOTATIONS / f'instances_{split}2017.json'
            content = json.loads(file.read_text())
            if len(content['images']) != count:
                return False
            for index in (0, count - 1):
                pixels, image_id, annotations = make_image(split, index, size, seed, shapes)
                image = content['images'][index]
                found = [a for a in content['annotations'] if a['image_id'] == image['id']]
                if Path(image['file_name']).suffix != f'.{image_format}':
                    return False
                with Image.open(folder / f'{split}2017' / image['file_name']) as picture:
                    same = np.array_equal(np.asarray(picture), pixels)
                # Through JSON, which knows no tuples.
                if not (same and found == json.loads(json.dumps(annotations))):
                    return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
    return True


def run(args: argparse.Namespace) -> None:
    """The command."""
    try:
        contents = generate(
            args.out,
            train=args.train,
            val=args.val,
            size=tuple(args.size),
            seed=args.seed,
            shapes=tuple(args.shapes),
            image_format=args.format,
        )
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    for split, content in contents.items():
        crowds = sum(annotation['iscrowd'] for annotation in content['annotations'])
        print(
            f'{args.out / f"{split}2017"}: {len(content["images"])} images, '
            f'{len(content["annotations"]) - crowds} instances, {crowds} crowds'
        )
    print(
        f"In each dataset of a COCO config: data_root='{args.out}/', "
        f'metainfo=dict(classes={tuple(CLASSES)});\n'
        "in the evaluators: ann_file=data_root + 'annotations/instances_val2017.json'; "
        f'num_classes={len(CLASSES)} in the heads'
    )
