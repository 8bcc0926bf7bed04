"""Corruption errors, with the paper's Table 8 as data."""

import pytest

from mmgradaug.evaluation import ALEXNET_ERRORS, corruption_errors, mean_corruption_error

# Columns Gauss to JPEG, and mCE.
TABLE_8 = {
    'ResNet-50': ([72, 75, 76, 77, 91, 82, 81, 78, 76, 65, 59, 65, 89, 72, 75], 75.5),
    '+ Cutout': ([72, 74, 77, 77, 91, 80, 80, 77, 77, 65, 58, 64, 89, 75, 76], 75.5),
    '+ Mixup': ([68, 72, 72, 75, 88, 75, 74, 70, 70, 55, 55, 61, 85, 65, 72], 70.5),
    '+ CutMix': ([72, 74, 76, 77, 91, 78, 78, 77, 75, 62, 56, 65, 87, 77, 74], 74.6),
    '+ GradAug': ([72, 72, 79, 78, 90, 80, 80, 73, 72, 61, 55, 64, 87, 64, 71], 73.2),
    '+ GradAug (dagger)': ([71, 73, 78, 76, 91, 78, 77, 72, 71, 61, 53, 63, 86, 76, 69], 73.0),
    '+ GradAug*': ([62, 65, 63, 77, 90, 79, 75, 64, 57, 50, 54, 52, 87, 77, 75], 68.5),
}


@pytest.mark.parametrize('model', TABLE_8)
def test_table_8s_mean_follows_from_its_columns(model):
    """Columns are rounded to whole numbers, so the mean may be off by half of one, and its rounding."""
    columns, mce = TABLE_8[model]
    ces = dict(zip(ALEXNET_ERRORS, columns))
    assert len(columns) == len(ces) == 15
    assert mean_corruption_error(ces) == pytest.approx(mce, abs=0.55)
    # From errors as well: those that would give these columns.
    errors = {c: [ce / 100 * ALEXNET_ERRORS[c]] * 5 for c, ce in ces.items()}
    assert mean_corruption_error(corruption_errors(errors)) == pytest.approx(mce, abs=0.55)


def test_alexnets_own_errors_give_exactly_100():
    ces = corruption_errors({c: [error] * 5 for c, error in ALEXNET_ERRORS.items()})
    assert set(ces.values()) == {100.0} and mean_corruption_error(ces) == 100.0


def test_alexnets_errors_are_the_published_ones():
    """In the order of google-research/augmix, imagenet.py."""
    published = [
        0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816,
        0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500,
    ]  # fmt: skip
    assert list(ALEXNET_ERRORS.values()) == published


def test_severities_are_averaged_before_the_division():
    errors = [0.1, 0.2, 0.3, 0.4, 0.8]
    assert corruption_errors({'fog': errors}) == {'fog': pytest.approx(100 * 0.36 / 0.819324)}
    # AlexNet's Gaussian noise, severity by severity, as published, has the mean that is used.
    alexnet = [0.69528, 0.82542, 0.93554, 0.98138, 0.99452]
    assert corruption_errors({'gaussian_noise': alexnet})['gaussian_noise'] == pytest.approx(100)


def test_a_missing_corruption_is_named():
    ces = dict.fromkeys(ALEXNET_ERRORS, 50.0)
    del ces['snow'], ces['pixelate']
    with pytest.raises(ValueError, match='no mCE without snow, pixelate'):
        mean_corruption_error(ces)


@pytest.mark.parametrize(
    ('errors', 'says'),
    [
        ({'rain': [0.5] * 5}, "'rain' is none of the fifteen corruptions: gaussian_noise"),
        ({'fog': [0.5] * 4}, 'fog has 4 severities instead of 5'),
        ({'fog': [50.0] * 5}, r'errors are fractions in \[0, 1\], got \[50.0'),
    ],
)
def test_wrong_input(errors, says):
    with pytest.raises(ValueError, match=says):
        corruption_errors(errors)
