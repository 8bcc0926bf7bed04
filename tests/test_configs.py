"""Every config builds and says what the paper says."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import CosineAnnealingLR
from mmpretrain.registry import MODELS, TRANSFORMS

from mmgradaug.models import GradAugClassifier, SlimmableResNet
from mmgradaug.subnets import Chain, Resize, Rotate90

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
IMAGENET = [path for path in CONFIGS if 'imagenet' in str(path)]


def load(name):
    return Config.fromfile(ROOT / 'configs' / name)


def build_model(cfg):
    model = dict(cfg.model, data_preprocessor=cfg.get('data_preprocessor'))
    return MODELS.build({**model, '_scope_': 'mmpretrain'})


def test_the_configs_are_there():
    names = {str(path) for path in CONFIGS}
    assert {
        'gradaug_r50_imagenet.py',
        'imagenet/baseline_r50.py',
        'imagenet/gradaug_cutmix_r50.py',
        'imagenet/gradaug_mixup_r50.py',
        'imagenet/gradaug_rotation_r50.py',
        'imagenet/gradaug_scale_rotation_r50.py',
    } <= names


@pytest.mark.parametrize('name', CONFIGS, ids=str)
def test_header_is_the_record_and_its_command_names_this_file(name):
    header = []
    for line in (ROOT / 'configs' / name).read_text().splitlines():
        if not line.startswith('#'):
            break
        header.append(line)
    text = '\n'.join(header)
    for entry in ('Paper:', 'Setting:', 'Command:', 'Assumed:'):
        assert entry in text, f'{name} does not say its {entry}'
    assert f'configs/{name}' in text


@pytest.mark.parametrize('name', CONFIGS, ids=str)
def test_model_builds(name):
    cfg = load(name)
    model = build_model(cfg)
    is_gradaug = 'gradaug' in cfg.model
    assert isinstance(model, GradAugClassifier) == is_gradaug == ('baseline' not in str(name))
    hooks = [hook['type'] for hook in cfg.get('custom_hooks', [])]
    assert ('mmgradaug.GradAugHook' in hooks) == is_gradaug
    assert ('model_wrapper_cfg' in cfg) == is_gradaug


@pytest.mark.parametrize('name', IMAGENET, ids=str)
def test_imagenet_settings_are_the_papers(name):
    cfg = load(name)
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 512
    assert cfg.train_cfg.max_epochs == 120
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov) == (0.2, 0.9, True)
    assert optimizer.weight_decay == 1e-4
    # The learning rate follows the cosine in every iteration, to zero.
    weights = torch.nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([weights], lr=0.2)
    schedule = dict(cfg.param_scheduler)
    assert schedule.pop('type') == 'CosineAnnealingLR' and schedule.pop('convert_to_iter_based')
    scheduler = CosineAnnealingLR.build_iter_from_epoch(sgd, **schedule, epoch_length=10)
    rates = []
    for _ in range(1200):
        rates.append(sgd.param_groups[0]['lr'])
        sgd.step()
        scheduler.step()
    expected = [0.1 * (1 + math.cos(math.pi * t / 1200)) for t in range(1200)]
    assert np.allclose(rates, expected, atol=1e-9)


def test_gradaug_settings_are_the_papers():
    sampler = build_model(load('gradaug_r50_imagenet.py')).subnet_sampler
    assert (sampler.num_subnets, sampler.min_width) == (3, 0.9)
    drawn = {subnet.transform for i in range(100) for subnet in sampler.sample(0, i)}
    assert drawn == {Resize((s, s)) for s in (224, 192, 160, 128)}


def test_variants_differ_as_their_rows_do():
    model = build_model(load('imagenet/gradaug_cutmix_r50.py'))
    augment = model.data_preprocessor.batch_augments
    assert type(augment.augments[0]).__name__ == 'CutMix' and augment.probs == [0.5, 0.5]
    assert model.head.loss_module.use_soft and isinstance(model.backbone, SlimmableResNet)
    model = build_model(load('imagenet/gradaug_mixup_r50.py'))
    augment = model.data_preprocessor.batch_augments
    assert type(augment.augments[0]).__name__ == 'Mixup' and augment.probs is None

    def drawn(name):
        sampler = build_model(load(name)).subnet_sampler
        assert (sampler.num_subnets, sampler.min_width) == (3, 0.9)
        return {subnet.transform for i in range(200) for subnet in sampler.sample(0, i)}

    turns = {Rotate90(k) for k in range(4)}
    assert drawn('imagenet/gradaug_rotation_r50.py') == turns
    sizes = {Resize((s, s)) for s in (224, 192, 160, 128)}
    assert drawn('imagenet/gradaug_scale_rotation_r50.py') == {
        Chain((turn, size)) for turn in turns for size in sizes
    }


def test_baseline_and_gradaug_differ_in_gradaug_alone():
    plain, gradaug = load('imagenet/baseline_r50.py'), load('gradaug_r50_imagenet.py')
    for key in set(plain) | set(gradaug):
        if key in ('model', 'custom_hooks', 'model_wrapper_cfg'):
            continue
        assert plain.get(key) == gradaug.get(key), key
    one = build_model(plain).state_dict()
    other = build_model(gradaug).state_dict()
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}


def test_lighting_neither_wraps_around_nor_swaps_channels():
    """On a nearly white image, where stock uint8 arithmetic would jump to black."""
    pipeline = load('gradaug_r50_imagenet.py').train_pipeline[3:-1]  # from ColorJitter on
    assert [step['type'] for step in pipeline] == ['ColorJitter', 'Normalize', 'Lighting']
    steps = [TRANSFORMS.build({**step, '_scope_': 'mmpretrain'}) for step in pipeline[1:]]
    np.random.seed(0)
    image = np.full((4, 4, 3), 254, np.uint8)
    shifts = []
    for _ in range(2000):
        results = dict(img=image)
        for step in steps:
            results = step(results)
        assert results['img'].dtype == np.float32
        shifts.append(results['img'][0, 0] - 254)
    shifts = np.array(shifts)
    assert np.abs(shifts).max() < 40
    # AlexNet's PCA: covariance 0.01 * V diag(eigenvalue^2) V', channels in BGR.
    vectors = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )[::-1]
    expected = 0.01 * vectors @ np.diag(np.square([55.4625, 4.7940, 1.1475])) @ vectors.T
    assert np.allclose(np.cov(shifts.T), expected, rtol=0.1)
