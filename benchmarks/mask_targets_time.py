#!/usr/bin/env python
"""Time that a pass of Mask R-CNN spends on bitmap masks: resizing, copying and mask targets.

The full pass has the data loader's masks. A sub-network's pass on a smaller image could get them as
MMDetection's pipeline would: each mask resized and padded, and targets cut out of copies, one for each
positive RoI ("stock"). mmgradaug.models.detectors.ResizedBitmapMasks ("here") cuts them out of the original
masks, one for each instance. One image; best of several, in turns, in milliseconds.

Example: python benchmarks/mask_targets_time.py --json mask_targets_time.json
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np
import torch
from detection_inputs import as_bitmaps, random_ellipses
from mmdet.structures.mask import BitmapMasks, mask_target
from mmengine.config import ConfigDict

from mmgradaug.models.detectors import ResizedBitmapMasks
from mmgradaug.subnets import Scale

PARTS = ('resize', 'copy', 'targets')
DIVISOR = 32  # to whose multiples batches are padded
MASK_SIZE = 28

Size = tuple[int, int]  # (height, width)
Resize = Callable[[BitmapMasks, Size, Size], BitmapMasks]


@dataclass(frozen=True)
class Pass:
    """What a RoI head's pass starts from: the batch's masks, sizes before and after, positive RoIs."""

    masks: BitmapMasks
    old_size: Size
    size: Size
    rois: torch.Tensor
    which: torch.Tensor  # instance each RoI is of

    def times(self, resize: Resize) -> tuple[float, ...]:
        """Seconds of each of PARTS."""
        start = time.perf_counter()
        masks = resize(self.masks, self.old_size, self.size)
        resized = time.perf_counter()
        copy.deepcopy(masks)  # two-stage detectors copy the annotations for the RPN
        copied = time.perf_counter()
        mask_target([self.rois.clone()], [self.which], [masks], ConfigDict(mask_size=MASK_SIZE))
        return resized - start, copied - resized, time.perf_counter() - copied


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=[1000, 600],
        metavar=('WIDTH', 'HEIGHT'),
        help='pixels (default: 1000 600)',
    )
    parser.add_argument(
        '--instances', type=int, nargs='+', default=[7, 20], help='in the image (default: 7 20)'
    )
    parser.add_argument('--rois', type=int, default=128, help='positive ones (default: 128)')
    parser.add_argument(
        '--factors',
        type=float,
        nargs='+',
        default=[192 / 224, 160 / 224, 128 / 224],
        help='of the scales (default: 0.857 0.714 0.571)',
    )
    parser.add_argument('--repeats', type=int, default=7, help='the best counts (default: 7)')
    parser.add_argument('--threads', type=int, default=2, help='on the CPU (default: 2)')
    parser.add_argument('--json', metavar='FILE', help='write the results to this file')
    return parser.parse_args(argv)


def padded(size: Size) -> Size:
    return tuple(-(-side // DIVISOR) * DIVISOR for side in size)


def unchanged(masks: BitmapMasks, old_size: Size, size: Size) -> BitmapMasks:
    return masks


def resize_stock(masks: BitmapMasks, old_size: Size, size: Size) -> BitmapMasks:
    image = BitmapMasks(masks.masks[:, : old_size[0], : old_size[1]], *old_size)
    return image.resize(size).pad(padded(size))


def resize_here(masks: BitmapMasks, old_size: Size, size: Size) -> BitmapMasks:
    return ResizedBitmapMasks(masks, old_size, size, padded(size))


FULL: dict[str, Resize] = {'full pass': unchanged}
SUBNETWORK: dict[str, Resize] = dict(stock=resize_stock, here=resize_here)


def random_rois(
    rng: np.random.Generator, boxes: torch.Tensor, rois: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes that a RoI head would take for positive, and the number of the instance of each."""
    which = torch.from_numpy(rng.integers(len(boxes), size=rois))
    chosen = boxes[which]
    sides = (chosen[:, 2:] - chosen[:, :2]).repeat(1, 2)
    shifts = torch.from_numpy(rng.uniform(-0.1, 0.1, (rois, 4))).to(chosen)
    return chosen + sides * shifts, which


def best_times(
    one: Pass, ways: dict[str, Resize], repeats: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """The name of each way to resize, and milliseconds of each part of its work."""
    runs: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, resize in ways.items():
            runs[name].append(one.times(resize))
    for name, times in runs.items():
        best = np.min(times[1:], axis=0) * 1000  # the first one is for the allocator
        yield name, dict(zip(PARTS, best.tolist()))


def measure(args: argparse.Namespace, instances: int) -> Iterator[dict[str, Any]]:
    """A row for the full pass, and one for each scale and way to resize."""
    rng = np.random.default_rng(0)
    full_size = tuple(reversed(args.image_size))
    ellipses = random_ellipses(rng, instances, full_size)
    masks = as_bitmaps(ellipses).pad(padded(full_size))  # as the data preprocessor leaves them
    rois, which = random_rois(rng, ellipses.get_bboxes('hbox').tensor, args.rois)
    for factor in [1.0, *args.factors]:
        height, width = Scale(factor).scaled_size(*full_size)
        factors = rois.new_tensor([width / full_size[1], height / full_size[0]] * 2)
        one = Pass(masks, full_size, (height, width), rois * factors, which)
        for way, times in best_times(one, FULL if factor == 1.0 else SUBNETWORK, args.repeats):
            row = dict(instances=instances, width=width, height=height, way=way)
            yield {**row, **times, 'total': sum(times.values())}


def main(argv: Optional[Sequence[str]] = None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    columns = (*PARTS, 'total')
    print(f'{"instances":>9}{"pixels":>11}  {"masks":9}' + ''.join(f'{c:>10}' for c in columns))
    rows = []
    for instances in args.instances:
        for row in measure(args, instances):
            rows.append(row)
            pixels = f'{row["width"]}x{row["height"]}'
            times = ''.join(f'{row[column]:10.2f}' for column in columns)
            print(f'{instances:9}{pixels:>11}  {row["way"]:9}{times}', flush=True)
    if args.json:
        setting = {key: value for key, value in vars(args).items() if key != 'json'}
        with open(args.json, 'w') as file:
            json.dump(dict(setting=setting, torch=torch.__version__, rows=rows), file, indent=2)


if __name__ == '__main__':
    main()
