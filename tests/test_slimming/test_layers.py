"""Each slimmable layer against its plain one and against a layer built small."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_conv_layer, build_norm_layer
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from torch import nn

from mmgradaug.slimming import (
    SlimmableBatchNorm2d,
    SlimmableConv2d,
    SlimmingError,
    kept_channels,
    make_slimmable,
    subnetwork,
)

torch.manual_seed(0)

PLAIN_LAYERS = {
    'conv': (nn.Conv2d(10, 6, 3, stride=2, padding=1), (4, 10, 9, 9)),
    'conv_dilated_reflect': (
        nn.Conv2d(10, 6, 3, padding=2, dilation=2, padding_mode='reflect'), (4, 10, 9, 9),
    ),
    'depthwise': (nn.Conv2d(10, 10, 3, padding=1, groups=10), (4, 10, 9, 9)),
    'depthwise_multiplied': (nn.Conv2d(10, 20, 3, groups=10, bias=False), (4, 10, 9, 9)),
    'same_padding': (Conv2dAdaptivePadding(10, 6, 3, stride=2), (4, 10, 9, 8)),
    'linear': (nn.Linear(10, 6), (4, 10)),
    'bn1d': (nn.BatchNorm1d(10), (4, 10)),
    'bn2d': (nn.BatchNorm2d(10), (4, 10, 5, 5)),
    'bn2d_without_weights': (nn.BatchNorm2d(10, affine=False), (4, 10, 5, 5)),
    'bn2d_cumulative': (nn.BatchNorm2d(10, momentum=None), (4, 10, 5, 5)),
}  # fmt: skip


def run(layer, x):
    x = x.clone().requires_grad_()
    layer.zero_grad()
    out = layer(x)
    out.square().sum().backward()
    return [out.detach(), x.grad] + [p.grad.clone() for p in layer.parameters()]


@pytest.mark.parametrize('name', PLAIN_LAYERS)
@pytest.mark.parametrize('training', [True, False])
def test_full_state_is_the_plain_layer_bit_for_bit(name, training):
    plain, shape = PLAIN_LAYERS[name]
    plain = copy.deepcopy(plain).train(training)
    slimmable = nn.Sequential(copy.deepcopy(plain)).train(training)
    make_slimmable(slimmable)
    assert type(slimmable[0]) is not type(plain)
    x = torch.randn(shape)
    for got, expected in zip(run(slimmable, x), run(plain, x)):
        assert torch.equal(got, expected)
    for got, expected in zip(slimmable.buffers(), plain.buffers()):
        assert torch.equal(got, expected)


@pytest.mark.parametrize('name', PLAIN_LAYERS)
def test_width_one_is_the_plain_layer_bit_for_bit_but_for_running_statistics(name):
    plain, shape = PLAIN_LAYERS[name]
    plain = copy.deepcopy(plain).train()
    slimmable = nn.Sequential(copy.deepcopy(plain)).train()
    make_slimmable(slimmable)
    before = [b.clone() for b in slimmable.buffers()]
    x = torch.randn(shape)
    with subnetwork(slimmable, 1.0):
        got = run(slimmable, x)
    for one, other in zip(got, run(plain, x)):
        assert torch.equal(one, other)
    for now, then in zip(slimmable.buffers(), before):
        assert torch.equal(now, then)


@pytest.mark.parametrize('width', [0.3, 0.75, 0.9])
def test_conv_is_a_small_conv_of_the_first_channels(width):
    net = nn.Sequential(nn.Conv2d(3, 9, 3), nn.Conv2d(9, 7, 1)).double()
    make_slimmable(net)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    a, b = net
    kept_a, kept_b = int(9 * width + 0.5), int(7 * width + 0.5)
    hidden = F.conv2d(x, a.weight[:kept_a], a.bias[:kept_a])
    expected = F.conv2d(hidden, b.weight[:kept_b, :kept_a], b.bias[:kept_b])
    with subnetwork(net, width):
        out = net(x)
    assert torch.equal(out, expected)
    out.sum().backward()
    assert torch.all(a.weight.grad[kept_a:] == 0) and torch.all(b.weight.grad[:, kept_a:] == 0)
    assert torch.all(b.weight.grad[kept_b:] == 0)
    assert torch.all(b.weight.grad[:kept_b, :kept_a] != 0)


def test_same_padding_conv_of_the_first_channels():
    plain = Conv2dAdaptivePadding(8, 8, 3, stride=2)
    net = nn.Sequential(nn.Conv2d(3, 8, 1), copy.deepcopy(plain))
    make_slimmable(net)
    small = Conv2dAdaptivePadding(4, 4, 3, stride=2)
    with torch.no_grad():
        small.weight.copy_(plain.weight[:4, :4])
        small.bias.copy_(plain.bias[:4])
    x = torch.randn(2, 3, 9, 12)
    with subnetwork(net, 0.5):
        assert torch.equal(net(x), small(F.conv2d(x, net[0].weight[:4], net[0].bias[:4])))


def test_batch_norm_of_a_subnetwork_uses_batch_statistics_and_keeps_the_running_ones():
    net = nn.Sequential(nn.Conv2d(3, 10, 1), nn.BatchNorm2d(10)).double().train()
    make_slimmable(net)
    with torch.no_grad():
        net[1].weight.uniform_(0.5, 2)
        net[1].bias.uniform_(-1, 1)
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    net(x)
    mean, var, count = (b.clone() for b in net[1].buffers())
    with subnetwork(net, 0.4):
        out = net(x)
    hidden = F.conv2d(x, net[0].weight[:4], net[0].bias[:4])
    m, v = hidden.mean((0, 2, 3), keepdim=True), hidden.var((0, 2, 3), unbiased=False, keepdim=True)
    expected = (hidden - m) / (v + net[1].eps).sqrt()
    expected = expected * net[1].weight[:4].view(1, -1, 1, 1) + net[1].bias[:4].view(1, -1, 1, 1)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(net[1].running_mean, mean) and torch.equal(net[1].running_var, var)
    assert torch.equal(net[1].num_batches_tracked, count)
    out.square().sum().backward()
    assert torch.all(net[1].weight.grad[:4] != 0) and torch.all(net[1].weight.grad[4:] == 0)


def test_frozen_batch_norm_of_a_subnetwork_uses_the_first_running_statistics():
    net = nn.Sequential(nn.Conv2d(3, 10, 1), nn.BatchNorm2d(10))
    make_slimmable(net)
    net(torch.randn(8, 3, 5, 5))
    net[1].eval()
    x = torch.randn(2, 3, 5, 5)
    bn = net[1]
    with subnetwork(net, 0.4):
        out = net(x)
    hidden = F.conv2d(x, net[0].weight[:4], net[0].bias[:4])
    expected = F.batch_norm(
        hidden, bn.running_mean[:4], bn.running_var[:4], bn.weight[:4], bn.bias[:4], eps=bn.eps
    )
    assert torch.equal(out, expected)


@pytest.mark.parametrize(
    ('channels', 'width', 'kept'),
    [(64, 0.9, 58), (64, 1.0, 64), (5, 0.5, 3), (3, 0.1, 1), (1, 0.01, 1), (2048, 0.875, 1792)],
)
def test_kept_channels(channels, width, kept):
    assert kept_channels(channels, width) == kept


def test_layers_can_be_named_in_stock_configs():
    conv = build_conv_layer(dict(type='mmgradaug.SlimmableConv2d'), 3, 8, 3)
    name, norm = build_norm_layer(dict(type='mmgradaug.SlimmableBatchNorm2d'), 8, postfix=1)
    assert (type(conv), type(norm), name) == (SlimmableConv2d, SlimmableBatchNorm2d, 'bn1')
    net = nn.Sequential(
        ConvModule(
            3, 8, 3,
            conv_cfg=dict(type='mmgradaug.SlimmableConv2d'),
            norm_cfg=dict(type='mmgradaug.SlimmableBatchNorm2d'),
        )
    )  # fmt: skip
    x = torch.randn(2, 3, 8, 8)
    with subnetwork(net, 0.5):  # each layer still has a dial of its own
        assert net(x).shape[1] == 4
    assert make_slimmable(net) == 2
    assert net[0].conv.dial is net[0].norm.dial


def test_channels_that_are_not_the_first_are_refused():
    conv = SlimmableConv2d(8, 4, 1)
    with (
        subnetwork(conv, 0.5),
        pytest.raises(SlimmingError, match='gets 5 channels where the first 4 of 8'),
    ):
        conv(torch.randn(1, 5, 2, 2))


def test_a_grouped_conv_built_slimmable_is_refused_in_a_subnetwork():
    conv = SlimmableConv2d(8, 8, 1, groups=2)
    conv(torch.randn(1, 8, 2, 2))
    with subnetwork(conv, 0.5), pytest.raises(SlimmingError, match='2 groups'):
        conv(torch.randn(1, 4, 2, 2))
