"""Makes tests/helpers.py importable (pytest puts a conftest's folder on the path), and calms threads."""

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image


@pytest.fixture(autouse=True, scope='session')
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _alone():
    """A Runner leaves its scope behind, in which the next test's names would be looked up."""
    torch.manual_seed(0)
    scopes = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


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
