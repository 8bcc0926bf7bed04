"""Every corruption against its definition in ImageNet-C's code, written out naively."""

import io
import math
import zlib
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image
from scipy import ndimage
from skimage import color, filters

from mmgradaug.datasets import CORRUPTIONS, SEVERITIES, corrupt
from mmgradaug.datasets.corruptions import imagemagick_motion_blur, plasma_fractal


@pytest.fixture(scope='module')
def image():
    """A fixed picture with edges, 48 pixels high and 40 wide."""
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(20, 220, (6, 5, 3)), np.ones((8, 8, 1)))
    return np.clip(blocks + rng.normal(0, 12, blocks.shape), 0, 255).astype(np.uint8)


def pick(*values):
    return lambda severity: values[severity - 1]


def as_image(x):
    return np.uint8(np.clip(x, 0, 1) * 255)


# Constants as published; draws in the order of that code.
def gaussian_noise(x, s):
    return as_image(
        x / 255.0 + np.random.normal(size=x.shape, scale=pick(0.08, 0.12, 0.18, 0.26, 0.38)(s))
    )


def shot_noise(x, s):
    c = pick(60, 25, 12, 5, 3)(s)
    return as_image(np.random.poisson(x / 255.0 * c) / c)


def impulse_noise(x, s):
    amount = pick(0.03, 0.06, 0.09, 0.17, 0.27)(s)
    out = x.copy()
    hit, salt = np.random.random(x.shape), np.random.random(x.shape)
    for place in np.ndindex(*x.shape):
        if hit[place] <= amount:
            out[place] = 255 if salt[place] <= 0.5 else 0
    return out


def defocus_blur(x, s):
    radius, alias = pick((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))(s)
    half, size = (8, 3) if radius <= 8 else (radius, 5)
    disk = np.float32(
        [
            [i * i + j * j <= radius * radius for i in range(-half, half + 1)]
            for j in range(-half, half + 1)
        ]
    )
    kernel = cv2.GaussianBlur(disk / disk.sum(), (size, size), sigmaX=alias)
    return as_image(np.stack([cv2.filter2D(x[..., c] / 255.0, -1, kernel) for c in range(3)], -1))


def glass_blur(x, s):
    sigma, reach, rounds = pick((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))(s)
    x = np.uint8(filters.gaussian(x / 255.0, sigma=sigma, channel_axis=2) * 255)
    height, width = x.shape[:2]
    for _ in range(rounds):
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = np.random.randint(-reach, reach, size=(2,))
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    return as_image(filters.gaussian(x / 255.0, sigma=sigma, channel_axis=2))


def blurred_by_motion(x, radius, sigma, angle):
    """ImageMagick's, pixel by pixel: half a Gaussian along a line, the edge's pixels going on beyond it."""
    length = 2 * radius + 1
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(length)]
    a = math.radians(angle)
    places = [
        (math.ceil(i * math.sin(a) - 0.5), math.ceil(i * math.cos(a) - 0.5)) for i in range(length)
    ]
    height, width = x.shape[:2]
    out = np.zeros(x.shape)
    for row in range(height):
        for column in range(width):
            for weight, (down, right) in zip(weights, places):
                r = min(max(row + down, 0), height - 1)
                c = min(max(column + right, 0), width - 1)
                out[row, column] += weight / sum(weights) * x[r, c]
    return np.floor(out + 0.5).astype(np.uint8)


def motion_blur(x, s):
    radius, sigma = pick((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))(s)
    return blurred_by_motion(x, radius, sigma, np.random.uniform(-45, 45))


def zoomed(x, factor):
    """Around the centre; the published code is for squares, so each side by itself."""
    height, width = (int(np.ceil(n / factor)) for n in x.shape[:2])
    top, left = (x.shape[0] - height) // 2, (x.shape[1] - width) // 2
    large = ndimage.zoom(
        x[top : top + height, left : left + width], [factor, factor, 1][: x.ndim], order=1
    )
    top, left = (large.shape[0] - x.shape[0]) // 2, (large.shape[1] - x.shape[1]) // 2
    return large[top : top + x.shape[0], left : left + x.shape[1]]


def zoom_blur(x, s):
    c = pick(
        np.arange(1, 1.11, 0.01), np.arange(1, 1.16, 0.01), np.arange(1, 1.21, 0.02),
        np.arange(1, 1.26, 0.02), np.arange(1, 1.31, 0.03),
    )(s)  # fmt: skip
    x = (x / 255.0).astype(np.float32)
    return as_image((x + sum(zoomed(x, factor) for factor in c)) / (len(c) + 1))


def snow(x, s):
    c = pick(
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )(s)  # fmt: skip
    x = np.float32(x) / 255.0
    flakes = zoomed(np.random.normal(size=(48, 40), loc=c[0], scale=c[1]), c[2])
    flakes = as_image(np.where(flakes < c[3], 0, flakes))
    layer = blurred_by_motion(flakes, c[4], c[5], np.random.uniform(-135, -45))[..., None] / 255.0
    grey = (x @ np.float32([0.299, 0.587, 0.114]))[..., None]
    x = c[6] * x + (1 - c[6]) * np.maximum(x, grey * 1.5 + 0.5)
    return as_image(x + layer + layer[::-1, ::-1])


def frost(x, s):
    keep, add = pick((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))(s)
    number = np.random.randint(5) + 1
    folder = Path(find_spec('imagecorruptions').origin).parent / 'frost'
    picture = np.asarray(Image.open(next(folder.glob(f'frost{number}.*'))).convert('RGB'))
    row = np.random.randint(0, picture.shape[0] - 48)
    column = np.random.randint(0, picture.shape[1] - 40)
    return np.uint8(
        np.clip(keep * np.float64(x) + add * picture[row : row + 48, column : column + 40], 0, 255)
    )


def fog(x, s):
    strength, decay = pick((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))(s)
    x = x / 255.0
    most = x.max()
    return as_image((x + strength * plasma(64, decay)[:48, :40, None]) * most / (most + strength))


def plasma(size, decay):
    """Diamond-square, point by point."""
    points = np.zeros((size, size))
    step, wibble = size, 100.0
    while step >= 2:
        half = step // 2

        def fill(first_row, first_column, neighbours, step=step, wibble=wibble):
            rows, columns = range(first_row, size, step), range(first_column, size, step)
            noise = np.random.uniform(-wibble, wibble, (len(rows), len(columns)))
            for i, r in enumerate(rows):
                for j, c in enumerate(columns):
                    total = sum(points[(r + dr) % size, (c + dc) % size] for dr, dc in neighbours)
                    points[r, c] = total / 4 + wibble * noise[i, j]

        fill(half, half, [(-half, -half), (-half, half), (half, -half), (half, half)])
        cross = [(-half, 0), (half, 0), (0, -half), (0, half)]
        fill(0, half, cross)
        fill(half, 0, cross)
        step, wibble = half, wibble / decay
    points -= points.min()
    return points / points.max()


def brightness(x, s):
    hsv = color.rgb2hsv(x / 255.0)
    hsv[..., 2] = np.clip(hsv[..., 2] + pick(0.1, 0.2, 0.3, 0.4, 0.5)(s), 0, 1)
    return as_image(color.hsv2rgb(hsv))


def contrast(x, s):
    means = np.mean(x / 255.0, axis=(0, 1), keepdims=True)
    return as_image((x / 255.0 - means) * pick(0.4, 0.3, 0.2, 0.1, 0.05)(s) + means)


def elastic_transform(x, s):
    c = pick(
        (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)
    )(s)
    c = [value * 244 * 40 / 224 for value in c]  # for the shorter side
    x = np.float32(x) / 255
    corner = np.float32([[24 + 13, 20 + 13], [24 + 13, 20 - 13], [24 - 13, 20 - 13]])
    moved = corner + np.random.uniform(-c[2], c[2], size=(3, 2)).astype(np.float32)
    x = cv2.warpAffine(
        x, cv2.getAffineTransform(corner, moved), (40, 48), borderMode=cv2.BORDER_REFLECT_101
    )
    shift = [
        filters.gaussian(np.random.uniform(-1, 1, size=(48, 40)), c[1], mode='reflect', truncate=3)
        * c[0]
        for _ in range(2)
    ]
    out = np.zeros_like(x)
    for channel in range(3):
        where = [
            np.arange(48)[:, None] + np.float32(shift[1]),
            np.arange(40)[None, :] + np.float32(shift[0]),
        ]
        out[..., channel] = ndimage.map_coordinates(x[..., channel], where, order=1, mode='reflect')
    return as_image(out)


def pixelate(x, s):
    c = pick(0.6, 0.5, 0.4, 0.3, 0.25)(s)
    small = Image.fromarray(x).resize((int(40 * c), int(48 * c)), Image.BOX)
    return np.asarray(small.resize((40, 48), Image.BOX))


def jpeg_compression(x, s):
    file = io.BytesIO()
    Image.fromarray(x).save(file, 'JPEG', quality=pick(25, 18, 15, 10, 7)(s))
    return np.asarray(Image.open(file))


DEFINITIONS = {
    f.__name__: f
    for f in (
        gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow,
        frost, fog, brightness, contrast, elastic_transform, pixelate, jpeg_compression,
    )
}  # fmt: skip


@pytest.mark.parametrize('severity', SEVERITIES)
@pytest.mark.parametrize('corruption', DEFINITIONS)
def test_it_is_the_definition(image, corruption, severity):
    found = corrupt(image, corruption, severity, seed=7)
    np.random.seed(7)
    expected = DEFINITIONS[corruption](image, severity)
    assert found.dtype == np.uint8 and found.shape == image.shape
    difference = np.abs(found.astype(int) - expected)
    # Exact, but for a pixel whose value falls on the rounding's edge.
    assert difference.max() <= 1 and (difference > 0).mean() < 0.002, corruption


def test_every_corruption_has_its_definition():
    assert set(DEFINITIONS) == set(CORRUPTIONS)


# Of what ImageMagick 6.9.11-60 (Q16, Debian 12) makes of `image`, written as PPM:
# convert in.ppm -motion-blur RADIUSxSIGMA+ANGLE out.ppm
IMAGEMAGICK = {(10, 3, -31.5): 720916085, (15, 8, 17.25): 2532153127, (12, 12, -130.5): 3628365099}


@pytest.mark.parametrize(('radius', 'sigma', 'angle'), IMAGEMAGICK)
def test_motion_blur_is_imagemagicks_to_the_bit(image, radius, sigma, angle):
    found = imagemagick_motion_blur(image, radius, sigma, angle)
    assert zlib.crc32(found.tobytes()) == IMAGEMAGICK[radius, sigma, angle]


def test_frost_covers_images_that_are_larger_than_its_pictures():
    image = np.zeros((700, 1000, 3), np.uint8)
    found = corrupt(image, 'frost', 3, seed=1)
    assert found.shape == image.shape and found[-1].any() and found[:, -1].any()


@pytest.mark.parametrize('corruption', CORRUPTIONS)
def test_draws_follow_the_seed_alone(image, corruption):
    np.random.seed(3)
    state, original = np.random.get_state()[1].copy(), image.copy()
    one = corrupt(image, corruption, 4, seed=1)
    assert np.array_equal(np.random.get_state()[1], state)
    np.random.random(5)
    assert np.array_equal(corrupt(image, corruption, 4, seed=1), one)
    assert np.array_equal(image, original) and not np.array_equal(one, image)
    random = corruption not in (
        'defocus_blur', 'zoom_blur', 'brightness', 'contrast', 'pixelate', 'jpeg_compression'
    )  # fmt: skip
    assert np.array_equal(corrupt(image, corruption, 4, seed=2), one) != random


def test_the_cloud_is_that_of_the_point_by_point_algorithm():
    np.random.seed(5)
    ours = plasma_fractal(32, 1.7)
    np.random.seed(5)
    np.testing.assert_allclose(ours, plasma(32, 1.7), rtol=1e-12, atol=1e-14)
    assert (ours.min(), ours.max()) == (0.0, 1.0)


@pytest.mark.parametrize('bgr', [True, False])
def test_the_step_of_a_pipeline_knows_the_colours_order_and_each_images_seed(image, bgr):
    step = TRANSFORMS.build(
        dict(type='mmgradaug.Corrupt', corruption='fog', severity=2, seed=4, bgr=bgr)
    )

    def run(index):
        given = image[..., ::-1] if bgr else image
        return step(dict(img=np.ascontiguousarray(given), sample_idx=index))['img']

    assert np.array_equal(run(1), run(1)) and not np.array_equal(run(1), run(2))
    # Brightness treats colours differently, fog does not; so that order matters.
    step.corruption = 'brightness'
    found = run(0)
    assert np.array_equal(found[..., ::-1] if bgr else found, brightness(image, 2))


def test_workers_and_order_do_not_matter():
    from torch.utils.data import DataLoader

    resize = dict(type='Resize', scale=32)
    step = dict(type='mmgradaug.Corrupt', corruption='gaussian_noise', severity=3, bgr=False)
    pipeline = [resize, step, dict(type='PackInputs')]
    dataset = DATASETS.build(
        dict(type='mmgradaug.Digits', split='test', pipeline=pipeline, indices=12)
    )

    def images(order, workers):
        loader = DataLoader(dataset, sampler=order, num_workers=workers, batch_size=None)
        return {order[i]: item['inputs'].numpy() for i, item in enumerate(loader)}

    forwards, backwards = images(list(range(12)), 0), images(list(range(11, -1, -1)), 2)
    assert all(np.array_equal(forwards[i], backwards[i]) for i in range(12))


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        (dict(corruption='rain'), "one of gaussian_noise, .*; got 'rain'"),
        (dict(severity=0), 'severity is 1 to 5, got 0'),
        (
            dict(image=np.zeros((31, 64, 3), np.uint8)),
            r'at least 32 pixels .* uint8 of \(31, 64, 3\)',
        ),
        (dict(image=np.zeros((64, 64), np.uint8)), r'got uint8 of \(64, 64\)'),
        (dict(image=np.zeros((64, 64, 3))), 'got float64'),
    ],
)
def test_wrong_input(image, changes, says):
    with pytest.raises(ValueError, match=says):
        corrupt(**{**dict(image=image, corruption='fog', severity=1), **changes})
