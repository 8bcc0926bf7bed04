"""WideResNet against one written again with stock layers alone."""

import math
from contextlib import nullcontext

import pytest
import torch
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

from mmgradaug.models import GradAugClassifier, WideResNet
from mmgradaug.registry import MODELS
from mmgradaug.slimming import kept_channels, residual_blocks, subnetwork


class PlainBlock(nn.Module):
    def __init__(self, c_in, c_out, stride, norm_at_end, act):
        super().__init__()
        self.norm1, self.conv1 = (
            nn.BatchNorm2d(c_in),
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
        )
        self.norm2, self.conv2 = (
            nn.BatchNorm2d(c_out),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False),
        )
        if norm_at_end:
            self.norm3 = nn.BatchNorm2d(c_out)
        if c_in != c_out:
            self.projection = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
        self.act = act

    def forward(self, x):
        pre = self.act(self.norm1(x))
        out = self.conv2(self.act(self.norm2(self.conv1(pre))))
        if hasattr(self, 'norm3'):
            out = self.norm3(out)
        return out + (self.projection(pre) if hasattr(self, 'projection') else x)


class PlainWideResNet(nn.Module):
    """Of given channels: of the stem and of the three stages."""

    def __init__(self, channels, blocks, norm_at_end=False, act=torch.relu):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
        for s in (1, 2, 3):
            c_in = [channels[s - 1]] + [channels[s]] * (blocks - 1)
            strides = [1 if s == 1 else 2] + [1] * (blocks - 1)
            layers = (
                PlainBlock(c_in[i], channels[s], strides[i], norm_at_end, act)
                for i in range(blocks)
            )
            setattr(self, f'layer{s}', nn.Sequential(*layers))
        self.norm, self.act = nn.BatchNorm2d(channels[3]), act

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return (self.act(self.norm(x)),)


VARIANTS = [
    (dict(depth=10, widen_factor=1), {}),
    (dict(depth=16, widen_factor=2, norm_at_end=True), dict(norm_at_end=True)),
    (
        dict(depth=10, widen_factor=2, act_cfg=dict(type='LeakyReLU', negative_slope=0.1)),
        dict(act=nn.LeakyReLU(0.1)),
    ),
]


def channels_of(options):
    return [16] + [16 * 2**s * options['widen_factor'] for s in range(3)]


def plain_of(options, plain_options, width=1.0):
    blocks = (options['depth'] - 4) // 6
    channels = [kept_channels(c, width) for c in channels_of(options)]
    return PlainWideResNet(channels, blocks, **plain_options)


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
    ('depth', 'factor', 'classes', 'parameters'),
    [
        (28, 10, 10, 36_479_194),  # paper, Table 4 and 5: 36.5M
        (28, 10, 100, 36_536_884),
        (16, 8, 10, 10_961_370),  # 11.0M
        (40, 4, 10, 8_949_210),  # 8.9M
        (28, 2, 10, 1_467_610),  # 1.5M
    ],
)
def test_number_of_parameters_is_the_papers(depth, factor, classes, parameters):
    with torch.device('meta'):
        network = WideResNet(depth, factor)
        head = nn.Linear(network.feat_dim, classes)
    assert network.feat_dim == 64 * factor
    assert sum(p.numel() for m in (network, head) for p in m.parameters()) == parameters


@pytest.mark.parametrize(('options', 'plain_options'), VARIANTS)
def test_is_the_plain_network_bit_for_bit(options, plain_options):
    network = lively(MODELS.build(dict(type='WideResNet', **options)))
    plain = plain_of(options, plain_options)
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
@pytest.mark.parametrize(('options', 'plain_options'), VARIANTS)
def test_a_subnetwork_is_a_smaller_plain_network(options, plain_options, width):
    network = lively(WideResNet(**options)).double()
    small = first_channels(plain_of(options, plain_options, width).double(), network.state_dict())
    x = torch.randn(2, 3, 28, 28, dtype=torch.float64)
    for training in (False, True):
        network.train(training), small.train(training)
        with torch.no_grad(), narrow_backbone(network, width):
            torch.testing.assert_close(network(x)[0], small(x)[0], rtol=1e-10, atol=1e-10)


def test_shapes_for_all_sizes_and_stages():
    network = WideResNet(10, 1, out_indices=(0, 1, 2), in_channels=1)
    for size, sizes in ((32, (32, 16, 8)), (28, (28, 14, 7)), (24, (24, 12, 6)), (25, (25, 13, 7))):
        for width, channels in ((None, (16, 32, 64)), (0.6, (10, 19, 38))):
            x = torch.randn(2, 1, size, size)
            with at(network, width):
                outs = network(x)
            assert [o.shape for o in outs] == [(2, c, s, s) for c, s in zip(channels, sizes)]


@pytest.mark.parametrize(('options', 'plain_options'), VARIANTS)
def test_gradient_of_a_step_is_that_of_the_naive_sum(options, plain_options):
    head = dict(
        type='mmpretrain.LinearClsHead', num_classes=5, in_channels=channels_of(options)[-1]
    )
    config = classifier_config(head=head)
    config['backbone'] = dict(type='mmgradaug.WideResNet', **options)
    model = GradAugClassifier(gradaug=gradaug_config(), **config).double().train()
    config['backbone'] = plain_of(options, plain_options)
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
    blocks = residual_blocks(WideResNet(16, 1, drop_path_rate=0.5))
    assert isinstance(blocks[0].drop_path, nn.Identity)
    rates = [block.drop_path.drop_prob for block in blocks[1:]]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    for block in residual_blocks(WideResNet(10, 1)):
        assert type(block.drop_path) is nn.Identity


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


@pytest.mark.parametrize('width', [None, 0.6])
def test_shortcut_is_the_block_without_its_branch(width):
    network = lively(WideResNet(16, 2, norm_at_end=True))
    x = torch.randn(2, 16 if width is None else 10, 24, 24)
    ran, blocks = [], residual_blocks(network)
    with at(network, width), torch.no_grad():
        for block in blocks:
            network.eval()
            for conv in (block.conv1, block.conv2):
                conv.register_forward_hook(lambda *_: ran.append(1))
            given = x.clone()
            shortcut = block.shortcut(x)
            assert not ran and torch.equal(x, given)
            kept, block.drop_path = block.drop_path, Zero()
            assert torch.equal(block(x), shortcut)
            block.drop_path = kept
            x = block(x)
            assert not torch.equal(x, shortcut)
            ran.clear()


@pytest.mark.parametrize('width', [None, 0.75])
def test_activation_checkpointing_changes_neither_gradients_nor_statistics(width):
    options = dict(depth=10, widen_factor=1, dropout=0.3, drop_path_rate=0.5)
    plain, saving = WideResNet(**options), WideResNet(**options, with_cp=True)
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


def test_dropout_is_of_the_second_convolutions_activated_input():
    network = WideResNet(10, 1, dropout=1.0)
    network.train()
    seen = []
    for block in residual_blocks(network):
        block.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.randn(2, 3, 16, 16))
    assert len(seen) == 3 and not any(x.any() for x in seen)
    network.eval()
    network(torch.randn(2, 3, 16, 16))
    assert all(x.any() and x.min() >= 0 for x in seen[3:])


def test_initial_weights():
    network = WideResNet(10, 4)
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
        (dict(depth=29), ValueError, r'6n \+ 4 \(10, 16, 22, 28, 34, 40, ...\), got 29'),
        (dict(depth=4), ValueError, r'6n \+ 4.*got 4'),
        (dict(depth=10, widen_factor=0), ValueError, 'widen_factor must be a whole number'),
        (dict(depth=10, widen_factor=1.5), ValueError, 'widen_factor must be a whole number'),
        (dict(depth=10, out_indices=(3,)), ValueError, 'out_indices must be some of 0 to 2'),
        (dict(depth=10, out_indices=()), ValueError, 'out_indices must be some of 0 to 2'),
        (
            dict(depth=10, input_noise=-0.1),
            ValueError,
            'input_noise of WideResNet must not be nega',
        ),
        (dict(depth=10, drop_path_rate=1.0), ValueError, r'drop_path_rate must be in \[0, 1\)'),
    ],
)
def test_what_does_not_exist_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        WideResNet(**options)


def test_input_noise_is_gaussian_drawn_in_each_pass_of_training_alone():
    plain, noisy = (WideResNet(depth=10, widen_factor=1, input_noise=std) for std in (0.0, 0.15))
    noisy.load_state_dict(plain.state_dict())
    seen = []
    noisy.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.randn(64, 3, 32, 32)
    before = images.clone()
    for _ in range(2):
        noisy(images)
    noise = seen[0] - images
    assert abs(noise.std() - 0.15) < 0.002 and abs(noise.mean()) < 0.002
    assert not torch.equal(seen[0], seen[1]) and torch.equal(images, before)
    plain.eval(), noisy.eval()
    noisy.load_state_dict(plain.state_dict())
    assert torch.equal(noisy(images[:2])[0], plain(images[:2])[0])
