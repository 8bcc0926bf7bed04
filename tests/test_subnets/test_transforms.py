import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torchvision.transforms import v2

from mmgradaug.registry import BATCH_TRANSFORMS, build_batch_transform
from mmgradaug.subnets import (
    Chain,
    Compose,
    Identity,
    RandomCrop,
    RandomResize,
    RandomRotate90,
    RandomScale,
    Resize,
    Rotate90,
    Scale,
    check_batch_transform,
    drawn_sizes,
)

IMAGES = torch.randn(2, 3, 8, 6)


def draws(transform, count=200):
    rng = np.random.default_rng(0)
    return [transform.draw(rng) for _ in range(count)]


def test_random_resize_draws_every_size_and_interpolates_as_the_authors_do():
    transform = build_batch_transform(dict(type='RandomResize', sizes=[8, 6, (4, 10)]))
    operations = draws(transform)
    assert {op.size for op in operations} == {(8, 8), (6, 6), (4, 10)}
    share = np.mean([op.size == (6, 6) for op in operations])
    assert 0.2 < share < 0.47
    out = Resize((4, 10))(IMAGES)
    expected = F.interpolate(IMAGES, (4, 10), mode='bilinear', align_corners=True)
    assert torch.equal(out, expected)
    assert Resize((8, 6))(IMAGES) is IMAGES


def test_resize_options():
    transform = build_batch_transform(dict(type='RandomResize', sizes=[4], mode='nearest'))
    out = draws(transform, 1)[0](IMAGES)
    assert torch.equal(out, F.interpolate(IMAGES, (4, 4), mode='nearest'))
    transform = build_batch_transform(dict(type='RandomResize', sizes=[4], align_corners=False))
    out = draws(transform, 1)[0](IMAGES)
    assert torch.equal(out, F.interpolate(IMAGES, (4, 4), mode='bilinear', align_corners=False))


def test_random_scale_is_relative_to_the_images():
    transform = build_batch_transform(dict(type='RandomScale', factors=[1, 0.75, 0.5]))
    operations = draws(transform)
    assert set(operations) == {Scale(1.0), Scale(0.75), Scale(0.5)}
    share = np.mean([op == Scale(0.75) for op in operations])
    assert 0.2 < share < 0.47
    out = Scale(0.75)(IMAGES)  # 6 x 4.5 pixels, rounded half up
    expected = F.interpolate(IMAGES, (6, 5), mode='bilinear', align_corners=False)
    assert torch.equal(out, expected)
    assert Scale(1.0)(IMAGES) is IMAGES
    # OpenCV's resizing, which is the pipelines'.
    image = np.random.default_rng(0).random((40, 60, 3), dtype=np.float32)
    ours = Scale(0.7)(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, mmcv.imresize(image, (42, 28)), atol=1e-5)
    assert Scale(0.01)(IMAGES).shape == (2, 3, 1, 1)


def test_rotation_moves_pixels_counter_clockwise():
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]])
    assert Rotate90(1)(image)[0, 0].tolist() == [[3, 6], [2, 5], [1, 4]]
    assert Rotate90(2)(image)[0, 0].tolist() == [[6, 5, 4], [3, 2, 1]]
    assert Rotate90(0)(image) is image
    operations = draws(build_batch_transform(dict(type='RandomRotate90')))
    assert {op.quarter_turns for op in operations} == {0, 1, 2, 3}


def test_compose_rotates_then_resizes():
    transforms = [dict(type='RandomRotate90'), dict(type='RandomResize', sizes=[(3, 5)])]
    for config in (transforms, dict(type='Compose', transforms=transforms)):
        operation = draws(build_batch_transform(config), 1)[0]
        turns = operation.operations[0].quarter_turns
        assert operation == Chain((Rotate90(turns), Resize((3, 5))))
        assert torch.equal(operation(IMAGES), Resize((3, 5))(torch.rot90(IMAGES, turns, (2, 3))))


def test_identity_gives_the_original_tensor():
    assert draws(build_batch_transform(dict(type='Identity')), 1)[0](IMAGES) is IMAGES


def test_names_are_those_of_batch_transforms_whatever_the_default_scope():
    """mmcv has an image transform of the same name, RandomResize."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        transform = build_batch_transform(ConfigDict(type='RandomResize', sizes=[4]))
    assert type(transform) is RandomResize and transform.sizes() == [(4, 4)]


def test_random_crop_is_one_window_of_the_whole_batch():
    transform = build_batch_transform(dict(type='RandomCrop', sizes=[(3, 5)]))
    images = torch.arange(2 * 1 * 7 * 8.0).reshape(2, 1, 7, 8)
    corners = []
    for operation in draws(transform, 4000):
        crop = operation(images)
        assert crop.shape == (2, 1, 3, 5)
        top, left = divmod(int(crop[0, 0, 0, 0]), 8)
        assert torch.equal(crop, images[..., top : top + 3, left : left + 5])
        corners.append((top, left))
        assert torch.equal(operation(images), crop)  # a drawn operation is a plain value
    assert set(corners) == {(top, left) for top in range(5) for left in range(4)}
    # All equally likely: each within five standard errors of 4000 / 20.
    assert all(abs(corners.count(corner) - 200) < 5 * 200**0.5 for corner in corners)


def test_random_crop_pads_with_zeros():
    transform = build_batch_transform(dict(type='RandomCrop', sizes=4, padding=2))
    sums = {float(operation(torch.ones(1, 1, 4, 4)).sum()) for operation in draws(transform, 200)}
    assert sums == {float(h * w) for h in (2, 3, 4) for w in (2, 3, 4)}


def test_any_torchvision_transform_by_config():
    transform = build_batch_transform(
        dict(type='TorchvisionTransform', transform=dict(type='RandomAffine', degrees=45))
    )
    images = torch.randn(2, 3, 16, 16)
    one, other = draws(transform, 2)
    state = torch.get_rng_state()
    first = one(images)
    again, _ = draws(transform, 2)
    assert one == again != other and '0x' not in repr(one)
    assert torch.equal(one(images), first)  # its random numbers are its own
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(other(images), first)
    angles = v2.RandomAffine(45)
    torch.manual_seed(one.seed)
    assert torch.equal(angles(images), first)
    flipped = v2.functional.horizontal_flip(images)
    flip = dict(type='TorchvisionTransform', transform=dict(type='RandomHorizontalFlip', p=1.0))
    assert torch.equal(draws(build_batch_transform(flip), 1)[0](images), flipped)


def test_a_crop_larger_than_the_image_is_an_error():
    (operation,) = draws(build_batch_transform(dict(type='RandomCrop', sizes=[9])), 1)
    with pytest.raises(ValueError, match=r'does not fit into images of \(8, 9\)'):
        operation(torch.ones(1, 1, 8, 9))


def test_own_transform_by_the_registry():
    @BATCH_TRANSFORMS.register_module()
    class AddOne:
        def draw(self, rng):
            return lambda images: images + 1

    try:
        assert torch.equal(
            draws(build_batch_transform(dict(type='AddOne')), 1)[0](IMAGES), IMAGES + 1
        )
    finally:
        BATCH_TRANSFORMS.module_dict.pop('AddOne')


def test_a_list_is_one_after_the_other_and_an_object_stays_itself():
    resize = RandomResize([4])
    for check in (check_batch_transform, build_batch_transform):
        assert check(resize) is resize
        chained = check([RandomRotate90(), resize])
        assert type(chained) is Compose and chained.transforms[1] is resize
    mixed = build_batch_transform([dict(type='RandomRotate90'), resize])
    assert type(mixed.transforms[0]) is RandomRotate90 and mixed.transforms[1] is resize


@pytest.mark.parametrize(
    ('transform', 'sizes'),
    [
        (RandomResize([8, (4, 10)]), [(8, 8), (4, 10)]),
        (RandomCrop((6, 5), padding=2), [(6, 6), (5, 5)]),
        (Compose([RandomRotate90(), RandomResize([8, 6])]), [(8, 8), (6, 6)]),
        (Compose([RandomResize([8]), RandomCrop(4)]), [(4, 4)]),
        (Identity(), []),
        (RandomScale([0.5]), []),
    ],
)
def test_what_sizes_a_transform_draws_is_what_it_says(transform, sizes):
    assert drawn_sizes(transform) == sizes
    if sizes:
        seen = {operation(torch.ones(1, 1, 12, 12)).shape[2:] for operation in draws(transform)}
        assert seen == set(sizes)


@pytest.mark.parametrize(
    ('config', 'error', 'says'),
    [
        (dict(type='RandomResize', sizes=[]), ValueError, r'sizes=\[224, 192, 160, 128\]'),
        (dict(type='RandomResize', sizes=224), ValueError, 'list of one or more sizes'),
        (dict(type='RandomResize', sizes=[224, 0]), ValueError, '2 or more'),
        (dict(type='RandomResize', sizes=[0.5]), ValueError, 'number of pixels'),
        (dict(type='RandomResize', sizes=[8], mode='cubic'), ValueError, "mode 'cubic'"),
        (dict(type='RandomResize', size=[8]), TypeError, r"unknown keys \['size'\]"),
        (dict(type='RandomScale', factors=[]), ValueError, r'factors=\[1.0, 0.857'),
        (dict(type='RandomScale', factors=0.5), ValueError, 'list of one or more factors'),
        (dict(type='RandomScale', factors=[1, 0]), ValueError, 'number above 0'),
        (dict(type='RandomScale', factors=['1']), ValueError, 'number above 0'),
        (dict(type='RandomScale', sizes=[8]), TypeError, r"unknown keys \['sizes'\]"),
        (dict(type='Compose', transforms=[]), ValueError, 'Identity'),
        (dict(type='RandomFlip'), KeyError, 'RandomFlip'),
        (dict(type='RandomCrop', sizes=[]), ValueError, 'list of one or more sizes'),
        (dict(type='RandomCrop', sizes=[8], padding=-1), ValueError, 'padding is a number'),
        (
            dict(type='TorchvisionTransform', transform=dict(type='Rotate')),
            ValueError,
            "has no 'Rotate'",
        ),
        (dict(type='TorchvisionTransform', transform=5), TypeError, 'not a transform'),
        (
            dict(type='TorchvisionTransform', transform=dict(type='MixUp', num_classes=5)),
            ValueError,
            'mixes labels',
        ),
        (object(), TypeError, 'no draw'),
    ],
)
def test_wrong_input(config, error, says):
    with pytest.raises(error, match=says):
        build_batch_transform(config)
