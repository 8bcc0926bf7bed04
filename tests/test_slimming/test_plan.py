"""Which channels exist, on networks small enough to work it out by hand."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmgradaug.slimming import (
    SlimmingError,
    kept_channels,
    layer_rule,
    operation_rule,
    plan_channels,
    subnetwork,
)
from mmgradaug.slimming.operations import RULES
from mmgradaug.slimming.rules import LAYER_RULES

X = torch.randn(2, 3, 8, 8, dtype=torch.float64)


def conv(inputs, outputs, **kwargs):
    return nn.Conv2d(inputs, outputs, 1, **kwargs)


@pytest.mark.parametrize(
    ('channels', 'width', 'kept'),
    [(64, 0.9, 58), (64, 0.5, 32), (5, 0.5, 3), (3, 0.1, 1), (512, 0.9, 461), (7, 1.0, 7)],
)
def test_kept_channels(channels, width, kept):
    assert kept_channels(channels, width) == kept


@pytest.mark.parametrize(
    ('channels', 'width', 'kept'),
    [(64, 0.9, 56), (64, 0.95, 64), (64, 0.01, 8), (19, 1.0, 19), (19, 0.99, 16), (5, 0.5, 5)],
)
def test_channels_in_multiples_of_a_divisor(channels, width, kept):
    assert kept_channels(channels, width, 8) == kept


def test_a_divisor_counts_the_channels_of_groups():
    """Three groups of 8 channels each are multiples of 8 anyway; of 4, two at least."""
    for groups, at_width, kept in [(3, 0.3, 8), (6, 0.2, 8), (6, 0.6, 16)]:
        model = nn.Sequential(conv(3, 24), conv(24, 24, groups=groups), conv(24, 2)).double()
        with subnetwork(model, at_width, divisor=8):
            assert model[1].weight.shape[0] == kept
            assert model(X).shape == (2, 2, 8, 8)


class Joins(nn.Module):
    """Two parts of 4 and 6 channels, concatenated."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 4), conv(3, 6), conv(10, 2)

    def forward(self, x):
        return self.c(torch.cat([self.a(x), self.b(x)], dim=1))


def test_a_concatenation_takes_the_first_channels_of_each_part():
    model = Joins().double()
    with subnetwork(model, 0.5):
        found = model(X)
    a, b, w = model.a, model.b, model.c.weight
    parts = [F.conv2d(X, a.weight[:2], a.bias[:2]), F.conv2d(X, b.weight[:3], b.bias[:3])]
    right = F.conv2d(torch.cat(parts, 1), w[:, [0, 1, 4, 5, 6]], model.c.bias)
    whole = F.conv2d(torch.cat(parts, 1), w[:, :5], model.c.bias)
    torch.testing.assert_close(found, right, rtol=0, atol=1e-14)
    assert (found - whole).abs().max() > 0.01
    found.sum().backward()
    assert torch.equal(
        w.grad.abs().sum((0, 2, 3)) > 0, torch.tensor([1, 1, 0, 0, 1, 1, 1, 0, 0, 0]) > 0
    )


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.g, self.b = conv(3, 12), nn.Conv2d(12, 24, 3, groups=4), conv(24, 2)

    def forward(self, x):
        return self.b(self.g(self.a(x)).relu())


def test_groups_exist_as_wholes_and_their_neighbours_round_alike():
    model = Grouped().double()
    # 0.6 of 4 groups are 2.4, so 2: 6 of 12 channels and not 7.
    with subnetwork(model, 0.6):
        assert (model.g.groups, model.a.out_channels, model.a.weight.shape[0]) == (2, 6, 6)
        found = model(X)
    small = nn.Sequential(
        conv(3, 6), nn.Conv2d(6, 12, 3, groups=2), nn.ReLU(), conv(12, 2)
    ).double()
    for layer, full in ((small[0], model.a), (small[1], model.g), (small[3], model.b)):
        layer.weight.data = full.weight.data[: len(layer.weight), : layer.weight.shape[1]]
        layer.bias.data = full.bias.data[: len(layer.bias)]
    assert torch.equal(found, small(X))
    assert (model.g.groups, model.a.out_channels) == (4, 12)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.join = conv(3, 9), Joins()
        self.join.c = conv(10, 9)
        self.join.a, self.join.b = conv(9, 4), conv(9, 6)
        self.head = conv(9, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.join(x))


def test_what_is_added_has_the_same_channels_and_outputs_have_all():
    model = Residual().double()
    for width in np.linspace(0.01, 1, 34):
        with subnetwork(model, float(width)):
            kept = kept_channels(9, width)
            assert model.stem.weight.shape[0] == model.join.c.weight.shape[0] == kept
            assert model(X).shape == (2, 5, 8, 8)


class Attention(nn.Module):
    """Six heads of four channels, with an attribute that has the value six by accident."""

    def __init__(self, dim=24, heads=6, style='qkv'):
        super().__init__()
        self.num_heads, self.ratio, self.style = heads, 6, style
        self.embed = nn.Linear(3, dim)
        self.norm, self.qkv = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim)
        self.proj, self.head = nn.Linear(dim, dim), nn.Linear(dim, 2)

    def forward(self, x):
        x = self.embed(x.flatten(2).transpose(1, 2)[:, :: self.ratio])
        y = self.norm(x)
        b, n, c = y.shape
        q, k, v = (
            self.qkv(y).reshape(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        )
        if self.style == 'fused':
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(b, n, c))
        return self.head(x.mean(1))


@pytest.mark.parametrize('style', ['qkv', 'fused'])
def test_an_attention_has_whole_heads_and_the_embedding_follows(style):
    model = Attention(style=style).double()
    plan = plan_channels(model, X)
    seen = set()
    for width in (0.1, 0.3, 0.5, 0.74, 0.76, 0.9, 1.0):
        heads = kept_channels(6, width)
        with subnetwork(model, width):
            assert (model.num_heads, model.ratio) == (heads, 6)
            assert model.norm.normalized_shape == (4 * heads,)
            small = Attention(4 * heads, heads, style).double()
            for name, value in small.named_parameters():
                value.data = dict(model.named_parameters())[name].detach().clone()
            torch.testing.assert_close(model(X), small(X), rtol=0, atol=1e-12)
        assert plan.used_width(width) == pytest.approx(heads / 6)
        seen.add(heads)
    assert seen == {1, 2, 3, 4, 5, 6}
    # Independently of the plan: query, key and value have their first channels each.
    with subnetwork(model, 0.5):
        rows = model.qkv.weight.detach().clone()
    full = model.qkv.weight.detach().view(3, 24, 24)
    assert torch.equal(rows, full[:, :12, :12].reshape(36, 12))


class Shuffled(nn.Module):
    """A ShuffleNetV2 stage: half passes, half is computed, and they are shuffled."""

    def __init__(self, slices=False):
        super().__init__()
        self.stem = conv(3, 20)
        self.blocks = nn.ModuleList(ShuffleBlock(slices) for _ in range(3))
        self.head = conv(20, 3)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class ShuffleBlock(nn.Module):
    def __init__(self, slices):
        super().__init__()
        self.slices = slices
        self.branch = nn.Sequential(conv(10, 10), nn.BatchNorm2d(10), nn.ReLU())

    def forward(self, x):
        if self.slices:
            half = x.shape[1] // 2
            a, b = x[:, :half], x[:, half:]
        else:
            a, b = x.chunk(2, dim=1)
        y = torch.cat([a, self.branch(b)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


@pytest.mark.parametrize('slices', [False, True])
@pytest.mark.parametrize('width', [0.3, 0.62, 0.9])
def test_split_and_shuffled_channels(slices, width):
    """Equal to the full network with the rest set to zero, though the halves may be uneven."""
    model = Shuffled(slices).double()
    plan = plan_channels(model, X)
    with subnetwork(model, width):
        found = model(X)
    zeroed(model, plan, width)
    torch.testing.assert_close(found, model(X), rtol=0, atol=1e-12)
    assert found.abs().sum() > 0


def zeroed(model, plan, width):
    """Set every parameter of a channel that does not exist to zero, in place."""
    kept = plan.kept(width)
    for name, value in model.named_parameters():
        for dim, selection in plan.selections.get(name, ()):
            rest = ~torch.from_numpy(kept.mask(selection))
            value.data.index_fill_(dim, rest.nonzero()[:, 0], 0.0)


def test_flattening_keeps_each_channel_with_its_positions():
    model = nn.Sequential(conv(3, 8), nn.Flatten(), nn.Linear(8 * 4, 6), nn.Linear(6, 2)).double()
    x = X[:, :, :2, :2]
    plan_channels(model, x)
    with subnetwork(model, 0.5):
        found = model(x)
    w = model[2].weight.view(6, 8, 4)[:3, :4].reshape(3, 16)
    hidden = F.linear(
        F.conv2d(x, model[0].weight[:4], model[0].bias[:4]).flatten(1), w, model[2].bias[:3]
    )
    expected = F.linear(hidden, model[3].weight[:, :3], model[3].bias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


class OverChannels(nn.Module):
    """Attention of channels to channels within a head (XCiT, DaViT): all of the values' channels meet its weights."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv = nn.Linear(3, 16), nn.Linear(16, 48)
        self.project, self.head = nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, -1, 4).permute(2, 0, 3, 4, 1)
        weights = (q @ k.transpose(-2, -1)).softmax(-1)
        return self.head(self.project((weights @ v).permute(0, 3, 1, 2).flatten(2)))


class UnlikeHeads(nn.Module):
    """Keys of 4 channels in a head and values of 6, projected to an embedding that is not the heads' (LeViT)."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv = nn.Linear(3, 20), nn.Linear(20, 4 * 14)
        self.project, self.head = nn.Linear(4 * 6, 20), nn.Linear(20, 2)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = self.qkv(x).view(*x.shape[:2], -1, 14).transpose(1, 2).split([4, 4, 6], -1)
        x = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.head(self.project(x))


@pytest.mark.parametrize('kind', [OverChannels, UnlikeHeads])
def test_two_of_four_heads_and_half_of_what_they_project_to(kind):
    model, x = kind().double(), torch.randn(2, 7, 3, dtype=torch.float64)
    plan = plan_channels(model, x)
    with subnetwork(model, 0.5):
        shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
        found = model(x)
    for name in ('qkv.weight', 'project.weight'):
        assert shapes[name] == tuple(size // 2 for size in model.get_parameter(name).shape)
    zeroed(model, plan, 0.5)
    torch.testing.assert_close(found, model(x), rtol=0, atol=1e-12)


class Pixels(nn.Module):
    """Channels that become pixels and come back, and halves of which one gates the other."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.b, self.c = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(64, 16, 3, padding=1)
        self.d, self.e = conv(16, 40), conv(20, 5)

    def forward(self, x):
        x = self.b(F.pixel_shuffle(self.norm(self.a(x)), 2))
        return self.e(F.glu(self.d(self.c(F.pixel_unshuffle(x, 2))), 1))


def test_channels_that_become_pixels_and_gated_halves():
    model = Pixels().double()
    plan_channels(model, X)
    with subnetwork(model, 0.5):
        found = model(X)
    a, norm, b, c, d, e = model.children()
    x = F.conv2d(X, a.weight[:16], a.bias[:16], padding=1)
    x = F.batch_norm(x, None, None, norm.weight[:16], norm.bias[:16], True)
    x = F.conv2d(F.pixel_shuffle(x, 2), b.weight[:8, :4], b.bias[:8], padding=1)
    x = F.conv2d(F.pixel_unshuffle(x, 2), c.weight[:8, :32], c.bias[:8], padding=1)
    halves = [*range(10), *range(20, 30)]
    x = F.glu(F.conv2d(x, d.weight[halves][:, :8], d.bias[halves]), 1)
    expected = F.conv2d(x, e.weight[:, :10], e.bias)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


class Sorts(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.rank, self.b = conv(3, 8), nn.Module(), conv(8, 2)
        self.rank.forward = lambda x: torch.sort(x, dim=1).values

    def forward(self, x):
        return self.b(self.rank(self.a(x)))


def test_an_unknown_operation_is_refused_by_name_until_a_rule_is_given():
    with pytest.raises(SlimmingError, match=r"'rank' has no sub-networks .* aten\.sort\.default"):
        plan_channels(Sorts(), X.float())

    @operation_rule(torch.ops.aten.sort)
    def _(labels, call):
        labels.always(call.shadows[0].factors[0])  # ranks need every channel
        return [[], []]

    try:
        with pytest.raises(SlimmingError, match='no channels that could be narrowed'):
            plan_channels(Sorts(), X.float())
    finally:
        del RULES[torch.ops.aten.sort]


class Pairs(nn.Module):
    """Adds neighbouring channels, whose number it keeps in a way that no value shows."""

    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3, 8), conv(4, 2)
        self.config = dict(pairs=4)

    def forward(self, x):
        n, _, h, w = x.shape
        return self.b(self.a(x).view(n, self.config['pairs'], 2, h, w).sum(2))


def test_a_layer_rule_says_what_no_attribute_shows():
    with pytest.raises(SlimmingError, match="'Pairs' cannot be slimmed"):
        plan_channels(Pairs(), X.float())
    layer_rule(Pairs)(lambda layer, narrowed: {'config': dict(pairs=narrowed.size(4))})
    try:
        model = Pairs().double()
        plan_channels(model, X)
        with subnetwork(model, 0.5):
            assert model(X).shape == (2, 2, 8, 8) and model.a.weight.shape[0] == 4
        assert model.config == dict(pairs=4)
    finally:
        del LAYER_RULES[Pairs]


def test_nothing_to_narrow_and_no_example_are_said():
    with pytest.raises(SlimmingError, match='no channels that could be narrowed'):
        plan_channels(conv(3, 4), X.float())

    class NeedsTwo(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = conv(3, 8), conv(8, 2)

        def forward(self, x, y):
            return self.b(self.a(x) + self.a(y))

    with pytest.raises(SlimmingError, match='example_input=tensor'):
        plan_channels(NeedsTwo())
    # Where the size of the images is the reason, a linear layer is no misfit.
    fixed = nn.Sequential(conv(3, 8), nn.Flatten(), nn.Linear(8 * 20 * 20, 3))
    with pytest.raises(SlimmingError, match='example_input=tensor'):
        plan_channels(fixed)
    plan = plan_channels(NeedsTwo(), (X.float(), X.float()))
    assert list(plan.runs) == [8]


def test_only_chosen_parts_are_narrowed():
    model = nn.ModuleDict(
        dict(
            backbone=nn.Sequential(conv(3, 8), conv(8, 8)),
            head=nn.Sequential(conv(8, 6), conv(6, 2)),
        )
    )
    run = lambda m, x: m['head'](m['backbone'](x))  # noqa: E731
    plan_channels(model, X.float(), forward=run, within=['backbone'])
    with subnetwork(model, 0.5):
        assert model['backbone'][1].weight.shape[:2] == (4, 4)
        assert model['head'][0].weight.shape[:2] == (6, 4)
    plan_channels(model, X.float(), forward=run)
    with subnetwork(model, 0.5):
        assert model['head'][0].weight.shape[:2] == (3, 4)


def test_parts_that_do_not_exist_are_named():
    model = nn.ModuleDict(dict(backbone=conv(3, 8), head=conv(8, 2)))
    run = lambda m, x: m['head'](m['backbone'](x))  # noqa: E731
    with pytest.raises(SlimmingError, match="no submodule 'haed', .* such as backbone, head"):
        plan_channels(model, X.float(), forward=run, within=['backbone', 'haed'])


def test_inside_autocast_the_plan_is_the_same():
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), conv(8, 8), nn.Flatten(), nn.LazyLinear(2))
    model(X.float())
    plan = plan_channels(model, X.float())
    with torch.autocast('cpu', torch.bfloat16):
        inside = plan_channels(model, X.float())
    assert list(inside.runs) == list(plan.runs) == [8, 8]


def test_inside_inference_mode_there_are_subnetworks():
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), conv(8, 2)).eval()
    with torch.no_grad(), subnetwork(model, 0.5):
        expected = model(X.float())
    again = copy.deepcopy(model)  # not planned yet
    with torch.inference_mode(), subnetwork(again, 0.5):
        torch.testing.assert_close(again(X.float()), expected)


@pytest.mark.parametrize('kind', ['weight_norm', 'spectral_norm'])
def test_parametrized_layers_are_right_or_refused(kind):
    from torch.nn.utils import parametrizations

    model = nn.Sequential(
        conv(3, 8), getattr(parametrizations, kind)(conv(8, 8)), conv(8, 2)
    ).double()
    try:
        plan_channels(model, X)
    except SlimmingError as error:
        assert kind == 'spectral_norm' and "'1.parametrizations.weight.0'" in str(error)
        return
    with subnetwork(model, 0.5):
        found = model(X)
    v, g = (
        p.detach()
        for p in (
            model[1].parametrizations.weight.original1,
            model[1].parametrizations.weight.original0,
        )
    )
    small = v[:4, :4] * (g[:4] / v[:4, :4].flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    hidden = F.conv2d(F.conv2d(X, model[0].weight[:4], model[0].bias[:4]), small, model[1].bias[:4])
    torch.testing.assert_close(found, F.conv2d(hidden, model[2].weight[:, :4], model[2].bias))


def test_the_width_that_is_logged_is_the_share_of_channels():
    model = nn.Sequential(conv(3, 10), conv(10, 30), conv(30, 2))
    plan = plan_channels(model, X.float())
    assert plan.used_width(0.25) == pytest.approx((3 + 8) / 40)
    assert math.isclose(plan.used_width(1.0), 1.0)


@pytest.mark.parametrize('groups', [1, 4, 12])
def test_group_norm_has_whole_groups(groups):
    def net(channels, groups):
        norm = nn.GroupNorm(groups, channels)
        return nn.Sequential(
            conv(3, channels), norm, nn.PReLU(channels), conv(channels, 2)
        ).double()

    full = net(12, groups)
    for parameter in full.parameters():
        nn.init.normal_(parameter)
    left = kept_channels(groups, 0.6) if groups > 1 else 1
    channels = 12 // groups * left if groups > 1 else kept_channels(12, 0.6)
    small = net(channels, left)
    for a, b in zip(small.parameters(), full.parameters()):
        a.data = b.data[tuple(slice(size) for size in a.shape)]
    plan_channels(full, X)
    with subnetwork(full, 0.6):
        assert full[1].num_groups == left
        torch.testing.assert_close(full(X), small(X), rtol=0, atol=1e-12)
    assert full[1].num_groups == groups


def test_what_is_trained_too_is_planned_too():
    """A branch that runs in training alone, as auxiliary heads do."""

    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.aux = conv(3, 8), conv(8, 2), conv(8, 3)

        def forward(self, x):
            x = self.a(x)
            return (self.b(x), self.aux(x)) if self.training else self.b(x)

    model = Auxiliary().double()
    with subnetwork(model, 0.5):
        assert model.aux.weight.shape[:2] == (3, 4)
        assert [y.shape[1] for y in model(X)] == [2, 3]
