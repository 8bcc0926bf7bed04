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
        dataset=dict(type='CocoDataset', data_root='/b/birds', ann_file='x/few.json')
    )
    elsewhere = dict(
        dataset=dict(type='CocoDataset', data_root='/b/birds', ann_file='x/train.json')
    )
    assert settings() == settings(train_dataloader=elsewhere)
    assert settings() != settings(train_dataloader=of_other_images)
    assert settings() != settings(load_from='/weights/coco.pth')
    # Names that every training gives, a sweep's or one's own.
    for form in (
        'work_dirs/{}/epoch_120.pth',
        'work_dirs/pre/runs/{}/seed0/epoch_120.pth',
        'out/{}/backbone.pth',
        'out/{}/model_epoch_3.pth',
        'runs/train/{}/weights/best.pt',
        'out/{}/model_best.pth.tar',
        'logs/{}/checkpoints/epoch=3-step=9.ckpt',
        'https://huggingface.co/timm/{}/resolve/main/pytorch_model.bin',
    ):
        of_runs = [settings(load_from=form.format(run)) for run in ('plain', 'ours')]
        assert of_runs[0] != of_runs[1], form
    published = 'simsiam_r50_epoch_100-ea4938fc.pth'
    assert settings(load_from=f'https://x.org/v0/{published}') == settings(
        load_from=f'ckpt/{published}'
    )
    assert settings(load_from='epoch_1.pth') == settings(load_from='work_dirs//./epoch_1.pth')
    assert settings(load_from='a/x/seed0/epoch_1.pth') == settings(
        load_from='/b/x/seed1/epoch_1.pth'
    )
    assert settings(load_from='torchvision://resnet50') != settings(load_from='other://resnet50')
    assert settings(load_from='/a/coco.pth') == settings(load_from='/b/coco.pth')
    # A resumed run's own checkpoint.
    assert settings() == settings(load_from='/a/iter_5.pth', resume=True)


def test_annotation_files_of_one_name():
    def settings(ann_file, data_root='data/coco'):
        dataset = dict(type='CocoDataset', data_root=data_root, ann_file=ann_file)
        return settings_of(dict(train_dataloader=dict(dataset=dataset)))

    assert settings('10percent/train.json') != settings('full/train.json')
    assert settings('folds/0/train.json') != settings('folds/1/train.json')
    assert settings('/mnt/few/train.json') != settings('/mnt/full/train.json')
    # The same file, as it is written here and there.
    for ann_file, data_root in (
        ('annotations/train.json', '/mnt/data/coco/'),
        ('/mnt/coco/annotations/train.json', 'data/coco'),
        ('data/coco/annotations/train.json', None),
    ):
        assert settings('annotations/train.json') == settings(ann_file, data_root), ann_file
    for ann_file in (
        '/mnt/coco/few/train.json',
        's3://x/coco/few/train.json',
        'D:\\coco\\few\\train.json',
    ):
        assert settings('few/train.json') == settings(ann_file), ann_file
    # Outside of its data set's folder, on two machines.
    assert settings('/mnt/a/few/train.json') == settings('/home/b/few/train.json')
    # Where a row's data lie on another machine it is the row.
    assert (
        settings('annotations/train.json', '/x/COCO2017')['train_dataloader.dataset.ann_file']
        == 'train.json'
    )


def test_gradaug_alone():
    plain = dict(model=dict(type='X', depth=1), train_cfg=dict(max_iters=9))
    ours = dict(model=dict(type='G', depth=1, gradaug=dict(n=3)), train_cfg=dict(max_iters=9))
    shorter = dict(ours, train_cfg=dict(max_iters=3))
    one, other, short = map(settings_of, (ours, plain, shorter))
    assert differ_in_gradaug_alone(one, other) and not differ_in_gradaug_alone(short, other)
    assert differ_in_gradaug_alone(short, other, lengths_too=True)
    # One class, in other scopes, and another seed's fold.
    backbones = [dict(type='ResNet'), dict(type='mmgradaug.SlimmableResNet', _scope_='mmdet')]
    folds = [
        settings_of(dict(model=dict(backbone=each), train_dataloader=dict(dataset=dict(fold=fold))))
        for fold, each in enumerate(backbones)
    ]
    assert differ_in_gradaug_alone(*folds)
    deeper = settings_of(dict(plain, model=dict(type='X', depth=2)))
    assert not differ_in_gradaug_alone(one, deeper, lengths_too=True)


@pytest.mark.parametrize(
    ('dataset', 'name'),
    [
        (dict(data_root='data/flowers/train'), 'flowers'),
        (dict(data_root='data\\flowers\\train'), 'flowers'),
        (dict(data_root='D:\\flowers'), 'flowers'),
        (
            dict(data_root='/mnt/data/coco/', ann_file='annotations/instances_train2017.json'),
            'coco',
        ),
        (dict(ann_file='/mnt/birds/annotations/train.json'), 'birds'),
        (dict(data_root='data/', data_prefix=dict(img_path='cars/images')), 'cars'),
        (dict(data_root='data/flowers', data_prefix='few'), 'flowers/few'),
        (dict(data_root='data/flowers/train1'), 'train1'),
        (dict(data_root='/home/me/project/data', data_prefix='train'), ''),
        (dict(type='CIFAR10', data_root='/datasets/cifar-10'), ''),
        (dict(type='mmgradaug.LabelledSplit', of='CIFAR10', data_root='x/y'), ''),
        (dict(data_root='.'), ''),
        (dict(data_root=None), ''),
    ],
)
def test_a_data_set_has_the_name_of_its_folder(dataset, name):
    assert folder_name(dataset) == name


def of(**dataset):
    return dict(train_dataloader=dict(dataset=dict(dict(type='CustomDataset'), **dataset)))


@pytest.mark.parametrize(
    ('one', 'other', 'same'),
    [
        (of(data_root='data/x'), of(data_root='/mnt/x/'), True),
        (of(data_root='data', data_prefix='train'), of(data_root='/home/me/a/data'), True),
        (of(data_root='data/x'), of(data_root='data/y'), False),
        (of(data_root='x/train1'), of(data_root='x/train2'), False),
        (of(data_root='x', data_prefix='few'), of(data_root='x', data_prefix='all'), False),
        (of(type='CIFAR10', data_root='data/'), of(type='CIFAR100', data_root='data/'), False),
        (of(type='CIFAR10', data_root='a/cifar'), of(type='CIFAR10', data_root='c10'), True),
        (of(of='CIFAR10', num_labels=250), of(of='CIFAR10', num_labels=1000), False),
        (of(of='CIFAR10', num_labels=250), of(of='CIFAR10', num_labels=250, part='both'), True),
        (of(ann_file='a/few.json'), of(ann_file='a/all.json'), False),
    ],
)
def test_which_images_are_the_same(one, other, same):
    assert have_the_same_data(one, other) == same


def test_wrapped_data_are_told_apart_too():
    def config(*roots):
        parts = [dict(type='CocoDataset', data_root=root, ann_file='train.json') for root in roots]
        concatenated = dict(type='ConcatDataset', datasets=parts)
        return of(type='RepeatDataset', times=2, dataset=concatenated)

    assert have_the_same_data(config('/a/birds', '/a/cars'), config('/b/birds', '/b/cars'))
    assert not have_the_same_data(config('/a/birds', '/a/cars'), config('/a/birds', '/a/x'))


def test_of_detectors_the_class_counts():
    retina = settings_of(dict(model=dict(type='RetinaNet', backbone=dict(depth=18))))
    fcos = settings_of(dict(model=dict(type='mmdet.FCOS', backbone=dict(depth=18))))
    model = dict(type='mmgradaug.GradAugDetector', detector='mmdet.RetinaNet', gradaug=dict(n=3))
    ours = settings_of(dict(model=dict(model, backbone=dict(depth=18))))
    assert differ_in_gradaug_alone(ours, retina) and not differ_in_gradaug_alone(ours, fcos)
