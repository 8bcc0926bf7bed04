"""A few labelled images of each class, and the rest."""

import json

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from PIL import Image

from mmgradaug.datasets import Digits

OF_DIGITS = dict(type='mmgradaug.LabelledSplit', of='mmgradaug.Digits', split='train', pipeline=[])


def images(dataset):
    return {dataset[i]['img'].tobytes() for i in range(len(dataset))}


def test_it_is_balanced_and_follows_its_seed():
    whole = DATASETS.build(dict(type='mmgradaug.Digits', split='train', pipeline=[]))
    one = DATASETS.build(dict(OF_DIGITS, num_labels=50, split_seed=1))
    again = DATASETS.build(dict(OF_DIGITS, num_labels=50, split_seed=1))
    other = DATASETS.build(dict(OF_DIGITS, num_labels=50, split_seed=2))
    assert len(one) == 50
    assert np.bincount([one[i]['gt_label'] for i in range(50)]).tolist() == [5] * 10
    assert images(one) == images(again) <= images(whole)
    assert len(images(one) & images(other)) < 25


@pytest.mark.parametrize(
    ('num_labels', 'says'),
    [(55, 'multiple of the number of classes, 10'), (0, 'multiple'), (5000, "class '0' has")],
)
def test_wrong_input(num_labels, says):
    with pytest.raises(ValueError, match=says):
        DATASETS.build(dict(OF_DIGITS, num_labels=num_labels))


def labels(dataset):
    return [dataset[i].get('gt_label') for i in range(len(dataset))]


@pytest.mark.parametrize('num_labels', [20.0, '20', True])
def test_a_number_of_labels_that_is_no_whole_number(num_labels):
    with pytest.raises(TypeError, match='num_labels must be a whole number, got'):
        DATASETS.build(dict(OF_DIGITS, num_labels=num_labels))


def test_the_parts_share_no_image_and_are_all_of_them():
    whole = DATASETS.build(dict(type='mmgradaug.Digits', split='train', pipeline=[]))
    config = dict(OF_DIGITS, num_labels=50, split_seed=1)
    labelled = DATASETS.build(config)
    unlabelled = DATASETS.build(dict(config, part='unlabelled'))
    both = DATASETS.build(dict(config, part='both'))
    assert (len(labelled), len(unlabelled)) == (50, 950)
    assert not images(labelled) & images(unlabelled)
    assert images(labelled) | images(unlabelled) == images(whole)
    assert both.cumulative_sizes == [50, 1000]
    assert labels(unlabelled) == [None] * 950
    assert None not in labels(labelled)
    assert labels(both) == labels(labelled) + labels(unlabelled)
    assert [both[i]['img'].tobytes() for i in (0, 49, 50, 999)] == [
        labelled[0]['img'].tobytes(),
        labelled[49]['img'].tobytes(),
        unlabelled[0]['img'].tobytes(),
        unlabelled[949]['img'].tobytes(),
    ]


class Poison:
    """A label that nobody may look at."""

    def _refuse(self, *args):
        raise AssertionError('the label of an unlabelled image was read')

    __int__ = __index__ = __float__ = __array__ = __eq__ = __hash__ = __len__ = __iter__ = _refuse
    __bool__ = __str__ = __repr__ = __lt__ = __gt__ = __add__ = _refuse


@DATASETS.register_module()
class PoisonedDigits(Digits):
    """Every label outside of a split file is poison."""

    safe = ()

    def get_data_info(self, idx):
        info = super().get_data_info(idx)
        if info['img'].tobytes() not in self.safe:
            info['gt_label'] = Poison()
        return info


@pytest.mark.parametrize('kind', ['GradAugSemiClassifier', 'MeanTeacherClassifier'])
def test_labels_of_unlabelled_images_are_never_read(tmp_path, kind):
    """Training with poison in their place gives the very same weights."""
    config = dict(OF_DIGITS, num_labels=20, split_file=str(tmp_path / 'split.json'))
    PoisonedDigits.safe = images(DATASETS.build(config))  # writes the file
    poisoned = DATASETS.build(dict(config, of='PoisonedDigits', part='unlabelled'))
    with pytest.raises(AssertionError, match='was read'):
        int(poisoned.get_data_info(0)['gt_label'])  # the poison works
    states = []
    for of in ('mmgradaug.Digits', 'PoisonedDigits'):
        model = dict(
            type=f'mmgradaug.{kind}',
            backbone=dict(type='mmgradaug.WideResNet', depth=10, widen_factor=1),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
        )
        hook = 'MeanTeacherHook'
        if kind == 'GradAugSemiClassifier':
            resize = dict(type='RandomResize', sizes=[8, 6])
            model['gradaug'] = dict(num_subnets=2, min_width=0.5, transforms=resize)
            hook = 'GradAugHook'
        pipeline = [dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
        runner = Runner(
            model,
            work_dir=str(tmp_path / of),
            train_dataloader=dict(
                batch_size=8,
                num_workers=0,
                collate_fn=dict(type='pseudo_collate'),
                sampler=dict(type='mmdet.MultiSourceSampler', batch_size=2, source_ratio=[1, 1]),
                dataset=dict(config, of=of, part='both', pipeline=pipeline),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type=f'mmgradaug.{hook}')],
            default_scope='mmpretrain',
            randomness=dict(seed=0),
            experiment_name=f'{tmp_path.name}_{of}',
        )
        runner.train()
        states.append(runner.model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_unlabelled_images_of_another_dataset(tmp_path):
    """Others have other classes, another size, or labels; neither matters."""
    for name in ('car', 'tree'):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new('RGB', (20, 12), (10 * i, 0, 0)).save(tmp_path / name / f'{i}.png')
    config = dict(
        OF_DIGITS,
        num_labels=20,
        part='both',
        pipeline=[dict(type='PackInputs')],
        unlabelled=dict(type='mmgradaug.ImageFolder', data_root=str(tmp_path)),
    )
    both = DATASETS.build(config)
    assert both.cumulative_sizes == [20, 26]
    assert both[0]['inputs'].shape == (3, 8, 8) and both[20]['inputs'].shape == (3, 12, 20)
    assert 'gt_label' in both[19]['data_samples'] and 'gt_label' not in both[20]['data_samples']
    assert both.metainfo['classes'] == [str(digit) for digit in range(10)]


def test_a_split_is_written_and_read_again(tmp_path):
    file = tmp_path / 'splits' / 'digits.json'
    config = dict(OF_DIGITS, num_labels=30, split_seed=4)
    drawn = DATASETS.build(dict(config, split_file=str(file)))
    content = json.loads(file.read_text())
    assert content['split_seed'] == 4 and content['num_images'] == 1000
    assert {name: len(indices) for name, indices in content['labelled'].items()} == {
        str(digit): 3 for digit in range(10)
    }
    assert images(drawn) == images(DATASETS.build(config))
    assert sorted(file.parent.iterdir()) == [file]
    # Somebody else's: another image of class 0, and no seed.
    whole = DATASETS.build(dict(type='mmgradaug.Digits', split='train', pipeline=[]))
    zeros = [i for i in range(1000) if whole.get_data_info(i)['gt_label'] == 0]
    content['labelled']['0'] = zeros[-3:]
    del content['split_seed']
    file.write_text(json.dumps(content))
    theirs = DATASETS.build(dict(config, split_file=str(file)))
    assert {whole[i]['img'].tobytes() for i in zeros[-3:]} <= images(theirs)
    assert len(images(theirs) - images(drawn)) <= 3


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(split_seed=5), 'is the split of 30 labels with seed 4, not of 30 with seed 5'),
        (dict(num_labels=20), 'is the split of 30 labels with seed 4, not of 20 with seed 4'),
        (dict(split='test'), 'is about other images than this mmgradaug.Digits has'),
        (dict(reorder=True), 'is about other images than this mmgradaug.Digits has'),
        (dict(text='{}'), "is no split file .KeyError.'labelled'.*Name another split_file"),
        (dict(text='no'), 'is no split file .JSONDecodeError'),
        (dict(drop=True), 'has 29 labelled images, not 30'),
        (dict(twice=True), 'has an image twice'),
        (
            dict(uneven=True),
            "is of seed 4 but has not the same number of each class: .'0': 2, '1': 4,",
        ),
    ],
)
def test_a_file_of_another_split_is_refused_and_kept(tmp_path, change, says):
    file = tmp_path / 'split.json'
    config = dict(OF_DIGITS, num_labels=30, split_seed=4, split_file=str(file))
    DATASETS.build(config)
    content = json.loads(file.read_text())
    if change.pop('reorder', False):
        classes = content['labelled']
        classes['0'], classes['1'] = classes['1'], classes['0']
    if change.pop('drop', False):
        content['labelled']['0'].pop()
    if change.pop('twice', False):
        content['labelled']['0'][0] = content['labelled']['0'][1]
    if change.pop('uneven', False):
        labels = Digits(split='train').get_gt_labels()
        chosen = content['labelled']
        chosen['0'].pop()
        chosen['1'].append(next(i for i in range(1000) if labels[i] == 1 and i not in chosen['1']))
    text = change.pop('text', json.dumps(content))
    file.write_text(text)
    with pytest.raises(ValueError, match=says):
        DATASETS.build({**config, **change})
    assert file.read_text() == text


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(part='rest'), "part must be one of labelled, unlabelled, both; got 'rest'"),
        (dict(unlabelled=dict(type='Digits')), "takes part='both'"),
        (dict(part='both', split='train', num_labels=50, labels_per_class=5), 'no image is left'),
    ],
)
def test_wrong_parts(change, says):
    with pytest.raises(ValueError, match=says):
        DATASETS.build({**OF_DIGITS, 'num_labels': 50, **change})


@pytest.fixture
def list_file(tmp_path):
    """Images named in a file, with labels but without names of classes."""
    lines = []
    for i in range(6):
        Image.new('RGB', (4, 4), (i, 0, 0)).save(tmp_path / f'{i}.png')
        lines.append(f'{i}.png {i % 2}')
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    return dict(
        type='mmgradaug.LabelledSplit', of='CustomDataset', data_root=str(tmp_path), ann_file='list.txt',
        num_labels=2, pipeline=[dict(type='LoadImageFromFile')],
    )  # fmt: skip


def test_classes_without_names_are_asked_for(list_file):
    with pytest.raises(
        ValueError, match=r'CustomDataset does not say which classes.*metainfo=dict'
    ):
        DATASETS.build(list_file)
    with pytest.raises(ValueError, match=r"a string, 'ant'.*write metainfo=dict\(classes=\["):
        DATASETS.build(dict(list_file, metainfo=dict(classes=('ant'))))
    found = DATASETS.build(dict(list_file, metainfo=dict(classes=['ant', 'bee'])))
    assert sorted(labels(found)) == [0, 1]


def test_wrappers_of_other_data_sets_are_refused_by_name(list_file):
    part = dict(type='mmgradaug.Digits', split='train', pipeline=[])
    with pytest.raises(TypeError, match='a wrapper of other data sets: write the one data set'):
        DATASETS.build(
            dict(type='mmgradaug.LabelledSplit', of='ConcatDataset', datasets=[part], num_labels=10)
        )
    both = dict(OF_DIGITS, num_labels=10, part='both')
    for wrapper in (dict(type='ConcatDataset', datasets=[part]),
                    dict(type='RepeatDataset', dataset=part, times=2)):  # fmt: skip
        with pytest.raises(
            TypeError, match=f'unlabelled is a {wrapper["type"]} of other data sets'
        ):
            DATASETS.build(dict(both, unlabelled=wrapper))
