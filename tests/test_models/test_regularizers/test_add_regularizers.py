"""Where regularisers of a network's structure go."""

import copy

import pytest
import torch
from helpers import gradaug_config, random_batch, sgd, stock_and_gradaug
from mmcv.cnn.bricks import DropPath
from mmengine.model import revert_sync_batchnorm
from mmpretrain.models.backbones import MobileNetV2, ResNet

from mmgradaug.models import PyramidNet, SlimmableResNet, WideResNet
from mmgradaug.models.regularizers import DropBlock, ShakeDrop, add_regularizers
from mmgradaug.slimming import residual_blocks, subnetwork, without_blocks

SMALL = dict(base_channels=8, stem_channels=8)


def test_branches_drop_with_rising_probability_and_names_stay():
    plain = ResNet(18, **SMALL)
    network = SlimmableResNet(
        18, regularizers=[dict(type='ShakeDrop', last_drop_prob=0.4, level='image')], **SMALL
    )
    assert list(network.state_dict()) == list(plain.state_dict())
    drops = [block.drop_path for block in residual_blocks(network)]
    assert all(type(drop) is ShakeDrop and drop.level == 'image' for drop in drops)
    assert [drop.drop_prob for drop in drops] == pytest.approx(
        [0.05 * number for number in range(1, 9)]
    )


def test_constant_rate_and_several_at_once():
    network = ResNet(18, drop_path_rate=0.5, **SMALL)
    add_regularizers(network, dict(type='DropPath', last_drop_prob=0.1, linear=False))
    add_regularizers(network, [dict(type='ShakeDrop'), dict(type='DropBlock')])
    first, *_, last = (block.drop_path for block in residual_blocks(network))
    assert [type(m) for m in first.modules() if not list(m.children())] == [DropPath, ShakeDrop]
    kinds = [type(m) for m in last.modules() if not list(m.children())]
    assert kinds == [DropBlock, DropPath, DropPath, ShakeDrop]
    assert [m.drop_prob for m in last.modules() if isinstance(m, DropPath)] == [0.5, 0.1]


def test_drop_block_is_in_groups_3_and_4_after_each_convolution_and_on_every_shortcut():
    network = ResNet(50, zero_init_residual=False, **SMALL)
    add_regularizers(network, dict(type='DropBlock', drop_prob=0.1, block_size=3))
    network = revert_sync_batchnorm(copy.deepcopy(network))
    calls = []
    for name, module in network.named_modules():
        if isinstance(module, DropBlock):
            module.register_forward_hook(
                lambda m, x, out, name=name: calls.append((name, x[0].shape[1], m.drop_prob))
            )
    network.train()
    network(torch.randn(2, 3, 64, 64))
    # Three outputs in a block and the shortcut's, which is the input itself in all but a stage's first.
    third = [(f'layer3.{i}', c, 0.025) for i in range(6) for c in (32, 32, 128, 128)]
    fourth = [(f'layer4.{i}', c, 0.1) for i in range(3) for c in (64, 64, 256, 256)]
    assert [
        (name.rsplit('.', 1)[0].removesuffix('.downsample'), *rest) for name, *rest in calls
    ] == [tuple(call) for call in third + fourth]


def test_drop_block_on_an_identity_shortcut_drops_what_the_block_hands_on():
    """With a branch of zeros, what comes out is the dropped input; in the test the block is as before."""
    torch.manual_seed(0)
    network = ResNet(18, **SMALL)
    keys = list(network.state_dict())
    add_regularizers(
        network, dict(type='DropBlock', drop_prob=0.5, block_size=1, groups=[4], scheduled=False)
    )
    assert list(network.state_dict()) == keys
    block = network.layer4[1]
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 64, 7, 7) + 0.1
    out = block.train()(x)
    dropped = out == 0
    assert 0.4 < dropped.float().mean() < 0.6
    factor = (out / x)[~dropped]  # the kept ones make up for the others
    assert torch.allclose(factor, 1 / (1 - dropped.float().mean()))
    assert torch.equal(block.eval()(x), x)


@pytest.mark.parametrize(
    ('network', 'shortcuts'),
    [(WideResNet(16, 1), (32, 32, 64, 64)), (PyramidNet(14, 24, False), (28, 32, 36, 40))],
)
def test_drop_block_is_on_every_shortcut_of_wide_and_pyramidal_networks(network, shortcuts):
    """Where branches give nothing, what comes out of a block is its dropped shortcut."""
    before = network.state_dict().keys()
    add_regularizers(
        network,
        dict(type='DropBlock', drop_prob=0.5, block_size=1, groups=[2, 3], scheduled=False),
    )
    assert network.state_dict().keys() == before
    given = []
    for block in [*network.layer2, *network.layer3]:
        block.drop_shortcut.register_forward_hook(lambda m, x, out: given.append((x[0], out)))
    network.train()
    network(torch.rand(2, 3, 16, 16))
    assert [x.shape[1] for x, _ in given] == list(shortcuts)
    shares = [((out == 0) & (x != 0)).float().sum() / (x != 0).sum() for x, out in given]
    assert shares == pytest.approx([0.125] * 2 + [0.5] * 2, abs=0.03)
    # With sub-networks by width and depth too: a block left out is its dropped shortcut.
    assert len(residual_blocks(network)) == 6
    given.clear()
    with subnetwork(network, 0.6), without_blocks(network, [5]):
        network(torch.rand(2, 3, 16, 16))
    assert len(given) == 4


def test_a_block_left_out_leaves_its_input_as_it_is_while_nothing_is_dropped_yet():
    """The schedule begins at 0, where the shortcut would hand on the input itself."""
    network = ResNet(18, **SMALL)
    add_regularizers(network, dict(type='DropBlock', drop_prob=0.0, groups=[4]))
    index = residual_blocks(network).index(network.layer4[1])
    x = torch.randn(2, 64, 7, 7)
    before = x.clone()
    network.train()
    with without_blocks(network, [index]):
        assert (network.layer4[1](x) >= 0).all()
    assert torch.equal(x, before)


def test_dropped_elements_reach_the_next_convolution():
    network = ResNet(18, **SMALL)
    add_regularizers(
        network, dict(type='DropBlock', drop_prob=0.5, block_size=1, groups=[4], scheduled=False)
    )
    seen = {}
    conv = network.layer4[1].conv2
    conv.register_forward_hook(lambda m, inputs, out: seen.update(zeros=(inputs[0] == 0)))
    network.train()
    torch.manual_seed(0)
    network(torch.randn(2, 3, 64, 64))
    assert seen['zeros'].float().mean() > 0.6  # half by the activation, half of the rest
    network.eval()
    network(torch.randn(2, 3, 64, 64))
    assert seen['zeros'].float().mean() < 0.6


def test_gradaug_trains_with_all_of_them():
    regularizers = [
        dict(type='ShakeDrop', last_drop_prob=0.5),
        dict(type='DropBlock', drop_prob=0.1, block_size=3),
    ]
    _, model = stock_and_gradaug(
        gradaug_config(survival_prob=0.5),
        backbone=dict(
            type='mmgradaug.SlimmableResNet', depth=18, regularizers=regularizers, **SMALL
        ),
    )
    wrapper = sgd(model, lr=0.01)
    losses = []
    for iteration in range(3):
        model.announce_iteration(0, iteration, True)
        losses.append(model.train_step(random_batch(seed=iteration), wrapper)['loss'])
    assert torch.stack(losses).isfinite().all()


@pytest.mark.parametrize(
    ('regularizers', 'error', 'says'),
    [
        (dict(type='Cutout'), KeyError, 'Cutout is a step of the data pipeline'),
        (dict(type='ShakeDrop', last_drop_prob=1.5), ValueError, 'last_drop_prob'),
        (dict(type='ShakeDrop', drop=0.5), TypeError, 'unknown keys'),
        (dict(type='DropBlock', groups=[5]), ValueError, 'stages from 1 to 4'),
        (dict(type='DropBlock', size=7), TypeError, 'unknown keys'),
    ],
)
def test_wrong_input(regularizers, error, says):
    with pytest.raises(error, match=says):
        SlimmableResNet(18, regularizers=regularizers, **SMALL)


def test_a_network_without_residual_blocks_is_refused():
    with pytest.raises(ValueError, match='MobileNetV2 has no residual blocks'):
        add_regularizers(MobileNetV2(), dict(type='ShakeDrop'))
