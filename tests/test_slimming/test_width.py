"""Entering and leaving sub-networks."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmgradaug.slimming import SlimmingError, buffers_kept, is_narrowed, plan_channels, subnetwork


def small_net():
    return nn.Sequential(
        nn.Conv2d(3, 10, 1),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.Conv2d(10, 10, 1),
        nn.Conv2d(10, 2, 1),
    )


X = torch.randn(4, 3, 5, 5)


def channels(net):
    assert net(X).shape[1] == 2
    return net[0](X).shape[1]


def everything(net):
    """All that a context may have touched, by identity."""
    found = {}
    for name, module in net.named_modules():
        for key, value in vars(module).items():
            if key in ('_parameters', '_buffers'):
                found.update({(name, key, k): id(v) for k, v in value.items()})
            elif not key.startswith('_'):
                found[name, key] = value
        found[name] = sorted(vars(module))
    return found


def test_nests_and_leaves_everything_as_it_was_after_an_exception_too():
    net = small_net()
    before = everything(net)
    with subnetwork(net, 0.5):
        assert channels(net) == 5
        with subnetwork(net, 0.8):
            assert channels(net) == 8
            with pytest.raises(KeyError), subnetwork(net, 0.2):
                assert channels(net) == 2
                raise KeyError
            assert channels(net) == 8
        assert channels(net) == 5 and is_narrowed(net[0])
    assert everything(net) == before
    with pytest.raises(KeyError), subnetwork(net, 0.5):
        raise KeyError
    assert everything(net) == before and not is_narrowed(net[0])


def test_two_models_and_a_copy_do_not_meet():
    one, other = small_net(), small_net()
    twin = copy.deepcopy(one)
    with subnetwork(one, 0.5):
        assert (channels(one), channels(other), channels(twin)) == (5, 10, 10)
        with subnetwork(twin, 0.2):
            assert (channels(one), channels(twin)) == (5, 2)


def test_copies_pickles_and_saves_work_outside_and_are_refused_inside():
    net = small_net()
    with subnetwork(net, 0.5):
        for attempt in (
            lambda: copy.deepcopy(net),
            lambda: pickle.dumps(net),
            lambda: torch.save(net, io.BytesIO()),
            lambda: net.state_dict(),
            lambda: copy.deepcopy(net[0]),
        ):
            with pytest.raises(SlimmingError, match='leave the context'):
                attempt()
    x = net(X)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(X), x)
    assert list(net.state_dict()) == list(small_net().state_dict())


@pytest.mark.parametrize('width', [0, -0.5, 1.0000001, float('nan')])
def test_width_out_of_range(width):
    with (
        pytest.raises(ValueError, match=r'width must be in \(0, 1\]'),
        subnetwork(small_net(), width),
    ):
        pass


def test_nothing_is_converted_and_the_full_network_is_bit_for_bit_the_stock_one():
    net = small_net()
    twin = copy.deepcopy(net)
    types = [type(m) for m in net.modules()]
    plan_channels(net)
    with subnetwork(net, 0.5):
        net(X)
    assert [type(m) for m in net.modules()] == types
    for each in (net, twin):
        each(X).square().sum().backward()
    for a, b in zip(net.parameters(), twin.parameters()):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(net.buffers(), twin.buffers()):
        assert torch.equal(a, b)


def test_gradients_reach_the_first_channels_and_are_exactly_zero_elsewhere():
    net = small_net()
    with subnetwork(net, 0.5):
        net(X).square().sum().backward()
    for layer, outputs, inputs in ((net[0], 5, 3), (net[3], 5, 5), (net[4], 2, 5)):
        grad = layer.weight.grad
        assert (grad[:outputs, :inputs] != 0).all()
        assert grad[outputs:].eq(0).all() and grad[:, inputs:].eq(0).all()
    assert net[1].weight.grad[5:].eq(0).all() and net[1].bias.grad[:5].ne(0).any()


@pytest.mark.parametrize('frozen', [False, True])
def test_batch_norm_by_the_batch_or_by_the_first_running_statistics(frozen):
    net = small_net()
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    net[1].train(not frozen)
    before = {k: v.clone() for k, v in net[1].named_buffers()}
    with subnetwork(net, 0.5):
        found = net[:2](X)
    hidden = F.conv2d(X, net[0].weight[:5], net[0].bias[:5])
    bn = net[1]
    if frozen:
        args = bn.running_mean[:5], bn.running_var[:5], bn.weight[:5], bn.bias[:5], False
    else:
        args = None, None, bn.weight[:5], bn.bias[:5], True
    assert torch.equal(found, F.batch_norm(hidden, *args))
    for name, value in bn.named_buffers():
        assert torch.equal(value, before[name]), name


def test_width_one_has_all_channels_and_still_leaves_running_statistics_alone():
    net = small_net()
    expected = copy.deepcopy(net)(X)
    with subnetwork(net, 1.0):
        assert torch.equal(net(X), expected)
    assert net[1].num_batches_tracked == 0 and net[1].running_mean.eq(0).all()


class Counts(nn.Module):
    """A layer that counts its passes in a buffer, as some losses do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.out = nn.Conv2d(6, 2, 1)
        self.register_buffer('passes', torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return self.out(self.conv(x))


def test_what_a_pass_writes_into_other_buffers_is_lost():
    net = Counts()
    with subnetwork(net, 0.5):
        net(X)
        assert net.passes == 1
    assert net.passes == 0
    with buffers_kept(net):
        net(X)
    assert net.passes == 0


@pytest.mark.parametrize('before', [False, True])
def test_sync_batch_norm_converted_before_or_after_planning(before):
    net = small_net()
    if before:
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    plan_channels(net)
    if not before:
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert isinstance(net[1], nn.SyncBatchNorm)
    plain = small_net()
    plain.load_state_dict(net.state_dict())
    with subnetwork(net, 0.5), subnetwork(plain, 0.5):
        torch.testing.assert_close(net(X), plain(X))
    assert net[1].num_batches_tracked == 0


@pytest.mark.parametrize('use_reentrant', [False, True])
def test_activation_checkpointing_gives_the_same_gradients(use_reentrant):
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self, on):
            super().__init__()
            self.stem, self.body, self.head, self.on = (
                nn.Conv2d(3, 6, 1),
                small_net(),
                nn.Conv2d(2, 2, 1),
                on,
            )
            self.body[0] = nn.Conv2d(6, 10, 1)

        def forward(self, x):
            x = self.stem(x)
            x = checkpoint(self.body, x, use_reentrant=use_reentrant) if self.on else self.body(x)
            return self.head(x)

    torch.manual_seed(0)
    nets = [Checkpointed(False), Checkpointed(True)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        with subnetwork(net, 0.5):
            net(X).square().sum().backward()
    for a, b in zip(nets[0].parameters(), nets[1].parameters()):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_layer_that_changed_since_the_plan_is_named():
    net = small_net()
    plan_channels(net)
    net[3] = nn.Conv2d(10, 12, 1)
    net[4] = nn.Conv2d(12, 2, 1)
    with pytest.raises(SlimmingError, match=r"'3\.weight' has shape \(12, 10, 1, 1\) now"):
        with subnetwork(net, 0.5):
            pass
    assert not is_narrowed(net[0]) and net[0].weight.shape[0] == 10
    plan_channels(net)
    with subnetwork(net, 0.5):
        assert net[3].weight.shape[:2] == (6, 5)


def test_an_average_of_the_weights_is_untouched():
    from torch.optim.swa_utils import AveragedModel

    net = small_net()
    ema = AveragedModel(net)
    with subnetwork(net, 0.5):
        net(X)
        assert ema.module[0].weight.shape[0] == 10
    ema.update_parameters(net)
    assert torch.equal(ema.module[0].weight, net[0].weight)
