"""Every config trains, cut down to a tiny network and tiny images by options alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

ROOT = Path(__file__).parents[1]
# The quick starts' configs are run by the quick starts' tests, those for one's own images by test_finetune.py.
ALL = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if not {'_base_', 'quickstart', 'finetune'} & set(path.parts)
)
DETECTION = [path for path in ALL if 'coco' in path.parts or path.stem == 'mask_rcnn_gradaug']
CLASSIFICATION = [path for path in ALL if path not in DETECTION]
TINY_BACKBONES = {
    'ResNet': (dict(base_channels=8, stem_channels=8), 256),
    'ResNetV1d': (dict(base_channels=8, stem_channels=8), 256),
    'mmgradaug.SlimmableResNet': (dict(base_channels=8, stem_channels=8), 256),
    'mmgradaug.WideResNet': (dict(depth=10, widen_factor=1), 64),
    'mmgradaug.PyramidNet': (dict(depth=11, alpha=12), 112),
    'mmgradaug.SlimmableResNetCIFAR': (dict(depth=14), 64),
}


@pytest.fixture(scope='module')
def cifar(tmp_path_factory):
    """Two images a class for training, one for the test, as folders of images."""
    rng = np.random.default_rng(0)
    folders = {}
    for classes in (10, 100):
        folders[classes] = tmp_path_factory.mktemp(f'cifar{classes}')
        for split in ('train', 'test'):
            for label in range(classes):
                folder = folders[classes] / split / f'{label:02d}'
                folder.mkdir(parents=True)
                for i in range(2 if split == 'train' else 1):
                    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f'{i}.png')
    return folders


def tiny(cfg, name, tmp_path, imagenet, stl10):
    """The config with a small network, eight images of at most 64 pixels, two iterations."""
    backbone, channels = TINY_BACKBONES[cfg.model.backbone.type]
    cfg.model.backbone.update(backbone)
    cfg.model.head.in_channels = channels
    cfg.work_dir = str(tmp_path / 'work')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False, batch_size=4)
        if 'low_data' not in name.parts:
            loader.dataset.indices = 8
        if name.stem.endswith('stl10'):
            loader.dataset.data_root = str(stl10)
        elif 'cifar' not in name.stem:
            loader.dataset.data_root = str(imagenet)
    if 'low_data' in name.parts:
        cfg.train_dataloader.dataset.num_labels = 10
        if 'unlabelled' in cfg.train_dataloader.dataset:
            cfg.train_dataloader.dataset.unlabelled.data_root = str(stl10)
    elif 'cifar' not in name.stem:
        cfg.train_dataloader.dataset.pipeline[1].scale = 64
        for transform in _resizing(cfg.model.get('gradaug', {}).get('transforms')):
            transform.sizes = [64, 48]
    if teacher := cfg.model.get('data_preprocessor', {}).get('teacher'):
        teacher.backbone.update(base_channels=8, stem_channels=8)
        teacher.head.in_channels = 256
        from mmengine.registry import MODELS

        torch.save(MODELS.build(teacher).state_dict(), tmp_path / 'teacher.pth')
        cfg.model.data_preprocessor.teacher_checkpoint = str(tmp_path / 'teacher.pth')
    return two_iterations(cfg)


def two_iterations(cfg):
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    cfg.param_scheduler = []
    cfg.default_hooks.logger.update(interval=1, log_metric_by_epoch=False)
    cfg.log_processor = dict(by_epoch=False, window_size=1)
    cfg.default_hooks.checkpoint = dict(
        type='mmgradaug.WholeCheckpointHook', by_epoch=False, interval=10
    )
    return cfg


def shrink(part):
    """Fewer channels and classes, wherever a detector's config has them."""
    for key, value in list(part.items()):
        if key == 'num_classes':
            part[key] = 3
        elif key.endswith('channels') and isinstance(value, int):
            part[key] = {256: 32, 128: 16, 1024: 32}.get(value, value)
        else:
            for inner in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(inner, dict):
                    shrink(inner)


@pytest.mark.parametrize('name', DETECTION, ids=str)
def test_it_trains_a_detector(name, tmp_path, shapes, pretrained):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    shrink(cfg.model)
    backbone = dict(depth=18, base_channels=8, norm_cfg=dict(type='BN', requires_grad=True))
    cfg.model.backbone.update(
        backbone, init_cfg=dict(type='Pretrained', checkpoint=str(pretrained))
    )
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    metainfo = dict(classes=('circle', 'square', 'triangle'))
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(shapes), metainfo=metainfo, indices=4)
        for step in loader.dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (160, 100)
    truth = str(shapes / 'annotations' / 'instances_val2017.json')
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = truth
    cfg.work_dir = str(tmp_path / 'work')
    cfg.experiment_name = f'{name.stem}_{tmp_path.name}'
    runner = Runner.from_cfg(two_iterations(cfg))
    runner.train()
    scalars = runner.message_hub.log_scalars
    losses = scalars['train/loss'].data[0]
    assert np.isfinite(losses).all() and len(losses) == 2 and losses[0] != losses[1]
    subnets = [key for key in scalars if key.startswith('train/loss_subnet')]
    assert len(subnets) == cfg.model.get('gradaug', {}).get('num_subnets', 0)


def _resizing(transform):
    if transform is None:
        return []
    inside = transform.get('transforms', [])
    return [t for t in [transform, *inside] if t.type == 'RandomResize']


@pytest.mark.parametrize('name', CLASSIFICATION, ids=str)
def test_it_trains(name, tmp_path, imagenet, cifar, stl10, monkeypatch):
    for classes, folder in cifar.items():
        monkeypatch.setenv(f'CIFAR{classes}_FOLDER', str(folder))
    cfg = tiny(Config.fromfile(ROOT / 'configs' / name), name, tmp_path, imagenet, stl10[0])
    cfg.experiment_name = f'{name.stem}_{tmp_path.name}'
    runner = Runner.from_cfg(cfg)
    before = {key: value.clone() for key, value in runner.model.state_dict().items()}
    runner.train()
    scalars = runner.message_hub.log_scalars
    losses = scalars['train/loss'].data[0]
    assert np.isfinite(losses).all() and len(losses) == 2 and losses[0] != losses[1]
    subnets = [key for key in scalars if key.startswith('train/loss_subnet')]
    assert len(subnets) == (
        runner.model.subnet_sampler.num_subnets if 'gradaug' in cfg.model else 0
    )
    assert 0 <= scalars['val/accuracy/top1'].current() <= 100
    # Every weight has learned.
    after = dict(runner.model.named_parameters())
    assert not [key for key, value in after.items() if torch.equal(value, before[key])]
