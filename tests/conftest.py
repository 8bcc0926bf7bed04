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
