"""PyramidNet against one written again with stock layers alone."""

import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from helpers import (
    KeepsPrecision,
    classifier_config,
    gradaug_config,
    naive_gradaug_loss,
    narrow_backbone,
    parameters_of,
    random_batch,
    sgd,
)
from mmpretrain.models import ImageClassifier
from torch import nn

from mmgradaug.models import GradAugClassifier, PyramidNet
from mmgradaug.models.backbones.pyramidnet import PyramidBasicBlock, PyramidBottleneck
from mmgradaug.registry import MODELS
from mmgradaug.slimming import kept_channels, residual_blocks, subnetwork


class PlainBlock(nn.Module):
    """Of given convolutions, as (channels, kernel, stride)."""

    def __init__(self, c_in, convs):
        super().__init__()
        self.count, self.stride = len(convs), max(stride for _, _, stride in convs)
        for i, (c_out, kernel, stride) in enumerate(convs, 1):
            setattr(self, f'norm{i}', nn.BatchNorm2d(c_in))
            conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
            setattr(self, f'conv{i}', conv)
            c_in = c_out
        setattr(self, f'norm{self.count + 1}', nn.BatchNorm2d(c_in))

    def forward(self, x):
        out = self.conv1(self.norm1(x))
        for i in range(2, self.count + 1):
            out = getattr(self, f'conv{i}')(getattr(self, f'norm{i}')(out).relu())
        out = getattr(self, f'norm{self.count + 1}')(out)
        if self.stride == 2:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        zeros = x.new_zeros(len(x), out.shape[1] - x.shape[1], *x.shape[2:])
        return out + torch.cat([x, zeros], 1)


class PlainPyramidNet(nn.Module):
    """Of given channels: of the stem, and of each block's 3x3 convolution and output."""

    def __init__(self, stem, blocks):
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(stem)
        c_in, each = stem, len(blocks) // 3
        layers = []
        for i, (channels, c_out, bottleneck) in enumerate(blocks):
            stride = 2 if i in (each, 2 * each) else 1
            if bottleneck:
                convs = [(channels, 1, 1), (channels, 3, stride), (c_out, 1, 1)]
            else:
                convs = [(channels, 3, stride), (c_out, 3, 1)]
            layers.append(PlainBlock(c_in, convs))
            c_in = c_out
        for s in range(3):
            setattr(self, f'layer{s + 1}', nn.Sequential(*layers[s * each : (s + 1) * each]))
        self.norm = nn.BatchNorm2d(c_in)

    def forward(self, x):
        x = self.norm1(self.conv1(x))
        return (self.norm(self.layer3(self.layer2(self.layer1(x)))).relu(),)


# Options, and channels of the blocks' 3x3 convolutions: 16 + alpha / blocks * i, rounded.
VARIANTS = [
    (dict(depth=8, alpha=24, bottleneck=False), [24, 32, 40]),
    (dict(depth=14, alpha=10, bottleneck=False), [18, 19, 21, 23, 24, 26]),
    (dict(depth=20, alpha=14), [18, 21, 23, 25, 28, 30]),
]


def plain_of(options, channels, width=1.0):
    bottleneck = options.get('bottleneck', True)
    blocks = [
        (kept_channels(c, width), kept_channels(c * (4 if bottleneck else 1), width), bottleneck)
        for c in channels
    ]
    return PlainPyramidNet(kept_channels(16, width), blocks)


def lively(network):
    """Batch norms that are not the identity, so a wrong order or a lost one shows."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if 'norm' in name and value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5)
    return network


def at(network, width):
    return nullcontext() if width is None else narrow_backbone(network, width)


def first_channels(network, values):
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.copy_(values[name][tuple(slice(size) for size in value.shape)])
    return network


@pytest.mark.parametrize(
    ('depth', 'alpha', 'bottleneck', 'classes', 'parameters'),
    [
        # The paper gives 26.8M, 28.3M, 3.8M and 1.7M. The last three are a little more here, and to the last
        # digit what pytorchcv asserts of its pyramidnet110_a270_cifar10, ..._a84_cifar10, ..._a48_cifar10.
        (200, 240, True, 100, 26_844_952),
        (110, 270, False, 10, 28_485_477),
        (110, 84, False, 10, 3_904_446),
        (110, 48, False, 10, 1_772_706),
    ],
)
def test_number_of_parameters(depth, alpha, bottleneck, classes, parameters):
    with torch.device('meta'):
        network = PyramidNet(depth, alpha, bottleneck)
        head = nn.Linear(network.feat_dim, classes)
    assert network.feat_dim == (16 + alpha) * (4 if bottleneck else 1)
    assert sum(p.numel() for m in (network, head) for p in m.parameters()) == parameters


@pytest.mark.parametrize(('options', 'channels'), VARIANTS)
def test_is_the_plain_network_bit_for_bit(options, channels):
    network = lively(MODELS.build(dict(type='PyramidNet', **options)))
    plain = plain_of(options, channels)
    plain.load_state_dict(network.state_dict(), strict=True)
    x = torch.randn(2, 3, 32, 32)
    for net in (plain, network):
        net.train()
        net(x)[0].square().sum().backward()
    grads = {name: p.grad for name, p in plain.named_parameters()}
    for name, p in network.named_parameters():
        assert torch.equal(p.grad, grads[name]), name
    assert all(torch.equal(a, plain.state_dict()[n]) for n, a in network.state_dict().items())
    network.eval(), plain.eval()
    with torch.no_grad():
        assert torch.equal(network(x)[0], plain(x)[0])
        with subnetwork(network, 1.0):
            assert torch.equal(network(x)[0], plain(x)[0])


@pytest.mark.parametrize('width', [0.5, 0.6])
@pytest.mark.parametrize(('options', 'channels'), VARIANTS)
def test_a_subnetwork_is_a_smaller_plain_network(options, channels, width):
    network = lively(PyramidNet(**options)).double()
    small = first_channels(plain_of(options, channels, width).double(), network.state_dict())
    x = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    for training in (False, True):
        network.train(training), small.train(training)
        with torch.no_grad(), narrow_backbone(network, width):
            torch.testing.assert_close(network(x)[0], small(x)[0], rtol=1e-10, atol=1e-10)


def test_shapes_for_all_sizes_and_stages():
    network = PyramidNet(8, 24, False, out_indices=(0, 1, 2), in_channels=1)
    for size, sizes in ((32, (32, 16, 8)), (28, (28, 14, 7)), (24, (24, 12, 6)), (25, (25, 13, 7))):
        for width, channels in ((None, (24, 32, 40)), (0.6, (14, 19, 24))):
            x = torch.randn(2, 1, size, size)
            with at(network, width):
                outs = network(x)
            assert [o.shape for o in outs] == [(2, c, s, s) for c, s in zip(channels, sizes)]


@pytest.mark.parametrize(('options', 'channels'), VARIANTS)
def test_gradient_of_a_step_is_that_of_the_naive_sum(options, channels):
    in_channels = channels[-1] * (4 if options.get('bottleneck', True) else 1)
    head = dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=in_channels)
    config = classifier_config(head=head)
    config['backbone'] = dict(type='mmgradaug.PyramidNet', **options)
    model = GradAugClassifier(gradaug=gradaug_config(), **config).double().train()
    config['backbone'] = plain_of(options, channels)
    config['data_preprocessor'] = KeepsPrecision(torch.float64, num_classes=5)
    stock = ImageClassifier(**config).double().train()
    stock.load_state_dict(lively(model).state_dict(), strict=True)
    model.announce_iteration(3, 11, True)
    before = parameters_of(model)
    model.train_step(random_batch(), sgd(model))
    params = dict(stock.named_parameters())
    batch = stock.data_preprocessor(random_batch(), True)
    loss = naive_gradaug_loss(stock, params, batch, model.subnet_sampler.sample(3, 11))
    expected = dict(zip(params, torch.autograd.grad(loss, list(params.values()))))
    for name, value in model.named_parameters():
        step = before[name] - value.detach()
        torch.testing.assert_close(step, expected[name], rtol=1e-9, atol=1e-9, msg=name)


def test_drop_path_rates_rise_linearly_as_in_mmpretrain():
    blocks = residual_blocks(PyramidNet(20, 14, drop_path_rate=0.5))
    assert isinstance(blocks[0].drop_path, nn.Identity)
    rates = [block.drop_path.drop_prob for block in blocks[1:]]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    for block in residual_blocks(PyramidNet(11, 9)):
        assert type(block.drop_path) is nn.Identity


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


@pytest.mark.parametrize('width', [None, 0.6])
@pytest.mark.parametrize('options', [options for options, _ in VARIANTS])
def test_shortcut_is_the_block_without_its_branch(options, width):
    network = lively(PyramidNet(**options))
    x = torch.randn(2, 16 if width is None else 10, 24, 24)
    ran, blocks = [], residual_blocks(network)
    with at(network, width), torch.no_grad():
        for block in blocks:
            network.eval()
            for layer in block.modules():
                if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
                    layer.register_forward_hook(lambda *_: ran.append(1))
            given = x.clone()
            shortcut = block.shortcut(x)
            assert not ran and torch.equal(x, given)
            kept, block.drop_path = block.drop_path, Zero()
            assert torch.equal(block(x), shortcut)
            assert not shortcut[:, x.shape[1] :].any() and shortcut[:, : x.shape[1]].any()
            block.drop_path = kept
            x = block(x)
            assert not torch.equal(x, shortcut)
            ran.clear()


@pytest.mark.parametrize('width', [None, 0.75])
def test_activation_checkpointing_changes_neither_gradients_nor_statistics(width):
    options = dict(depth=11, alpha=9, drop_path_rate=0.5)
    plain, saving = PyramidNet(**options), PyramidNet(**options, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3, 16, 16)
    ran = {plain: [], saving: []}
    for net, seen in ran.items():
        net.train()
        torch.manual_seed(1)
        with at(net, width):
            net.layer2[0].conv1.register_forward_hook(lambda *_, seen=seen: seen.append(1))
            net(x)[0].square().sum().backward()
    assert [len(seen) for seen in ran.values()] == [1, 2]
    for a, b in zip(plain.parameters(), saving.parameters()):
        assert torch.equal(a.grad, b.grad)
    for (name, a), b in zip(plain.named_buffers(), saving.buffers()):
        assert torch.equal(a, b), name
    assert saving.norm.num_batches_tracked == (1 if width is None else 0)


def test_initial_weights():
    network = PyramidNet(8, 60, bottleneck=False)
    network.init_weights()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.15)
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


@pytest.mark.parametrize(
    ('options', 'error', 'says'),
    [
        (
            dict(depth=111),
            ValueError,
            r'9n \+ 2 with bottleneck=True \(11, 20, 110, 164, 200, 272, ...\), got 111',
        ),
        (dict(depth=2), ValueError, r'9n \+ 2.*got 2'),
        (
            dict(depth=111, bottleneck=False),
            ValueError,
            r'6n \+ 2 with bottleneck=False \(8, 14, 20, 56, 110, ...\)',
        ),
        (dict(depth=11, alpha=-1), ValueError, 'alpha must be 0 or more, got -1'),
        (dict(depth=11, out_indices=(3,)), ValueError, 'out_indices must be some of 0 to 2'),
        (dict(depth=11, drop_path_rate=1.0), ValueError, r'drop_path_rate must be in \[0, 1\)'),
    ],
)
def test_what_does_not_exist_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        PyramidNet(**options)


def test_a_block_can_stand_alone_and_cannot_lose_channels():
    x = torch.randn(2, 6, 5, 5)
    assert PyramidBasicBlock(6, 9, stride=2)(x).shape == (2, 9, 3, 3)
    assert PyramidBottleneck(6, 9).shortcut(x).shape == (2, 36, 5, 5)
    with pytest.raises(ValueError, match='cannot go from 6 channels to 4'):
        PyramidBasicBlock(6, 4)
    with pytest.raises(ValueError, match='stride must be 1 or 2, got 3'):
        PyramidBasicBlock(6, 9, stride=3)
