"""The hole's mean area, its place, and what fills it."""

import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS

from mmgradaug.datasets import Cutout


def masked(cutout, height, width):
    image = np.zeros((height, width, 3), np.uint8)
    return (cutout(dict(img=image))['img'] == 255).all(-1)


@pytest.mark.parametrize(('side', 'height', 'width'), [(8, 32, 32), (16, 32, 32), (28, 56, 40)])
def test_mean_area_is_that_of_every_centre_in_turn(side, height, width):
    """Counted pixel by pixel over all centres: not s^2, which holes at the edges do not have."""

    def mean_length(pixels):
        reach = side // 2
        return np.mean(
            [
                sum(0 <= place < pixels for place in range(centre - reach, centre + reach))
                for centre in range(pixels)
            ]
        )

    assert mean_length(height) == side - side**2 / (4 * height)
    np.random.seed(0)
    cutout = Cutout(side, pad_val=255)
    areas = [masked(cutout, height, width).sum() for _ in range(4000)]
    expected = mean_length(height) * mean_length(width)
    assert np.mean(areas) == pytest.approx(expected, rel=0.015)
    # mmcv's has 8 to 17% more.
    stock = TRANSFORMS.build(dict(type='mmpretrain.Cutout', shape=side, pad_val=255, prob=1.0))
    assert np.mean([masked(stock, height, width).sum() for _ in range(4000)]) > 1.06 * expected


def test_any_pixel_is_a_centre_and_edges_are_masked_as_often_on_either_side():
    np.random.seed(0)
    share = np.mean([masked(Cutout(8, pad_val=255), 16, 16) for _ in range(4000)], axis=0)
    rows = share.mean(1)
    # A corner pixel is under the hole for half as many centres each way as one inside.
    assert rows[0] / rows[8] == pytest.approx(5 / 8, rel=0.08)
    assert rows[15] / rows[8] == pytest.approx(4 / 8, rel=0.08)


def test_it_fills_each_channel_and_leaves_the_given_image_as_it_is():
    image = np.full((8, 8, 3), 7, np.float32)
    found = Cutout(16, pad_val=(1.5, 2, 3))(dict(img=image))['img']
    assert (image == 7).all() and found.dtype == np.float32
    changed = (found != 7).any(-1)
    assert changed.any() and (found[changed] == (1.5, 2, 3)).all()


def test_probability():
    np.random.seed(0)
    hits = [masked(Cutout(4, pad_val=255, prob=0.3), 8, 8).any() for _ in range(2000)]
    assert np.mean(hits) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(('wrong', 'says'), [(dict(shape=0), 'side'), (dict(prob=1.5), 'prob')])
def test_wrong_input(wrong, says):
    with pytest.raises(ValueError, match=says):
        Cutout(**{**dict(shape=8), **wrong})
