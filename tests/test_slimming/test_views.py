"""When and how a sub-network's gradients reach the full parameters."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmgradaug.slimming import plan_channels, subnetwork

X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double()


def network():
    """3 -> 10 -> 14 -> 12 -> 2 channels."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 10, 3),
        nn.Tanh(),
        nn.Conv2d(10, 14, 1),
        nn.Tanh(),
        nn.Conv2d(14, 12, 1),
        nn.Conv2d(12, 2, 1),
    ).double()
    plan_channels(net, X)
    return net


def sliced(net):
    """The parameters that are left at width 0.5."""
    left = {
        '0.weight': net[0].weight[:5], '0.bias': net[0].bias[:5],
        '2.weight': net[2].weight[:7, :5], '2.bias': net[2].bias[:7],
        '4.weight': net[4].weight[:6, :7], '4.bias': net[4].bias[:6],
        '5.weight': net[5].weight[:, :6], '5.bias': net[5].bias,
    }  # fmt: skip
    assert list(left) == list(dict(net.named_parameters()))
    return left


def loss_of(net, x=X):
    return net(x).square().sum()


def by_hand(net, x=X):
    """The loss of width 0.5, from slices."""
    return torch.func.functional_call(net, sliced(net), x).square().sum()


def pair(filled):
    """Two equal networks, whose gradients are there already or not."""
    nets = network(), network()
    for net in nets:
        if filled:
            loss_of(net).backward()
    return nets


def assert_same_gradients(found, expected):
    for (name, one), other in zip(found.named_parameters(), expected.parameters()):
        assert torch.equal(one.grad, other.grad), name


def order_of_backward(net, run):
    """Layers in the order in which their backward passes begin and their weights' gradients are added."""
    events = []
    layers = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    handles = []

    def watch(number):
        def watch_output(layer, inputs, output):
            output.register_hook(lambda grad: events.append(('backward', number)))

        handles.append(layers[number].register_forward_hook(watch_output))
        handles.append(
            layers[number].weight.register_post_accumulate_grad_hook(
                lambda weight: events.append(('added', number))
            )
        )

    for number in range(len(layers)):
        watch(number)
    run(net)
    for handle in handles:
        handle.remove()
    return events


def test_each_layers_gradient_is_added_before_the_layer_before_it_goes_backward():
    net = network()
    expected = [(what, layer) for layer in (3, 2, 1, 0) for what in ('backward', 'added')]
    assert order_of_backward(net, lambda net: loss_of(net).backward()) == expected

    def run(net):
        with subnetwork(net, 0.5):
            loss_of(net).backward()

    for _ in range(2):  # without and with gradients that are there already
        assert order_of_backward(net, run) == expected

    def nested(net):
        with subnetwork(net, 0.5):
            with subnetwork(net, 0.8):
                loss_of(net).backward()
            loss_of(net).backward()

    assert order_of_backward(net, nested) == 2 * expected


def test_gradients_are_there_while_earlier_layers_go_backward():
    """The same without a hook on the parameters."""
    net, _ = pair(filled=True)
    full = dict(net.named_parameters())
    before = {name: value.grad.clone() for name, value in full.items()}
    changed = []

    def look(grad):
        changed.append([n for n in full if not torch.equal(full[n].grad, before[n])])

    with subnetwork(net, 0.5):
        hidden = net[:3](X)
        hidden.register_hook(look)
        net[3:](hidden).square().sum().backward()
    assert changed == [['4.weight', '4.bias', '5.weight', '5.bias']]


@pytest.mark.parametrize('filled', [False, True])
def test_gradients_equal_those_of_slices_bit_for_bit(filled):
    net, expected = pair(filled)
    with subnetwork(net, 0.5):
        loss = loss_of(net)
        loss.backward(retain_graph=True)
        loss.backward()
    loss = by_hand(expected)
    loss.backward(retain_graph=True)
    loss.backward()
    assert_same_gradients(net, expected)
    assert net[2].weight.grad[7:].eq(0).all() != filled


def test_channels_last():
    net, expected = (each.to(memory_format=torch.channels_last) for each in pair(filled=False))
    x = X.to(memory_format=torch.channels_last)
    for _ in range(2):
        with subnetwork(net, 0.5):
            loss_of(net, x).backward()
        by_hand(expected, x).backward()
    assert_same_gradients(net, expected)
    assert net[0].weight.grad.stride() == net[0].weight.stride()


@pytest.mark.parametrize('filled', [False, True])
def test_gradients_that_are_asked_for_are_given_and_not_added(filled):
    net, expected = pair(filled)
    before = copy.deepcopy([p.grad for p in net.parameters()])
    parameters = list(net.parameters())
    with subnetwork(net, 0.5):
        found = torch.autograd.grad(loss_of(net), parameters)
    wanted = torch.autograd.grad(by_hand(expected), list(expected.parameters()))
    for full, one, other, old in zip(parameters, found, wanted, before):
        assert torch.equal(one, other)
        assert full.grad is old if old is None else torch.equal(full.grad, old)


def test_backward_to_some_parameters_alone():
    net, expected = pair(filled=True)
    chosen = net[4].weight
    with subnetwork(net, 0.5):
        loss_of(net).backward(inputs=[chosen])
    by_hand(expected).backward(inputs=[expected[4].weight])
    assert_same_gradients(net, expected)


@pytest.mark.parametrize('filled', [False, True])
def test_hooks_of_parameters_see_gradients_of_full_size(filled):
    net, expected = pair(filled)
    seen = []
    for each in (net, expected):
        each[2].weight.register_hook(lambda grad: 3 * grad)
        each[2].bias.register_hook(lambda grad: seen.append(grad))
        each[4].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    with subnetwork(net, 0.5):
        loss_of(net).backward()
    by_hand(expected).backward()
    assert_same_gradients(net, expected)
    assert [tuple(each.shape) for each in seen] == 2 * [(12, 14, 1, 1), (14,)]
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])


def penalty(loss, parameters):
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    return sum(each.square().sum() for each in gradients)


@pytest.mark.parametrize('filled', [False, True])
def test_a_penalty_on_gradients(filled):
    net, expected = pair(filled)
    parameters = list(net.parameters())
    with subnetwork(net, 0.5):
        penalty(loss_of(net), parameters).backward()
    penalty(by_hand(expected), list(expected.parameters())).backward()
    for one, other in zip(net.parameters(), expected.parameters()):
        torch.testing.assert_close(one.grad, other.grad)


def test_gradients_that_can_be_differentiated_again():
    net, expected = pair(filled=True)
    old = net[2].weight.grad
    before = old.clone()
    with subnetwork(net, 0.5):
        loss_of(net).backward(create_graph=True)
    assert torch.equal(old, before)  # as autograd adds where it may have to go on
    by_hand(expected).backward(create_graph=True)
    for each in (net, expected):
        (second,) = torch.autograd.grad(each[2].weight.grad.square().sum(), [each[4].weight])
        each[4].weight.grad = second
    torch.testing.assert_close(net[4].weight.grad, expected[4].weight.grad)
    assert net[4].weight.grad.abs().max() > 1


class Repeats(nn.Module):
    """A layer that is called three times, and one whose weight is another's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.inner, self.tied = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.tied.weight = self.inner.weight
        self.last = nn.Linear(8, 2)
        self.double()

    def forward(self, x):
        x = self.first(x)
        for _ in range(3):
            x = x + self.inner(x).tanh()
        return self.last(x + self.tied(x).tanh())


def test_layers_that_are_called_several_times_and_parameters_that_are_tied():
    net, expected = Repeats(), Repeats()
    x = X.permute(0, 2, 3, 1)
    plan_channels(net, x)
    seen = []
    net.inner.register_forward_hook(lambda layer, *_: seen.append(layer.weight))
    for _ in range(2):  # without and with gradients that are there already
        seen.clear()
        with subnetwork(net, 0.5):
            loss_of(net, x).backward()
        assert len(seen) == 3 and all(view is seen[0] for view in seen)
        left = {'first.weight': expected.first.weight[:4], 'first.bias': expected.first.bias[:4]}
        for name in ('inner', 'tied'):
            left[f'{name}.weight'] = expected.inner.weight[:4, :4]
            left[f'{name}.bias'] = expected.get_submodule(name).bias[:4]
        left['last.weight'] = expected.last.weight[:, :4]
        torch.func.functional_call(expected, left, x, tie_weights=False).square().sum().backward()
        for one, other in zip(net.parameters(), expected.parameters()):
            torch.testing.assert_close(one.grad, other.grad)


def test_channels_that_are_not_the_first_ones():
    """Those that read a concatenation keep the first of each part."""

    class Concatenates(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.out = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(12, 2)
            self.double()

        def forward(self, x):
            return self.out(torch.cat([self.a(x), self.b(x)], -1).tanh())

    net, expected = Concatenates(), Concatenates()
    x = X.permute(0, 2, 3, 1)
    for _ in range(2):
        with subnetwork(net, 0.5):
            loss_of(net, x).backward()
        left = {f'{n}.{k}': p[:3] for n in 'ab' for k, p in getattr(expected, n).named_parameters()}
        left['out.weight'] = expected.out.weight[:, [0, 1, 2, 6, 7, 8]]
        torch.func.functional_call(expected, left, x).square().sum().backward()
    assert_same_gradients(net, expected)
    assert net.out.weight.grad[:, 3:6].eq(0).all() and net.out.weight.grad[:, :3].ne(0).all()


def test_frozen_parameters_get_no_gradient():
    net, _ = pair(filled=False)
    net[2].requires_grad_(False)
    with subnetwork(net, 0.5):
        loss_of(net).backward()
    assert net[2].weight.grad is None and net[4].weight.grad is not None


def test_other_values_in_place_of_the_narrow_ones():
    net, expected = pair(filled=False)
    other = {'2.weight': torch.full((7, 5, 1, 1), 0.1, dtype=torch.float64)}
    with subnetwork(net, 0.5):
        found = torch.func.functional_call(net, other, X)
    assert torch.equal(
        found, torch.func.functional_call(expected, {**sliced(expected), **other}, X)
    )
    assert not torch.equal(found, torch.func.functional_call(expected, sliced(expected), X))


def test_transforms_of_functions():
    net, expected = pair(filled=False)
    sample = lambda x: loss_of(net, x[None])  # noqa: E731
    with subnetwork(net, 0.5):
        found = torch.func.vmap(torch.func.grad(sample))(X)
        _, tangent = torch.func.jvp(lambda x: loss_of(net, x), (X,), (X,))
    x = X.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(by_hand(expected, x), x)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(tangent, (wanted * X).sum())


def test_narrow_parameters_can_be_watched_and_asked_for():
    """They are the same tensors from the beginning of the context to its end."""
    net, expected = pair(filled=False)
    left = sliced(expected)
    loss = torch.func.functional_call(expected, left, X).square().sum()
    wanted = torch.autograd.grad(loss, list(left.values()))
    with subnetwork(net, 0.5):
        narrow, seen = list(net.parameters()), []
        narrow[1].register_hook(seen.append)
        narrow[2].retain_grad()
        loss = loss_of(net)
        found = torch.autograd.grad(loss, narrow, retain_graph=True)
        loss.backward()
        assert all(a is b for a, b in zip(narrow, net.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted))
    assert len(seen) == 2 and torch.equal(seen[1], wanted[1])
    assert torch.equal(narrow[2].grad, 2 * wanted[2])  # of both calls


def test_activation_checkpointing_of_channels_that_are_not_the_first_ones():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.out = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(12, 2, 1)
            self.on = False

        def joined(self, x):
            return self.out(torch.cat([self.a(x), self.b(x)], 1).tanh())

        def forward(self, x):
            return checkpoint(self.joined, x, use_reentrant=False) if self.on else self.joined(x)

    found, expected = Checkpointed(), Checkpointed()
    plan_channels(found, X.float())
    plan_channels(expected, X.float())
    found.on = True
    for each in (found, expected):
        with subnetwork(each, 0.5):
            loss_of(each, X.float()).backward()
    assert_same_gradients(found, expected)


def test_nothing_is_left_behind():
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    plan_channels(net)
    gc.collect()
    gc.disable()
    try:
        for called in (False, True):
            with subnetwork(net, 0.5):
                held = [weakref.ref(value) for value in (net[0].weight, net[1].running_mean)]
                if called:
                    loss_of(net, torch.ones(4, 3)).backward()
                    held.append(weakref.ref(net[0].weight))
            assert [each() for each in held] == [None] * len(held)
    finally:
        gc.enable()
    copy.deepcopy(net)


def test_compiled_once_for_each_width():
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    net, expected = pair(filled=False)
    net.compile(backend='eager', dynamic=False)
    for width in (1.0, 0.5, 0.8, 0.5, 1.0, 0.8, 0.5):
        for each in (net, expected):
            with subnetwork(each, width):
                loss_of(each).backward()
    # At width 1.0 the network is what it is outside.
    assert counters['stats']['unique_graphs'] == 3 and not counters['graph_break']
    assert_same_gradients(net, expected)
    torch._dynamo.reset()
