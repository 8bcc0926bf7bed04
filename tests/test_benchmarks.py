"""The benchmarks measure what they say: tiny models, whose costs are known by other means."""

import copy
import json
import sys

import detection
import numpy as np
import pytest
import torch
from command_line import ROOT
from mmdet.models import MaskRCNN, RetinaNet
from mmdet.structures.bbox import bbox_overlaps
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier
from torch import nn

from mmgradaug.engine import GradAugMixin

sys.path.append(str(ROOT / 'benchmarks'))

import detection_inputs  # noqa: E402  found by the line above
import mask_targets_time  # noqa: E402
import measuring  # noqa: E402
import step_time  # noqa: E402

# As many channels as the full network, at its size: the same work again.
FULL_WIDTH = dict(num_subnets=1, min_width=0.995, transforms=dict(type='Identity'))


def tiny_detector(name='MaskRCNN', **gradaug):
    config = detection.tiny_config(name, gradaug)
    config.backbone.norm_cfg.type = 'SyncBN'
    config.train_cfg.get('rcnn', {}).get('sampler', {}).update(num=16)
    return config


def tiny_classifier(**gradaug):
    args = step_time.parse_args(['--depth', '18', '--sizes', '32', '24'])
    config = step_time.resnet(args)
    config['backbone'].update(base_channels=8, stem_channels=8)
    config['head'].update(in_channels=64, num_classes=5)
    return {**config, 'gradaug': {**config['gradaug'], **gradaug}}


@pytest.mark.parametrize(
    ('config', 'stock'),
    [
        (tiny_detector(), MaskRCNN),
        (tiny_detector('RetinaNet'), RetinaNet),
        (tiny_classifier(), ImageClassifier),
    ],
    ids=['GradAugMaskRCNN', 'GradAugDetector', 'GradAugClassifier'],
)
def test_plain_counterpart_is_the_stock_model_with_the_same_weights(config, stock):
    init_default_scope('mmdet' if stock is not ImageClassifier else 'mmpretrain')
    before = copy.deepcopy(config)
    plain, gradaug = step_time.build(config, 'cpu')
    assert config == before
    assert type(plain) is stock
    assert isinstance(gradaug, stock) and isinstance(gradaug, GradAugMixin)
    weights = gradaug.state_dict()
    assert weights.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, weights[key]) for key, value in plain.state_dict().items())
    for model in (plain, gradaug):
        assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in model.modules())


def iterations(config, scope, batch):
    init_default_scope(scope)
    torch.manual_seed(0)
    return [step_time.Steps(model, batch, seed=0) for model in step_time.build(config, 'cpu')]


def test_flops_of_a_detector_that_does_everything_twice():
    batch = detection_inputs.random_images(np.random.default_rng(0), 1, (64, 96), instances=3)
    plain, gradaug = iterations(tiny_detector(**FULL_WIDTH), 'mmdet', batch)
    once = step_time.flops(plain, 0)
    assert step_time.flops(gradaug, 0) == 2 * once
    # Iterations can be repeated, since nothing is learned.
    assert step_time.flops(plain, 0) == once > 0
    halved = tiny_detector(**{**FULL_WIDTH, 'min_width': 0.5, 'smallest_if_single': True})
    _, narrow = iterations(halved, 'mmdet', batch)
    assert once < step_time.flops(narrow, 0) < 2 * once


@pytest.mark.parametrize('groups', [1, 4])
@pytest.mark.parametrize('kind', [nn.Conv2d, nn.ConvTranspose2d])
def test_flops_of_convolutions_in_groups(kind, groups):
    images = torch.randn(2, 8, 9, 9, requires_grad=True)
    layer = kind(8, 12, 3, padding=1, groups=groups, bias=False)
    once = 2 * (12 * 8 // groups) * 3 * 3 * (2 * 9 * 9)  # a multiply-add is two
    assert measuring.flops(lambda: layer(images)) == once
    assert measuring.flops(lambda: layer(images).sum().backward()) == 3 * once
    assert measuring.flops(lambda: layer(images.detach()).sum().backward()) == 2 * once


@pytest.mark.parametrize('polygons', [False, True])
def test_random_images_have_boxes_that_hold_their_masks(polygons):
    make = detection_inputs.random_images
    batch = make(np.random.default_rng(0), 2, (60, 90), instances=20, polygons=polygons)
    assert [image.shape for image in batch['inputs']] == [(3, 60, 90)] * 2
    for sample in batch['data_samples']:
        masks, boxes = sample.gt_instances.masks, sample.gt_instances.bboxes.numpy()
        assert type(masks) is (PolygonMasks if polygons else BitmapMasks) and len(masks) == 20
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert areas.max() > 20 * areas.min() > 0
        tight = 0
        for mask, box, area in zip(masks.to_ndarray(), boxes, areas):
            columns, rows = mask.any(0).nonzero()[0], mask.any(1).nonzero()[0]
            if len(rows) == 0:  # thinner than a pixel
                continue
            found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            margins = (found - box) * (1, 1, -1, -1)
            assert margins.min() >= -1
            if mask.sum() > 0.6 * area > 30:  # a narrow one has ends that cover no pixel
                assert margins.max() <= 2
                tight += 1
        assert tight >= 3


def test_command_line_without_a_config(tmp_path, capsys):
    options = '--depth 18 --size 32 --sizes 32 --batch 2 --iterations 1 --threads 1'
    step_time.main([*options.split(), '--json', str(tmp_path / 'found.json')])
    found = json.loads((tmp_path / 'found.json').read_text())
    recorded = json.loads((ROOT / 'docs' / 'results' / 'step_time.json').read_text())
    assert found.keys() == recorded.keys() and found['setting'].keys() == recorded['setting'].keys()
    assert found['time_bound'] == pytest.approx(1.05 * found['flops_ratio'])
    assert 'at most' in capsys.readouterr().out


def test_command_line_with_a_config(tmp_path):
    scaled = dict(type='Resize', scale=(96, 64))
    dataset = dict(type='RepeatDataset', dataset=dict(type='CocoDataset', pipeline=[scaled]))
    loader = dict(batch_size=1, dataset=dataset)
    config = dict(model=tiny_detector(**FULL_WIDTH), default_scope='mmdet', train_dataloader=loader)
    Config(config).dump(tmp_path / 'config.py')
    options = '--iterations 1 --threads 1 --instances 3 --cfg-options model.gradaug.num_subnets=2'
    files = ['--config', str(tmp_path / 'config.py'), '--json', str(tmp_path / 'found.json')]
    step_time.main([*files, *options.split()])
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['flops_ratio'] == 3  # two sub-networks of full width
    assert found['time_bound'] == pytest.approx(1.1 * 3)
    assert found['setting']['image_size'] == [96, 64] and found['setting']['batch'] == 1


@pytest.mark.parametrize('options', ['--config some.py --depth 18', '--polygons', '--instances 7'])
def test_options_without_effect_are_errors(options, capsys):
    with pytest.raises(SystemExit):
        step_time.parse_args(options.split())
    assert 'without effect' in capsys.readouterr().err


def test_mask_targets_compare_the_same_masks():
    rng = np.random.default_rng(0)
    ellipses = detection_inputs.random_ellipses(rng, 5, (60, 90))
    masks = detection_inputs.as_bitmaps(ellipses).pad((64, 96))
    stock, here = (
        resize(masks, (60, 90), (40, 60)).masks
        for resize in (mask_targets_time.resize_stock, mask_targets_time.resize_here)
    )
    assert stock.shape == (5, 64, 64) and stock.any() and np.array_equal(stock, here)
    boxes = ellipses.get_bboxes('hbox').tensor
    rois, which = mask_targets_time.random_rois(rng, boxes, 50)
    assert bbox_overlaps(rois, boxes[which], is_aligned=True).min() >= 0.5


def test_mask_targets_table(tmp_path):
    options = '--image-size 90 60 --instances 3 --rois 4 --factors 0.5 --repeats 1 --threads 1'
    mask_targets_time.main([*options.split(), '--json', str(tmp_path / 'found.json')])
    rows = json.loads((tmp_path / 'found.json').read_text())['rows']
    found = [(row['width'], row['height'], row['way']) for row in rows]
    assert found == [(90, 60, 'full pass'), (45, 30, 'stock'), (45, 30, 'here')]
    for row in rows:
        assert row['total'] == pytest.approx(row['resize'] + row['copy'] + row['targets'])
