"""Makes tests/helpers.py importable (pytest puts a conftest's folder on the path), and calms threads."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from command_line import load_tool
from mmengine.registry import DefaultScope
from PIL import Image


@pytest.fixture(autouse=True, scope='session')
def _one_thread():
    torch.set_num_threads(1)


@contextmanager
def _scopes_restored():
    """A Runner leaves its scope behind, in which the next test's names would be looked up."""
    scopes = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


@pytest.fixture(autouse=True)
def _alone():
    torch.manual_seed(0)
    with _scopes_restored():
        yield


@pytest.fixture(autouse=True, scope='module')
def _module_alone():
    """A module's own fixtures may leave a scope behind as well."""
    with _scopes_restored():
        yield


@pytest.fixture(scope='session')
def imagenet(tmp_path_factory):
    """1,000 classes of one image each, since MMPretrain's ImageNet takes no fewer."""
    root = tmp_path_factory.mktemp('imagenet')
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for i in range(1000):
            folder = root / split / f'n{i:08d}'
            folder.mkdir(parents=True)
            pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / '0.JPEG')
    return root


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'shapes'
    load_tool('make_shapes').generate(root, train=10, val=6, seed=0)
    return root


@pytest.fixture(scope='session')
def pretrained(tmp_path_factory):
    """A classifier's checkpoint, as configs/gradaug_r50_imagenet.py leaves it but for its size."""
    from mmpretrain.models import ResNet

    backbone = ResNet(depth=18, stem_channels=8, base_channels=8)
    weights = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    path = tmp_path_factory.mktemp('imagenet') / 'epoch_120.pth'
    torch.save(dict(state_dict={**weights, 'head.fc.weight': torch.zeros(1000, 64)}), path)
    return path


@pytest.fixture
def stl10(tmp_path):
    """Twenty images for training, ten for the test, five without labels; and what is in them."""
    folder = tmp_path / 'stl10_binary'
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = {}
    for split, number in (('train', 20), ('test', 10), ('unlabeled', 5)):
        # rows, columns, colours: as they are seen
        images[split] = rng.integers(0, 256, (number, 96, 96, 3), dtype=np.uint8)
        with (folder / f'{split}_X.bin').open('wb') as file:
            for image in images[split]:
                for colour in range(3):
                    for column in range(96):
                        file.write(image[:, column, colour].tobytes())
        if split != 'unlabeled':
            np.array([1 + i % 10 for i in range(number)], np.uint8).tofile(
                folder / f'{split}_y.bin'
            )
    folds = [[i, 10 + i] for i in range(10)]
    (folder / 'fold_indices.txt').write_text('\n'.join(' '.join(map(str, f)) for f in folds) + '\n')
    return tmp_path, images
