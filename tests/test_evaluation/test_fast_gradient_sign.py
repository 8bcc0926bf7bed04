import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmgradaug.evaluation import fgsm, loss_gradient

MEAN = torch.tensor([125.0, 120.0, 110.0]).view(3, 1, 1).double()
STD = torch.tensor([63.0, 50.0, 70.0]).view(3, 1, 1).double()


@pytest.fixture
def network():
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 25, 3)).double().eval()


@pytest.fixture
def images():
    pixels = torch.randint(
        0, 256, (4, 3, 5, 5), generator=torch.Generator().manual_seed(0)
    ).double()
    pixels[0, :, 0] = 0
    pixels[1, :, 0] = 255
    return pixels, torch.tensor([0, 2, 1, 1])


def test_gradient_is_that_of_finite_differences(network, images):
    pixels, labels = images
    inputs = (pixels - MEAN) / STD
    gradient = loss_gradient(network, inputs, labels)
    step = 1e-6
    rng = np.random.default_rng(0)
    for _ in range(25):
        place = tuple(int(rng.integers(n)) for n in inputs.shape)
        losses = []
        for sign in (1, -1):
            moved = inputs.clone()
            moved[place] += sign * step
            losses.append(F.cross_entropy(network(moved), labels, reduction='sum').item())
        assert gradient[place].item() == pytest.approx(
            (losses[0] - losses[1]) / (2 * step), rel=1e-5, abs=1e-8
        )


@pytest.mark.parametrize(
    ('space', 'clamp'), [*itertools.product(['pixel', 'normalised'], [True, False])]
)
def test_the_attack_is_the_one_on_pixels(network, images, space, clamp):
    """Computed on pixels in [0, 1] with the normalisation as a part of the network."""
    pixels, labels = images
    unit = (pixels / 255).requires_grad_()
    F.cross_entropy(network((unit * 255 - MEAN) / STD), labels).backward()
    step = 0.1 if space == 'pixel' else 0.1 * STD / 255
    attacked = unit.detach() + step * unit.grad.sign()
    if clamp:
        attacked = attacked.clamp(0, 1)
    expected = (attacked * 255 - MEAN) / STD

    inputs = (pixels - MEAN) / STD
    gradient = loss_gradient(network, inputs, labels)
    found = fgsm(inputs, gradient, 0.1, MEAN, STD, space, clamp)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    back = found * STD + MEAN
    assert (back.min() < -1e-6 or back.max() > 255 + 1e-6) != clamp
    before, after = (F.cross_entropy(network(x), labels) for x in (inputs, found))
    assert after > before


def test_nothing_happens_without_epsilon(network, images):
    pixels, labels = images
    inputs = (pixels - MEAN) / STD
    gradient = loss_gradient(network, inputs, labels)
    for space, clamp in itertools.product(['pixel', 'normalised'], [True, False]):
        found = fgsm(inputs, gradient, 0.0, MEAN, STD, space, clamp)
        torch.testing.assert_close(found, inputs, rtol=1e-12, atol=1e-12)


def test_the_network_is_as_it_was(network, images):
    pixels, labels = images
    state = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():  # as in a test
        gradient = loss_gradient(network, (pixels - MEAN) / STD, labels)
    assert gradient.abs().sum() > 0 and not gradient.requires_grad
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_an_images_gradient_does_not_depend_on_the_others(network, images):
    pixels, labels = images
    inputs = (pixels - MEAN) / STD
    together = loss_gradient(network, inputs, labels)
    alone = torch.cat(
        [loss_gradient(network, inputs[i : i + 1], labels[i : i + 1]) for i in range(4)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        (dict(space='rgb'), 'space must be one of pixel, normalised'),
        (dict(eps=-0.1), 'must not be neg'),
    ],
)
def test_wrong_input(images, changes, says):
    with pytest.raises(ValueError, match=says):
        fgsm(
            **{**dict(inputs=images[0], gradient=images[0], eps=0.1, mean=MEAN, std=STD), **changes}
        )
