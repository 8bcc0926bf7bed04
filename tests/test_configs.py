"""Every config builds and says what the paper says."""

import copy
import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import CosineAnnealingLR, LinearLR, MultiStepLR, build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.registry import TRANSFORMS

from mmgradaug.config_types import class_of
from mmgradaug.engine.config_check import problems_of
from mmgradaug.experiments.tables import TABLES
from mmgradaug.models import SlimmableResNet
from mmgradaug.models.regularizers import DropBlock, ShakeDrop
from mmgradaug.registry import build_batch_transform
from mmgradaug.slimming import kept_channels
from mmgradaug.subnets import Chain, Resize, Rotate90, Scale, SubnetSampler

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
# Rows that the paper takes from others have others' schedules.
OTHERS = (
    'baseline_300e', 'mixup', 'cutmix', 'cutout', 'dropblock', 'droppath', 'stochdepth', 'bag_of_tricks',
)  # fmt: skip
IMAGENET = [
    path
    for path in CONFIGS
    if 'imagenet' in str(path)
    and 'cifar' not in path.parts
    and path.stem not in [f'{name}_r50' for name in OTHERS]
]
COCO = [path for path in CONFIGS if 'coco' in path.parts or path.name == 'mask_rcnn_gradaug.py']
TABLE_7 = [path for path in COCO if 'mask_rcnn' in path.stem]


@functools.cache
def _read(name):
    return Config.fromfile(ROOT / 'configs' / name)


def load(name):
    """A config, of which the caller may change what it likes; most are asked for several times."""
    return copy.deepcopy(_read(Path(name)))


def build_model(cfg):
    model = dict(cfg.model)
    # As the runner does, which knows the scope and, on a CPU, of no SyncBatchNorm.
    model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    return revert_sync_batchnorm(MODELS.build({**model, '_scope_': cfg.default_scope}))


def test_the_configs_are_there():
    names = {str(path) for path in CONFIGS}
    assert {
        'gradaug_r50_imagenet.py',
        'mask_rcnn_gradaug.py',
        'coco/baseline_mask_rcnn_r50.py',
        'coco/mixup_pretrained_mask_rcnn_r50.py',
        'coco/cutmix_pretrained_mask_rcnn_r50.py',
        'coco/gradaug_pretrained_mask_rcnn_r50.py',
        'coco/gradaug_faster_rcnn_r50.py',
        'coco/gradaug_cascade_rcnn_r50.py',
        'coco/gradaug_retinanet_r50.py',
        'coco/gradaug_fcos_r50.py',
        'coco/gradaug_condinst_r50.py',
    } <= names


CLASSES = {'CIFAR-10': 10, 'STL-10': 10, 'CIFAR-100': 100, 'ImageNet': 1000}


@pytest.mark.parametrize('table', TABLES, ids=lambda table: table.name)
def test_each_row_of_a_table_is_a_config_whose_header_has_its_figures(table):
    for row in table.rows:
        header = (ROOT / 'configs' / row.config).read_text().split('_base_ =')[0]
        # Table 2 has other lengths of Table 1's trainings, and rounds.
        for figure in row.figures.values() if row.cost is None else ():
            assert f'{figure:g}' in header, f'{row.config}: {figure}'
        cfg = load(row.config)
        if row.dataset != 'COCO':
            assert cfg.model.head.num_classes == CLASSES[row.dataset.split(',')[0]]
        for option in row.options:  # an option that names nothing would be no variant
            key, value = option.split('=')
            assert str(_get(cfg, key)).replace(' ', '') != value


def _get(cfg, key):
    for part in key.split('.'):
        cfg = cfg[int(part)] if isinstance(cfg, list) else cfg[part]
    return cfg


def test_nothing_in_them_is_what_mmengine_would_ignore():
    for name in CONFIGS:
        assert not [each for each in problems_of(load(name)) if 'there is no file' not in each], (
            name
        )


@pytest.mark.parametrize('name', CONFIGS, ids=str)
def test_header_is_the_record_and_its_command_names_this_file(name):
    header = []
    for line in (ROOT / 'configs' / name).read_text().splitlines():
        if not line.startswith('#'):
            break
        header.append(line)
    text = '\n'.join(header)
    for entry in ('Paper:', 'Setting:', 'Hardware:', 'Command:', 'Assumed:'):
        assert entry in text, f'{name} does not say its {entry}'
    assert f'configs/{name}' in text


@pytest.mark.parametrize('name', CONFIGS, ids=str)
def test_model_hooks_and_wrapper_are_of_one_kind(name):
    """That it builds and trains, of a smaller size, is in test_configs_train.py."""
    cfg = load(name)
    assert class_of(cfg.model, MODELS, cfg.default_scope) is not None
    is_gradaug = 'gradaug' in name.stem and 'pretrained' not in name.stem
    kind = str(cfg.model.type)
    assert kind.startswith('mmgradaug.GradAug') == is_gradaug == ('gradaug' in cfg.model)
    hooks = [hook['type'] for hook in cfg.get('custom_hooks', [])]
    assert ('mmgradaug.GradAugHook' in hooks) == is_gradaug
    assert ('model_wrapper_cfg' in cfg) == is_gradaug
    assert cfg.default_hooks.run_record.type == 'mmgradaug.RunRecordHook'


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


@pytest.mark.parametrize(
    ('network', 'epochs', 'batch', 'lr', 'decay', 'schedule'),
    [
        ('wrn28_10', 200, 128, 0.1, 5e-4, dict(type='CosineAnnealingLR', T_max=200)),
        (
            'pyramidnet200',
            300,
            64,
            0.25,
            1e-4,
            dict(type='MultiStepLR', milestones=[150, 225], gamma=0.1),
        ),
        (
            'resnet110',
            500,
            128,
            0.1,
            1e-4,
            dict(type='MultiStepLR', milestones=[250, 375], gamma=0.1),
        ),
    ],
)
def test_cifar_settings_are_the_papers(network, epochs, batch, lr, decay, schedule):
    names = [path for path in CONFIGS if 'cifar' in path.parts and network in path.stem]
    assert len(names) >= 6
    for name in names:
        cfg = load(name)
        assert cfg.train_cfg.max_epochs == epochs
        assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == batch
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.lr, optimizer.weight_decay, optimizer.nesterov) == (lr, decay, True)
        assert schedule.items() <= dict(cfg.param_scheduler).items()
        if 'gradaug' in name.stem:
            transforms = build_batch_transform(cfg.model.gradaug.transforms)
            options = {**cfg.model.gradaug, 'transforms': transforms}
            options.pop('soft_labels', None)  # the model's own
            sampler = SubnetSampler(**options)
            width = 1.0 if network == 'resnet110' or 'randscale' in name.stem else 0.8
            assert (sampler.num_subnets, sampler.axes[0].min_width) == (3, width)
            by_depth = [axis.survival_prob for axis in sampler.axes[1:]]
            assert by_depth == ([0.5] if network == 'resnet110' else [])


@pytest.mark.parametrize('name', [p for p in CONFIGS if 'resnet110' in p.stem], ids=str)
def test_headers_of_table_6_say_which_data_its_source_had(name):
    text = (ROOT / 'configs' / name).read_text().split('_base_ =')[0]
    header = ' '.join(line.lstrip('# ') for line in text.splitlines())
    assert '45,000 of the 50,000 images' in header
    assert 'the test error of the epoch with the best validation error' in header
    assert 'all 50,000, the final epoch, and shifts by reflection' in header
    # Which is what the config does.
    cfg = load(name)
    assert 'indices' not in cfg.train_dataloader.dataset
    assert 'save_best' not in cfg.default_hooks.checkpoint
    (crop,) = [s for s in cfg.train_dataloader.dataset.pipeline if s.type == 'RandomCrop']
    assert crop.padding_mode == 'reflect'


LOW_DATA = [path for path in CONFIGS if 'low_data' in path.parts]


@pytest.mark.parametrize('name', LOW_DATA, ids=str)
def test_low_data_settings_are_those_of_oliver_et_al(name):
    cfg = load(name)
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ('IterBasedTrainLoop', 500_000)
    mean_teacher = 'mean_teacher' in name.stem
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=4e-4 if mean_teacher else 3e-3)
    assert cfg.param_scheduler.milestones == [400_000] and cfg.param_scheduler.gamma == 0.2
    model = build_model(cfg)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(1.47e6, rel=0.01)
    activations = {type(m) for m in model.modules() if 'ReLU' in type(m).__name__}
    assert activations == {torch.nn.LeakyReLU}
    assert model.backbone.act.negative_slope == 0.1 and model.backbone.input_noise == 0.15
    loader = cfg.train_dataloader
    semi = mean_teacher or 'semi' in name.stem
    assert loader.batch_size == cfg.auto_scale_lr.base_batch_size == 100
    assert ('source_ratio' in loader.sampler) == semi
    if semi:
        assert loader.sampler.source_ratio == [1, 1] and loader.dataset.part == 'both'
    if mean_teacher:
        assert (model.weight, model.momentum) == (8.0, 0.95)
        assert model.ramp_up * cfg.train_cfg.max_iters == 200_000
    pixels = 96 if 'stl10' in name.stem else 32
    assert loader.dataset.pipeline[0].crop_size == pixels
    assert loader.dataset.num_labels == (1000 if 'stl10' in name.stem else 250)


def test_regularisers_are_those_of_their_papers():
    def drops(name, kind):
        modules = build_model(load(name)).backbone.modules()
        return list(dict.fromkeys(m for m in modules if isinstance(m, kind)))

    shaken = drops('cifar/shakedrop_pyramidnet200_cifar100.py', ShakeDrop)
    assert [m.drop_prob for m in shaken] == pytest.approx(
        [0.5 * number / 66 for number in range(1, 67)]
    )
    wide = drops('cifar/cutmix_shakedrop_wrn28_10_cifar100.py', ShakeDrop)
    assert len(wide) == 12 and wide[-1].drop_prob == 0.5
    blocks = drops('imagenet/dropblock_r50.py', DropBlock)
    assert [m.drop_prob for m in blocks] == pytest.approx([0.025] * 6 + [0.1] * 3)
    assert {(m.block_size, m.scheduled) for m in blocks} == {(7, True)}
    network = build_model(load('imagenet/dropblock_r50.py')).backbone
    for stage in (network.layer3, network.layer4):  # on identity shortcuts as well
        assert all(isinstance(block.downsample.drop_block, DropBlock) for block in list(stage)[1:])
    paths = drops('imagenet/droppath_r50.py', torch.nn.Module)
    rates = [m.drop_prob for m in paths if type(m).__name__ == 'DropPath']
    assert rates == [0.1] * 16
    depth = drops('imagenet/stochdepth_r50.py', torch.nn.Module)
    rates = [m.drop_prob for m in depth if type(m).__name__ == 'DropPath']
    assert rates == pytest.approx([0.25 * number / 15 for number in range(1, 16)])


@pytest.mark.parametrize('name', ['dropblock', 'droppath'])
def test_rows_of_the_dropblock_paper_start_as_its_code_does(name):
    """Zero gamma; no weight decay on batch norms; five epochs of warm-up, then three steps."""
    cfg = load(f'imagenet/{name}_r50.py')
    model = build_model(cfg)
    model.init_weights()
    assert not any(block.norm3.weight.any() for block in model.backbone.layer4)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    of_norms = {id(p) for m in norms for p in m.parameters()}
    assert all(
        (group['weight_decay'] == 0.0) == (id(p) in of_norms)
        for group in wrapper.param_groups
        for p in group['params']
    )
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    warm_up, steps = (dict(schedule) for schedule in cfg.param_scheduler)
    assert warm_up.pop('convert_to_iter_based') and warm_up.pop('type') == 'LinearLR'
    assert steps.pop('type') == 'MultiStepLR'
    schedulers = [
        LinearLR.build_iter_from_epoch(sgd, **warm_up, epoch_length=10),
        MultiStepLR(sgd, **steps),
    ]
    rates = []
    for iteration in range(10 * cfg.train_cfg.max_epochs):
        rates.append(sgd.param_groups[0]['lr'])
        sgd.step()
        schedulers[0].step()
        if iteration % 10 == 9:
            schedulers[1].step()
    assert rates[0] == pytest.approx(0.0, abs=1e-4) and rates[25] == pytest.approx(0.2, rel=0.05)
    for epoch, rate in ((6, 0.4), (124, 0.4), (125, 0.04), (200, 0.004), (250, 0.0004)):
        assert rates[10 * epoch] == pytest.approx(rate), epoch


@pytest.mark.parametrize('network', ['wrn28_10', 'pyramidnet200', 'resnet110'])
def test_heads_of_cifar_networks_start_as_pytorchs_linear_layers(network):
    """Uniform in +-1/sqrt(fan_in); WideResNet's authors' code sets the bias to 0."""
    cfg = load(f'cifar/baseline_{network}_cifar100.py')
    cfg.model.backbone.update(dict(depth={'wrn28_10': 10, 'pyramidnet200': 11}.get(network, 14)))
    model = build_model(cfg)
    model.init_weights()
    layer = model.head.fc
    bound = layer.in_features**-0.5
    assert layer.weight.abs().max() <= bound and layer.weight.std() > 0.95 * bound / 3**0.5
    assert layer.bias.any() == (network != 'wrn28_10')


def test_authors_rounding_is_as_the_header_says():
    widths = np.linspace(0.9, 1.0, 200_001)
    differs = []
    for channels in (64, 128, 256, 512):
        ours = np.array([kept_channels(channels, w) for w in widths[::100]])
        assert np.array_equal(ours, np.floor(channels * widths[::100] + 0.5))
        authors = np.floor(np.floor(4 * channels * widths + 0.5) / 4)
        differs.append(np.floor(channels * widths + 0.5) - authors)
    assert {float(d) for difference in differs for d in difference} == {0.0, 1.0}
    shares = [difference.mean() for difference in differs]
    assert 0.37 < min(shares) and max(shares) < 0.395
    assert round(100 * np.max(differs, axis=0).mean()) == 88
    assert [difference[0] for difference in differs] == [1, 0, 0, 1]  # at w = 0.9
    header = (ROOT / 'configs/gradaug_r50_imagenet.py').read_text()
    assert '37 to 39%' in header and '88%' in header


def test_gradaug_settings_are_the_papers():
    sampler = build_model(load('gradaug_r50_imagenet.py')).subnet_sampler
    assert (sampler.num_subnets, sampler.axes[0].min_width) == (3, 0.9)
    drawn = {subnet.transform for i in range(100) for subnet in sampler.sample(0, i)}
    assert drawn == {Resize((s, s)) for s in (224, 192, 160, 128)}


def test_mixup_has_the_schedule_of_its_paper():
    cfg = load('imagenet/mixup_r50.py')
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.type, warm_up.end) == ('LinearLR', 5)
    assert warm_up.start_factor * cfg.optim_wrapper.optimizer.lr == 0.1
    assert cfg.optim_wrapper.optimizer.lr == 0.4
    assert (steps.milestones, steps.gamma) == ([60, 120, 180], 0.1)
    assert cfg.train_cfg.max_epochs == 200
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 1024


@pytest.mark.parametrize('name', ['baseline_300e', 'cutmix', 'cutout', 'stochdepth'])
def test_rows_of_the_cutmix_paper_have_its_schedule(name):
    cfg = load(f'imagenet/{name}_r50.py')
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.param_scheduler == dict(
        type='MultiStepLR', milestones=[75, 150, 225], gamma=0.1, by_epoch=True
    )
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 256
    assert cfg.optim_wrapper.optimizer.lr == 0.1


def test_mixup_and_cutmix_mix_every_batch_and_both_rows_of_mixup_alike():
    def augments(name):
        batch_augments = build_model(
            load(f'imagenet/{name}_r50.py')
        ).data_preprocessor.batch_augments
        assert batch_augments.probs is None
        (augment,) = batch_augments.augments
        return type(augment).__name__, augment.alpha

    assert augments('cutmix') == ('CutMix', 1.0)
    assert augments('mixup') == augments('gradaug_mixup') == ('Mixup', 0.2)


@pytest.mark.parametrize('name', TABLE_7, ids=str)
def test_table_7_is_the_1x_schedule_at_1000x600(name):
    cfg = load(name)
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.param_scheduler[1].milestones == [8, 11] and cfg.optim_wrapper.optimizer.lr == 0.02
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        resize = [step for step in loader.dataset.pipeline if step.type == 'Resize']
        assert [(step.scale, step.keep_ratio) for step in resize] == [((1000, 600), True)]
    assert cfg.val_evaluator.metric == ['bbox', 'segm']


def test_pretrained_rows_differ_in_their_checkpoint_alone_and_say_where_it_comes_from():
    baseline = load('coco/baseline_mask_rcnn_r50.py')
    control = load('coco/baseline_syncbn_mask_rcnn_r50.py')
    checkpoints = set()
    for name in TABLE_7:
        cfg = load(name)
        (hook,) = [h for h in cfg.custom_hooks if h.type == 'mmgradaug.PretrainedBackboneHook']
        init = cfg.model.backbone.init_cfg
        checkpoints.add(init.checkpoint)
        source = load(Path(hook.produced_by).relative_to('configs'))
        epochs = source.train_cfg.max_epochs
        assert init.checkpoint == f'work_dirs/{Path(hook.produced_by).stem}/epoch_{epochs}.pth'
        if 'gradaug' not in cfg.model:
            plain = control if 'syncbn' in name.stem else baseline
            init.checkpoint = baseline.model.backbone.init_cfg.checkpoint
            assert cfg.model == plain.model and cfg.train_dataloader == plain.train_dataloader
            assert cfg.optim_wrapper == plain.optim_wrapper
    assert len(checkpoints) == 4  # GradAug's backbone serves three rows


def test_a_control_has_all_that_comes_with_gradaug_in_detection():
    gradaug = load('mask_rcnn_gradaug.py')
    control = load('coco/gradaug_pretrained_syncbn_mask_rcnn_r50.py')
    del gradaug.model['gradaug']
    assert gradaug.model.pop('type') == 'mmgradaug.GradAugMaskRCNN'
    assert control.model.pop('type') == 'MaskRCNN'
    gradaug.custom_hooks = [h for h in gradaug.custom_hooks if h.type != 'mmgradaug.GradAugHook']
    gradaug.pop('model_wrapper_cfg')
    assert dict(gradaug) == dict(control)


@pytest.mark.parametrize(
    'name',
    [path for path in COCO if 'gradaug' in path.stem and 'pretrained' not in path.stem],
    ids=str,
)
def test_gradaug_in_detection_trains_batch_norm_and_freezes_nothing(name):
    model = build_model(load(name)).train()
    assert (model.subnet_sampler.num_subnets, model.subnet_sampler.axes[0].min_width) == (3, 0.9)
    drawn = {subnet.transform for i in range(100) for subnet in model.subnet_sampler.sample(0, i)}
    assert drawn == {Scale(size / 224) for size in (224, 192, 160, 128)}
    assert model.subnets_learn == 'ground_truth'
    assert all(p.requires_grad for p in model.backbone.parameters())
    assert all(m.training for m in model.backbone.modules())
    assert load(name).optim_wrapper.clip_grad.max_norm == 35
    # Caffe's batch norms are folded, so batch statistics would normalise a second time.
    backbone = load(name).model.backbone
    assert 'caffe' not in backbone.init_cfg.checkpoint and backbone.style == 'pytorch'
    preprocessor = load(name).model.data_preprocessor
    assert preprocessor.mean == [123.675, 116.28, 103.53] and preprocessor.bgr_to_rgb


def test_coco_is_one_path(monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/some/where')
    cfg = Config.fromfile(ROOT / 'configs' / 'mask_rcnn_gradaug.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root == '/some/where'
    assert cfg.test_evaluator.ann_file == '/some/where/annotations/instances_val2017.json'


def test_variants_differ_as_their_rows_do():
    model = build_model(load('imagenet/gradaug_cutmix_r50.py'))
    augment = model.data_preprocessor.batch_augments
    assert type(augment.augments[0]).__name__ == 'CutMix' and augment.probs == [0.5, 0.5]
    assert model.head.loss_module.use_soft and isinstance(model.backbone, SlimmableResNet)

    def drawn(name):
        cfg = load(name)
        cfg.model.backbone.update(depth=18, base_channels=8)  # draws are of the config alone
        cfg.model.head.in_channels = 64
        sampler = build_model(cfg).subnet_sampler
        assert (sampler.num_subnets, sampler.axes[0].min_width) == (3, 0.9)
        return {subnet.transform for i in range(200) for subnet in sampler.sample(0, i)}

    turns = {Rotate90(k) for k in range(4)}
    assert drawn('imagenet/gradaug_rotation_r50.py') == turns
    sizes = {Resize((s, s)) for s in (224, 192, 160, 128)}
    assert drawn('imagenet/gradaug_scale_rotation_r50.py') == {
        Chain((turn, size)) for turn in turns for size in sizes
    }


def test_the_two_tricks_are_left_out_one_by_one_and_together():
    table = next(table for table in TABLES if table.name == 'tricks')
    found = []
    for row in table.rows:
        cfg = load(row.config)
        cfg.model.backbone.update(depth=10, widen_factor=1)
        cfg.model.head.in_channels = 64
        model = build_model(cfg)
        widths = {min(s.width for s in model.subnet_sampler.sample(0, i)) for i in range(5)}
        found.append((model.soft_labels, widths == {0.8}))
    assert found == [(True, True), (False, True), (True, False), (False, False)]


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
