import copy

import pytest
import torch
from torch import nn

from mmgradaug.slimming import SlimmingError, make_slimmable, subnetwork


def small_net():
    net = nn.Sequential(nn.Conv2d(3, 10, 1), nn.Conv2d(10, 10, 1))
    make_slimmable(net)
    return net


X = torch.zeros(1, 3, 2, 2)


def channels(net):
    return net(X).shape[1]


def test_leaves_the_subnetwork_on_exit_and_on_an_exception():
    net = small_net()
    with subnetwork(net, 0.5):
        assert channels(net) == 5
        with subnetwork(net, 0.8):
            assert channels(net) == 8
        assert channels(net) == 5
    assert channels(net) == 10
    with pytest.raises(KeyError), subnetwork(net, 0.5):
        raise KeyError
    assert channels(net) == 10


def test_two_models_and_a_copy_do_not_meet():
    one, other = small_net(), small_net()
    twin = copy.deepcopy(one)
    with subnetwork(one, 0.5):
        assert (channels(one), channels(other), channels(twin)) == (5, 10, 10)
        with subnetwork(twin, 0.2):
            assert (channels(one), channels(twin)) == (5, 2)
    assert twin[0].dial is twin[1].dial


@pytest.mark.parametrize('width', [0, -0.5, 1.0000001, float('nan')])
def test_width_out_of_range(width):
    with (
        pytest.raises(ValueError, match=r'width must be in \(0, 1\]'),
        subnetwork(small_net(), width),
    ):
        pass


def test_nothing_to_slim():
    with pytest.raises(SlimmingError, match='make_slimmable'), subnetwork(nn.Conv2d(3, 4, 1), 0.5):
        pass
