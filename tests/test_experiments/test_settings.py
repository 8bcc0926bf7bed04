"""What of a config tells runs apart that may not be averaged."""

import pytest

from mmgradaug.experiments.settings import (
    differ_in_gradaug_alone,
    folder_name,
    have_the_same_data,
    settings_of,
)


def test_weights_and_annotations_tell_trainings_apart_wherever_they_lie():
    def settings(**more):
        dataset = dict(type='CocoDataset', data_root='/a/birds', ann_file='x/train.json')
        return settings_of(dict(train_dataloader=dict(dataset=dataset), load_from=None) | more)

    of_other_images = dict(
        dataset=dict(type='CocoDataset', data_root='/b/birds', ann_file='y/few.json')
    )
    elsewhere = dict(
        dataset=dict(type='CocoDataset', data_root='/b/birds', ann_file='y/train.json')
    )
    assert settings() == settings(train_dataloader=elsewhere)
    assert settings() != settings(train_dataloader=of_other_images)
    assert settings() != settings(load_from='/weights/coco.pth')
    assert settings(load_from='/a/coco.pth') == settings(load_from='/b/coco.pth')
    # A resumed run's own checkpoint.
    assert settings() == settings(load_from='/a/iter_5.pth', resume=True)


def test_gradaug_alone():
    plain = dict(model=dict(type='X', depth=1), train_cfg=dict(max_iters=9))
    ours = dict(model=dict(type='G', depth=1, gradaug=dict(n=3)), train_cfg=dict(max_iters=9))
    shorter = dict(ours, train_cfg=dict(max_iters=3))
    one, other, short = map(settings_of, (ours, plain, shorter))
    assert differ_in_gradaug_alone(one, other) and not differ_in_gradaug_alone(short, other)
    assert differ_in_gradaug_alone(short, other, lengths_too=True)
    deeper = settings_of(dict(plain, model=dict(type='X', depth=2)))
    assert not differ_in_gradaug_alone(one, deeper, lengths_too=True)


@pytest.mark.parametrize(
    ('dataset', 'name'),
    [
        (dict(data_root='data/flowers/train'), 'flowers'),
        (
            dict(data_root='/mnt/data/coco/', ann_file='annotations/instances_train2017.json'),
            'coco',
        ),
        (dict(ann_file='/mnt/birds/annotations/train.json'), 'birds'),
        (dict(data_root='data/', data_prefix=dict(img_path='cars/images')), 'cars'),
        (dict(data_root='.'), ''),
        (dict(data_root=None), ''),
    ],
)
def test_a_data_set_has_the_name_of_its_folder(dataset, name):
    assert folder_name(dataset) == name


def test_wrapped_data_are_told_apart_too():
    def settings(*roots):
        parts = [dict(type='CocoDataset', data_root=root, ann_file='train.json') for root in roots]
        concatenated = dict(type='ConcatDataset', datasets=parts)
        dataset = dict(type='RepeatDataset', times=2, dataset=concatenated)
        return settings_of(dict(train_dataloader=dict(dataset=dataset)))

    assert have_the_same_data(settings('/a/birds', '/a/cars'), settings('/b/birds', '/b/cars'))
    assert not have_the_same_data(settings('/a/birds', '/a/cars'), settings('/a/birds', '/a/x'))


def test_of_detectors_the_class_counts():
    retina = settings_of(dict(model=dict(type='RetinaNet', backbone=dict(depth=18))))
    fcos = settings_of(dict(model=dict(type='mmdet.FCOS', backbone=dict(depth=18))))
    model = dict(type='mmgradaug.GradAugDetector', detector='mmdet.RetinaNet', gradaug=dict(n=3))
    ours = settings_of(dict(model=dict(model, backbone=dict(depth=18))))
    assert differ_in_gradaug_alone(ours, retina) and not differ_in_gradaug_alone(ours, fcos)
