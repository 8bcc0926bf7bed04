import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from mmgradaug.slimming import (
    SlimmingError,
    extract_subnetwork,
    recalibrate_statistics,
    shrink,
    smaller_network,
    subnetwork,
)

BACKBONES = {
    'ResNet-18': dict(type='ResNet', depth=18, base_channels=16, stem_channels=16),
    'ResNet-50': dict(type='ResNet', depth=50, base_channels=8, stem_channels=8, expansion=4),
    'ResNet-CIFAR': dict(type='ResNet_CIFAR', depth=18, base_channels=8, stem_channels=8),
    'MobileNetV2': dict(type='MobileNetV2', widen_factor=0.25),
    'SlimmableResNet': dict(
        type='mmgradaug.SlimmableResNet', depth=18, base_channels=8, stem_channels=8
    ),
    'WideResNet': dict(type='mmgradaug.WideResNet', depth=10, widen_factor=1, norm_at_end=True),
    'PyramidNet': dict(type='mmgradaug.PyramidNet', depth=11, alpha=12),
    'ResNet-110': dict(type='mmgradaug.SlimmableResNetCIFAR', depth=14),
}


def build(name, seed=0):
    """With running statistics and weights of no special value."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(copy.deepcopy(BACKBONES[name]))
    for key, value in backbone.state_dict().items():
        if value.is_floating_point() and value.dim() < 2:
            value.copy_(torch.rand(value.shape) + 0.5 if 'var' in key else torch.randn(value.shape))
    return backbone


@pytest.mark.parametrize('width', [0.3, 0.55, 0.9, 1.0])
@pytest.mark.parametrize('name', BACKBONES)
def test_it_is_the_sub_network_bit_for_bit(name, width):
    model = build(name)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    small = extract_subnetwork(model, width)
    assert [type(m) for m in small.modules()] == [type(m) for m in model.modules()]
    images = torch.randn(4, 3, 32, 32)
    model.eval(), small.eval()
    with torch.no_grad(), subnetwork(model, width):
        expected = model(images)
    outputs = small(images)
    assert len(outputs) == len(expected) > 0
    for ours, theirs in zip(outputs, expected):
        assert torch.equal(ours, theirs) and ours.abs().sum() > 0
    # By the batch's statistics too, in which the extracted network may move its own.
    model.train(), small.train()
    with torch.no_grad(), subnetwork(model, width):
        expected = model(images)
    for ours, theirs in zip(small(images), expected):
        assert torch.equal(ours, theirs)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert list(small.state_dict()) == list(state)
    numbers = [sum(p.numel() for p in m.parameters()) for m in (small, model)]
    assert numbers[0] < numbers[1] if width < 1 else numbers[0] == numbers[1]


def test_its_weights_are_its_own():
    model = build('ResNet-18')
    small = extract_subnetwork(model, 0.5)
    for parameter in small.parameters():
        parameter.data.zero_()
    assert all(p.abs().sum() > 0 for p in model.parameters() if p.dim() > 1)
    # Nor do the two share a width.
    again = extract_subnetwork(model, 1.0)
    again.eval()
    with subnetwork(model, 0.5):
        assert again(torch.randn(1, 3, 32, 32))[0].shape[1] == 128


def test_a_classifier_keeps_its_classes():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='mmgradaug.GradAugClassifier',
                gradaug=dict(num_subnets=1, min_width=0.5, transforms=dict(type='Identity')),
                backbone=BACKBONES['ResNet-18'],
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=7, in_channels=128),
            )
        )
    small = extract_subnetwork(model, 0.5)
    assert small.head.fc.weight.shape == (7, 64) and type(small.head.fc) is nn.Linear
    images = torch.randn(2, 3, 32, 32)
    model.eval(), small.eval()
    with subnetwork(model, 0.5):
        assert torch.equal(small(images), model(images))


@pytest.mark.parametrize('width', [0.0, -1, 1.1])
def test_wrong_widths(width):
    with pytest.raises(ValueError, match=r'width must be in \(0, 1\], got'):
        extract_subnetwork(build('ResNet-18'), width)


def test_what_differs_is_enough_to_build_it():
    """Shapes and attributes alone, for a config: the weights are loaded after."""
    model = build('ResNet-50')
    small = extract_subnetwork(model, 0.6)
    smaller = smaller_network(model, 0.6)
    built = build('ResNet-50', seed=1)
    shrink(built, smaller.shapes, smaller.attributes)
    built.load_state_dict(small.state_dict())
    images = torch.randn(2, 3, 32, 32)
    small.eval(), built.eval()
    assert torch.equal(built(images)[0], small(images)[0])
    conv = built.layer1[0].conv2
    assert (conv.in_channels, conv.out_channels) == tuple(conv.weight.shape[1::-1])
    assert built.norm1.num_features == len(built.norm1.weight)


def test_what_cannot_be_taken_out():
    with pytest.raises(SlimmingError, match='no channels that could be narrowed'):
        extract_subnetwork(nn.Sequential(nn.Conv2d(3, 4, 1)), 0.5)

    class Thirds(nn.Module):
        """Cuts channels in half of which one half is in thirds."""

        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 12, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            a, b = self.a(x).chunk(2, 1)
            c, d, e = b.chunk(3, 1)
            return self.c(torch.cat([a, self.b(c) + d + e], 1))

    model = Thirds()
    images = torch.randn(2, 3, 4, 4)
    with subnetwork(model, 0.75):
        model(images)
    with pytest.raises(SlimmingError, match='cannot be taken out of Thirds'):
        extract_subnetwork(model, 0.75)


def statistics(model):
    return {n: b.clone() for n, b in model.named_buffers() if 'running' in n}


def test_recalibrated_statistics_are_the_means_over_the_batches():
    small = extract_subnetwork(build('ResNet-18'), 0.5)
    batches = [torch.randn(8, 3, 32, 32) + i for i in range(3)]
    stem = [small.conv1(batch) for batch in batches]
    small.eval()
    small.layer1.train()
    assert recalibrate_statistics(small, iter(batches)) == 3
    expected = torch.stack([x.mean((0, 2, 3)) for x in stem]).mean(0)
    torch.testing.assert_close(small.norm1.running_mean, expected, rtol=1e-5, atol=1e-6)
    expected = torch.stack([x.var((0, 2, 3)) for x in stem]).mean(0)
    torch.testing.assert_close(small.norm1.running_var, expected, rtol=1e-5, atol=1e-6)
    # Modes and momenta are what they were.
    assert small.layer1.training and not small.training and not small.norm1.training
    assert {m.momentum for m in small.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    # Dropout and the like do not take part.
    noisy = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3)).train()
    recalibrate_statistics(noisy, [torch.ones(2, 3, 4, 4)])
    assert torch.equal(noisy[1].running_mean, torch.ones(3))


def test_recalibration_makes_a_sub_network_agree_with_its_training_mode():
    """Otherwise it is judged by statistics that are not its own."""
    model = build('ResNet-18')
    small = extract_subnetwork(model, 0.5)
    small.eval()
    images = torch.randn(64, 3, 64, 64)
    model.train()
    with torch.no_grad(), subnetwork(model, 0.5):
        by_batch = model(images)[0]
        before = (small(images)[0] - by_batch).abs().mean()
        recalibrate_statistics(small, [images])
        after = (small(images)[0] - by_batch).abs().mean()
    assert after < 0.01 * by_batch.abs().mean() < before


def test_a_failed_recalibration_changes_nothing():
    small = extract_subnetwork(build('ResNet-18'), 0.5)
    before = statistics(small)

    def broken():
        yield torch.randn(4, 3, 32, 32)
        raise OSError('the disk is gone')

    with pytest.raises(OSError, match='the disk is gone'):
        recalibrate_statistics(small, broken())
    with pytest.raises(ValueError, match='got no batch'):
        recalibrate_statistics(small, [])
    for name, value in statistics(small).items():
        assert torch.equal(value, before[name]), name
    assert small.norm1.momentum == 0.1 and small.norm1.training
    model = build('ResNet-18')
    with (
        subnetwork(model, 0.5),
        pytest.raises(SlimmingError, match='outside of subnetwork'),
    ):
        recalibrate_statistics(model, [torch.randn(4, 3, 32, 32)])
