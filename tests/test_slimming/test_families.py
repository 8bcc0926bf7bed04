"""For each family of networks, that the sub-network is the right one, by other means than narrowing.

Networks of convolutions and batch norms: it equals the full network with the parameters of the other channels
set to zero. Networks with layer norm and attention, which a zero channel would disturb: it equals the same class
built small and filled with the first channels.
"""

import copy
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torchvision import models
from torchvision.models import convnext, regnet, swin_transformer, vision_transformer

from mmgradaug.slimming import extract_subnetwork, plan_channels, subnetwork

WIDTH = 0.6


def irregular(model):
    """In float64, without zeros and ones: weights, biases, batch norms and their statistics."""
    torch.manual_seed(0)
    model = model.double()
    for name, value in model.state_dict().items():
        if value.is_floating_point() and value.dim() < 2:
            value.copy_(
                torch.rand_like(value) + 0.5 if 'var' in name else torch.randn_like(value) / 2
            )
    return model


def small_densenet():
    return models.DenseNet(
        growth_rate=6, block_config=(2, 2), num_init_features=8, bn_size=2, num_classes=5
    )


def small_regnet():
    params = regnet.BlockParams.from_init_params(
        depth=4, w_0=16, w_a=8, w_m=2, group_width=4, se_ratio=0.25
    )
    return regnet.RegNet(params, num_classes=5)


BATCH_NORM = {
    'DenseNet': small_densenet,
    'EfficientNet': partial(models.efficientnet_b0, num_classes=5),
    'GoogLeNet': partial(models.googlenet, num_classes=5, init_weights=False),
    'MNASNet': partial(models.mnasnet0_5, num_classes=5),
    'MobileNetV2': partial(models.mobilenet_v2, width_mult=0.25, num_classes=5),
    'MobileNetV3': partial(models.mobilenet_v3_small, num_classes=5),
    'RegNet': small_regnet,
    'ResNet': partial(models.ResNet, models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5, width_per_group=16),
    'ResNeXt': partial(
        models.ResNet, models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5, groups=8, width_per_group=4
    ),
    'ShuffleNetV2': partial(models.shufflenet_v2_x0_5, num_classes=5),
    'SqueezeNet': partial(models.squeezenet1_1, num_classes=5),
    'VGG': lambda: nn.Sequential(models.vgg11_bn().features[:15], nn.Flatten(), nn.Linear(256 * 64, 5)),
}  # fmt: skip


def logits_of(outputs):
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('family', BATCH_NORM)
def test_a_sub_network_is_the_full_one_with_the_rest_set_to_zero(family, training):
    model = irregular(BATCH_NORM[family]())
    for module in model.modules():
        if isinstance(module, (nn.Dropout, torchvision.ops.StochasticDepth)):
            module.p = 0.0
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    plan = plan_channels(model, images)
    model.train(training)
    with subnetwork(model, WIDTH):
        found = logits_of(model(images))
        found.square().sum().backward()
        share = sum(p.numel() for p in model.parameters())
    share /= sum(p.numel() for p in model.parameters())
    # Most of the network is narrowed: 0.36 where all is.
    assert 0.3 < share < 0.65
    kept = plan.kept(WIDTH)
    zeroed = copy.deepcopy(model)
    for name, value in zeroed.named_parameters():
        for dim, selection in plan.selections.get(name, ()):
            rest = ~torch.from_numpy(kept.mask(selection))
            grad = model.get_parameter(name).grad
            if grad is not None:
                assert grad.index_select(dim, rest.nonzero()[:, 0]).eq(0).all(), name
            value.data.index_fill_(dim, rest.nonzero()[:, 0], 0.0)
    for module in zeroed.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    torch.testing.assert_close(found, logits_of(zeroed(images)), rtol=0, atol=1e-9)
    # And not by accident: every kept channel counts.
    assert (found - logits_of(model(images))).abs().max() > 1e-3


def vit(channels, heads):
    return vision_transformer.VisionTransformer(
        32, 8, 2, heads, channels, 2 * channels, num_classes=5
    )


def swin(channels, heads):
    return swin_transformer.SwinTransformer(
        [4, 4],
        channels,
        [2, 2],
        [heads, 2 * heads],
        [4, 4],
        stochastic_depth_prob=0.0,
        num_classes=5,
    )


def swin_v2(channels, heads):
    return swin_transformer.SwinTransformer(
        [4, 4], channels, [2, 2], [heads, 2 * heads], [4, 4], stochastic_depth_prob=0.0, num_classes=5,
        block=swin_transformer.SwinTransformerBlockV2, downsample_layer=swin_transformer.PatchMergingV2,
    )  # fmt: skip


def conv_next(channels, heads):
    setting = [
        convnext.CNBlockConfig(channels, 2 * channels, 2),
        convnext.CNBlockConfig(2 * channels, None, 2),
    ]
    return convnext.ConvNeXt(setting, num_classes=5, layer_scale=1.0)


def mmpretrain_vit(channels, heads):
    from mmpretrain.models import VisionTransformer

    arch = dict(
        embed_dims=channels, num_layers=2, num_heads=heads, feedforward_channels=2 * channels
    )
    return Headed(VisionTransformer(arch, img_size=32, patch_size=8), channels)


def mmpretrain_swin(channels, heads):
    from mmpretrain.models import SwinTransformer

    arch = dict(embed_dims=channels, depths=[2, 2], num_heads=[heads, 2 * heads])
    backbone = SwinTransformer(
        arch, img_size=32, window_size=4, drop_path_rate=0.0, out_indices=(1,)
    )
    return Headed(backbone, 2 * channels)


class Headed(nn.Module):
    def __init__(self, backbone, channels):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(channels, 5)

    def forward(self, images):
        x = self.backbone(images)[-1]
        return self.head(x.mean((2, 3)) if x.dim() == 4 else x)


def fill(small, full):
    """Each parameter and buffer gets the first channels; query, key and value each their own first."""
    for name, value in small.state_dict().items():
        source = full.state_dict()[name]
        if any(word in name for word in ('qkv', 'in_proj')):
            source = source.view(3, source.shape[0] // 3, *source.shape[1:])
            target = value.view(3, value.shape[0] // 3, *value.shape[1:])
        elif (
            'downsample.reduction' in name
            or 'reduction.weight' in name
            or 'downsample.norm' in name
        ):
            target, source = merged(name, value, source)
        elif '.norm.' in name and 'features.2' in name:
            target, source = merged(name, value, source)
        else:
            target = value
        target.copy_(source[tuple(slice(size) for size in target.shape)])


def merged(name, value, source):
    """Patch merging takes four neighbours' channels: torchvision side by side, MMPretrain channel by channel."""
    parts = (4, -1) if name.startswith('features') else (-1, 4)
    if value.dim() == 1:
        return (value, source) if len(value) % 4 else (value.view(*parts), source.view(*parts))
    if name.endswith('reduction.weight') and value.shape[1] == 2 * value.shape[0]:
        return value.view(len(value), *parts), source.view(len(source), *parts)
    return value, source


@pytest.mark.parametrize(
    'build',
    [vit, swin, conv_next, mmpretrain_vit, mmpretrain_swin],
    ids=lambda build: build.__name__,
)
@pytest.mark.parametrize(('heads', 'width'), [(2, 0.5), (3, 0.75), (4, 1.0)])
def test_a_sub_network_is_the_same_class_built_small(build, heads, width):
    full, small = irregular(build(16, 4)), build(4 * heads, heads).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    plan_channels(full, images)
    fill(small, full)
    full.eval(), small.eval()
    expected = small(images)
    with subnetwork(full, width):
        found = full(images)
        assert sum(p.numel() for p in full.parameters()) == sum(
            p.numel() for p in small.parameters()
        )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert torch.equal(extract_subnetwork(full, width)(images), found)


def test_swin_v2_and_its_log_scales_have_whole_heads():
    model = irregular(swin_v2(16, 4))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    plan_channels(model, images)
    with subnetwork(model, 0.7):  # 2.8 heads are 3
        assert model.features[1][0].attn.logit_scale.shape[0] == 3
        assert model.features[1][0].attn.qkv.weight.shape == (36, 12)
        assert model(images).shape == (2, 5)
