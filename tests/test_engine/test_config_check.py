"""What MMEngine takes in silence is told before anything is built."""

import ast
import json
from pathlib import Path

import mmdet
import mmpretrain
import pytest
from mmengine.config import Config

from mmgradaug.engine.annotations import missing_fields
from mmgradaug.engine.config_check import problems_of

HOOK = dict(type='mmgradaug.GradAugHook')


def test_classes_that_are_a_string(tmp_path):
    inner = dict(type='CocoDataset', metainfo=dict(classes=('circle')))
    dataset = dict(type='RepeatDataset', times=2, dataset=inner)
    (problem,) = problems_of(Config(dict(train_dataloader=dict(dataset=dataset))))
    assert "of CocoDataset: classes is the string 'circle'" in problem and "('circle',)" in problem
    (tmp_path / 'names.txt').write_text('circle\n')
    for classes in (('circle',), ['circle'], str(tmp_path / 'names.txt')):
        inner['metainfo'] = dict(classes=classes)
        assert not problems_of(Config(dict(train_dataloader=dict(dataset=dataset))))


def test_two_gradaug_hooks():
    (problem,) = problems_of(Config(dict(custom_hooks=[HOOK, dict(type='EMAHook'), HOOK])))
    assert '2 GradAugHook' in problem
    assert not problems_of(Config(dict(custom_hooks=[HOOK, dict(type='EMAHook')])))


def test_figures_of_other_boxes_than_the_images(tmp_path):
    for name in ('a.json', 'b.json'):
        (tmp_path / name).write_text('{}')

    def problems(ann_file, data='CocoDataset', metric='CocoMetric'):
        dataset = dict(type=data, data_root=str(tmp_path), ann_file='a.json')
        metrics = [dict(type=metric, ann_file=ann_file), dict(type='DumpResults')]
        cfg = Config(dict(val_dataloader=dict(dataset=dataset), val_evaluator=metrics))
        return problems_of(cfg, ['val'])

    assert not problems(f'{tmp_path}/./a.json')
    (problem,) = problems(str(tmp_path / 'b.json'))
    assert 'b.json is not the file of val_dataloader.dataset' in problem
    # Captions and the boxes of a panoptic data set have files of their own.
    assert not problems(str(tmp_path / 'b.json'), metric='COCOCaption')
    assert not problems(str(tmp_path / 'b.json'), data='mmdet.CocoPanopticDataset')


def test_fields_that_files_of_other_tools_lack(tmp_path):
    """Found before MMDetection's KeyError, and pycocotools' after the first epoch."""
    image = dict(id=1, file_name='x.jpg', width=30, height=20)
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 8, 8], area=64, iscrowd=0)

    def problems(stage, image, box):
        content = dict(
            info={}, images=[image] * 2, annotations=[box] * 2 if box else [], categories=[]
        )
        (tmp_path / 'a.json').write_text(json.dumps(content, indent=1))
        dataset = dict(type='mmdet.CocoDataset', data_root=str(tmp_path), ann_file='a.json')
        metric = dict(type='CocoMetric', ann_file=str(tmp_path / 'a.json'))
        cfg = {f'{stage}_dataloader': dict(dataset=dataset)}
        return problems_of(
            Config(cfg | (dict(val_evaluator=metric) if stage == 'val' else {})), [stage]
        )

    def without(entry, *keys):
        return {key: value for key, value in entry.items() if key not in keys}

    for stage in ('train', 'val'):
        assert not problems(stage, image, box) and not problems(stage, image, None)
        (problem,) = problems(stage, image, without(box, 'area'))
        assert (
            'first of its annotations has no "area" (width times height of the box, or' in problem
        )
        (problem,) = problems(stage, without(image, 'width', 'height'), box)
        assert 'first of its images has no "width" (of the file) and no "height"' in problem
    assert not problems('train', image, without(box, 'iscrowd'))
    # MMDetection reads no further.
    assert not problems('val', image, dict(id=1, image_id=1, category_id=0, ignore=1))
    (problem,) = problems('val', image, without(box, 'iscrowd'))
    assert 'no "iscrowd" (0): add it to all of them' in problem


@pytest.mark.parametrize(
    'before',
    [
        dict(categories=[dict(id=0, name='annotations', keypoints=['nose'])]),
        dict(categories=[dict(id=0, name='annotations'), dict(id=1, name='images')]),
        dict(info=dict(images=5000, annotations=9, type='images'), licenses=[dict(id=1)]),
        dict(images=[dict(id=1, file_name='x', width=9, height=9, annotations=[1])]),
        dict(
            images=30 * [dict(id=1, file_name='x', width=9, height=9, annotations=[dict(text='')])]
        ),
    ],
)
@pytest.mark.parametrize('indent', [None, 2])
def test_names_of_lists_that_are_no_lists(tmp_path, before, indent):
    image = dict(id=1, file_name='x.jpg', width=30, height=20)
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 8, 8], area=64, iscrowd=0)
    content = {**before, 'annotations': [box], 'images': before.get('images', [image])}
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(content, indent=indent))
    assert not list(missing_fields(file, True))
    del box['category_id']
    file.write_text(json.dumps(content, indent=indent))
    assert 'no "category_id"' in ''.join(missing_fields(file, True))


def test_an_evaluator_that_reads_no_file_needs_no_iscrowd(tmp_path):
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 8, 8], area=64)
    (tmp_path / 'a.json').write_text(json.dumps(dict(annotations=[box])))
    (tmp_path / 'link.json').symlink_to(tmp_path / 'a.json')
    dataset = dict(type='CocoDataset', ann_file=str(tmp_path / 'link.json'))
    wrapped = dict(type='RepeatDataset', times=2, dataset=dataset)

    def problems(dataset=dataset, **metric):
        evaluator = dict(type='CocoMetric', **metric)
        cfg = dict(val_dataloader=dict(dataset=dataset), val_evaluator=evaluator)
        return problems_of(Config(cfg), ['val'])

    file = str(tmp_path / 'a.json')
    assert not problems() and not problems(ann_file=file, format_only=True)
    for each, where in (
        (dataset, 'val_dataloader.dataset'),
        (wrapped, 'val_dataloader, CocoDataset'),
    ):
        (problem,) = problems(each, ann_file=file)
        assert problem.startswith(f'{where}.ann_file=') and 'no "iscrowd"' in problem


@pytest.mark.parametrize(
    'elsewhere',
    [
        dict(data_root='https://example.org/coco/'),
        dict(data_root='s3://coco'),
        dict(backend_args=dict(backend='petrel', path_mapping={'data/': 's3://data/'})),
        dict(ann_file='https://example.org/a.json'),
    ],
)
def test_annotations_that_are_read_from_elsewhere_are_not_missing(elsewhere):
    dataset = dict(type='CocoDataset', data_root='data/no_such', ann_file='a.json')
    evaluator = dict(type='CocoMetric', ann_file='https://example.org/coco/a.json')

    def problems(**changes):
        loader = dict(dataset={**dataset, **changes})
        return problems_of(Config(dict(val_dataloader=loader, val_evaluator=evaluator)), ['val'])

    assert not problems(**elsewhere)
    for backend_args in (None, dict(backend='local')):
        assert 'there is no file data/no_such/a.json' in problems(backend_args=backend_args)[-1]


def test_an_epoch_that_never_ends():
    loader = dict(sampler=dict(type='InfiniteSampler'))
    epochs, iterations = dict(by_epoch=True, max_epochs=3), dict(by_epoch=False, max_iters=3)
    (problem,) = problems_of(Config(dict(train_dataloader=loader, train_cfg=epochs)))
    assert "type='DefaultSampler', shuffle=True), or train_cfg=dict(by_epoch=False" in problem
    assert not problems_of(Config(dict(train_dataloader=loader, train_cfg=iterations)))
    loader['sampler']['type'] = 'DefaultSampler'
    assert not problems_of(Config(dict(train_dataloader=loader, train_cfg=epochs)))


def test_a_variable_whose_uses_are_overridden_is_told_and_not_refused(capfd):
    cfg = Config(dict(max_epochs=30, train_cfg=dict(by_epoch=True, max_epochs=7)))
    assert not problems_of(cfg)
    said = ''.join(capfd.readouterr())
    assert (
        'max_epochs=30 at the top of the config is read by nobody: train_cfg.max_epochs=7' in said
    )
    (problem,) = problems_of(Config(dict(max_epochs=30, train_cfg=dict(by_epoch=True))))
    assert 'write train_cfg=dict(by_epoch=True, max_epochs=...)' in problem
    assert not problems_of(Config(dict(max_epochs=30, train_cfg=None)))  # that only tests


def test_what_a_new_style_config_imports_is_no_setting(tmp_path):
    (tmp_path / 'new.py').write_text(
        'from mmengine.optim import OptimWrapper\n'
        'from mmpretrain.models import ClsDataPreprocessor, ImageClassifier, LinearClsHead\n'
        'from torch.optim import SGD\n'
        'data_preprocessor = dict(type=ClsDataPreprocessor, num_classes=3)\n'
        'head = dict(type=LinearClsHead, num_classes=3)\n'
        "model = dict(type=ImageClassifier, head=head, train_cfg=dict(augments=dict(type='Mixup')))\n"
        'optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))\n'
    )
    assert not problems_of(Config.fromfile(tmp_path / 'new.py'))


@pytest.mark.parametrize('package', [mmdet, mmpretrain])
def test_names_in_configs_of_mmpretrain_and_mmdetection_are_no_near_misses(package):
    """As many as are there, read by text."""
    names = set()
    for file in (Path(package.__file__).parent / '.mim' / 'configs').rglob('*.py'):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert len(names) > 50
    found = problems_of({name: None for name in names if not name.startswith('_')})
    assert not [problem for problem in found if 'do you mean' in problem]
