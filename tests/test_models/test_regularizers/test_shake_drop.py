"""ShakeDrop's statistics against its formulas."""

import pytest
import torch

from mmgradaug.models.regularizers import ShakeDrop


def factors(drop, shape=(4, 3, 2, 2)):
    """Forward and backward factors of one training pass."""
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    out = drop(x)
    out.sum().backward()
    return out.detach(), x.grad


def test_kept_passes_are_the_identity_and_others_scale_each_element_by_itself():
    torch.manual_seed(0)
    drop = ShakeDrop(0.3).train()
    passes = [factors(drop) for _ in range(3000)]
    kept = [bool((out == 1).all()) for out, _ in passes]
    for (_, gradient), whole in zip(passes, kept):
        assert bool((gradient == 1).all()) == whole
    assert sum(kept) / 3000 == pytest.approx(0.7, abs=5 * (0.3 * 0.7 / 3000) ** 0.5)
    alpha = torch.stack([out for (out, _), whole in zip(passes, kept) if not whole])
    beta = torch.stack([g for (_, g), whole in zip(passes, kept) if not whole])
    # Uniform on [-1, 1] and [0, 1]: means, variances, ends; and drawn apart.
    n = alpha.numel() ** 0.5
    assert abs(alpha.mean()) < 5 * (1 / 3) ** 0.5 / n
    assert alpha.var().item() == pytest.approx(1 / 3, rel=0.02)
    assert beta.mean().item() == pytest.approx(0.5, abs=5 * (1 / 12) ** 0.5 / n)
    assert beta.var().item() == pytest.approx(1 / 12, rel=0.02)
    assert -1 <= alpha.min() < -0.99 and 0.99 < alpha.max() <= 1 and 0 <= beta.min() < 0.01
    assert abs(torch.corrcoef(torch.stack([alpha.flatten(), beta.flatten()]))[0, 1]) < 5 / n
    # In the test: what training gives on average.
    mean = torch.stack([out for out, _ in passes]).mean()
    assert mean.item() == pytest.approx(0.7, abs=0.05)
    drop.eval()
    assert torch.equal(drop(torch.ones(2, 3)), torch.full((2, 3), 0.7))


def test_the_test_factor_is_the_mean_of_any_range():
    torch.manual_seed(0)
    drop = ShakeDrop(0.5, alpha=(0, 1)).train()
    mean = torch.stack([factors(drop)[0] for _ in range(3000)]).mean().item()
    assert mean == pytest.approx(0.75, abs=0.03)
    drop.eval()
    assert drop(torch.ones(1)).item() == 0.75


@pytest.mark.parametrize(('level', 'different'), [('batch', 1), ('image', 4), ('element', 48)])
def test_levels(level, different):
    torch.manual_seed(1)
    drop = ShakeDrop(0.9, level=level).train()
    while True:
        out, gradient = factors(drop)
        if not (out == 1).all():
            break
    assert len(out.unique()) == len(gradient.unique()) == different
    if level == 'image':
        assert all(len(image.unique()) == 1 for image in out)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (dict(drop_prob=1.0), r'in \[0, 1\)'),
        (dict(alpha=(1, -1)), 'alpha is a range'),
        (dict(level='pixel'), 'level is one of'),
    ],
)
def test_wrong_input(options, says):
    with pytest.raises(ValueError, match=says):
        ShakeDrop(**options)
