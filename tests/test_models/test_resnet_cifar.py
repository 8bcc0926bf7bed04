"""SlimmableResNetCIFAR against MMPretrain's ResNet_CIFAR of the same stages."""

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
from mmpretrain.models import ImageClassifier, ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock

from mmgradaug.models import GradAugClassifier, SlimmableResNetCIFAR
from mmgradaug.registry import MODELS
from mmgradaug.slimming import residual_blocks, subnetwork


class Stock(ResNet_CIFAR):
    arch_settings = {14: (BasicBlock, (2, 2, 2))}


STOCK = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))


def stock(width=1.0, **options):
    channels = round(16 * width)
    return Stock(14, base_channels=channels, stem_channels=channels, **STOCK, **options)


def test_mmpretrains_class_has_no_depth_110():
    with pytest.raises(KeyError, match='invalid depth 110'):
        ResNet_CIFAR(110)


@pytest.mark.parametrize(('depth', 'parameters'), [(20, 272_474), (110, 1_730_714)])
def test_number_of_parameters_is_the_papers(depth, parameters):
    """0.27M and 1.7M, although shortcuts are projections: 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64 more."""
    network = SlimmableResNetCIFAR(depth)
    assert sum(p.numel() for p in network.parameters()) + (64 + 1) * 10 == parameters
    assert len(residual_blocks(network)) == (depth - 2) // 2


def test_is_the_stock_network_bit_for_bit():
    torch.manual_seed(3)
    expected = stock()
    expected.init_weights()
    torch.manual_seed(3)
    network = MODELS.build(dict(type='SlimmableResNetCIFAR', depth=14))
    network.init_weights()
    x = torch.randn(2, 3, 32, 32)
    for net in (expected, network):
        net.train()
        net(x)[0].square().sum().backward()
    assert list(expected.state_dict()) == list(network.state_dict())
    assert all(
        torch.equal(a, b)
        for a, b in zip(expected.state_dict().values(), network.state_dict().values())
    )
    for a, b in zip(expected.parameters(), network.parameters()):
        assert torch.equal(a.grad, b.grad)
    expected.eval(), network.eval()
    with torch.no_grad(), subnetwork(network, 1.0):
        assert torch.equal(network(x)[0], expected(x)[0])


def test_a_subnetwork_is_a_smaller_stock_network():
    network = SlimmableResNetCIFAR(14, zero_init_residual=False).double()
    small = stock(0.5).double()
    with torch.no_grad():
        for name, value in small.state_dict().items():
            value.copy_(network.state_dict()[name][tuple(slice(size) for size in value.shape)])
    network.eval(), small.eval()
    for size, out_size in ((32, 8), (28, 7), (24, 6)):
        x = torch.randn(2, 3, size, size, dtype=torch.float64)
        with torch.no_grad(), narrow_backbone(network, 0.5):
            out = network(x)[0]
            torch.testing.assert_close(out, small(x)[0], rtol=1e-10, atol=1e-10)
        assert out.shape == (2, 32, out_size, out_size)


def test_gradient_of_a_step_is_that_of_the_naive_sum():
    config = classifier_config()
    config['backbone'] = dict(
        type='mmgradaug.SlimmableResNetCIFAR', depth=14, zero_init_residual=False
    )
    model = GradAugClassifier(gradaug=gradaug_config(), **config).double().train()
    config['backbone'] = stock()
    config['data_preprocessor'] = KeepsPrecision(torch.float64, num_classes=5)
    plain = ImageClassifier(**config).double().train()
    plain.load_state_dict(model.state_dict(), strict=True)
    model.announce_iteration(3, 11, True)
    before = parameters_of(model)
    model.train_step(random_batch(), sgd(model))
    params = dict(plain.named_parameters())
    batch = plain.data_preprocessor(random_batch(), True)
    loss = naive_gradaug_loss(plain, params, batch, model.subnet_sampler.sample(3, 11))
    expected = dict(zip(params, torch.autograd.grad(loss, list(params.values()))))
    for name, value in model.named_parameters():
        step = before[name] - value.detach()
        torch.testing.assert_close(step, expected[name], rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize('depth', [18, 2, 111])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=rf'6n \+ 2 \(8, 14, 20.*got {depth}'):
        SlimmableResNetCIFAR(depth)
