"""Masks that are resized only when looked at, against masks that are really resized."""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from mmgradaug.models.detectors import ResizedBitmapMasks

OLD, NEW, PADDED = (90, 150), (68, 113), (96, 128)


def ellipses(count=4, padded=(96, 160)):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: padded[0], : padded[1]]
    masks = np.zeros((count, *padded), np.uint8)
    for mask in masks:
        cy, cx = rng.uniform(20, 70), rng.uniform(30, 120)
        mask[((y - cy) / rng.uniform(8, 20)) ** 2 + ((x - cx) / rng.uniform(8, 30)) ** 2 < 1] = 1
    masks[:, OLD[0] :] = 0
    masks[:, :, OLD[1] :] = 0
    return BitmapMasks(masks, *padded)


def really_resized(masks):
    return BitmapMasks(masks.masks[:, : OLD[0], : OLD[1]], *OLD).resize(NEW).pad(PADDED)


def test_is_the_resized_masks_to_whoever_looks():
    source = ellipses()
    ours, expected = ResizedBitmapMasks(source, OLD, NEW, PADDED), really_resized(source)
    assert len(ours) == 4 and (ours.height, ours.width) == PADDED
    np.testing.assert_array_equal(ours.masks, expected.masks)
    np.testing.assert_array_equal(ours.to_ndarray(), expected.to_ndarray())
    assert torch.equal(ours.to_tensor(torch.uint8, 'cpu'), expected.to_tensor(torch.uint8, 'cpu'))
    np.testing.assert_array_equal(ours.areas, expected.areas)
    assert torch.equal(ours.get_bboxes('hbox').tensor, expected.get_bboxes('hbox').tensor)
    np.testing.assert_array_equal([*ours], [*expected])
    np.testing.assert_array_equal(ours.pad((100, 130)).masks, expected.pad((100, 130)).masks)
    np.testing.assert_array_equal(ours[[2, 0]].masks, expected.masks[[2, 0]])
    np.testing.assert_array_equal(ours[1].masks, expected[1].masks)
    assert 'num_masks=4' in repr(ours)


def test_what_is_inside_a_box_agrees_with_resizing_first():
    """IoU above 0.99 with masks resized as polygons, where resizing loses nothing."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rings = [
        np.stack([75 + 50 * np.cos(angles), 45 + 35 * np.sin(angles)], axis=1).reshape(-1),
        np.stack([60 + 30 * np.cos(angles), 40 + 30 * np.sin(angles)], axis=1).reshape(-1),
    ]
    polygons = PolygonMasks([[ring] for ring in rings], *OLD)
    bitmaps = BitmapMasks(polygons.to_ndarray().astype(np.uint8), *OLD).pad((96, 160))
    ours = ResizedBitmapMasks(bitmaps, OLD, NEW, PADDED)
    factors = np.array([NEW[1] / OLD[1], NEW[0] / OLD[0]] * 2)
    boxes = np.array([[25, 10, 125, 80], [30, 10, 90, 70], [20, 0, 100, 90.0]]) * factors
    inds = np.array([0, 1, 0])
    found = ours.crop_and_resize(boxes.astype(np.float32), (56, 56), inds).masks
    expected = polygons.resize(NEW).crop_and_resize(boxes, (56, 56), inds).to_ndarray()
    for mask, other in zip(found.astype(bool), expected.astype(bool)):
        assert (mask & other).sum() / (mask | other).sum() > 0.99


@pytest.mark.parametrize('binarize', [True, False])
def test_without_a_change_of_size_it_is_the_stock_computation(binarize):
    source = ellipses()
    ours = ResizedBitmapMasks(source, OLD, OLD, (96, 160))
    rng = np.random.default_rng(1)
    corners = np.sort(rng.uniform(0, 90, (20, 2, 2)), axis=1)
    boxes = corners.reshape(20, 4).astype(np.float32)
    inds = rng.integers(0, 4, 20)
    stock = source.crop_and_resize(boxes, (28, 28), inds, binarize=binarize)
    mine = ours.crop_and_resize(boxes, (28, 28), inds, binarize=binarize)
    np.testing.assert_array_equal(stock.masks, mine.masks)
    assert (mine.height, mine.width) == (28, 28)


def test_resizes_nothing_for_a_roi_head(monkeypatch):
    """The point of the class; and a deep copy, which MMDetection makes in each pass, copies no mask."""
    source = ellipses()
    ours = copy.deepcopy(ResizedBitmapMasks(source, OLD, NEW, PADDED))
    assert np.shares_memory(ours.source.masks, source.masks)
    monkeypatch.setattr(BitmapMasks, 'resize', lambda *_: pytest.fail('a mask was resized'))
    monkeypatch.setattr(BitmapMasks, 'rescale', lambda *_: pytest.fail('a mask was resized'))
    ours.crop_and_resize(np.array([[1, 1, 50, 50.0]]), (28, 28), np.array([2]))
    assert len(ours) == 4 and ours.height == PADDED[0]


def test_no_masks_and_no_boxes():
    none = ResizedBitmapMasks(BitmapMasks([], 96, 160), OLD, NEW, PADDED)
    assert len(none) == 0 and none.masks.shape == (0, *PADDED)
    assert none.crop_and_resize(np.zeros((0, 4)), (28, 28), []).masks.shape == (0, 28, 28)
    ours = ResizedBitmapMasks(ellipses(), OLD, NEW, PADDED)
    assert len(ours.crop_and_resize(np.zeros((0, 4)), (28, 28), [])) == 0
    assert len(ours[np.array([], dtype=int)]) == 0
