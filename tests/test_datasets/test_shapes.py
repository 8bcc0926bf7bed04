"""The images of mmgradaug shapes as a data set of MMDetection's."""

import pytest
from mmdet.datasets import CocoDataset
from mmengine.registry import DATASETS, init_default_scope

from mmgradaug.datasets import Shapes


def build(root, **more):
    return DATASETS.build(
        dict(
            type='mmgradaug.Shapes',
            data_root=str(root),
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[],
            **more,
        )
    )


def ids(dataset):
    return [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]


def test_without_a_number_it_is_the_stock_data_set(shapes):
    init_default_scope('mmdet')
    ours = build(shapes)
    stock = CocoDataset(
        data_root=str(shapes),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        metainfo=dict(classes=('circle', 'square', 'triangle')),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[],
    )
    assert len(ours) == len(stock) == 9  # of ten, one has no annotation
    assert [ours.get_data_info(i) for i in range(9)] == [stock.get_data_info(i) for i in range(9)]
    assert ours.metainfo['classes'] == stock.metainfo['classes']


def test_a_seed_draws_images(shapes):
    everything = ids(build(shapes))
    drawn = [ids(build(shapes, num_images=4, image_seed=seed)) for seed in range(8)]
    assert all(len(set(one)) == 4 and one == sorted(one) for one in drawn)
    assert {image for one in drawn for image in one} == set(everything)
    assert len({tuple(one) for one in drawn}) > 4
    assert ids(build(shapes, num_images=4, image_seed=3)) == drawn[3]
    assert ids(build(shapes, num_images=9)) == everything


def test_missing_shapes_are_an_error_that_says_what_to_type(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        build(tmp_path / 'shapes')
    assert f'mmgradaug shapes {tmp_path}/shapes' in str(error.value)


@pytest.mark.parametrize('number', [0, -3])
def test_no_images_are_refused(shapes, number):
    with pytest.raises(ValueError, match=f'num_images must be 1 or more, .* got {number}'):
        build(shapes, num_images=number)


def test_more_images_than_there_are_are_refused(shapes):
    with pytest.raises(ValueError, match='10 images were asked for, .* has 9 after filtering'):
        build(shapes, num_images=10)


def test_it_is_exported():
    assert Shapes.METAINFO['classes'] == ('circle', 'square', 'triangle')
