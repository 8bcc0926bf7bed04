"""Masks of a resized image that are resized only if somebody looks at them."""

from typing import Any, Optional, Union

import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.structures.mask import BitmapMasks
from torch import Tensor


class ResizedBitmapMasks(BitmapMasks):
    """``BitmapMasks`` of an image after resizing and padding.

    A RoI head asks for what a mask looks like inside a box. That is cut out of the *original* masks,
    with the box in their coordinates: no mask of every instance has to be resized, padded and moved to
    the device in every sub-network's pass, and the edges are those of the original. Whoever reads
    ``masks``, for instance through ``to_tensor``, gets bitmaps resized as MMDetection's pipeline does
    (nearest neighbour).

    Args:
        source: masks of the image before resizing, possibly padded.
        old_size: (height, width) of the image before.
        size: (height, width) of the image after.
        padded: (height, width) of the masks after padding; at least ``size``.
    """

    def __init__(
        self,
        source: BitmapMasks,
        old_size: tuple[int, int],
        size: tuple[int, int],
        padded: tuple[int, int],
    ) -> None:
        self.source = source
        self.old_size = (old_size[0], old_size[1])
        self.size = (size[0], size[1])
        self.height, self.width = padded
        self._masks: Optional[np.ndarray] = None

    @property
    def masks(self) -> np.ndarray:
        """(N, height, width), uint8."""
        if self._masks is None:
            height, width = self.old_size
            image = BitmapMasks(self.source.masks[:, :height, :width], height, width)
            self._masks = image.resize(self.size).pad((self.height, self.width)).masks
        return self._masks

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> 'ResizedBitmapMasks':
        return self._of(self.source[index])

    def __deepcopy__(self, memo: dict[int, Any]) -> 'ResizedBitmapMasks':
        # MMDetection copies annotations deeply in each pass and writes into the copy's labels only.
        return self._of(self.source)

    def _of(self, source: BitmapMasks) -> 'ResizedBitmapMasks':
        return ResizedBitmapMasks(source, self.old_size, self.size, (self.height, self.width))

    def crop_and_resize(
        self,
        bboxes: Union[np.ndarray, Tensor],
        out_shape: tuple[int, int],
        inds: Union[np.ndarray, Tensor],
        device: Union[str, torch.device] = 'cpu',
        interpolation: str = 'bilinear',
        binarize: bool = True,
    ) -> BitmapMasks:
        """The masks ``inds`` inside ``bboxes``, see ``BitmapMasks.crop_and_resize``.

        Args:
            bboxes: (K, 4) in pixels of the resized image.
            out_shape: (height, width) of the result.
            inds: (K,), which mask for which box.
        """
        if len(self) == 0 or len(bboxes) == 0:
            return BitmapMasks([], *out_shape)
        boxes = torch.as_tensor(bboxes, device=device)
        factors = [self.size[1] / self.old_size[1], self.size[0] / self.old_size[0]] * 2
        boxes = boxes / boxes.new_tensor(factors)
        used, which = np.unique(torch.as_tensor(inds).cpu().numpy(), return_inverse=True)
        masks = torch.from_numpy(self.source.masks[used]).to(device).to(boxes.dtype)
        numbers = torch.from_numpy(which).to(boxes)
        rois = torch.cat([numbers[:, None], boxes], dim=1)
        targets = roi_align(masks[:, None], rois, out_shape, 1.0, 0, 'avg', True).squeeze(1)
        if binarize:
            targets = targets >= 0.5
        return BitmapMasks(targets.cpu().numpy(), *out_shape)
