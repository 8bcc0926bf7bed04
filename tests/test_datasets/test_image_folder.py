"""A class folder hands out what MMPretrain's CIFAR does."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmgradaug.datasets import ImageFolder


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in ('cat', 'ant'):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f'{i}.png')
    return tmp_path


def test_samples_are_rgb_with_labels_by_alphabet(folder):
    dataset = ImageFolder(folder, 'train', pipeline=[])
    assert len(dataset) == 6 and list(dataset.CLASSES) == ['ant', 'cat']
    for index, (name, i) in enumerate((n, i) for n in ('ant', 'cat') for i in range(3)):
        sample = dataset[index]
        expected = np.asarray(Image.open(folder / 'train' / name / f'{i}.png'))
        assert np.array_equal(sample['img'], expected)
        assert sample['gt_label'] == (name == 'cat') and sample['img_shape'] == (4, 5)


def test_pipelines_without_a_loading_step_fit(folder):
    dataset = ImageFolder(folder, 'test', pipeline=[dict(type='PackInputs')])
    sample = dataset[5]
    assert sample['inputs'].shape == (3, 4, 5) and sample['inputs'].dtype == torch.uint8
    assert sample['data_samples'].gt_label.item() == 1


def test_a_missing_folder_is_said(folder):
    with pytest.raises(FileNotFoundError, match='val'):
        ImageFolder(folder, 'val', pipeline=[])


def test_a_broken_image_is_named(folder):
    (folder / 'test' / 'cat' / '1.png').write_bytes(b'\xff\xd8 no image')
    dataset = ImageFolder(folder, 'test', pipeline=[])
    with pytest.raises(ValueError, match=r'test/cat/1\.png cannot be read as an image'):
        dataset[4]
