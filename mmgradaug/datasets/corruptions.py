"""ImageNet-C's corruptions on any image, seeded."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mmgradaug.registry import TRANSFORMS

# In the order of Table 8: noise, blur, weather, digital.
CORRUPTIONS = (
    'gaussian_noise', 'shot_noise', 'impulse_noise',
    'defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur',
    'snow', 'frost', 'fog', 'brightness',
    'contrast', 'elastic_transform', 'pixelate', 'jpeg_compression',
)  # fmt: skip
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels
NO_PACKAGE = 'corrupting images needs imagecorruptions: pip install imagecorruptions scikit-image'


def corrupt(image: np.ndarray, corruption: str, severity: int, seed: int = 0) -> np.ndarray:
    """An image as ImageNet-C corrupts it (Hendrycks and Dietterich, arXiv:1903.12261).

    Noise, defocus blur, brightness, contrast and JPEG are by the package imagecorruptions; the others are our
    own, by the definitions in ImageNet-C's code (hendrycks/robustness, make_imagenet_c.py), because in that
    package they are not seeded, fail with current versions of numpy and scikit-image, or are other ones: zoom
    blur and snow zoom to a corner instead of the centre, frost is enlarged by a tenth. Motion blur, also
    snow's, is ImageMagick's to the bit. ImageNet-C's own files were saved as JPEG of quality 85 afterwards; so
    results here are **not comparable** with results on those.

    The constants are for 224 pixels. Our elastic transform scales its own with the shorter side; the other
    corruptions are the same number of pixels at any size, and harder on small images. (CIFAR-10-C has
    constants of its own, which these are not.)

    Args:
        image: (H, W, 3), uint8, RGB, at least 32 pixels either way.
        corruption: one of ``CORRUPTIONS``.
        severity: 1 to 5.
        seed: of all that is random in it, in [0, 2^32).

    Returns:
        A new image of the same shape and type. NumPy's random state is as before.

    Raises:
        ValueError: an unknown corruption or severity, or an image of another kind.
        ImportError: imagecorruptions or scikit-image is missing.
    """
    if corruption not in CORRUPTIONS:
        raise ValueError(f'corruption must be one of {", ".join(CORRUPTIONS)}; got {corruption!r}')
    if severity not in SEVERITIES:
        raise ValueError(f'severity is 1 to 5, got {severity!r}')
    shape: tuple[int, ...] = getattr(image, 'shape', ())
    fits = len(shape) == 3 and shape[2] == 3 and min(shape[:2]) >= SMALLEST
    if not fits or image.dtype != np.uint8:
        raise ValueError(
            f'corruptions take uint8 images of (H, W, 3) with at least {SMALLEST} pixels either way, got '
            f'{getattr(image, "dtype", type(image).__name__)} of {tuple(shape)}'
        )
    with _seeded(seed):
        if corruption in OWN:
            found = OWN[corruption](image, severity)
        else:
            try:
                from imagecorruptions import corrupt as by_package
            except ImportError as error:
                raise ImportError(f'{NO_PACKAGE} ({error})') from error
            found = by_package(image, severity=severity, corruption_name=corruption)
    return np.array(found, dtype=np.uint8)  # a copy: Pillow's may not be written to


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator, which imagecorruptions draws from, for a while."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    """Of [0, 1], beyond which it is cut off."""
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def impulse_noise(image: np.ndarray, severity: int) -> np.ndarray:
    """Salt and pepper, in each colour of each pixel on its own."""
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    hit = np.random.random(image.shape) <= amount
    salt = np.random.random(image.shape) <= 0.5
    return np.where(hit, np.where(salt, 255, 0), image).astype(np.uint8)


def glass_blur(image: np.ndarray, severity: int) -> np.ndarray:
    """Blur, then pixels that are replaced by near ones, then blur."""
    from skimage.filters import gaussian

    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[
        severity - 1
    ]
    height, width = image.shape[:2]
    pixels = (gaussian(image / 255.0, sigma=sigma, channel_axis=-1) * 255).astype(np.uint8)
    rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
    grid = pixels.tolist()  # Python's lists are faster than NumPy, pixel by pixel
    for _ in range(rounds):
        # All at once, which is as if each pixel's were drawn in turn.
        draws = np.random.randint(-reach, reach, size=(len(rows), len(columns), 2)).tolist()
        for row, row_draws in zip(rows, draws):
            for column, (right, down) in zip(columns, row_draws):
                # ImageNet-C's code means to swap them, but as both are views of one array, the second
                # assignment writes what the first has just written.
                grid[row][column] = grid[row + down][column + right]
    return _to_uint8(gaussian(np.array(grid) / 255.0, sigma=sigma, channel_axis=-1))


def imagemagick_motion_blur(
    image: np.ndarray, radius: int, sigma: float, angle: float
) -> np.ndarray:
    """ImageMagick's ``-motion-blur``, by the algorithm of its MotionBlurImage (magick/effect.c).

    2 * radius + 1 pixels along a line, of which the first is the pixel itself, with the weights of half a
    Gaussian; beyond the edge its last pixels go on.

    Args:
        image: uint8, (H, W) or (H, W, C).
        radius: pixels.
        sigma: of the Gaussian, pixels.
        angle: degrees, clockwise from the right.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2.0 * sigma**2))
    weights /= weights.sum()
    down = np.ceil(steps * np.sin(np.deg2rad(angle)) - 0.5).astype(int)
    right = np.ceil(steps * np.cos(np.deg2rad(angle)) - 0.5).astype(int)
    height, width = image.shape[:2]
    rows, columns = np.arange(height), np.arange(width)
    blurred = np.zeros(image.shape)
    for weight, row, column in zip(weights, down, right):
        inside = np.clip(rows + row, 0, height - 1), np.clip(columns + column, 0, width - 1)
        blurred += weight * image[np.ix_(*inside)]
    return np.floor(blurred + 0.5).astype(np.uint8)


def motion_blur(image: np.ndarray, severity: int) -> np.ndarray:
    """Blur along a line within 45 degrees of the horizontal."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    return imagemagick_motion_blur(image, radius, sigma, np.random.uniform(-45, 45))


def clipped_zoom(image: np.ndarray, factor: float) -> np.ndarray:
    """The middle of (H, W) or (H, W, C), enlarged to the same size. (ImageNet-C's images are squares.)"""
    from scipy.ndimage import zoom

    shape = image.shape[:2]
    cropped = [int(np.ceil(length / factor)) for length in shape]
    begins = [(length - crop) // 2 for length, crop in zip(shape, cropped)]
    middle = image[tuple(slice(b, b + crop) for b, crop in zip(begins, cropped))]
    enlarged = zoom(middle, (factor, factor) + (1,) * (image.ndim - 2), order=1)
    trims = [(large - length) // 2 for large, length in zip(enlarged.shape, shape)]
    return enlarged[tuple(slice(trim, trim + length) for trim, length in zip(trims, shape))]


def zoom_blur(image: np.ndarray, severity: int) -> np.ndarray:
    """The mean of the image and of enlargements up to a factor."""
    end, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity - 1]
    factors = np.arange(1, end, step)
    pixels = (image / 255.0).astype(np.float32)
    total = np.zeros_like(pixels)
    for factor in factors:
        total += clipped_zoom(pixels, factor)
    return _to_uint8((pixels + total) / (len(factors) + 1))


def snow(image: np.ndarray, severity: int) -> np.ndarray:
    """A whitened image, and flakes blurred by their fall, once more turned by half a circle."""
    import cv2

    mean, deviation, factor, threshold, radius, sigma, share = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]  # fmt: skip
    pixels = image.astype(np.float32) / 255.0
    flakes = clipped_zoom(np.random.normal(mean, deviation, image.shape[:2]), factor)
    flakes[flakes < threshold] = 0
    angle = np.random.uniform(-135, -45)
    layer = (
        imagemagick_motion_blur(_to_uint8(flakes), radius, sigma, angle)[..., np.newaxis] / 255.0
    )
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., np.newaxis]
    pixels = share * pixels + (1 - share) * np.maximum(pixels, grey * 1.5 + 0.5)
    return _to_uint8(pixels + layer + np.rot90(layer, k=2))


def frost(image: np.ndarray, severity: int) -> np.ndarray:
    """A piece of one of five pictures of frost over the darkened image."""
    import cv2

    keep, add = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    # Five of the six pictures: ImageNet-C's code draws so.
    picture = _frost_picture(np.random.randint(5))
    height, width = image.shape[:2]
    # ImageNet-C's images are smaller than all of them; larger ones get enlarged pictures.
    scale = max((height + 1) / picture.shape[0], (width + 1) / picture.shape[1])
    if scale > 1:
        size = [int(np.ceil(length * scale)) for length in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    row = np.random.randint(0, picture.shape[0] - height)
    column = np.random.randint(0, picture.shape[1] - width)
    piece = picture[row : row + height, column : column + width]
    return np.clip(keep * image.astype(float) + add * piece, 0, 255).astype(np.uint8)


@lru_cache
def _frost_picture(index: int) -> np.ndarray:
    """ImageNet-C's own, which imagecorruptions carries; RGB."""
    import cv2

    name = f'frost{index + 1}.{"png" if index < 3 else "jpg"}'
    package = find_spec('imagecorruptions')
    if package is None or package.origin is None:
        raise ImportError(NO_PACKAGE)
    file = Path(package.origin).parent / 'frost' / name
    picture = cv2.imread(str(file))
    if picture is None:
        raise FileNotFoundError(f'{file} is not there, or is no picture')
    return np.ascontiguousarray(picture[..., ::-1])


def fog(image: np.ndarray, severity: int) -> np.ndarray:
    """A cloud of light over the image, which is darkened as much."""
    strength, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
    height, width = image.shape[:2]
    size = 1 << (max(height, width) - 1).bit_length()  # a power of two: 256 for 224 pixels
    pixels = image / 255.0
    brightest = pixels.max()
    cloud = plasma_fractal(size, decay)[:height, :width, np.newaxis]
    return _to_uint8((pixels + strength * cloud) * brightest / (brightest + strength))


def plasma_fractal(size: int, decay: float) -> np.ndarray:
    """A cloud of (size, size) in [0, 1] by the diamond-square algorithm, on a torus.

    Args:
        size: a power of two.
        decay: by which the randomness decreases from one scale to the next finer one.
    """
    cloud = np.zeros((size, size))
    step, spread = size, 100.0

    def jittered(total: np.ndarray) -> np.ndarray:
        """A mean of four, and noise: the spread goes in twice, as in ImageNet-C's code."""
        return total / 4 + spread * np.random.uniform(-spread, spread, total.shape)

    while step >= 2:
        half = step // 2
        corners = cloud[::step, ::step]
        rows = corners + np.roll(corners, -1, axis=0)
        centres = jittered(rows + np.roll(rows, -1, axis=1))
        cloud[half::step, half::step] = centres
        # Midpoints of the edges: between two corners and two centres.
        beside = corners + np.roll(corners, -1, axis=1)
        cloud[::step, half::step] = jittered(centres + np.roll(centres, 1, axis=0) + beside)
        below = corners + np.roll(corners, -1, axis=0)
        cloud[half::step, ::step] = jittered(centres + np.roll(centres, 1, axis=1) + below)
        step, spread = half, spread / decay
    cloud -= cloud.min()
    return cloud / cloud.max()


def elastic_transform(image: np.ndarray, severity: int) -> np.ndarray:
    """A random affine map, then a smooth random displacement of each pixel."""
    import cv2
    from scipy.ndimage import map_coordinates
    from skimage.filters import gaussian

    displacement, smoothness, shear = (
        (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)
    )[severity - 1]  # fmt: skip
    height, width = image.shape[:2]
    # ImageNet-C's code has 244 pixels, a slip of the pen, for images of 224.
    unit = 244.0 * min(height, width) / 224.0
    pixels = image.astype(np.float32) / 255.0
    centre = np.array((height, width), np.float32) // 2
    reach = min(height, width) // 3
    before = np.array(
        [centre + reach, [centre[0] + reach, centre[1] - reach], centre - reach], np.float32
    )
    moved = np.random.uniform(-shear * unit, shear * unit, before.shape).astype(np.float32)
    affine = cv2.getAffineTransform(before, before + moved)
    bent = cv2.warpAffine(pixels, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)

    def field() -> np.ndarray:
        noise = np.random.uniform(-1, 1, size=(height, width))
        smooth = gaussian(noise, smoothness * unit, mode='reflect', truncate=3)
        return (smooth * displacement * unit).astype(np.float32)

    right, down = field(), field()
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing='ij')
    where = np.stack([rows + down, columns + right])
    colours = [map_coordinates(bent[..., c], where, order=1, mode='reflect') for c in range(3)]
    return _to_uint8(np.stack(colours, axis=-1))


def pixelate(image: np.ndarray, severity: int) -> np.ndarray:
    """Down and up again, both by averaging over boxes."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width = image.shape[:2]
    box = Image.Resampling.BOX
    small = Image.fromarray(image).resize((int(width * share), int(height * share)), box)
    return np.asarray(small.resize((width, height), box))


OWN: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    'impulse_noise': impulse_noise,
    'glass_blur': glass_blur,
    'motion_blur': motion_blur,
    'zoom_blur': zoom_blur,
    'snow': snow,
    'frost': frost,
    'fog': fog,
    'elastic_transform': elastic_transform,
    'pixelate': pixelate,
}


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """A step of a data pipeline that corrupts images; see :func:`corrupt`.

    An image's seed follows from ``seed``, the corruption, the severity and its index in the data set, so
    neither workers nor order matter.

    Args:
        corruption: one of ``CORRUPTIONS``.
        severity: 1 to 5.
        seed: 0 or more.
        bgr: whether images come in BGR order, as MMCV loads them.
    """

    def __init__(self, corruption: str, severity: int, seed: int = 0, bgr: bool = True) -> None:
        self.corruption, self.severity = corruption, severity
        self.seed, self.bgr = seed, bgr

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        what = f'{self.seed}/{self.corruption}/{self.severity}/{results["sample_idx"]}'
        image = results['img'][..., ::-1] if self.bgr else results['img']
        found = corrupt(
            np.ascontiguousarray(image), self.corruption, self.severity, zlib.crc32(what.encode())
        )
        results['img'] = np.ascontiguousarray(found[..., ::-1]) if self.bgr else found
        return results
