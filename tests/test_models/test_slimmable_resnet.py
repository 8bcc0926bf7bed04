import copy

import mmpretrain.models  # noqa: F401  registers the backbones
import pytest
import torch
import torchvision
from helpers import narrow_backbone
from mmpretrain.registry import MODELS

from mmgradaug.models import SlimmableResNet

D_FORM = dict(deep_stem=True, avg_down=True)


def pair(depth, **kwargs):
    torch.manual_seed(3)
    stock = MODELS.build(dict(type='ResNet', depth=depth, **copy.deepcopy(kwargs)))
    stock.init_weights()
    torch.manual_seed(3)
    slimmable = MODELS.build(dict(type='mmgradaug.SlimmableResNet', depth=depth, **kwargs))
    slimmable.init_weights()
    return stock.train() or stock, slimmable.train() or slimmable


@pytest.mark.parametrize(
    ('depth', 'options'),
    [(18, {}), (34, {}), (50, {}), (101, {}), (152, {}), (18, D_FORM), (50, D_FORM)],
    ids=str,
)
def test_is_the_stock_network_bit_for_bit(depth, options):
    """Initial weights from the same seed, forward, backward and running statistics."""
    narrow = dict(base_channels=8, stem_channels=8) if depth > 50 else {}
    stock, slimmable = pair(depth, **options, **narrow)
    for (name, value), (other_name, other) in zip(
        stock.state_dict().items(), slimmable.state_dict().items()
    ):
        assert name == other_name and torch.equal(value, other), name
    x = torch.randn(2, 3, 64, 64)
    for net in (stock, slimmable):
        net(x)[-1].square().sum().backward()
    for (name, a), b in zip(stock.named_parameters(), slimmable.parameters()):
        assert torch.equal(a.grad, b.grad), name
    for (name, a), b in zip(stock.named_buffers(), slimmable.buffers()):
        assert torch.equal(a, b), name


def test_init_cfg_finds_the_same_layers_by_name():
    """MMEngine looks for 'Conv2d' and '_BatchNorm' among the names of a layer's class and bases."""
    init = [
        dict(type='Constant', val=0.25, layer='Conv2d'),
        dict(type='Constant', val=0.5, bias=0.75, layer='_BatchNorm'),
    ]
    stock, slimmable = pair(18, init_cfg=init, zero_init_residual=False)
    assert slimmable.conv1.weight.unique().tolist() == [0.25]
    assert slimmable.bn1.weight.unique().tolist() == [0.5]
    for a, b in zip(stock.parameters(), slimmable.parameters()):
        assert torch.equal(a, b)


def test_checkpoints_fit_both_ways_and_the_d_form_is_resnetv1d(tmp_path):
    stock = MODELS.build(dict(type='ResNet', depth=50))
    torch.save(dict(state_dict=stock.state_dict()), tmp_path / 'stock.pth')
    slimmable = SlimmableResNet(
        50, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'stock.pth'))
    )
    slimmable.init_weights()
    assert all(
        torch.equal(a, b)
        for a, b in zip(slimmable.state_dict().values(), stock.state_dict().values())
    )
    stock.load_state_dict(SlimmableResNet(50).state_dict(), strict=True)
    MODELS.build(dict(type='ResNetV1d', depth=50)).load_state_dict(
        SlimmableResNet(50, **D_FORM).state_dict(), strict=True
    )
    of_torchvision = {k for k in torchvision.models.resnet50().state_dict() if 'fc' not in k}
    assert set(slimmable.state_dict()) == of_torchvision


@pytest.mark.parametrize(('depth', 'options'), [(18, {}), (50, {}), (50, D_FORM)], ids=str)
def test_half_width_is_a_resnet_built_with_half_the_channels(depth, options):
    big = SlimmableResNet(depth, base_channels=16, stem_channels=16, **options).double()
    small = MODELS.build(
        dict(type='ResNet', depth=depth, base_channels=8, stem_channels=8, **options)
    ).double()
    with torch.no_grad():
        for p in big.parameters():
            p.add_(torch.randn_like(p) * 0.05)
        theirs = big.state_dict()
        for name, value in small.state_dict().items():
            value.copy_(theirs[name][tuple(slice(size) for size in value.shape)])
    big.train(), small.train()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = small(x)[-1]
    expected.square().sum().backward()
    with narrow_backbone(big, 0.5):
        out = big(x)[-1]
        out.square().sum().backward()
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    grads = dict(small.named_parameters())
    for name, value in big.named_parameters():
        inside = tuple(slice(size) for size in grads[name].shape)
        torch.testing.assert_close(value.grad[inside], grads[name].grad, rtol=1e-8, atol=1e-8)
        outside = value.grad.clone()
        outside[inside] = 0
        assert torch.all(outside == 0), name


def test_frozen_stages_and_norm_eval():
    net = SlimmableResNet(18, base_channels=8, stem_channels=8, frozen_stages=1, norm_eval=True)
    net.train()
    before = [b.clone() for b in net.buffers()]
    with narrow_backbone(net, 0.75):
        net(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    assert net.conv1.weight.grad is None and net.layer1[0].conv1.weight.grad is None
    assert net.layer2[0].conv1.weight.grad.abs().sum() > 0
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), before))


def test_activation_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    plain = SlimmableResNet(18, base_channels=8, stem_channels=8)
    saving = SlimmableResNet(18, base_channels=8, stem_channels=8, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for net in (plain, saving):
        net.train()
        with narrow_backbone(net, 0.75):
            net(x)[-1].square().sum().backward()
    for a, b in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


def test_out_indices_for_detection():
    net = SlimmableResNet(50, out_indices=(0, 1, 2, 3))
    with torch.no_grad(), narrow_backbone(net, 0.9):
        shapes = [out.shape[1] for out in net(torch.randn(1, 3, 64, 64))]
    assert shapes == [230, 461, 922, 1843]
