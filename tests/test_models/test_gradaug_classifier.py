import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import (
    classifier_config,
    gradaug_config,
    narrow,
    random_batch,
    sgd,
    stock_and_gradaug,
)
from mmpretrain.structures import DataSample, MultiTaskDataSample
from torch import nn

from mmgradaug.models import GradAugClassifier
from mmgradaug.models.gradaug_classifier import ClassifierBatch, predicts_by_sigmoid
from mmgradaug.slimming import SlimmingError, subnetwork
from mmgradaug.subnets import Resize


def build(gradaug=None, **changes):
    return GradAugClassifier(gradaug=gradaug or gradaug_config(), **classifier_config(**changes))


def test_any_backbone_is_slimmed_and_the_head_keeps_its_outputs():
    model = build()
    with subnetwork(model, 0.6):
        feats = model.extract_feat(torch.randn(2, 3, 32, 32))
        assert feats[-1].shape == (2, 38) and model.head(feats).shape == (2, 5)


def test_prediction_and_state_dict_are_the_stock_classifiers():
    stock, model = stock_and_gradaug(gradaug_config())
    assert list(stock.state_dict()) == list(model.state_dict())
    stock.eval(), model.eval()
    batch = random_batch()
    for mode in ('tensor', 'predict', 'loss'):
        a, b = (net(**copy.deepcopy(batch), mode=mode) for net in (stock, model))
        if mode == 'tensor':
            assert torch.equal(a, b)
        elif mode == 'loss':  # in eval mode, for a validation loss
            assert torch.equal(a['loss'], b['loss'])
        else:
            assert all(torch.equal(x.pred_score, y.pred_score) for x, y in zip(a, b))


def test_soft_labels_are_the_logits_of_the_loss_and_detached():
    _, model = stock_and_gradaug(gradaug_config())
    batch = random_batch()
    batch = model.make_batch(**batch)
    losses, soft = model(batch, mode='full_pass', record=True)
    assert not soft.requires_grad
    target = torch.cat([s.gt_label for s in batch.data_samples])
    torch.testing.assert_close(losses['loss'], F.cross_entropy(soft, target), rtol=1e-12, atol=0)
    assert model(batch, mode='full_pass', record=False)[1] is None


def test_batch_norm_in_the_head_counts_a_batch_once():
    head = dict(
        type='mmpretrain.StackedLinearClsHead', num_classes=5, in_channels=64,
        mid_channels=[16], norm_cfg=dict(type='BN1d'),
    )  # fmt: skip
    stock, model = stock_and_gradaug(gradaug_config(), head=head)
    stock.train_step(random_batch(), sgd(stock))
    model.announce_iteration(0, 0, True)
    model.train_step(random_batch(), sgd(model))
    for (name, a), b in zip(stock.named_buffers(), model.buffers()):
        assert torch.equal(a, b), name
    assert model.head.layers[0].norm.num_batches_tracked == 1


MULTI_LABEL = dict(
    type='mmpretrain.MultiLabelLinearClsHead', num_classes=5, in_channels=64,
)  # fmt: skip


def narrow_logits(stock, subnet, images):
    params = {**dict(stock.named_parameters()), **{n: b.clone() for n, b in stock.named_buffers()}}
    resized = F.interpolate(images, size=subnet.transform.size, mode='bilinear', align_corners=True)
    weights = narrow(params, subnet.width)
    return torch.func.functional_call(stock, weights, (resized,), dict(mode='tensor'))


def test_multi_label_head_learns_each_class_as_a_question_of_its_own():
    stock, model = stock_and_gradaug(gradaug_config(), head=MULTI_LABEL)
    batch = random_batch()
    batch['data_samples'] = [
        DataSample().set_gt_label(torch.tensor(labels)) for labels in ([0, 2], [1], [3, 4], [2])
    ]
    model.announce_iteration(0, 0, True)
    with torch.no_grad():
        p = stock(batch['inputs']).sigmoid()
        expected = []
        for subnet in model.subnet_sampler.sample(0, 0):
            q = narrow_logits(stock, subnet, batch['inputs']).sigmoid()
            kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
            expected.append(kl.sum().item() / 4)
    log = model.train_step(batch, sgd(model))
    assert [log[f'loss_subnet{i}'].item() for i in range(3)] == pytest.approx(expected, rel=1e-9)


def test_multi_task_head_adds_its_tasks_up():
    head = dict(
        type='mmpretrain.MultiTaskHead',
        task_heads=dict(
            colour=dict(type='mmpretrain.LinearClsHead', num_classes=3),
            tags=dict(type='mmpretrain.MultiLabelLinearClsHead', num_classes=4),
        ),
        in_channels=64,
    )
    model = build(head=head).double().train()
    samples = []
    for i in range(4):
        sample = MultiTaskDataSample()
        sample.set_field(DataSample().set_gt_label(i % 3), 'colour')
        if i != 2:  # an image without labels of one task
            sample.set_field(DataSample().set_gt_label(torch.tensor([i])), 'tags')
        samples.append(sample)
    batch = dict(inputs=random_batch()['inputs'], data_samples=samples)
    subnet = model.subnet_sampler.sample(0, 0)[0]
    with torch.no_grad(), subnetwork(model, 1.0):
        full = model.head(model.extract_feat(batch['inputs']))
    with torch.no_grad(), subnetwork(model, subnet.width):
        sub = model.head(model.extract_feat(subnet.transform(batch['inputs'])))
    p, q = full['colour'].softmax(1), sub['colour'].softmax(1)
    expected = (p * (p / q).log()).sum() / 4
    p, q = full['tags'].sigmoid(), sub['tags'].sigmoid()
    expected += (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum() / 4
    model.announce_iteration(0, 0, True)
    log = model.train_step(batch, sgd(model))
    assert log['loss_subnet0'].item() == pytest.approx(expected.item(), rel=1e-9)
    assert log['colour_loss'] + log['tags_loss'] == pytest.approx(log['loss_full'].item())


def test_a_task_without_labels_in_a_batch_is_learnt_from_soft_labels_all_the_same():
    """And tasks may have tasks. What its loss was computed of are the very logits, dropout or not."""
    linear = dict(type='mmpretrain.LinearClsHead', num_classes=3)
    dropping = dict(
        type='mmpretrain.StackedLinearClsHead', num_classes=3, mid_channels=[16], dropout_rate=0.5
    )
    inner = dict(type='mmpretrain.MultiTaskHead', task_heads=dict(size=dropping), in_channels=64)
    head = dict(
        type='mmpretrain.MultiTaskHead',
        task_heads=dict(colour=linear, shape=inner, never=linear), in_channels=64,
    )  # fmt: skip
    model = build(head=head).double().train()
    samples = []
    for i in range(4):
        sample = MultiTaskDataSample()
        sample.set_field(DataSample().set_gt_label(i % 3), 'colour')
        if i in (1, 3):
            size = MultiTaskDataSample()
            if i == 3:
                size.set_field(DataSample().set_gt_label(1), 'size')
            sample.set_field(size, 'shape')
        samples.append(sample)
    outputs = []
    size_head = model.head.task_heads['shape'].task_heads['size']
    size_head.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    batch = model.make_batch(random_batch()['inputs'], samples)
    _, soft = model.full_pass(batch, record=True)
    assert soft['colour'].shape == soft['never'].shape == soft['shape']['size'].shape == (4, 3)
    assert [len(output) for output in outputs] == [1, 4]
    assert torch.equal(soft['shape']['size'][3], outputs[0][0])
    assert not any(logits.requires_grad for logits in (soft['never'], soft['shape']['size']))
    model.announce_iteration(0, 0, True)
    log = model.train_step(dict(inputs=batch.images, data_samples=samples), sgd(model))
    assert all(log[f'loss_subnet{i}'] > 0 for i in range(3))


@pytest.mark.parametrize(
    ('head', 'by_sigmoid'),
    [
        (dict(type='LinearClsHead', num_classes=5, in_channels=64), False),
        (dict(type='LinearClsHead', num_classes=5, in_channels=64, loss=dict(type='FocalLoss')), True),
        (
            dict(
                type='LinearClsHead', num_classes=5, in_channels=64,
                loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, use_sigmoid=True),
            ),
            True,
        ),
        (
            dict(
                type='LinearClsHead', num_classes=5, in_channels=64,
                loss=dict(type='SeesawLoss', num_classes=5),
            ),
            False,
        ),
        (
            dict(
                type='MultiLabelLinearClsHead', num_classes=5, in_channels=64,
                loss=dict(type='AsymmetricLoss'),
            ),
            True,
        ),
    ],
)  # fmt: skip
def test_softmax_or_sigmoid_follows_the_heads_loss(head, by_sigmoid):
    from mmpretrain.registry import MODELS

    assert predicts_by_sigmoid(MODELS.build(head)) is by_sigmoid


@pytest.mark.parametrize('loss', ['SeesawLoss', 'FocalLoss'])
def test_trains_with_losses_of_mmpretrain(loss):
    options = dict(num_classes=5) if loss == 'SeesawLoss' else {}
    head = dict(
        type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64,
        loss=dict(type=f'mmpretrain.{loss}', **options),
    )  # fmt: skip
    model = build(head=head).double().train()
    batch = random_batch()
    if loss == 'FocalLoss':  # wants one-hot targets
        for sample in batch['data_samples']:
            sample.set_gt_score(F.one_hot(sample.gt_label[0], 5).double())
    model.announce_iteration(0, 0, True)
    log = model.train_step(batch, sgd(model, lr=0.1))
    assert all(torch.isfinite(torch.as_tensor(value)) for value in log.values())


class NothingToSlim(nn.Module):
    def forward(self, x):
        return (x.mean(1, keepdim=True).expand(-1, 64, -1, -1),)


@pytest.mark.parametrize(
    ('gradaug', 'changes', 'error', 'says'),
    [
        (dict(min_width=1.2), {}, ValueError, r'min_width.*\(0, 1\], got 1.2'),
        (dict(min_width=0.0), {}, ValueError, r'min_width.*\(0, 1\], got 0'),
        (dict(num_subnets=-1), {}, ValueError, 'num_subnets must be a whole number'),
        (dict(transforms=dict(type='RandomResize', sizes=[])), {}, ValueError, 'one or more sizes'),
        (dict(num_subnet=3), {}, TypeError, r"unknown keys \['num_subnet'\]; it takes"),
        (dict(soft_label_loss=dict(temperature=0)), {}, ValueError, 'temperature must be above 0'),
        (dict(soft_label_loss=dict(temprature=2)), {}, TypeError, r"\['temprature'\]; it takes"),
        (
            dict(transforms=dict(type='RandomResize', size=[32])), {}, TypeError,
            r"RandomResize has unknown keys \['size'\]; it takes \['sizes'",
        ),
        (
            dict(example_shape=[3, 32, 32]), dict(backbone=NothingToSlim()), SlimmingError,
            'no channels that could be narrowed',
        ),
        (
            {},
            dict(head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=65)),
            SlimmingError,
            "could not be tried out: its 'head.fc' takes 65 features and is given 64 .is head.in_channels wrong",
        ),
        ({}, dict(head=None), ValueError, 'needs a head'),
    ],
)  # fmt: skip
def test_what_would_not_be_gradaug_is_refused_when_built(gradaug, changes, error, says):
    with pytest.raises(error, match=says):
        build(gradaug_config(**gradaug), **changes)


@pytest.mark.parametrize('gradaug', [None, 3])
def test_gradaug_must_be_a_dict(gradaug):
    with pytest.raises(TypeError, match=r'gradaug=.*: write gradaug=dict\(num_subnets=3'):
        GradAugClassifier(gradaug=gradaug, **classifier_config())


class TwoStages(nn.Module):
    """Two feature maps of equal size, each fit on its own."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 32, 3), nn.Conv2d(3, 32, 3)

    def forward(self, x):
        return self.one(x), self.two(x)


class JoiningNeck(nn.Module):
    def forward(self, feats):
        return (torch.cat([feat.mean((2, 3)) for feat in feats], 1),)


def test_channels_joined_between_backbone_and_head_are_the_first_of_each_part():
    model = build(backbone=TwoStages(), neck=JoiningNeck()).double().eval()
    images = random_batch()['inputs']
    weight = model.head.fc.weight
    with torch.no_grad(), subnetwork(model, 0.75):
        found = model(images)
        feats = model.backbone(images)
    assert [feat.shape[1] for feat in feats] == [24, 24]
    pooled = torch.cat([feat.mean((2, 3)) for feat in feats], 1)
    chosen = torch.cat([weight[:, :24], weight[:, 32:56]], 1)
    torch.testing.assert_close(found, pooled @ chosen.T + model.head.fc.bias, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ('backbone', 'in_channels'),
    [
        (dict(type='mmpretrain.DenseNet', arch='121'), 1024),
        (
            dict(type='mmpretrain.ResNeXt', depth=50, groups=2, width_per_group=4, base_channels=8),
            256,
        ),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else str(value),
)
def test_networks_that_concatenate_or_have_groups_train(backbone, in_channels):
    head = dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=in_channels)
    gradaug = gradaug_config(transforms=dict(type='RandomResize', sizes=[64, 32]))
    model = build(gradaug, backbone=backbone, head=head).double().train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    model.announce_iteration(0, 0, True)
    log = model.train_step(random_batch(), sgd(model, lr=0.1))
    assert all(log[f'loss_subnet{i}'] > 0 for i in range(3)) and log['width_subnet0'] < 0.7
    assert all(torch.isfinite(torch.as_tensor(value)) for value in log.values())
    assert not any(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_parts_that_only_meet_kept_channels_need_not_be_known():
    head = dict(
        type='mmpretrain.StackedLinearClsHead', num_classes=5, in_channels=64,
        mid_channels=[16], norm_cfg=dict(type='LN'),
    )  # fmt: skip
    model = build(head=head, neck=dict(type='mmpretrain.GeneralizedMeanPooling')).double().train()
    model.announce_iteration(0, 0, True)
    log = model.train_step(random_batch(), sgd(model, lr=0.1))
    assert torch.isfinite(log['loss'])


class HeadWithDropout(nn.Module):
    """Counts how often it runs; no two runs give the same."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 5))

    def forward(self, feats):
        self.calls += 1
        return self.head(feats[-1])

    def loss(self, feats, data_samples):
        target = torch.cat([sample.gt_label for sample in data_samples])
        return dict(loss=F.cross_entropy(self(feats), target))


def test_the_head_runs_once_a_pass_and_soft_labels_are_the_very_logits_of_the_loss():
    """With dropout in the head a second run would give other logits."""
    model = build(head=HeadWithDropout()).double().train()
    model.head.calls = 0
    batch = model.make_batch(**random_batch())
    losses, soft = model.full_pass(batch, record=True)
    assert model.head.calls == 1
    target = torch.cat([sample.gt_label for sample in batch.data_samples])
    assert torch.equal(losses['loss'], F.cross_entropy(soft, target))
    assert not torch.equal(model.full_pass(batch, record=True)[1], soft)
    assert not any(module._forward_hooks for module in model.modules())
    model.head.calls = 0
    model.announce_iteration(0, 0, True)
    model.train_step(random_batch(), sgd(model))
    assert model.head.calls == 4


def test_a_head_whose_loss_does_not_call_it_is_refused():
    class Direct(HeadWithDropout):
        def loss(self, feats, data_samples):
            return dict(loss=self.head(feats[-1]).square().mean())

    model = build(head=Direct()).double().train()
    batch = model.make_batch(**random_batch())
    with pytest.raises(TypeError, match=r'Direct computes its loss without its forward'):
        model.full_pass(batch, record=True)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_batch_is_a_value():
    data = random_batch()
    batch = ClassifierBatch(data['inputs'], data['data_samples'])
    assert len(batch) == 4
    smaller = batch.transform(Resize((16, 16)))
    assert torch.equal(smaller.images, Resize((16, 16))(data['inputs']))
    assert smaller.data_samples is batch.data_samples and batch.images.shape[-1] == 32
    chosen = batch.select(torch.tensor([2, 0]))
    assert torch.equal(chosen.images, data['inputs'][[2, 0]]) and len(chosen) == 2
    assert [s is data['data_samples'][i] for s, i in zip(chosen.data_samples, (2, 0))] == [True] * 2
    assert ClassifierBatch(data['inputs']).select(torch.tensor([1])).data_samples is None


class OddInput(nn.Module):
    """Takes four channels of 10 x 20 pixels only."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(8, 64, 1)
        self.stem = nn.Conv2d(4, 8, (10, 20))

    def forward(self, x):
        return (self.head(self.stem(x).view(len(x), -1, 1, 1)),)


def test_example_shape_for_a_network_of_unusual_input():
    with pytest.raises(SlimmingError, match=r'example_shape=\[channels, height, width\]'):
        build(backbone=OddInput())
    with pytest.raises(SlimmingError, match=r"cannot take images of 32 x 32.*'backbone.head'"):
        build(gradaug_config(example_shape=[4, 10, 20]), backbone=OddInput())
    gradaug = gradaug_config(example_shape=[4, 10, 20], transforms=dict(type='Identity'))
    model = build(gradaug, backbone=OddInput())
    with subnetwork(model, 0.5):
        assert model.backbone.stem.weight.shape == (4, 4, 10, 20)
        assert model.backbone.head.weight.shape == (32, 4, 1, 1)
        assert model.head.fc.weight.shape == (5, 32)
