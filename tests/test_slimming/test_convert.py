"""make_slimmable on real backbones, and on those that have no sub-networks of first channels."""

import math

import mmpretrain.models  # noqa: F401  registers the backbones
import pytest
import torch
import torchvision
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmpretrain.registry import MODELS
from torch import nn

from mmgradaug.slimming import (
    SlimmableSyncBatchNorm,
    SlimmingError,
    convert_layers,
    make_slimmable,
    slimmable_layers,
    subnetwork,
    try_subnetworks,
)


def first_channels(state, width, keep=()):
    """Every tensor's first channels, in both channel dimensions, by shape alone."""
    kept = {}
    for name, value in state.items():
        for dim in range(min(value.dim(), 2)):
            size = value.shape[dim]
            if not (dim == 1 and size in (1, 3)) and not any(name.startswith(k) for k in keep):
                value = value.narrow(dim, 0, math.floor(size * width + 0.5))
        kept[name] = value
    return kept


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='ResNet', depth=50),
        dict(type='ResNet_CIFAR', depth=18),
        dict(type='VGG', depth=11, norm_cfg=dict(type='BN')),
        dict(type='RepVGG', arch='A0'),
        dict(type='SEResNet', depth=50),
        dict(type='HRNet', arch='w18'),
    ],
    ids=lambda cfg: cfg['type'],
)
@pytest.mark.parametrize('width', [0.62])
def test_backbone_is_its_first_channels(backbone, width):
    """Against the stock backbone run with sliced weights (a conv takes its sizes from the weight)."""
    torch.manual_seed(0)
    stock = MODELS.build(backbone).double()
    slimmable = MODELS.build(backbone).double()
    slimmable.load_state_dict(stock.state_dict())
    num_layers = make_slimmable(slimmable)
    plain = [m for m in stock.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    assert num_layers == len(plain) == len(slimmable_layers(slimmable))
    assert list(slimmable.state_dict()) == list(stock.state_dict())

    stock.train(), slimmable.train()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    state = {k: v.clone() for k, v in stock.state_dict().items()}
    expected = torch.func.functional_call(stock, first_channels(state, width), (x,))
    with subnetwork(slimmable, width):
        out = slimmable(x)
    torch.testing.assert_close(out[-1], expected[-1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='MobileNetV2'),  # depthwise
        dict(type='MobileNetV3', arch='small'),  # depthwise, squeeze-excite
        dict(type='EfficientNet', arch='b0'),  # the same with "same" padding
    ],
    ids=lambda cfg: cfg['type'],
)
def test_depthwise_and_squeeze_excite(backbone):
    """Unused channels get no gradient and do not influence the output; the used ones do."""
    torch.manual_seed(0)
    net = MODELS.build(backbone)
    make_slimmable(net)
    net.eval()
    x = torch.randn(2, 3, 64, 64)
    with subnetwork(net, 0.7):
        out = net(x)[-1]
        out.square().sum().backward()
    for name, value in net.named_parameters():
        kept = value.shape[0] if value.shape[0] == 1 else math.floor(value.shape[0] * 0.7 + 0.5)
        assert torch.all(value.grad[kept:] == 0), name
        with torch.no_grad():
            value[kept:] = 1e6
    with subnetwork(net, 0.7), torch.no_grad():
        torch.testing.assert_close(net(x)[-1], out, rtol=0, atol=0)
    assert any(p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(
    ('backbone', 'layer'),
    [
        (dict(type='ResNeXt', depth=50), "'layer1.0.conv2' has 32 groups"),
        (dict(type='DenseNet', arch='121'), "'stages.0.block.1.norm1'"),
        (dict(type='ShuffleNetV2'), "'layers.1.0.branch1.0.conv'"),
        (dict(type='CSPDarkNet', depth=53), "'stages.2.blocks.0.conv1.conv'"),
        (dict(type='InceptionV3'), "'Mixed_5c.branch1x1.conv'"),
        (dict(type='ConvNeXt'), "'downsample_layers.0.1' of type LayerNorm2d"),
        (dict(type='Res2Net', depth=50), "cannot be slimmed: Res2Net runs at full width, but"),
        (dict(type='VGG', depth=11, num_classes=5), "'classifier.0'"),
        (dict(type='ResNet', depth=18, norm_cfg=dict(type='GN', num_groups=4)), 'GroupNorm'),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)  # fmt: skip
def test_what_has_no_first_channels_is_refused_by_name_and_left_as_it_was(backbone, layer):
    net = MODELS.build(backbone)
    types = [type(m) for m in net.modules()]
    with pytest.raises(SlimmingError) as error:
        make_slimmable(net)
    assert layer in str(error.value)
    assert [type(m) for m in net.modules()] == types
    assert not any(hasattr(m, 'keep_outputs') or '_dial' in vars(m) for m in net.modules())


class Join(nn.Module):
    """Joins two equal halves: at width 0.5 the numbers of channels fit, the channels do not."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        return self.c(torch.cat([self.a(x), self.b(x)], 1))


def test_a_concatenation_whose_counts_fit_is_found_all_the_same():
    with pytest.raises(SlimmingError, match="layer 'c' cannot be slimmed.*concatenates"):
        make_slimmable(Join())


def test_keep_outputs():
    net = torchvision.models.resnet18()
    assert make_slimmable(net, keep_outputs=['fc']) == 41
    with subnetwork(net, 0.5):
        assert net(torch.randn(2, 3, 64, 64)).shape == (2, 1000)
    head = nn.Sequential(nn.Linear(10, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
    assert make_slimmable(head, keep_outputs=True) == 3
    x = torch.randn(8, 5)
    with subnetwork(head, 0.5):
        out = head(x)
    hidden = nn.functional.linear(x, head[0].weight[:, :5], head[0].bias)
    hidden = nn.functional.batch_norm(hidden, None, None, training=True).relu()
    torch.testing.assert_close(out, nn.functional.linear(hidden, head[3].weight, head[3].bias))
    with pytest.raises(SlimmingError, match=r"names \['fx'\]"):
        make_slimmable(torchvision.models.resnet18(), keep_outputs=['fx'])
    with pytest.raises(TypeError, match=r"write \['fc'\]"):
        make_slimmable(torchvision.models.resnet18(), keep_outputs='fc')


def test_a_grouped_convolution_in_a_head_is_kept_as_long_as_its_inputs_are():
    head = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 12, 3, groups=4, padding=1))
    assert make_slimmable(head, keep_outputs=True) == 2
    x = torch.randn(2, 8, 5, 5)
    plain = head(x)
    with subnetwork(head, 0.5):
        torch.testing.assert_close(head(x), plain, rtol=0, atol=0)
        # Four inputs reach the first layer, which still gives eight.
        slimmed = nn.functional.conv2d(x[:, :4], head[0].weight[:, :4], head[0].bias)
        torch.testing.assert_close(head(x[:, :4]), head[1](slimmed))
        with pytest.raises(SlimmingError, match='4 groups'):
            head[1](x[:, :4])


def test_what_is_tried_can_be_said():
    """A part of the module, of which the whole accepts no images."""

    class Whole(nn.Module):
        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self):
            raise AssertionError('not to be run')

    def body(module, images):
        return module.body(images)

    whole = Whole(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)))
    convert_layers(whole)
    try_subnetworks(whole, forward=body)
    joined = Whole(Join())
    convert_layers(joined)
    with pytest.raises(SlimmingError, match="layer 'body.c'"):
        try_subnetworks(joined, forward=body)


def test_a_subclass_with_its_own_use_of_the_weight_is_refused():
    class Cosine(nn.Linear):
        def forward(self, x):
            return nn.functional.linear(nn.functional.normalize(x), self.weight)

    with pytest.raises(SlimmingError, match="'1' of type Cosine"):
        make_slimmable(nn.Sequential(nn.Linear(4, 4), Cosine(4, 4)))


def test_parameters_stay_the_same_objects_and_hooks_stay():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    calls = []
    net[0].register_forward_hook(lambda *args: calls.append(1))
    ids = [id(p) for p in net.parameters()]
    make_slimmable(net)
    calls.clear()
    net(torch.randn(2, 3, 4, 4))
    assert [id(p) for p in net.parameters()] == ids and calls == [1]


def test_layers_replaced_by_sync_bn_are_picked_up_again():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8))
    make_slimmable(net)
    synced = convert_sync_batchnorm(net)
    assert type(synced[1]) is nn.SyncBatchNorm
    assert make_slimmable(synced) == 2
    assert type(synced[1]) is SlimmableSyncBatchNorm and synced[1].dial is synced[0].dial
    reverted = revert_sync_batchnorm(synced)
    assert make_slimmable(reverted) == 2
    assert type(reverted[1]).__name__ == 'SlimmableBatchNormXd'
    with subnetwork(reverted, 0.5):
        assert reverted(torch.randn(2, 3, 4, 4)).shape[1] == 4


class NeedsTwo(nn.Module):
    def __init__(self, joins=False):
        super().__init__()
        self.body = Join() if joins else nn.Conv2d(3, 4, 1)

    def forward(self, x, y):
        return self.body(x + y)


def test_a_network_that_accepts_no_images_is_refused_until_an_example_is_given():
    with pytest.raises(SlimmingError, match='could not be tried out.*example_input=tensor'):
        make_slimmable(NeedsTwo())
    example = (torch.zeros(1, 3, 7, 5), torch.zeros(1, 3, 7, 5))
    assert make_slimmable(NeedsTwo(), example_input=example) == 1
    with pytest.raises(SlimmingError, match="'body.c'"):
        make_slimmable(NeedsTwo(joins=True), example_input=example)
    with pytest.raises(SlimmingError, match="'c'"):
        make_slimmable(Join(), example_input=torch.zeros(1, 3, 7, 5))


def test_a_concatenation_in_training_alone_is_found():
    class Auxiliary(Join):
        def forward(self, x):
            return super().forward(x) if self.training else self.a(x)

    with pytest.raises(SlimmingError, match="layer 'c'"):
        make_slimmable(Auxiliary())


def test_a_stem_that_is_not_declared_first_is_found():
    class LateStem(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = Join()
            self.last.a, self.last.b = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)
            self.stem = nn.Conv2d(3, 16, 1)

        def forward(self, x):
            return self.last(self.stem(x))

    with pytest.raises(SlimmingError, match="layer 'last.c'"):
        make_slimmable(LateStem())


def test_where_meta_tensors_do_not_do_the_trial_runs_on_the_cpu():
    class ReadsValues(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Join()

        def forward(self, x):
            return self.body(x if x.sum().item() >= 0 else -x)

    with pytest.raises(SlimmingError, match="layer 'body.c'"):
        make_slimmable(ReadsValues())


@pytest.mark.parametrize('norm', [nn.utils.spectral_norm, nn.utils.weight_norm])
@pytest.mark.filterwarnings('ignore::FutureWarning')
def test_computed_weights_are_refused_by_name(norm):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), norm(nn.Conv2d(4, 4, 1, bias=False)))
    with pytest.raises(
        SlimmingError, match="layer '1' of type Conv2d.*weight norm or spectral norm"
    ):
        make_slimmable(net)
    parametrized = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1, bias=False))
    with pytest.raises(SlimmingError, match="'0.parametrizations.weight'"):
        make_slimmable(nn.Sequential(parametrized))


def test_a_second_call_keeps_what_the_first_said_of_outputs():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))
    make_slimmable(net, keep_outputs=['1'])
    make_slimmable(net)
    with subnetwork(net, 0.5):
        assert net[0](torch.zeros(1, 3, 2, 2)).shape[1] == 4
        assert net(torch.zeros(1, 3, 2, 2)).shape[1] == 8


class DepthwiseSE(nn.Module):
    """Convolution, depthwise convolution, squeeze-excite; ``channels`` and a quarter of them."""

    def __init__(self, channels):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.ReLU())
        self.depthwise = nn.Conv2d(channels, channels, 3, groups=channels)
        self.norm = nn.BatchNorm2d(channels)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x):
        x = self.norm(self.depthwise(self.stem(x)))
        return x * self.squeeze(x)


def test_depthwise_and_squeeze_excite_are_the_small_network_by_batch_statistics():
    big, small = DepthwiseSE(16).double().train(), DepthwiseSE(8).double().train()
    with torch.no_grad():
        theirs = big.state_dict()
        for name, value in small.state_dict().items():
            value.copy_(theirs[name][tuple(slice(size) for size in value.shape)])
    make_slimmable(big)
    x = torch.randn(4, 3, 9, 9, dtype=torch.float64)
    expected = small(x)
    expected.square().sum().backward()
    with subnetwork(big, 0.5):
        out = big(x)
    out.square().sum().backward()
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    small_parameters = dict(small.named_parameters())
    for name, value in big.named_parameters():
        inside = tuple(slice(size) for size in small_parameters[name].shape)
        torch.testing.assert_close(
            value.grad[inside], small_parameters[name].grad, rtol=1e-9, atol=1e-9
        )
        assert value.grad.abs().sum() == pytest.approx(value.grad[inside].abs().sum().item())
