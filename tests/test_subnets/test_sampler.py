import subprocess
import sys

import numpy as np
import pytest

from mmgradaug.subnets import Resize, SubnetSampler

TRANSFORM = dict(type='RandomResize', sizes=[224, 192, 160, 128])


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


def test_same_seed_and_iteration_give_the_same_plan_in_another_process():
    code = (
        'from mmgradaug.subnets import SubnetSampler\n'
        f'print([SubnetSampler(3, 0.7, {TRANSFORM!r}).sample(5, i) for i in (0, 9, 10**6)])'
    )
    sampler = SubnetSampler(3, 0.7, TRANSFORM)
    np.random.seed(1)  # global state has no say
    here = [sampler.sample(5, i) for i in (0, 9, 10**6)]
    there = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True
    )
    assert there.stdout.strip().splitlines()[-1] == repr(here), there.stderr
    assert here[0] != here[1] and sampler.sample(6, 0) != here[0]


def test_blocks_survive_with_linearly_falling_probability():
    sampler = SubnetSampler(3, 1.0, TRANSFORM, survival_prob=0.4)
    with pytest.raises(RuntimeError, match='num_blocks'):
        sampler.sample(0, 0)
    sampler.num_blocks = 6
    plans = [subnet for i in range(3000) for subnet in sampler.sample(7, i)]
    dropped = np.array([[b in subnet.dropped_blocks for b in range(6)] for subnet in plans])
    expected = 0.6 * np.arange(1, 7) / 6  # 1 - p_l
    # Within five standard errors; blocks are independent of one another.
    assert np.allclose(dropped.mean(0), expected, atol=5 * 0.5 / 9000**0.5)
    assert np.abs(np.corrcoef(dropped.T) - np.eye(6)).max() < 5 / 9000**0.5
    assert sampler.sample(7, 3) == sampler.sample(7, 3) != sampler.sample(8, 3)


def test_depth_leaves_the_draws_of_width_and_size_as_they_are():
    plain, deep = (SubnetSampler(3, 0.7, TRANSFORM, survival_prob=p) for p in (1.0, 0.5))
    deep.num_blocks = 4
    for one, other in zip(plain.sample(1, 2), deep.sample(1, 2)):
        assert (one.width, one.transform) == (other.width, other.transform)
        assert one.dropped_blocks is None and 'dropped_blocks' not in one.log_values()


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
        (dict(transforms=None), ValueError, "transforms=dict.type='RandomResize'"),
        (dict(transforms=[]), ValueError, 'Identity'),
    ],
)
def test_wrong_input(changes, error, says):
    with pytest.raises(error, match=says):
        SubnetSampler(**{**dict(num_subnets=3, min_width=0.9, transforms=TRANSFORM), **changes})
