import pytest
import torch
from torch import nn

from mmgradaug.slimming.narrow import narrow_layer


@pytest.mark.parametrize(
    ('layer', 'kept', 'shapes'),
    [
        (nn.Conv2d(6, 8, 3), (4, 3), dict(weight=(4, 3, 3, 3), bias=(4,))),
        (nn.Conv2d(6, 12, 3, groups=6, bias=False), (6, 3), dict(weight=(6, 1, 3, 3))),
        (nn.Linear(6, 8), (8, 3), dict(weight=(8, 3), bias=(8,))),
        (
            nn.BatchNorm2d(6),
            (3, 3),
            dict(
                weight=(3,), bias=(3,), running_mean=(3,), running_var=(3,), num_batches_tracked=()
            ),
        ),
        (nn.BatchNorm1d(6, affine=False, track_running_stats=False), (3, 3), {}),
    ],
)
def test_the_first_channels_are_kept_as_copies(layer, kept, shapes):
    for value in layer.state_dict().values():
        value.copy_(torch.randn(value.shape) if value.is_floating_point() else 5)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    originals = dict(layer.state_dict(keep_vars=True))
    narrow_layer(layer, *kept)
    after = layer.state_dict(keep_vars=True)
    assert {name: tuple(value.shape) for name, value in after.items()} == shapes
    for name, value in after.items():
        part = before[name][tuple(slice(0, n) for n in shapes[name])]
        assert torch.equal(value, part) and value.is_contiguous()
        if value.dim():
            value.data.zero_()
            assert torch.equal(originals[name], before[name])
            assert isinstance(value, nn.Parameter) == isinstance(originals[name], nn.Parameter)
    inputs = torch.randn(
        2, kept[1], *([8, 8] if 'weight' in shapes and len(shapes['weight']) == 4 else [])
    )
    if isinstance(layer, nn.BatchNorm2d):
        inputs = torch.randn(2, 3, 8, 8)
    assert layer(inputs).shape[1] == kept[0]
    assert repr(layer)  # whose numbers are the attributes


def test_frozen_weights_stay_frozen():
    layer = nn.Conv2d(4, 4, 1).requires_grad_(False)
    narrow_layer(layer, 2, 2)
    assert not layer.weight.requires_grad and (layer.in_channels, layer.out_channels) == (2, 2)


def test_a_grouped_convolution_whose_inputs_are_kept_keeps_its_groups():
    """In a neck or head, where it meets channels that are not slimmed."""
    layer = nn.Conv2d(8, 8, 3, groups=4)
    images = torch.randn(2, 8, 5, 5)
    expected = layer(images)
    narrow_layer(layer, 8, 8)
    assert layer.groups == 4 and torch.equal(layer(images), expected)
