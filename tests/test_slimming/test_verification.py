"""What runs in a sub-network and computes something else is refused before training, although shapes fit."""

import pytest
import torch
from torch import nn

from mmgradaug import GradAug, Identity
from mmgradaug.slimming import (
    SlimmingError,
    plan_channels,
    planning,
    residual_blocks,
    subnetwork,
)

X = torch.randn(2, 3, 8, 8, dtype=torch.float64)


class Between(nn.Module):
    """A convolution, something done to its 12 channels, and another convolution."""

    def __init__(self, change, inputs=12):
        super().__init__()
        self.a, self.b, self.change = nn.Conv2d(3, 12, 1), nn.Conv2d(inputs, 2, 1), change

    def forward(self, x):
        return self.b(self.change(self.a(x)))


def first_four_to_zero(y):
    y = y.clone()
    y[:, :4] = 0
    return y


def normalised_in_four_groups(y):
    groups = y.reshape(len(y), 4, -1, *y.shape[2:])
    return (groups / groups.var((2, 3, 4), keepdim=True)).flatten(1, 2)


def gated_by_the_last_but_one(y):
    return y * y[:, -2].unsqueeze(1)


@pytest.mark.parametrize(
    'change',
    [
        first_four_to_zero,
        normalised_in_four_groups,
        gated_by_the_last_but_one,
        lambda y: torch.roll(y, 1, dims=1) + y,
        lambda y: y + y.narrow(1, 0, 4).sum(1, keepdim=True),
        lambda y: torch.cat(torch.tensor_split(y, [3, 10], dim=1)[::-1], 1),
    ],
)
def test_positions_that_mean_something_else_are_refused_or_right(change):
    model = Between(change).double()
    try:
        plan = plan_channels(model, X, widths=(0.45, 0.75))
    except SlimmingError:
        return
    for width in (0.3, 0.5, 0.75, 0.9):
        with subnetwork(model, width):
            found = model(X)
        zeroed = Between(change).double()
        zeroed.load_state_dict(model.state_dict())
        kept = plan.kept(width)
        for name, value in zeroed.named_parameters():
            for dim, selection in plan.selections.get(name, ()):
                rest = ~torch.from_numpy(kept.mask(selection))
                value.data.index_fill_(dim, rest.nonzero()[:, 0], 0.0)
        torch.testing.assert_close(found, zeroed(X), rtol=0, atol=1e-9)


@pytest.mark.parametrize('change', [normalised_in_four_groups, gated_by_the_last_but_one])
def test_these_are_refused(change):
    with pytest.raises(SlimmingError, match='cannot be slimmed'):
        plan_channels(Between(change).double(), X)


@pytest.mark.parametrize('change', [normalised_in_four_groups, gated_by_the_last_but_one])
@pytest.mark.parametrize('mode', [True, False], ids=['training', 'evaluation'])
def test_these_are_refused_in_either_mode(change, mode):
    class InOneMode(Between):
        def forward(self, x):
            y = nn.functional.relu(self.a(x))
            return self.b(self.change(y) if self.training is mode else y)

    with pytest.raises(SlimmingError, match='cannot be slimmed'):
        plan_channels(InOneMode(change).double(), X)


class DropSomething(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x) if self.training else x.sigmoid()


@pytest.mark.parametrize(
    ('between', 'tried'),
    [
        (lambda y, training: y, 1),
        (nn.Dropout(0.5), 1),
        (lambda y, training: y.sigmoid() if training else y, 2),
        (lambda y, training: y.flatten(2).view(len(y), -1 if training else y.shape[1], *X.shape[2:]), 2),
        (DropSomething(), 2),
    ],
    ids=['plain', 'dropout', 'another operation', 'another size', 'more than a dropout'],
)  # fmt: skip
def test_evaluation_is_tried_where_it_does_something_else(between, tried, monkeypatch):
    class Network(Between):
        def forward(self, x):
            y = self.a(x)
            is_module = isinstance(between, nn.Module)
            return self.b(self.change(y) if is_module else between(y, self.training))

    runs = []
    original = planning.check_subnetwork
    monkeypatch.setattr(
        planning,
        'check_subnetwork',
        lambda *args, **more: runs.append(1) or original(*args, **more),
    )
    plan_channels(Network(between if isinstance(between, nn.Module) else nn.Identity()).double(), X)
    assert len(runs) == tried


def test_outputs_that_cannot_be_seen_are_refused_and_mappings_are_seen():
    class Result(dict):
        pass

    class Slots:
        __slots__ = ('logits',)

        def __init__(self, logits):
            self.logits = logits

    for wrap in (lambda y: Result(logits=y), Slots):
        model = Between(lambda y: y)
        model.register_forward_hook(lambda module, args, output, wrap=wrap: wrap(output))
        plan_channels(model, X.float())
        with subnetwork(model, 0.5):
            assert model.b.weight.shape[:2] == (2, 6)
    model = Between(lambda y: y)
    model.register_forward_hook(lambda module, args, output: lambda: output)
    with pytest.raises(SlimmingError, match='no tensor is found'):
        plan_channels(model, X.float())


def test_a_scaled_shortcut_is_no_shortcut():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(6, 6, 1)

        def forward(self, x):
            return torch.add(self.conv(x), x, alpha=2)

    assert residual_blocks(nn.Sequential(nn.Conv2d(3, 6, 1), Scaled(), nn.Conv2d(6, 2, 1))) == []


def test_a_context_entered_without_gradients_still_gives_them():
    model = Between(torch.relu).double()
    plan_channels(model, X)
    with torch.no_grad():
        with subnetwork(model, 0.5), torch.enable_grad():
            model(X).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_batch_norm_of_anothers_making_does_not_move_its_statistics():
    class Naive(nn.BatchNorm2d):
        def forward(self, x):
            self.running_mean += 0.1 * x.detach().mean((0, 2, 3))
            return super().forward(x)

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Naive(8), nn.Conv2d(8, 2, 1)).double()
    plan_channels(model, X)
    with subnetwork(model, 0.5):
        model(X)
    assert model[1].running_mean.eq(0).all()


def test_planned_pieces_under_activation_checkpointing_are_refused():
    class Pieces(nn.Module):
        with_cp = True

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            x, y = self.a(x).chunk(2, 1)
            return self.b(x * y)

    with pytest.raises(SlimmingError, match='with_cp=False'):
        plan_channels(Pieces(), X.float())


def test_a_criterion_that_works_in_place_leaves_the_soft_labels_alone():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)

        def forward(self, x):
            return self.fc(self.conv(x).mean((2, 3)))

    seen = []

    def soft_label_loss(logits, soft_labels):
        seen.append(soft_labels.clone())
        return (logits - soft_labels).square().mean()

    model = Pooled().double()
    gradaug = GradAug(model, 1, 0.5, Identity(), example_input=X, soft_label_loss=soft_label_loss)
    expected = model(X).detach()
    gradaug.backward(X, None, lambda outputs, _: outputs.mul_(3).sum())
    assert torch.equal(seen[0], expected)


def test_small_transformers_of_any_image_size_are_planned():
    from torchvision.models.vision_transformer import VisionTransformer

    for size in (32, 224):
        model = VisionTransformer(size, size // 4, 2, 2, 16, 32, num_classes=5)
        with subnetwork(model, 0.5):
            assert model.hidden_dim == 8


class Pieces(nn.Module):
    """A linear layer, something done to some of its 16 channels by number, and another one."""

    def __init__(self, change):
        super().__init__()
        self.a, self.b, self.change = nn.Linear(3, 16), nn.Linear(16, 2), change

    def forward(self, x):
        return self.b(self.change(self.a(x)))


def zeroed(y, *index):
    y = y.clone()
    y[index] = 0
    return y


def shifted(y):
    return torch.cat([y[..., :4].roll(1, 1), y[..., 4:]], -1)


def in_place(y):
    y = y.clone()
    y[:, 1:, :4] = y[:, :-1, :4].clone()
    return y


@pytest.mark.parametrize(
    'change',
    [
        shifted,
        in_place,
        lambda y: zeroed(y, ..., slice(4, 8)),
        lambda y: zeroed(y, slice(None), slice(None), slice(0, 2)),
        lambda y: y + y.narrow(-1, 2, 2).sum(-1, keepdim=True),
        lambda y: y + y[..., -2:].sum(-1, keepdim=True),
        lambda y: y + y[:, 0, 4:8].sum(-1)[:, None, None],
        lambda y: y + y[:, None, ..., 4:8].sum(-1).transpose(1, 2),
        lambda y: y + y[..., 6:7],
    ],
)
@pytest.mark.parametrize('width', [0.2, 0.3, 0.45, 0.6, 0.77])
def test_channels_that_are_sliced_by_number_are_the_planned_ones(change, width):
    """However the slice is written: equal to the full network without the rest, at widths not tried out too."""
    model, x = Pieces(change).double(), torch.randn(2, 7, 3, dtype=torch.float64)
    plan = plan_channels(model, x, widths=(0.5, 0.75))
    with subnetwork(model, width):
        found = model(x)
    kept = plan.kept(width)
    ((_, selection),) = plan.selections['a.bias']
    gone = ~torch.from_numpy(kept.mask(selection))
    assert gone.any()
    for value in (model.a.weight, model.a.bias, model.b.weight.t()):
        value.data[gone] = 0
    torch.testing.assert_close(found, model(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    'change',
    [
        lambda y: y[..., ::4],
        lambda y: y[:, :, torch.arange(4)],
        lambda y: torch.ops.aten.slice.Tensor(y, -1, 4, 8),
    ],
)
def test_slices_that_cannot_be_followed_are_refused_or_kept(change):
    model = nn.Sequential(nn.Linear(3, 16), Pieces(lambda y: y)).double()
    model[1].a = nn.Linear(4, 16).double()
    model[1].forward = lambda x: model[1].b(model[1].a(change(x)))
    try:
        plan = plan_channels(model, torch.randn(2, 7, 3, dtype=torch.float64))
    except SlimmingError:
        return
    assert '0.bias' not in plan.selections


class Halved(nn.Module):
    def __init__(self, channels, inner=None):
        super().__init__()
        self.inner, half = inner, channels // 2
        self.c = nn.Conv2d(3, channels, 1)
        self.f, self.g = nn.Conv2d(half, 5, 1), nn.Conv2d(half, 5, 1)

    def forward(self, x):
        y = 0 if self.inner is None else self.inner(x)
        x = self.c(x)
        half = x.shape[1] // 2
        if self.inner is None:
            second, first = x[:, half:], x[:, :half]
        else:
            first, second = x[:, :half], x[:, half:]
        return y + self.g(second) + self.f(first)


@pytest.mark.parametrize('width', [0.2, 0.33, 0.43, 0.5])
def test_pieces_of_one_module_are_not_those_of_the_module_around_it(width):
    """At some of these widths the pieces of both have the same size."""
    model = Halved(44, Halved(40)).double()
    plan_channels(model, X, widths=(0.3, 0.65))
    with subnetwork(model, width):
        found = model(X)
    expected = 0
    for channels, prefix in ((44, ''), (40, 'inner.')):
        alone = Halved(channels).double()
        alone.load_state_dict({k: model.state_dict()[prefix + k] for k in alone.state_dict()})
        plan_channels(alone, X)
        with subnetwork(alone, width):
            expected = expected + alone(X)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_pieces_begin_anew_after_an_error():
    def change(y):
        first = y[..., :4]
        if stops:
            raise ValueError('between two slices')
        return torch.cat([y[..., 4:], first], -1)

    stops, x = False, torch.randn(2, 7, 3, dtype=torch.float64)
    model = Pieces(change).double()
    plan_channels(model, x)
    with subnetwork(model, 0.45):
        expected = model(x)
        stops = True
        with pytest.raises(ValueError, match='between'):
            model(x)
        stops = False
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


class Strided(nn.Module):
    def __init__(self, shortcut):
        super().__init__()
        self.branch, self.shortcut = nn.Conv2d(8, 8, 3, 2, 1), shortcut

    def forward(self, x):
        return (self.shortcut(x) + self.branch(x)).relu()


@pytest.mark.parametrize(
    'shortcut', [lambda x: x[:, :, ::2, ::2], lambda x: nn.functional.avg_pool2d(x, 2)]
)
def test_a_computed_shortcut_beside_one_layer_is_no_block(shortcut):
    """Which of the two is the branch cannot be told; its shortcut, once left out, would be the branch."""
    block = nn.Sequential(Strided(shortcut))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), block, nn.Conv2d(8, 2, 1)).double()
    plan_channels(model, X)
    assert residual_blocks(model) == []


def test_statistics_stay_where_a_batch_norm_is_computed_by_hand():
    class ByHand(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

        def forward(self, x):
            n = self.norm
            x = nn.functional.batch_norm(
                self.a(x), n.running_mean, n.running_var, n.weight, n.bias, True
            )
            return self.b(x)

    model = ByHand().double()
    plan_channels(model, X)
    with subnetwork(model, 0.5):
        model(X)
    assert not model.norm.running_mean.any()
    model(X)
    assert model.norm.running_mean.any()


def test_one_parameter_in_two_places_stays_one_in_a_large_network():
    class Shared(nn.Module):
        def __init__(self, width=2100):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(i, width) for i in (8, width, width))
            self.d, self.o = nn.Linear(width, width), nn.Linear(width, 2)
            self.c.weight = self.b.weight

        def forward(self, x):
            x = self.b(self.a(x))
            return self.o(self.d(x)), self.c(x)

    with torch.device('meta'):
        model, x = Shared(), torch.zeros(2, 8)
    plan_channels(model, x)
    with subnetwork(model, 0.5):
        assert model.b.weight.shape == model.c.weight.shape
