"""A few labelled images of each class."""

import numpy as np
import pytest
from mmpretrain.registry import DATASETS

OF_DIGITS = dict(type='mmgradaug.LabelledSplit', of='mmgradaug.Digits', split='train', pipeline=[])


def images(dataset):
    return {dataset[i]['img'].tobytes() for i in range(len(dataset))}


def test_it_is_balanced_and_follows_its_seed():
    whole = DATASETS.build(dict(type='mmgradaug.Digits', split='train', pipeline=[]))
    one = DATASETS.build(dict(OF_DIGITS, num_labels=50, split_seed=1))
    again = DATASETS.build(dict(OF_DIGITS, num_labels=50, split_seed=1))
    other = DATASETS.build(dict(OF_DIGITS, num_labels=50, split_seed=2))
    assert len(one) == 50
    assert np.bincount([one[i]['gt_label'] for i in range(50)]).tolist() == [5] * 10
    assert images(one) == images(again) <= images(whole)
    assert len(images(one) & images(other)) < 25


@pytest.mark.parametrize(
    ('num_labels', 'says'),
    [(55, 'multiple of the number of classes, 10'), (0, 'multiple'), (5000, "class '0' has")],
)
def test_wrong_input(num_labels, says):
    with pytest.raises(ValueError, match=says):
        DATASETS.build(dict(OF_DIGITS, num_labels=num_labels))
