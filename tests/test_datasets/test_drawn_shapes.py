"""mmgradaug shapes against pycocotools' and MMDetection's reading of what it writes."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from command_line import run_mmgradaug
from mmdet.datasets import CocoDataset
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools.coco import COCO

from mmgradaug.datasets import drawn_shapes

CLASSES = ('circle', 'square', 'triangle')
COUNTS = dict(train=24, val=8)
EMPTY, CROWD_ONLY, ONE_PIXEL, TINY, TURNED = 1, 2, 3, 4, 5  # the indices that --help names


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp('made') / 'shapes'
    drawn_shapes.generate(out, **COUNTS)
    return out


@pytest.fixture(scope='module')
def coco(made):
    return {s: COCO(made / 'annotations' / f'instances_{s}2017.json') for s in COUNTS}


def annotations_of(coco, index):
    return coco.loadAnns(coco.getAnnIds(coco.dataset['images'][index]['id']))


def instances_of(coco, index):
    return [one for one in annotations_of(coco, index) if not one['iscrowd']]


def contents(folder):
    files = sorted(path for path in Path(folder).rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_layout_is_cocos(made, coco):
    assert sorted(path.name for path in made.iterdir()) == ['annotations', 'train2017', 'val2017']
    for split, count in COUNTS.items():
        content = coco[split].dataset
        assert [(c['id'], c['name']) for c in content['categories']] == [
            (1, 'circle'), (2, 'square'), (4, 'triangle'),
        ]  # fmt: skip
        assert len(content['images']) == count
        files = {path.name for path in (made / f'{split}2017').iterdir()}
        assert files == {image['file_name'] for image in content['images']}
        for image in content['images']:
            with Image.open(made / f'{split}2017' / image['file_name']) as pixels:
                assert (pixels.size, pixels.mode) == ((image['width'], image['height']), 'RGB')
        assert {one['category_id'] for one in content['annotations']} == {1, 2, 4}
    for key in ('images', 'annotations'):
        ids = [one['id'] for split in COUNTS for one in coco[split].dataset[key]]
        assert len(set(ids)) == len(ids)
    assert all(image['id'] != i for i, image in enumerate(coco['train'].dataset['images']))


@pytest.mark.parametrize('split', COUNTS)
def test_boxes_and_areas_are_the_masks_and_masks_do_not_overlap(coco, split):
    kinds = set()
    for image in coco[split].dataset['images']:
        taken = np.zeros((image['height'], image['width']), int)
        for one in coco[split].loadAnns(coco[split].getAnnIds(image['id'])):
            mask = coco[split].annToMask(one)
            assert mask.shape == taken.shape
            ys, xs = np.nonzero(mask)
            x, y, width, height = one['bbox']
            assert (x, y) == (xs.min(), ys.min())
            assert (x + width, y + height) == (xs.max() + 1, ys.max() + 1)
            assert one['area'] == mask.sum()
            taken += mask
            segmentation = one['segmentation']
            if one['iscrowd']:
                assert isinstance(segmentation['counts'], list)
            else:
                assert isinstance(segmentation['counts'], str)
            kinds.add(one['iscrowd'])
        assert taken.max() <= 1
    if split == 'train':
        assert kinds == {0, 1}


@pytest.mark.parametrize(
    ('kind', 'area'),
    [('circle', math.pi), ('square', 1.8**2), ('triangle', 3 * math.sqrt(3) / 4 * 1.5**2)],
)
def test_shapes_have_their_geometrys_area_and_centre_at_any_angle(kind, area):
    for angle in (0, 0.4, 2.0):
        shape = drawn_shapes.Shape(kind, 60.3, 49.8, 20, angle)
        mask = shape.coverage(120, 100) > 0.5
        assert mask.sum() == pytest.approx(area * 20**2, rel=0.02)
        ys, xs = np.nonzero(mask)
        np.testing.assert_allclose([xs.mean() + 0.5, ys.mean() + 0.5], [60.3, 49.8], atol=0.3)
        # Cut off by the border, what is left is where it was.
        np.testing.assert_array_equal(shape.coverage(65, 55) > 0.5, mask[:55, :65])


def test_the_picture_shows_what_the_masks_say(made, coco):
    checked = 0
    for image in coco['train'].dataset['images']:
        with Image.open(made / 'train2017' / image['file_name']) as file:
            pixels = np.asarray(file).astype(float)
        masks = [coco['train'].annToMask(one) for one in
                 coco['train'].loadAnns(coco['train'].getAnnIds(image['id']))]  # fmt: skip
        if not masks:
            continue
        background = np.median(pixels[np.sum(masks, axis=0) == 0], axis=0)
        for mask in masks:
            if mask.sum() > 30:
                contrast = abs(np.median(pixels[mask == 1], axis=0) - background).max()
                assert contrast > drawn_shapes.MIN_CONTRAST / 2
                checked += 1
    assert checked > 80


@pytest.mark.parametrize('split', COUNTS)
def test_the_special_images_are_there(coco, split):
    content = coco[split]
    assert annotations_of(content, EMPTY) == []
    assert [one['iscrowd'] for one in annotations_of(content, CROWD_ONLY)] == [1]
    boxes = [tuple(one['bbox'][2:]) for one in instances_of(content, ONE_PIXEL)]
    assert (1, 1) in boxes
    assert any(width == 1 and height > 5 for width, height in boxes)
    turned = content.dataset['images'][TURNED]
    assert (turned['width'], turned['height']) == (100, 160)


def test_sizes_differ_and_crowds_occur_among_instances(coco):
    images = coco['train'].dataset['images']
    sizes = [(image['width'], image['height']) for image in images]
    assert sizes.count((160, 100)) > len(sizes) / 3
    assert sizes.count((100, 160)) > 1
    assert len(set(sizes)) > 3
    assert all(75 <= min(size) and max(size) <= 200 for size in sizes)
    both = [index for index in range(len(images))
            if {one['iscrowd'] for one in annotations_of(coco['train'], index)} == {0, 1}]  # fmt: skip
    assert both
    counts = [len(instances_of(coco['train'], index)) for index in range(6, len(images))]
    assert min(counts) >= 1 and max(counts) <= 7 and np.mean(counts) > 3


def mmdet_dataset(root, split, filter_cfg=None, **annotations):
    init_default_scope('mmdet')
    return CocoDataset(
        data_root=str(root),
        ann_file=f'annotations/instances_{split}2017.json',
        data_prefix=dict(img=f'{split}2017/'),
        metainfo=dict(classes=CLASSES),
        filter_cfg=filter_cfg,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True, **annotations),
        ],
    )


def test_mmdetection_reads_the_same_boxes_masks_and_labels(made, coco):
    label = {1: 0, 2: 1, 4: 2}
    for split, count in COUNTS.items():
        bitmaps = mmdet_dataset(made, split)
        assert len(bitmaps) == count
        for index in range(count):
            expected = annotations_of(coco[split], index)
            found = bitmaps[index]
            assert found['gt_bboxes_labels'].tolist() == [
                label[one['category_id']] for one in expected
            ]
            np.testing.assert_array_equal(
                found['gt_ignore_flags'], [bool(one['iscrowd']) for one in expected]
            )
            boxes = np.array([one['bbox'] for one in expected]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            np.testing.assert_array_equal(found['gt_bboxes'].tensor, boxes)
            assert found['gt_masks'].masks.shape == (len(expected), *found['img'].shape[:2])
            for i, one in enumerate(expected):
                mask = coco[split].annToMask(one)
                np.testing.assert_array_equal(found['gt_masks'].masks[i], mask)


def test_mmdetections_usual_filter_drops_the_empty_image_alone(made, coco):
    """And keeps the one with a crowd only, which trains without any box."""
    kept = mmdet_dataset(made, 'train', dict(filter_empty_gt=True, min_size=32))
    ids = [kept.get_data_info(i)['img_id'] for i in range(len(kept))]
    images = [image['id'] for image in coco['train'].dataset['images']]
    assert ids == images[:EMPTY] + images[EMPTY + 1 :]


@pytest.mark.parametrize('split', COUNTS)
def test_tiny_objects_vanish_at_half_the_size(made, split):
    found = mmdet_dataset(made, split)[TINY]
    before, after = (
        masks.masks.sum((1, 2)) for masks in (found['gt_masks'], found['gt_masks'].rescale(0.5))
    )
    vanished = before[after == 0]
    assert (after > 0).any()
    assert sorted(vanished)[-6:] == [1, 1, 2, 2, 5, 5]
    assert set(found['gt_bboxes_labels'][after == 0]) == {0, 1, 2}


def test_a_hidden_shape_is_left_out_and_a_cut_one_is_still_one():
    def item(kind, radius, angle=0.0):
        return drawn_shapes.Item(kind, (drawn_shapes.Shape(kind, 50, 50, radius, angle),))

    hidden, cut, clutter = item('circle', 10), item('square', 20), item('bar', 40, math.pi / 2)
    clutter = drawn_shapes.Item(None, clutter.shapes)
    items = drawn_shapes._without_hidden([hidden, cut, clutter], 100, 100)
    assert items == (cut, clutter)
    (annotation,) = drawn_shapes.annotate(drawn_shapes.Scene(100, 100, items), image_id=7)
    # A bar of 0.24 * 40 = 9.6 pixels across a square of 36 leaves two parts of 13 columns.
    assert annotation['bbox'] == [32, 32, 36, 36]
    assert annotation['area'] == 2 * 13 * 36
    assert annotation['category_id'] == 2


def test_everything_is_a_function_of_the_seed(made, tmp_path):
    drawn_shapes.generate(tmp_path / 'again', **COUNTS)
    assert contents(tmp_path / 'again') == contents(made)
    drawn_shapes.generate(tmp_path / 'fewer', train=7, val=2)
    fewer, all_of_them = contents(tmp_path / 'fewer'), contents(made)
    pictures = [name for name in fewer if name.endswith('.png')]
    assert len(pictures) == 9
    assert all(fewer[name] == all_of_them[name] for name in pictures)
    name = 'annotations/instances_train2017.json'
    few, many = json.loads(fewer[name]), json.loads(all_of_them[name])
    assert many['images'][:7] == few['images']
    assert many['annotations'][: len(few['annotations'])] == few['annotations']
    drawn_shapes.generate(tmp_path / 'other', train=7, val=2, seed=1)
    other = contents(tmp_path / 'other')
    assert not any(other[name] == fewer[name] for name in pictures)
    assert len(set(contents(made).values())) == len(contents(made))  # no picture in both splits


def test_other_sizes_numbers_and_formats(tmp_path):
    content = drawn_shapes.generate(
        tmp_path / 'jpg', train=8, val=1, size=(48, 48), shapes=(1, 1), image_format='jpg'
    )
    sizes = [(image['width'], image['height']) for image in content['train']['images']]
    assert sizes[0] == (48, 48) and sizes[TURNED] == (36, 48)
    instances = [one for one in content['train']['annotations'] if one['image_id'] > 12]
    assert len([one for one in instances if not one['iscrowd']]) <= 2
    pictures = list((tmp_path / 'jpg' / 'train2017').iterdir())
    for picture in pictures:
        with Image.open(picture) as file:
            assert file.format == 'JPEG'
    assert len(pictures) == 8
    one = drawn_shapes.generate(tmp_path / 'one', train=1, val=1)
    assert len(one['train']['images']) == 1


def test_it_does_not_touch_a_folder_that_holds_something(tmp_path):
    kept = tmp_path / 'mine' / 'thesis.txt'
    kept.parent.mkdir()
    kept.write_text('years of work')
    code, output = run_mmgradaug('shapes', kept.parent)
    assert code == 1 and 'Traceback' not in output
    assert f'{kept.parent} exists and is not an empty folder: name another, or remove it' in output
    code, output = run_mmgradaug('shapes', kept)
    assert code == 1 and 'is not an empty folder' in output
    assert contents(tmp_path) == {'mine/thesis.txt': b'years of work'}


@pytest.mark.parametrize('exists', [False, True])
def test_a_failure_midway_leaves_nothing(monkeypatch, tmp_path, exists):
    out = tmp_path / 'shapes'
    if exists:
        out.mkdir()
    paint, calls = drawn_shapes.paint, []

    def failing(*arguments):
        calls.append([path.name for path in out.iterdir()])
        if len(calls) == 9:
            raise KeyboardInterrupt
        return paint(*arguments)

    monkeypatch.setattr(drawn_shapes, 'paint', failing)
    with pytest.raises(KeyboardInterrupt):
        drawn_shapes.generate(out, train=7, val=7)
    assert calls == [['.incomplete']] * 9  # nothing in its place before all is made
    assert out.exists() == exists and not (exists and list(out.iterdir()))
    monkeypatch.undo()
    drawn_shapes.generate(out, train=1, val=1)  # and one can go on


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(train=0), 'train must be 1 image or more, got 0'),
        (dict(size=(40, 100)), 'size must be 48 x 48 or more, got 40 x 100'),
        (dict(shapes=(4, 3)), '1 <= MIN <= MAX, got 4 3'),
        (dict(seed=-1), 'seed must be 0 or more'),
        (dict(image_format='gif'), "'png' or 'jpg', got 'gif'"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        drawn_shapes.generate(tmp_path / 'shapes', **arguments)
    assert not (tmp_path / 'shapes').exists()


def test_the_command_says_what_it_made_and_how_to_use_it(made, tmp_path):
    code, output = run_mmgradaug(
        'shapes', '.', '--train', 24, '--val', 8, cwd=tmp_path
    )  # fmt: skip
    assert code == 0, output
    assert contents(tmp_path) == contents(made)
    content = json.loads((made / 'annotations' / 'instances_val2017.json').read_text())
    crowds = sum(one['iscrowd'] for one in content['annotations'])
    instances = len(content['annotations']) - crowds
    assert f'val2017: 8 images, {instances} instances, {crowds} crowds' in output
    assert "metainfo=dict(classes=('circle', 'square', 'triangle'))" in output
