"""Mask R-CNN with GradAug: over ranks, against stock checkpoints, and whether it learns at all."""

import copy

import numpy as np
import pytest
import torch
from command_line import run_two_ranks
from detection import CLASS_NAMES, build, naive_loss, random_batch, stock_and_gradaug, tiny_config
from helpers import sgd
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.models import MaskRCNN
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from two_ranks_detection import SETTINGS, data

from mmgradaug.datasets import drawn_shapes
from mmgradaug.models import GradAugMaskRCNN, SlimmableResNet
from mmgradaug.slimming import subnetwork


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    return run_two_ranks('two_ranks_detection', tmp_path_factory.mktemp('ranks'))


def one_process(setting, iterations=2, lr=0.01):
    """The same training by averaging over both ranks' batches, in one process."""
    stock, model = stock_and_gradaug(SETTINGS[setting])
    params = dict(stock.named_parameters())
    for iteration in range(iterations):
        subnets = model.subnet_sampler.sample(0, iteration)
        changes = {name: torch.zeros_like(value) for name, value in params.items()}
        for rank in range(2):
            batch, seed = data(rank, iteration), 100 * iteration + rank
            if setting == 'ground_truth':
                loss = naive_loss(stock, batch, subnets, seed)
                gradients = torch.autograd.grad(loss, list(params.values()))
            else:
                # One process's step is compared with the definition elsewhere.
                each = copy.deepcopy(model)
                each.load_state_dict(stock.state_dict())
                each.announce_iteration(0, iteration, active=True)
                torch.manual_seed(seed)
                each.train_step(batch, sgd(each, lr=1.0))
                after = dict(each.named_parameters())
                gradients = [params[name] - after[name] for name in params]
            for name, gradient in zip(params, gradients):
                changes[name] += gradient.detach() / 2
        with torch.no_grad():
            for name, value in params.items():
                value -= lr * changes[name]
    return params


@pytest.mark.parametrize('setting', list(SETTINGS))
def test_ranks_agree_and_equal_the_mean_of_their_gradients(ranks, setting):
    """Soft labels leave parameters of the last, synchronised pass without gradient."""
    for name, value in one_process(setting).items():
        one, other = (rank[setting]['state'][name] for rank in ranks)
        assert torch.equal(one, other), name
        torch.testing.assert_close(one, value.detach(), rtol=0, atol=1e-9, msg=name)
    for rank in ranks:
        assert rank[setting]['reductions'] == [1, 1]


def test_a_wrapper_that_would_wait_for_unused_parameters_is_refused(ranks):
    assert 'write find_unused_parameters=True, or leave it out' in ranks[0]['refusal']


def test_checkpoints_go_both_ways_and_detect_the_same():
    config = tiny_config('MaskRCNN')
    config['test_cfg'].rcnn.score_thr = 0.0
    gradaug = tiny_config('MaskRCNN', {})
    gradaug['test_cfg'].rcnn.score_thr = 0.0
    stock, model = build(config), build(gradaug, seed=1)
    assert type(stock) is MaskRCNN and type(model) is GradAugMaskRCNN
    model.load_state_dict(stock.state_dict(), strict=True)
    model.announce_iteration(0, 0, active=True)
    model.train_step(random_batch(), sgd(model, lr=0.01))
    stock.load_state_dict(model.state_dict(), strict=True)
    batch = random_batch(seed=3)
    results = []
    for each in (stock.eval(), model.eval()):
        with torch.no_grad():
            results.append([r.pred_instances for r in each.test_step(copy.deepcopy(batch))])
    for one, other in zip(*results):
        assert len(one) and torch.equal(one.scores, other.scores)
        assert torch.equal(one.bboxes, other.bboxes) and torch.equal(one.masks, other.masks)


def test_with_the_slimmable_resnet():
    """MMPretrain's ResNet has the names of MMDetection's."""
    config = tiny_config('MaskRCNN', {})
    stock = build(tiny_config('MaskRCNN'))
    config['backbone'].update(type='mmgradaug.SlimmableResNet', stem_channels=8)
    model = build(config)
    assert isinstance(model.backbone, SlimmableResNet)
    model.load_state_dict(stock.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 96)
    for one, other in zip(stock.extract_feat(images), model.extract_feat(images)):
        assert torch.equal(one, other)
    model.announce_iteration(0, 0, active=True)
    log = model.train_step(random_batch(), sgd(model, lr=0.01))
    assert np.isfinite(float(log['loss_subnet1']))


def test_gradients_can_be_clipped():
    """Clipping sees the sum of all passes, once."""
    steps = []
    for clip in (None, dict(max_norm=0.01)):
        model = build(tiny_config('MaskRCNN', {}))
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        model.announce_iteration(0, 0, active=True)
        torch.manual_seed(0)
        model.train_step(random_batch(), sgd(model, lr=1.0, clip_grad=clip))
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        steps.append(before - after)
    assert steps[0].norm() > 1
    # float32: the step is a difference of parameters.
    torch.testing.assert_close(steps[1].norm(), torch.tensor(0.01), rtol=1e-2, atol=0)
    assert torch.nn.functional.cosine_similarity(*steps, dim=0) > 0.999


def test_a_subnetwork_that_fails_leaves_the_full_network():
    model = build(tiny_config('MaskRCNN', {}))
    model.announce_iteration(0, 0, active=True)
    calls = []

    def fail(module, inputs):
        calls.append(len(module.weight))
        if len(calls) == 2:
            raise RuntimeError('out of memory, say')

    handle = model.backbone.conv1.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match='out of memory'):
        model.train_step(random_batch(), sgd(model))
    handle.remove()
    assert calls == [8, 4] and len(model.backbone.conv1.weight) == 8
    assert type(model.backbone.conv1.weight) is torch.nn.Parameter
    assert model.backbone.bn1.track_running_stats
    with subnetwork(model, 0.5):
        assert len(model.backbone.conv1.weight) == 4


def test_overfits_eight_images(tmp_path):
    """Box and mask AP on the training images, where an untrained network has none."""
    init_default_scope('mmdet')
    drawn_shapes.generate(tmp_path / 'shapes', train=8, val=1, size=(96, 64), seed=0)
    annotations = 'annotations/instances_train2017.json'
    dataset = CocoDataset(
        data_root=str(tmp_path / 'shapes'), ann_file=annotations,
        data_prefix=dict(img='train2017/'), metainfo=dict(classes=CLASS_NAMES),
        pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='Resize', scale_factor=1.0), dict(type='PackDetInputs'),
        ],
    )  # fmt: skip
    items = [dataset[i] for i in range(len(dataset))]

    def batch(numbers):
        return dict(
            inputs=[items[i]['inputs'] for i in numbers],
            data_samples=[copy.deepcopy(items[i]['data_samples']) for i in numbers],
        )

    def average_precision(model):
        metric = CocoMetric(ann_file=f'{tmp_path}/shapes/{annotations}', metric=['bbox', 'segm'])
        metric.dataset_meta = dataset.metainfo
        model.eval()
        for i in range(len(items)):
            with torch.no_grad():
                metric.process({}, [sample.to_dict() for sample in model.test_step(batch([i]))])
        model.train()
        result = metric.evaluate(len(items))
        return result['coco/bbox_mAP'], result['coco/segm_mAP']

    gradaug = dict(min_width=0.8, transforms=dict(type='RandomScale', factors=[1.0, 0.8]))
    config = tiny_config('MaskRCNN', gradaug)
    config['test_cfg'].rcnn.score_thr = 0.0
    config['rpn_head'].anchor_generator.scales = [4]
    model = build(config)
    assert max(average_precision(model)) < 0.01

    iterations, rng = 130, np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    optim_wrapper = OptimWrapper(optimizer, clip_grad=dict(max_norm=10))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.003, total_steps=iterations, pct_start=0.1
    )
    for iteration in range(iterations):
        model.announce_iteration(0, iteration, active=True)
        model.train_step(batch(rng.permutation(len(items))[:4]), optim_wrapper)
        schedule.step()
    assert min(average_precision(model)) > 0.15
