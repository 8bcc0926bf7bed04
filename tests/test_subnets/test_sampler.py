import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mmgradaug.slimming import AtWidth, Depth, Width
from mmgradaug.subnets import BatchPart, NoChange, RandomResize, Resize, Subnet, SubnetSampler

TRANSFORM = RandomResize(sizes=[224, 192, 160, 128])


def test_the_smallest_is_always_in_and_the_others_cover_the_range():
    sampler = SubnetSampler(3, 0.8, TRANSFORM)
    plans = [sampler.sample(7, iteration) for iteration in range(2000)]
    widths = np.array([[subnet.width for subnet in plan] for plan in plans])
    assert widths.shape == (2000, 3)
    assert (widths.min(1) == 0.8).all() and widths.max() <= 1.0
    others = np.sort(widths, 1)[:, 1:].ravel()
    # Uniform on [0.8, 1]: quartiles within five standard errors.
    expected = [0.85, 0.9, 0.95]
    assert np.allclose(np.quantile(others, [0.25, 0.5, 0.75]), expected, atol=0.005)
    sizes = {subnet.transform for plan in plans for subnet in plan}
    assert sizes == {Resize((s, s)) for s in (224, 192, 160, 128)}


def test_widths_and_sizes_are_drawn_apart():
    """The smallest sub-network sees every size."""
    sampler = SubnetSampler(3, 0.8, TRANSFORM)
    sizes = [sampler.sample(0, iteration)[0].transform.size for iteration in range(400)]
    assert {sizes.count((s, s)) > 60 for s in (224, 192, 160, 128)} == {True}


def test_a_single_subnetwork_is_uniform_or_the_smallest_on_demand():
    widths = [SubnetSampler(1, 0.8, TRANSFORM).sample(0, i)[0].width for i in range(500)]
    assert min(widths) < 0.81 and max(widths) > 0.99 and 0.8 not in widths
    smallest = SubnetSampler(1, 0.8, TRANSFORM, smallest_if_single=True)
    assert {smallest.sample(0, i)[0].width for i in range(20)} == {0.8}


def test_the_draws_of_the_paper_setting_stay_what_they_are():
    """Whoever resumes a training with a newer version goes on with the same sub-networks."""
    drawn = SubnetSampler(3, 0.8, TRANSFORM).sample(5, 9)
    assert drawn == [
        Subnet(Resize((size, size)), (AtWidth(width),))
        for width, size in [(0.8, 192), (0.9535195853026255, 160), (0.9130502031557862, 224)]
    ]


def test_a_single_subnetwork_is_the_smallest_as_often_as_asked():
    sampler = SubnetSampler(1, 0.8, TRANSFORM, smallest_if_single=0.25)
    widths = [sampler.sample(0, i)[0].width for i in range(2000)]
    assert widths.count(0.8) / 2000 == pytest.approx(0.25, abs=0.05)
    assert {w == 0.8 for w in widths[::2]} == {w == 0.8 for w in widths[1::2]} == {True, False}


def test_without_the_smallest_all_widths_are_uniform():
    paper = SubnetSampler(3, 0.8, TRANSFORM)
    free = SubnetSampler(3, 0.8, TRANSFORM, always_smallest=False)
    widths = []
    for i in range(500):
        drawn = free.sample(1, i)
        assert drawn[1:] == paper.sample(1, i)[1:]
        widths.append(drawn[0].width)
    assert 0.8 not in widths
    assert np.allclose(np.quantile(widths, [0.25, 0.5, 0.75]), [0.85, 0.9, 0.95], atol=0.02)


def test_a_grid_of_widths():
    sampler = SubnetSampler(3, transforms=TRANSFORM, widths=[1.0, 0.8, 0.9])
    drawn = np.array([[s.width for s in sampler.sample(0, i)] for i in range(500)])
    assert (drawn[:, 0] == 0.8).all()
    found, counts = np.unique(drawn[:, 1:], return_counts=True)
    assert found.tolist() == [0.8, 0.9, 1.0] and counts.min() > 250
    assert sampler.probe_widths() == [0.8, 0.9]


def test_every_kth_iteration_and_part_of_the_batch_leave_other_draws_as_they_are():
    paper = SubnetSampler(3, 0.8, TRANSFORM)
    cheap = SubnetSampler(3, 0.8, TRANSFORM, every=3, batch_fraction=0.4, width_divisor=8)
    for i in range(9):
        drawn = cheap.sample(2, i)
        if i % 3:
            assert drawn == []
            continue
        assert [s.width for s in drawn] == [s.width for s in paper.sample(2, i)]
        assert [s.transform for s in drawn] == [s.transform for s in paper.sample(2, i)]
        assert {s.part.fraction for s in drawn} == {0.4}
        assert {s.choices[0].divisor for s in drawn} == {8}
    assert cheap.sample(2, 0)[0].part.start != cheap.sample(2, 3)[0].part.start


@pytest.mark.parametrize('size', [1, 2, 7, 25, 63, 64, 128])
@pytest.mark.parametrize('number', [1, 2, 3, 5])
def test_parts_of_a_batch_differ_where_there_are_enough_images(size, number):
    for start in np.random.default_rng(0).random(20):
        parts = [BatchPart(1 / number, start, i / number).indices(size) for i in range(number)]
        chosen = torch.cat(parts).tolist()
        assert set(chosen) <= set(range(size))
        assert all(
            len(set(p.tolist())) == len(p) == max(1, int(size / number + 0.5)) for p in parts
        )
        if len(chosen) <= size:
            assert len(set(chosen)) == len(chosen)


def test_same_seed_and_iteration_give_the_same_plan_in_another_process():
    code = (
        'from mmgradaug.subnets import RandomResize, SubnetSampler\n'
        f'sampler = SubnetSampler(3, 0.7, RandomResize({TRANSFORM.sizes()!r}))\n'
        'print([sampler.sample(5, i) for i in (0, 9, 10**6)])'
    )
    sampler = SubnetSampler(3, 0.7, TRANSFORM)
    np.random.seed(1)  # global state has no say
    here = [sampler.sample(5, i) for i in (0, 9, 10**6)]
    there = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True
    )
    assert there.stdout.strip().splitlines()[-1] == repr(here), there.stderr
    assert here[0] != here[1] and sampler.sample(6, 0) != here[0]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return x + self.conv(x)


def residual_network(blocks):
    return nn.Sequential(
        nn.Conv2d(3, 8, 1), *(Residual() for _ in range(blocks)), nn.Conv2d(8, 2, 1)
    )


def test_blocks_survive_with_linearly_falling_probability():
    sampler = SubnetSampler(3, 1.0, TRANSFORM, survival_prob=0.4)
    with pytest.raises(RuntimeError, match=r'call bind\(model\) first'):
        sampler.sample(0, 0)
    sampler.bind(residual_network(6))
    plans = [subnet for i in range(3000) for subnet in sampler.sample(7, i)]
    dropped = np.array([[b in subnet.dropped_blocks for b in range(6)] for subnet in plans])
    expected = 0.6 * np.arange(1, 7) / 6  # 1 - p_l
    # Within five standard errors; blocks are independent of one another.
    assert np.allclose(dropped.mean(0), expected, atol=5 * 0.5 / 9000**0.5)
    assert np.abs(np.corrcoef(dropped.T) - np.eye(6)).max() < 5 / 9000**0.5
    assert sampler.sample(7, 3) == sampler.sample(7, 3) != sampler.sample(8, 3)


def test_depth_leaves_the_draws_of_width_and_size_as_they_are():
    plain, deep = (SubnetSampler(3, 0.7, TRANSFORM, survival_prob=p) for p in (1.0, 0.5))
    network = residual_network(4)
    for sampler in (plain, deep):
        sampler.bind(network)
    for one, other in zip(plain.sample(1, 2), deep.sample(1, 2)):
        assert (one.width, one.transform) == (other.width, other.transform)
        assert one.dropped_blocks is None and 'dropped_blocks' not in one.log_values(network)
        assert other.log_values(network)['dropped_blocks'] == len(other.dropped_blocks)


def test_axes_of_ones_own_are_drawn_entered_and_logged():
    """Depth alone: no width is drawn, and the network keeps all its channels."""
    network = residual_network(4)
    sampler = SubnetSampler(5, transforms=TRANSFORM, axes=[Depth(0.5)])
    sampler.bind(network)
    drawn = sampler.sample(3, 4)
    assert [subnet.width for subnet in drawn] == [None] * 5
    assert len({subnet.dropped_blocks for subnet in drawn}) > 1
    assert sampler.leaves_parameters_unused
    assert not SubnetSampler(transforms=TRANSFORM).leaves_parameters_unused
    for subnet in drawn:
        ran = []
        hooks = [
            network[1 + i].conv.register_forward_hook(lambda *_, i=i, ran=ran: ran.append(i))
            for i in range(4)
        ]
        with subnet.enter(network):
            assert network(torch.zeros(1, 3, 4, 4)).shape == (1, 2, 4, 4)
            assert network[0].weight.shape == (8, 3, 1, 1)
        for hook in hooks:
            hook.remove()
        assert ran == [i for i in range(4) if i not in subnet.dropped_blocks]
        assert set(subnet.log_values(network)) == {'dropped_blocks'}


def test_the_default_axes_are_width_and_on_demand_depth():
    assert [type(axis) for axis in SubnetSampler(transforms=TRANSFORM).axes] == [Width]
    both = SubnetSampler(transforms=TRANSFORM, survival_prob=0.5)
    assert [type(axis) for axis in both.axes] == [Width, Depth]


def test_the_logged_width_is_the_share_of_channels_that_are_kept():
    """Of 8 and 10 channels 5 and 6 are left at a width of 0.6; the outputs, always there, do not count."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 10, 1), nn.Conv2d(10, 2, 1))
    subnet = Subnet(NoChange(), (AtWidth(0.6),))
    with subnet.enter(network):
        kept = [network[0].weight.shape[0], network[2].weight.shape[0]]
    assert kept == [5, 6]
    assert subnet.width == 0.6 and subnet.log_values(network) == {'width': 11 / 18}


def test_seed_and_iteration_are_not_added_up():
    """Seed 0 at iteration 1 is not seed 1 at iteration 0: runs of neighbouring seeds would repeat each other."""
    sampler = SubnetSampler(3, 0.7, TRANSFORM)
    drawn = {
        tuple(subnet.width for subnet in sampler.sample(seed, i))
        for seed in range(20)
        for i in range(20)
    }
    assert len(drawn) == 400


def test_none_and_full_width():
    assert SubnetSampler(0, 0.9, TRANSFORM).sample(0, 0) == []
    assert [s.width for s in SubnetSampler(3, 1.0, TRANSFORM).sample(0, 0)] == [1.0] * 3


@pytest.mark.parametrize(
    ('changes', 'error', 'says'),
    [
        (dict(num_subnets=-1), ValueError, '0 .plain training. or more'),
        (dict(num_subnets=1.5), ValueError, 'whole number'),
        (dict(min_width=0), ValueError, r'in \(0, 1\], got 0'),
        (dict(min_width=1.5), ValueError, r'in \(0, 1\], got 1.5'),
        (dict(min_width='0.9'), TypeError, "got '0.9'"),
        (dict(transforms=None), ValueError, "transforms is missing.*dict.type='RandomScale'"),
        (dict(transforms=[]), ValueError, 'Identity'),
        (dict(transforms=object()), TypeError, r'no draw\(rng\)'),
        (dict(smallest_if_single=1), TypeError, 'True or False, got 1'),
        (dict(smallest_if_single=1.5), TypeError, 'how likely'),
        (dict(always_smallest='no'), TypeError, "True or False, got 'no'"),
        (dict(widths=[]), ValueError, r'such as .0.8, 0.9, 1.0.'),
        (dict(widths=0.9), ValueError, 'list of one or more widths'),
        (dict(widths=[0.9, 1.1]), ValueError, r'1.1 is no share'),
        (dict(widths=[0.8, 1.0], min_width=0.7), ValueError, 'leave min_width out'),
        (dict(width_divisor=0), ValueError, 'width_divisor is a whole number'),
        (dict(every=0), ValueError, 'every is a whole number'),
        (dict(batch_fraction=0), ValueError, r'in \(0, 1\], got 0'),
        (dict(batch_fraction=2), ValueError, 'batch_fraction'),
        (dict(survival_prob=0.0), ValueError, r'survival_prob.*in \(0, 1\]'),
    ],
)
def test_wrong_input(changes, error, says):
    with pytest.raises(error, match=says):
        SubnetSampler(**{**dict(num_subnets=3, min_width=0.9, transforms=TRANSFORM), **changes})
