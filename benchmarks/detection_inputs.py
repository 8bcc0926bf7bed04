"""Random images and annotations in MMDetection's form, for the benchmarks of detectors."""

from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData


def random_images(
    rng: np.random.Generator,
    images: int,
    size: tuple[int, int],
    instances: int,
    polygons: bool = False,
    device: str = 'cpu',
) -> dict[str, Any]:
    """What a data loader hands on: uint8 images of (height, width) pixels, instances with masks."""
    batch: dict[str, Any] = dict(inputs=[], data_samples=[])
    shapes = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    for _ in range(images):
        pixels = rng.integers(0, 256, (3, *size), dtype=np.uint8)
        batch['inputs'].append(torch.from_numpy(pixels).to(device))
        masks = random_ellipses(rng, instances, size)
        annotations = InstanceData(
            bboxes=masks.get_bboxes('hbox').tensor,
            labels=torch.zeros(instances, dtype=torch.int64),  # all classes are the same work
            masks=masks if polygons else as_bitmaps(masks),
        )
        batch['data_samples'].append(DetDataSample(metainfo=shapes, gt_instances=annotations))
    return batch


def random_ellipses(
    rng: np.random.Generator, instances: int, size: tuple[int, int], corners: int = 32
) -> PolygonMasks:
    """Ellipses anywhere in the image, from 4 to 60% of its shorter side (small ones are as frequent)."""
    turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    polygons = []
    for _ in range(instances):
        radii = min(size) / 2 * np.exp(rng.uniform(np.log(0.04), np.log(0.6), 2))
        x, y = radii[0] * np.cos(turns), radii[1] * np.sin(turns)
        angle, centre = rng.uniform(0, np.pi), rng.uniform(0, 1, 2) * size
        outline = np.stack(
            [
                centre[1] + x * np.cos(angle) - y * np.sin(angle),
                centre[0] + x * np.sin(angle) + y * np.cos(angle),
            ],
            axis=1,
        )
        polygons.append([outline.clip(0, size[::-1]).reshape(-1)])
    return PolygonMasks(polygons, *size)


def as_bitmaps(masks: PolygonMasks) -> BitmapMasks:
    """As LoadAnnotations makes them of polygons."""
    return BitmapMasks(masks.to_ndarray().astype(np.uint8), masks.height, masks.width)
