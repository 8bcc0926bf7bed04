"""DropBlock's share of dropped elements, its blocks, and its schedule."""

import pytest
import torch
from mmengine.logging import MessageHub

from mmgradaug.models.regularizers import DropBlock


@pytest.fixture
def hub():
    """A run of its own for the schedule."""
    before = list(MessageHub._instance_dict)
    yield MessageHub.get_instance('test_drop_block')
    for name in set(MessageHub._instance_dict) - set(before):
        MessageHub._instance_dict.pop(name)


def test_probability_rises_linearly_with_the_training(hub):
    drop = DropBlock(0.2)
    assert drop.current_drop_prob() == 0.2  # no training is under way
    hub.update_info('max_iters', 1000)
    for iteration, expected in ((0, 0.0), (250, 0.05), (1000, 0.2)):
        hub.update_info('iter', iteration)
        assert drop.current_drop_prob() == pytest.approx(expected)
    assert DropBlock(0.2, scheduled=False).current_drop_prob() == 0.2


def test_share_and_shape_of_what_is_dropped():
    torch.manual_seed(0)
    drop = DropBlock(0.1, block_size=3, scheduled=False).train()
    x = torch.ones(64, 16, 14, 14)
    out = drop(x)
    dropped = out == 0
    # The formula for gamma counts no overlaps, so a little less than 0.1 is dropped.
    assert 0.085 < dropped.float().mean() < 0.1
    assert len(out.unique()) == 2
    assert out.mean().item() == pytest.approx(1.0, abs=1e-5)  # rescaled by the kept share
    # Everything dropped lies in a full 3 x 3 square.
    squares = torch.nn.functional.max_pool2d(-dropped.float(), 3, stride=1) == -1
    covered = torch.nn.functional.max_pool2d(
        torch.nn.functional.pad(squares.float(), [2] * 4), 3, stride=1
    )
    assert torch.equal(covered.bool(), dropped)
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    drop.eval()
    assert drop(x) is x


@pytest.mark.parametrize('pixels', [7, 6, 4, 1])
def test_small_maps_of_subnetworks(pixels):
    """Random scale makes maps of even size, which the operator alone refuses."""
    torch.manual_seed(0)
    out = DropBlock(0.3, block_size=7, scheduled=False).train()(torch.ones(50, 8, pixels, pixels))
    assert out.isfinite().all() and 0.1 < (out == 0).float().mean() < 0.5


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_mean(dtype):
    torch.manual_seed(0)
    out = DropBlock(0.1, 7, scheduled=False).train()(torch.ones(32, 64, 14, 14, dtype=dtype))
    assert out.dtype == dtype and out.float().mean().item() == pytest.approx(1.0, abs=0.005)


def test_wrong_input():
    with pytest.raises(ValueError, match='drop_prob'):
        DropBlock(1.0)
    with pytest.raises(ValueError, match='block_size'):
        DropBlock(0.1, block_size=0)
