import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmgradaug.subnets import SoftLabelLoss, soft_label_loss

torch.manual_seed(0)
SUB = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
FULL = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_is_the_kl_divergence_in_numpy(temperature):
    p = softmax(FULL.detach().numpy() / temperature)
    q = softmax(SUB.detach().numpy() / temperature)
    expected = (p * np.log(p / q)).sum() / 6 * temperature**2
    assert soft_label_loss(SUB, FULL, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_equals_the_authors_expression():
    loss = torch.nn.KLDivLoss(reduction='batchmean')(
        F.log_softmax(SUB, dim=1), F.softmax(FULL.detach(), dim=1)
    )
    assert soft_label_loss(SUB, FULL).item() == pytest.approx(loss.item(), rel=1e-12)


def test_gradient_is_that_of_the_soft_cross_entropy_and_the_teacher_has_none():
    (grad,) = torch.autograd.grad(soft_label_loss(SUB, FULL), SUB)
    torch.testing.assert_close(grad, (SUB.softmax(1) - FULL.softmax(1)) / 6)
    soft_label_loss(SUB, FULL).backward()
    assert FULL.grad is None


def test_multi_label_sums_binary_divergences_over_classes():
    p, q = 1 / (1 + np.exp(-FULL.detach().numpy())), 1 / (1 + np.exp(-SUB.detach().numpy()))
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).sum() / 6
    got = soft_label_loss(SUB, FULL, multi_label=True).item()
    assert got == pytest.approx(expected, rel=1e-12)


def test_zero_for_the_same_prediction_weight_and_half_precision():
    assert soft_label_loss(FULL, FULL).item() == pytest.approx(0, abs=1e-15)
    assert SoftLabelLoss(weight=0.5)(SUB, FULL).item() == soft_label_loss(SUB, FULL).item() / 2
    # In half precision a logit of 100 overflows an exponential.
    half = soft_label_loss((SUB * 100).bfloat16(), (FULL * 100).bfloat16())
    assert half.dtype == torch.float32 and torch.isfinite(half)


@pytest.mark.parametrize(
    'options', [dict(temperature=0.0), dict(temperature=-1.0), dict(weight=-1.0)]
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SoftLabelLoss(**options)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match='keep its outputs'):
        soft_label_loss(SUB[:, :3], FULL)
