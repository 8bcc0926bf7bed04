"""The digits against scikit-learn's own arrays."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmgradaug.datasets import Digits
from mmgradaug.registry import DATASETS


def everything(dataset):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return np.stack([info['img'] for info in infos]), np.array([info['gt_label'] for info in infos])


def test_the_parts_are_sklearns_first_1000_and_last_797():
    images, labels = load_digits(return_X_y=True)
    for split, part in (('train', slice(0, 1000)), ('test', slice(1000, 1797))):
        found, found_labels = everything(Digits(split))
        assert found.shape == (len(labels[part]), 8, 8, 3)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found_labels, labels[part])
        # sklearn's pixels are whole numbers from 0 to 16; one step is almost 16 grey levels.
        expected = images[part].reshape(-1, 8, 8) * 255 / 16
        assert np.abs(found[..., 0] - expected).max() <= 0.5
        assert (found[..., 0].min(), found[..., 0].max()) == (0, 255)
        for channel in (1, 2):
            np.testing.assert_array_equal(found[..., channel], found[..., 0])


def test_labels_per_class_are_balanced_and_from_the_training_part():
    few, labels = everything(Digits('train', labels_per_class=5))
    assert np.bincount(labels).tolist() == [5] * 10
    all_images, all_labels = everything(Digits('train'))
    pool = {(image.tobytes(), label) for image, label in zip(all_images, all_labels)}
    drawn = [(image.tobytes(), label) for image, label in zip(few, labels)]
    assert set(drawn) <= pool
    assert len(set(drawn)) == 50  # without replacement; no two scans are equal


def test_label_seed_decides_which():
    def drawn(seed):
        return everything(Digits('train', labels_per_class=5, label_seed=seed))[0]

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))


def test_draws_with_another_number_of_labels_stay_balanced_up_to_the_smallest_class():
    counts = np.bincount(load_digits().target[:1000])
    _, labels = everything(Digits('train', labels_per_class=int(counts.min())))
    assert np.bincount(labels).tolist() == [counts.min()] * 10
    with pytest.raises(ValueError, match=f'{counts.min() + 1} images of digit .* {counts.min()}'):
        Digits('train', labels_per_class=int(counts.min()) + 1)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(split='val'), "'train' or 'test'.*'val'"),
        (dict(split='train', labels_per_class=0), 'labels_per_class=0'),
        (dict(split='test', labels_per_class=5), "split='train'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Digits(**arguments)


def test_a_config_builds_it_with_a_pipeline():
    dataset = DATASETS.build(
        dict(
            type='mmgradaug.Digits',
            split='test',
            pipeline=[
                dict(type='mmpretrain.Resize', scale=16),
                dict(type='mmpretrain.PackInputs'),
            ],
        )
    )
    sample = dataset[0]
    assert tuple(sample['inputs'].shape) == (3, 16, 16)
    assert sample['data_samples'].gt_label.item() == load_digits().target[1000]
    assert list(dataset.metainfo['classes']) == list('0123456789')


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        Digits('test')
