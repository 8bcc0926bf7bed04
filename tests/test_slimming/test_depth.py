"""Sub-networks by depth, against networks whose branches are multiplied by zero."""

import copy

import pytest
import torch
from helpers import gradaug_config, random_batch, sgd, stock_and_gradaug
from mmdet.models.backbones import ResNet as DetectionResNet
from mmpretrain.models.backbones import ResNet, ResNet_CIFAR, ResNetV1d, SEResNet
from torch import nn

from mmgradaug.slimming import (
    SlimmingError,
    plan_channels,
    residual_blocks,
    subnetwork,
    without_blocks,
)

SMALL = dict(base_channels=8, stem_channels=8)


def silenced(network, dropped):
    """A copy whose branches give zero: the last batch norm's weight and bias are."""
    network = copy.deepcopy(network)
    for index in dropped:
        block = residual_blocks(network)[index]
        last = block.norm3 if hasattr(block, 'conv3') else block.norm2
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return network


@pytest.mark.parametrize(
    ('network', 'blocks'),
    [
        (lambda: ResNet(18, **SMALL), 8),
        (lambda: ResNet(50, **SMALL), 16),
        (lambda: ResNetV1d(depth=50, **SMALL), 16),
        (lambda: ResNet_CIFAR(18, **SMALL), 8),
        (lambda: DetectionResNet(depth=18, **SMALL), 8),
        (lambda: DetectionResNet(depth=50, **SMALL), 16),
    ],
)
@pytest.mark.parametrize('dropped', [(0,), (1, 2, 5), (7,), ()])
def test_dropped_blocks_are_their_shortcuts(network, blocks, dropped):
    network = network().double()
    network.eval()
    assert len(residual_blocks(network)) == blocks
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = silenced(network, dropped)(images)[-1]
    full = network(images)[-1]
    with without_blocks(network, dropped):
        assert torch.equal(network(images)[-1], expected)
    assert torch.equal(network(images)[-1], full)
    assert torch.equal(expected, full) == (not dropped)


def test_a_dropped_branch_does_not_run_and_gets_no_gradient():
    network = ResNet(18, zero_init_residual=False, **SMALL)
    blocks = residual_blocks(network)
    ran = []
    for index, block in enumerate(blocks):
        block.conv1.register_forward_hook(lambda *_, index=index: ran.append(index))
    with without_blocks(network, (2, 3)):
        network(torch.randn(2, 3, 32, 32))[-1].sum().backward()
    assert ran == [0, 1, 4, 5, 6, 7]
    for index, block in enumerate(blocks):
        assert (block.conv2.weight.grad is None) == (index in (2, 3))
    # The shortcut of a dropped block goes on learning.
    assert blocks[2].downsample[0].weight.grad.abs().sum() > 0


def test_an_error_inside_leaves_the_full_network():
    network = ResNet(18, **SMALL)
    with pytest.raises(RuntimeError), without_blocks(network, (0, 1)):
        raise RuntimeError
    assert not any('forward' in block.__dict__ for block in residual_blocks(network))


def test_what_cannot_be_dropped_is_said():
    network = ResNet(18, **SMALL)
    with pytest.raises(SlimmingError, match='8 residual blocks'), without_blocks(network, (8,)):
        pass
    with (
        pytest.raises(SlimmingError, match='left out already'),
        without_blocks(network, (1,)),
        without_blocks(network, (1,)),
    ):
        pass


def test_blocks_of_transformers_and_other_networks_are_seen_by_the_trace():
    """What is left of a network without any block, by its own layers; and how many blocks there are."""
    from torchvision.models import convnext, swin_transformer, vision_transformer

    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    vit = vision_transformer.VisionTransformer(32, 8, 4, 2, 16, 32, num_classes=5).eval()
    convnext_ = convnext.ConvNeXt(
        [convnext.CNBlockConfig(8, 16, 2), convnext.CNBlockConfig(16, None, 3)],
        layer_scale=1.0,
        num_classes=5,
    ).eval()
    swin = swin_transformer.SwinTransformer([2, 2], 8, [2, 2], [1, 2], [4, 4], num_classes=5).eval()
    nn.init.normal_(vit.heads.head.weight)
    expected = {}
    tokens = vit._process_input(images)
    tokens = torch.cat([vit.class_token.expand(2, -1, -1), tokens], 1) + vit.encoder.pos_embedding
    expected[vit] = (vit.heads(vit.encoder.ln(tokens)[:, 0]), 4)
    x = convnext_.features[2](convnext_.features[0](images))
    expected[convnext_] = (convnext_.classifier(convnext_.avgpool(x)), 5)
    x = swin.norm(swin.features[2](swin.features[0](images)))
    expected[swin] = (swin.head(swin.avgpool(swin.permute(x)).flatten(1)), 4)
    for model, (outputs, blocks) in expected.items():
        plan_channels(model, images)
        assert len(residual_blocks(model)) == blocks, type(model)
        with without_blocks(model, range(blocks)):
            torch.testing.assert_close(model(images), outputs)
        with without_blocks(model, (1,)):
            assert (model(images) - outputs).abs().max() > 1e-4
    # A subclass's blocks too; squeeze-and-excitation for one.
    assert len(residual_blocks(SEResNet(50, base_channels=16))) == 16


class OwnShortcut(nn.Module):
    """A block that the trace cannot see through, which names its shortcut."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def shortcut(self, x):
        return x * 2

    def forward(self, x):
        return self.conv(x) + x * 2


def test_a_block_may_name_its_shortcut():
    net = nn.Sequential(nn.Conv2d(3, 6, 1), OwnShortcut(), nn.Conv2d(6, 2, 1))
    x = torch.randn(2, 3, 4, 4)
    assert residual_blocks(net) == [net[1]]
    with without_blocks(net, (0,)):
        assert torch.equal(net(x), net[2](net[0](x) * 2))


def naive_step(stock, batch, subnets):
    """Eq. 4 with a stock network whose branches are switched off by hand."""
    images = batch['inputs']
    labels = torch.cat([sample.gt_label for sample in batch['data_samples']])
    logits = stock(images, mode='tensor')
    loss = nn.functional.cross_entropy(logits, labels)
    soft = logits.detach().softmax(1)
    running = {name: buffer.clone() for name, buffer in stock.named_buffers()}
    for subnet in subnets:
        blocks = residual_blocks(stock.backbone)
        hooks = [
            blocks[index].drop_path.register_forward_hook(lambda m, i, output: output * 0.0)
            for index in subnet.dropped_blocks
        ]
        log_q = stock(subnet.transform(images), mode='tensor').log_softmax(1)
        loss = loss + (soft * (soft.log() - log_q)).sum(1).mean()
        for hook in hooks:
            hook.remove()
    return loss, running


def test_gradient_of_a_step_is_the_naive_sum_and_statistics_move_in_the_full_pass_alone():
    stock, model = stock_and_gradaug(gradaug_config(min_width=1.0, survival_prob=0.3))
    subnets = model.subnet_sampler.sample(2, 5)
    assert sum(len(subnet.dropped_blocks) for subnet in subnets) >= 4
    batch = random_batch()
    loss, running = naive_step(stock, batch, subnets)
    loss.backward()
    expected = {name: p.grad for name, p in stock.named_parameters()}
    model.announce_iteration(2, 5, True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    log = model.train_step(batch, sgd(model, lr=1.0))
    assert log['loss'].item() == pytest.approx(loss.item(), rel=1e-10)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            before[name] - parameter.detach(), expected[name], rtol=0, atol=1e-10
        )
    for name, buffer in model.named_buffers():
        if name in running and 'num_batches' not in name:
            torch.testing.assert_close(buffer, running[name], rtol=0, atol=1e-12)
    assert [log[f'dropped_blocks_subnet{i}'] for i in range(3)] == [
        len(subnet.dropped_blocks) for subnet in subnets
    ]


def test_a_network_without_residual_blocks_is_refused():
    with pytest.raises(SlimmingError, match='survival_prob=0.5 draws sub-networks by depth'):
        stock_and_gradaug(
            gradaug_config(survival_prob=0.5, transforms=dict(type='Identity')),
            backbone=dict(type='mmpretrain.VGG', depth=11, norm_cfg=dict(type='BN')),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=512),
        )


def test_depth_and_width_together():
    network = ResNet(18, **SMALL)
    images = torch.randn(2, 3, 32, 32)
    network.eval()
    expected = silenced(network, (1, 4))
    with subnetwork(expected, 0.5):
        expected = expected(images)[-1]
    with subnetwork(network, 0.5), without_blocks(network, (1, 4)):
        assert torch.equal(network(images)[-1], expected)
