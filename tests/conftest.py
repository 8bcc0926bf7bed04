"""Makes tests/helpers.py importable (pytest puts a conftest's folder on the path), and calms threads."""

from contextlib import contextmanager

import mmengine.config.config
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image


@pytest.fixture(autouse=True, scope='session')
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope='session')
def _configs_as_they_are():
    """Without yapf, which lays the whole config out five times a training: a third of what a tiny one takes.

    The text is Python that means the same. Trainings in processes of their own have it laid out.
    """
    patch = pytest.MonkeyPatch()
    patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))
    if hasattr(mmengine.config.config, 'FormatCode'):  # OneDL's imports it where it is used
        patch.setattr('mmengine.config.config.FormatCode', lambda text, **_: (text, True))
    yield
    patch.undo()


def _kinds(base):
    """A class and all below it: each has instances of its own."""
    return [base, *(kind for below in base.__subclasses__() for kind in _kinds(below))]


@contextmanager
def _globals_restored():
    """A Runner leaves behind its scope, in which the next test's names would be looked up, visualizer and logger.

    MMDetection names every visualizer "visualizer", so the next Runner would write into the last one's work dir.
    A model's init_weights writes into the last logger's file, which other libraries' logging may have closed.
    """
    kinds = (DefaultScope, MMLogger, *_kinds(Visualizer))
    kept = {kind: kind._instance_dict.copy() for kind in kinds}
    yield
    for kind in kinds:
        kind._instance_dict.clear()
        kind._instance_dict.update(kept.get(kind, {}))


@pytest.fixture(autouse=True)
def _alone():
    torch.manual_seed(0)
    with _globals_restored():
        yield


@pytest.fixture(autouse=True, scope='module')
def _module_alone():
    """A module's own fixtures may leave a scope behind as well."""
    with _globals_restored():
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
    from mmgradaug.datasets import drawn_shapes

    drawn_shapes.generate(root, train=10, val=6, seed=0)
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


CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=4, in_channels=64),
)
data_preprocessor = dict(
    num_classes=4, mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 70.0], to_rgb=True
)
load = dict(type='LoadImageFromFile')
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_root={root!r},
        data_prefix='train',
        pipeline=[load, dict(type='RandomResizedCrop', scale=32), dict(type='PackInputs')],
    ),
)
test_dataloader = dict(
    batch_size=3,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset',
        data_root={root!r},
        data_prefix='test',
        pipeline=[
            load,
            dict(type='ResizeEdge', scale=36, edge='short'),
            dict(type='CenterCrop', crop_size=32),
            dict(type='PackInputs'),
        ],
    ),
)
test_evaluator = dict(type='Accuracy', topk=1)
test_cfg = dict()
"""


def write_classifier(folder):
    """config.py of a tiny stock ResNet, and its images.

    Four classes, three images each for training and two for the test, one of them in grey.
    """
    rng = np.random.default_rng(0)
    for split, number in (('train', 3), ('test', 2)):
        for label in range(4):
            (folder / split / f'n{label}').mkdir(parents=True)
            for i in range(number):
                low = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
                image = Image.fromarray(low).resize((48, 40), Image.BILINEAR)
                if (split, label, i) == ('test', 3, 1):
                    image = image.convert('L')
                image.save(folder / split / f'n{label}' / f'{i}.png')
    (folder / 'config.py').write_text(CLASSIFIER.replace('{root!r}', repr(str(folder))))


@pytest.fixture(scope='session')
def classifier(tmp_path_factory):
    """A folder of :func:`write_classifier`, with weights.pth, which are random."""
    from mmengine.config import Config
    from mmpretrain.registry import MODELS

    folder = tmp_path_factory.mktemp('classifier')
    write_classifier(folder)
    cfg = Config.fromfile(folder / 'config.py')
    torch.manual_seed(0)
    with _globals_restored(), DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
        model.init_weights()
    for name, value in model.state_dict().items():
        if 'running_mean' in name:
            value.normal_(std=0.1)
        elif 'running_var' in name:
            value.uniform_(0.5, 1.5)
    model.head.fc.weight.data.mul_(50)  # so that it does not say the same of all images
    meta = dict(dataset_meta=dict(classes=['ant', 'bee', 'cat', 'dog']))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'weights.pth')
    torch.save(dict(state_dict=dict(other=torch.zeros(3))), folder / 'wrong.pth')
    return folder
