import numpy as np
import pytest
from mmpretrain.registry import DATASETS

NUMBER = 6  # instead of 10,000


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / 'labels.npy', np.tile(np.arange(NUMBER) % 3, 5))
    np.save(tmp_path / 'fog.npy', rng.integers(0, 256, (5 * NUMBER, 32, 32, 3), dtype=np.uint8))
    return tmp_path


def build(folder, corruption='fog', severity=1, **more):
    config = dict(type='mmgradaug.CIFARC', data_root=str(folder), pipeline=[])
    return DATASETS.build({**config, 'corruption': corruption, 'severity': severity, **more})


@pytest.mark.parametrize('severity', [1, 2, 3, 4, 5])
def test_a_set_has_its_part_of_the_array(folder, severity):
    dataset = build(folder, severity=severity, num_classes=3)
    part = np.load(folder / 'fog.npy')[(severity - 1) * NUMBER : severity * NUMBER]
    assert len(dataset) == NUMBER
    for i in range(NUMBER):
        assert np.array_equal(dataset[i]['img'], part[i]) and dataset[i]['gt_label'] == i % 3


def test_it_goes_through_a_pipeline_of_cifar(folder):
    """What a step writes into an image does not reach the file."""
    pipeline = [dict(type='RandomFlip', prob=1.0), dict(type='PackInputs')]
    before = (folder / 'fog.npy').read_bytes()
    item = build(folder, severity=2, pipeline=pipeline)[1]
    expected = np.load(folder / 'fog.npy')[NUMBER + 1][:, ::-1]
    assert np.array_equal(item['inputs'].permute(1, 2, 0).numpy(), expected)
    assert (folder / 'fog.npy').read_bytes() == before


@pytest.mark.parametrize(
    ('changes', 'error', 'says'),
    [
        (dict(corruption='snow'), FileNotFoundError, 'snow.npy is not in .*: extract CIFAR-10-C'),
        (dict(corruption='rain'), ValueError, "one of gaussian_noise, .*; got 'rain'"),
        (dict(severity=6), ValueError, 'severity is 1 to 5, got 6'),
        (dict(num_classes=10), ValueError, 'has 3 classes instead of 10'),
    ],
)
def test_wrong_input(folder, changes, error, says):
    with pytest.raises(error, match=says):
        build(folder, **changes)


@pytest.mark.parametrize(
    'images',
    [
        np.zeros((4 * NUMBER, 32, 32, 3), np.uint8),
        np.zeros((5 * NUMBER, 32, 32, 3)),
        np.zeros((5 * NUMBER, 3, 32, 32), np.uint8),
    ],
)
def test_arrays_of_another_kind(folder, images):
    np.save(folder / 'fog.npy', images)
    with pytest.raises(ValueError, match='instead of uint8 of .50000, 32, 32, 3. and 50000'):
        build(folder)


def test_without_labels(folder):
    (folder / 'labels.npy').unlink()
    with pytest.raises(FileNotFoundError, match='labels.npy is not in'):
        build(folder)
