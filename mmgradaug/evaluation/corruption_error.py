"""Corruption errors and their mean, mCE (Table 8)."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

# Top-1 errors of AlexNet on ImageNet-C, mean over the five severities, as fractions; those that everybody
# normalises by (google-research/augmix, imagenet.py, after hendrycks/robustness).
ALEXNET_ERRORS: dict[str, float] = {
    'gaussian_noise': 0.886428,
    'shot_noise': 0.894468,
    'impulse_noise': 0.922640,
    'defocus_blur': 0.819880,
    'glass_blur': 0.826268,
    'motion_blur': 0.785948,
    'zoom_blur': 0.798360,
    'snow': 0.866816,
    'frost': 0.826572,
    'fog': 0.819324,
    'brightness': 0.564592,
    'contrast': 0.853204,
    'elastic_transform': 0.646056,
    'pixelate': 0.717840,
    'jpeg_compression': 0.606500,
}
NUM_SEVERITIES = 5


def corruption_errors(errors: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each corruption's error in per cent of AlexNet's: CE = 100 * mean over severities / AlexNet's mean.

    Args:
        errors: by corruption the top-1 errors at severities 1 to 5, in [0, 1].

    Returns:
        By corruption its CE; 100 is as bad as AlexNet.

    Raises:
        ValueError: an unknown corruption, not five severities, or an error out of its range.
    """
    found = {}
    for corruption, values in errors.items():
        if corruption not in ALEXNET_ERRORS:
            raise ValueError(
                f'{corruption!r} is none of the fifteen corruptions: {", ".join(ALEXNET_ERRORS)}'
            )
        if len(values) != NUM_SEVERITIES:
            raise ValueError(
                f'{corruption} has {len(values)} severities instead of {NUM_SEVERITIES}'
            )
        if not all(0.0 <= value <= 1.0 for value in values):
            raise ValueError(f'{corruption}: errors are fractions in [0, 1], got {list(values)}')
        # In fractions, so that AlexNet's own errors give 100 and not nearly so.
        mean = sum(map(Fraction, values)) / NUM_SEVERITIES
        found[corruption] = float(100 * mean / Fraction(ALEXNET_ERRORS[corruption]))
    return found


def mean_corruption_error(ces: Mapping[str, float]) -> float:
    """mCE: the mean of the fifteen corruption errors.

    Args:
        ces: what :func:`corruption_errors` gives.

    Raises:
        ValueError: some are missing.
    """
    missing = [corruption for corruption in ALEXNET_ERRORS if corruption not in ces]
    if missing:
        raise ValueError(f'no mCE without {", ".join(missing)}')
    return math.fsum(ces[corruption] for corruption in ALEXNET_ERRORS) / len(ALEXNET_ERRORS)
