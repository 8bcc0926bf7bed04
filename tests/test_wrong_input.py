"""Wrong input of every kind: each case must fail before the first iteration, naming what to mend.

One table a kind. ``says`` is what the message must hold: the key or the file, or what to write instead.
"""

import json
import sys

import cv2
import numpy as np
import pytest
import torch
from command_line import ROOT, load_tool
from detection import CLASSES as CLASSES_DRAWN
from detection import build, shrink, tiny_config
from mmengine.config import Config
from mmengine.dataset import RepeatDataset
from mmengine.hub import get_config
from mmengine.registry import Registry
from PIL import Image

from mmgradaug import registry
from mmgradaug.categories import wrong_categories
from mmgradaug.checkpoint import CAN_BE_SAFE, damage_of, weights_of
from mmgradaug.datasets import LabelledSplit
from mmgradaug.engine.config_check import problems_of
from mmgradaug.engine.data_check_hook import differing, num_classes_of, wrong_annotations
from mmgradaug.files import UserError
from mmgradaug.launch import check_fits, merge_options, require_checkpoint
from mmgradaug.models.regularizers.drop_block import DropBlock
from mmgradaug.registry import BATCH_TRANSFORMS, HOOKS, MODELS

# ---- Keys at the top of a config.

MISSPELT = {
    'train_dataloder': 'train_dataloader', 'val_dataloders': 'val_dataloader',
    'test_dataloder': 'test_dataloader', 'optim_wraper': 'optim_wrapper',
    'optimizer_wrapper': 'optim_wrapper', 'param_schedulers': 'param_scheduler',
    'param_schedular': 'param_scheduler', 'custom_hook': 'custom_hooks',
    'default_hook': 'default_hooks', 'model_wrapper': 'model_wrapper_cfg',
    'train_config': 'train_cfg', 'val_evaluater': 'val_evaluator', 'randomnes': 'randomness',
    'load_form': 'load_from', 'log_procesor': 'log_processor', 'visualiser': 'visualizer',
    'custom_import': 'custom_imports', 'data_preprocesor': 'data_preprocessor',
    'default_scopes': 'default_scope', 'auto_scale_lrs': 'auto_scale_lr',
    'Model': 'model', 'work_dirs': 'work_dir', 'launchers': 'launcher',
    'seed': 'randomness=dict(seed', 'deterministic': 'randomness=dict(deterministic',
    'resume_from': '--resume FILE', 'max_epochs': 'train_cfg', 'total_epochs': 'train_cfg',
    'max_iters': 'train_cfg', 'lr_config': 'param_scheduler', 'gradaug': 'model=dict(gradaug',
    'optimizer_config': 'optim_wrapper', 'checkpoint_config': 'default_hooks', 'hooks': 'custom_hooks',
}  # fmt: skip


@pytest.mark.parametrize('key', MISSPELT)
def test_a_key_that_nobody_reads(key):
    found = problems_of({key: dict(anything=1), 'model': dict(type='x')})
    assert len(found) == 1 and found[0].startswith(key) and MISSPELT[key] in found[0]


OWN_NAMES = [
    'scale', 'data_root', 'dataset_type', 'train_pipeline', 'test_pipeline', 'val_pipeline', 'norm_cfg',
    'num_classes', 'metainfo', 'optimizer', 'img_scales', 'folder', 'source', 'load', 'bgr_std',
    'backend_args', 'classes', 'interval', 'base_lr', 'stage2_num_epochs', 'batch_size', 'vis_backends',
]  # fmt: skip


@pytest.mark.parametrize('key', OWN_NAMES)
def test_a_users_own_variable_is_no_mistake(key):
    assert not problems_of({key: 17})


def test_a_variable_that_is_used_is_no_mistake():
    assert not problems_of(dict(max_epochs=12, train_cfg=dict(by_epoch=True, max_epochs=12)))


def test_a_bases_length_in_epochs_is_told_where_iterations_count(capsys):
    by_iterations = dict(type='IterBasedTrainLoop', max_iters=100)
    assert not problems_of(dict(max_epochs=12, train_cfg=by_iterations))
    assert (
        'max_epochs=12 at the top of the config is read by nobody: train_cfg.max_iters=100 counts'
        in (capsys.readouterr().out)
    )
    assert problems_of(dict(max_iters=100, train_cfg=dict(by_epoch=True, max_epochs=12)))


GRADAUG_HOOK = dict(type='mmgradaug.GradAugHook')
CONFIGS = {
    'two hooks': (dict(custom_hooks=[GRADAUG_HOOK, GRADAUG_HOOK]), '2 GradAugHook'),
    'in both places': (
        dict(custom_hooks=[GRADAUG_HOOK], default_hooks=dict(gradaug=GRADAUG_HOOK)),
        '2 GradAugHook',
    ),
    'misspelt default hook': (
        dict(
            default_hooks=dict(checkpoint=dict(type='CheckpointHook'), checkpont=dict(interval=2))
        ),
        'default_hooks.checkpoint?',
    ),
    'hook without type': (
        dict(default_hooks=dict(mine=dict(x=1))),
        'default_hooks.mine has no type',
    ),
    'classes are a string': (
        dict(train_dataloader=dict(dataset=dict(metainfo=dict(classes=('circle'))))),
        "write classes=('circle',), with the comma",
    ),
    'work dir is a file': (dict(work_dir=__file__), 'is a file. Write another --work-dir'),
    'work dir in a file': (dict(work_dir=f'{__file__}/run'), 'is a file. Write another --work-dir'),
    'labels are mixed of an unknown number': (
        dict(
            model=dict(
                head=dict(num_classes=3), train_cfg=dict(augments=dict(type='Mixup', alpha=0.2))
            ),
            data_preprocessor=dict(mean=[0.0]),
        ),
        'write data_preprocessor=dict(num_classes=3, ...) too',
    ),
    'labels are mixed of another number': (
        dict(
            model=dict(head=dict(num_classes=3)),
            data_preprocessor=dict(num_classes=10, batch_augments=dict(augments=[])),
        ),
        'data_preprocessor.batch_augments mixes labels: write data_preprocessor=dict(num_classes=3, ...) too, not 10',
    ),
    'no annotations': (
        dict(val_dataloader=dict(dataset=dict(ann_file='no/such.json'))),
        'val_dataloader.dataset.ann_file=no/such.json: there is no file',
    ),
    'annotations are no JSON': (
        dict(train_dataloader=dict(dataset=dict(ann_file='{not.json}'))),
        'is not JSON, or is cut off',
    ),
    'annotations are empty': (
        dict(train_dataloader=dict(dataset=dict(ann_file='{empty.json}'))),
        'is not JSON, or is cut off',
    ),
    'annotations are cut off': (
        dict(train_dataloader=dict(dataset=dict(ann_file='{cut.json}'))),
        'is not JSON, or is cut off',
    ),
}


@pytest.mark.parametrize('case', CONFIGS)
def test_a_config_that_cannot_be_meant(case, tmp_path):
    cfg, says = CONFIGS[case]
    (tmp_path / 'not.json').write_text('images: []')
    (tmp_path / 'empty.json').write_text('')
    (tmp_path / 'cut.json').write_text(json.dumps(dict(images=list(range(100))))[:-5])
    for loader in ('train_dataloader', 'val_dataloader'):
        dataset = cfg.get(loader, {}).get('dataset', {})
        if dataset.get('ann_file', '').startswith('{'):
            cfg = {loader: dict(dataset=dict(ann_file=str(tmp_path / dataset['ann_file'][1:-1])))}
    found = problems_of(cfg)
    assert len(found) == 1 and says in found[0]


# ---- Arguments of our own classes.

RESIZE = dict(type='RandomResize', sizes=[16, 12])


def network(**gradaug):
    given = {'num_subnets': 2, 'min_width': 0.8, 'transforms': RESIZE, **gradaug}
    return MODELS.build(
        dict(
            type='mmgradaug.GradAugClassifier',
            gradaug=given,
            backbone=dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=64),
        )
    )


def transform(**config):
    return BATCH_TRANSFORMS.build(config)


def hook(**config):
    return HOOKS.build(config)


ARGUMENTS = [
    (network, dict(num_subnet=2), 'num_subnet'),
    (network, dict(num_subnets=-1), 'num_subnets'),
    (network, dict(num_subnets=1.5), 'num_subnets'),
    (network, dict(num_subnets=True), 'num_subnets'),
    (network, dict(num_subnets='3'), 'num_subnets'),
    (network, dict(min_widht=0.8), 'min_widht'),
    (network, dict(min_width=0.0), 'min_width'),
    (network, dict(min_width=1.5), 'min_width'),
    (network, dict(min_width=float('nan')), 'min_width'),
    (network, dict(min_width='0.8'), 'min_width'),
    (network, dict(transform=RESIZE), 'transform'),
    (network, dict(transforms=None), 'transforms'),
    (network, dict(transforms=[]), 'transforms'),
    (network, dict(transforms=dict(type='RandomResizes', sizes=[16])), 'RandomResizes'),
    (network, dict(survival_prob=0.0), 'survival_prob'),
    (network, dict(survival_prob=1.1), 'survival_prob'),
    (network, dict(survival_prob='x'), 'survival_prob'),
    (network, dict(smallest_if_singel=True), 'smallest_if_singel'),
    (network, dict(smallest_if_single='False'), 'smallest_if_single'),
    (network, dict(always_smallest='False'), 'always_smallest'),
    (network, dict(soft_labels='False'), 'soft_labels'),
    (network, dict(soft_label_loss=dict(temperatur=2)), 'temperatur'),
    (network, dict(soft_label_loss=dict(temperature=0)), 'temperature'),
    (network, dict(soft_label_loss=dict(temperature=-1)), 'temperature'),
    (network, dict(soft_label_loss=dict(temperature=float('inf'))), 'finite'),
    (network, dict(soft_label_loss=dict(weight=-1)), 'weight'),
    (transform, dict(type='RandomResize'), 'sizes'),
    (transform, dict(type='RandomResize', size=[16]), 'size'),
    (transform, dict(type='RandomResize', sizes=[]), 'sizes'),
    (transform, dict(type='RandomResize', sizes=[0]), 'RandomResize'),
    (transform, dict(type='RandomResize', sizes=[1]), 'RandomResize'),
    (transform, dict(type='RandomResize', sizes=[-16]), 'RandomResize'),
    (transform, dict(type='RandomResize', sizes=[16, 1]), 'RandomResize'),
    (transform, dict(type='RandomResize', sizes=[16.5]), 'RandomResize'),
    (transform, dict(type='RandomResize', sizes=['a']), 'RandomResize'),
    (transform, dict(type='RandomResize', sizes=[16], mode='cubic'), 'mode'),
    (transform, dict(type='RandomScale', factors=[]), 'factors'),
    (transform, dict(type='RandomScale', factors=[0]), 'RandomScale'),
    (transform, dict(type='RandomScale', factors=[-1.0]), 'RandomScale'),
    (transform, dict(type='RandomScale', factor=[1.0]), 'factor'),
    (transform, dict(type='RandomCrop', sizes=[16], padding=-1), 'padding'),
    (transform, dict(type='RandomCrop', size=16), 'size'),
    (transform, dict(type='Compose', transforms=[]), 'Compose'),
    (transform, dict(type='TorchvisionTransform', transform=dict(type='Nothing')), 'Nothing'),
    (transform, dict(type='TorchvisionTransform', transform=dict(type='CutMix')), 'CutMix'),
    (transform, dict(type='TorchvisionTransform', transform=17), '17'),
    (hook, dict(type='GradAugHook', begin=-1), 'begin'),
    (hook, dict(type='GradAugHook', begin=3, end=3), 'end'),
    (hook, dict(type='GradAugHook', beginn=1), 'beginn'),
    (hook, dict(type='GradAugHook', begin=0.5), 'begin'),
    (hook, dict(type='GradAugHook', begin='1'), 'begin'),
    (hook, dict(type='GradAugHook', begin=True), 'begin'),
    (hook, dict(type='GradAugHook', begin=None), 'begin'),
    (hook, dict(type='GradAugHook', end=2.0), 'end'),
    (hook, dict(type='GradAugHook', by_epoch='False'), 'by_epoch'),
    (hook, dict(type='StuckRankHook', timeout=0), 'timeout'),
    (hook, dict(type='StuckRankHook', timeout='300'), 'timeout'),
    (hook, dict(type='MeanTeacherHook', momentum=0.9), 'momentum'),
    (hook, dict(type='PretrainedBackboneHook', produced_bye='x'), 'produced_bye'),
    (hook, dict(type='WholeCheckpointHook', save_begin=-1), 'save_begin'),
    (hook, dict(type='WholeCheckpointHook', max_kepp_ckpts=1), 'Do you mean max_keep_ckpts'),
    (hook, dict(type='WholeCheckpointHook', no_such_key=1), 'interval'),
    (hook, dict(type='ExactResumeHook', seed=1), 'seed'),
    (hook, dict(type='NonFiniteHook', on_nonfinite='skip'), 'on_nonfinite'),
    (hook, dict(type='NonFiniteHook', on_non_finite='ignore'), 'on_non_finite'),
    (hook, dict(type='NonFiniteHook', max_skips=0), 'max_skips'),
    (hook, dict(type='StopOnSignalHook', code=1), 'code'),
    (hook, dict(type='DataCheckHook', readall=True), 'readall'),
    (hook, dict(type='DataCheckHook', replace_broken=-1), 'replace_broken'),
    (hook, dict(type='DataCheckHook', replace_broken=True), 'replace_broken'),
    (hook, dict(type='NoSuchHook'), 'NoSuchHook'),
    (DropBlock, dict(drop_prob=1.0), 'drop_prob'),
    (DropBlock, dict(drop_prob=0.1, block_size=0), 'block_size'),
    (LabelledSplit, dict(of='CustomDataset', data_root='.', num_labels=-1), 'num_labels'),
]


@pytest.mark.parametrize(
    ('build', 'arguments', 'says'), ARGUMENTS, ids=[f'{a[1]}'[:60] for a in ARGUMENTS]
)
def test_an_argument_that_cannot_be_meant(build, arguments, says):
    with pytest.raises((TypeError, ValueError, KeyError, FileNotFoundError)) as error:
        build(**arguments)
    assert says in str(error.value)


REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]
OWN_CLASSES = {
    f'{each.name}: {name}': kind
    for each in REGISTRIES
    for name, kind in each.module_dict.items()
    if kind.__module__.startswith('mmgradaug.')
}


@pytest.mark.parametrize('name', OWN_CLASSES)
def test_no_class_of_ours_takes_a_key_that_it_does_not_know(name):
    with pytest.raises(TypeError):
        OWN_CLASSES[name](no_such_key=1)


# ---- Checkpoints.


class Attack:
    """A pickle that would make a folder."""

    def __init__(self, proof):
        self.proof = str(proof)

    def __reduce__(self):
        import os

        return os.mkdir, (self.proof,)


def other_weights(weights, path):
    torch.save(dict(state_dict={f'other.{key}': value for key, value in weights.items()}), path)


def fewer_classes(weights, path):
    changed = {key: value[:2] if 'head' in key else value for key, value in weights.items()}
    torch.save(dict(state_dict=changed), path)


def nan_weights(weights, path):
    changed = {key: value.clone() for key, value in weights.items()}
    changed['head.fc.bias'][0] = float('nan')
    torch.save(dict(state_dict=changed), path)


def cut_off(weights, path):
    torch.save(dict(state_dict=weights), path)
    path.write_bytes(path.read_bytes()[:-1000])


def zeros_inside(weights, path):
    torch.save(dict(state_dict=weights), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    path.write_bytes(data)


CHECKPOINTS = {
    'missing': (lambda weights, path: None, 'is not there'),
    'a folder': (lambda weights, path: path.mkdir(), 'is a folder'),
    'empty': (lambda weights, path: path.write_bytes(b''), 'is empty'),
    'a text': (
        lambda weights, path: path.write_text('x = 1'),
        'is not a file that torch.save writes',
    ),
    'a picture': (
        lambda weights, path: Image.new('RGB', (9, 9)).save(path, 'png'),
        'is not a file that torch.save writes',
    ),
    'cut off': (cut_off, 'is cut off'),
    'zeros inside': (zeros_inside, 'does not match its checksum'),
    'a list': (lambda weights, path: torch.save([1, 2], path), 'holds a list'),
    'a tensor': (lambda weights, path: torch.save(torch.zeros(3), path), 'holds a Tensor'),
    'an empty dict': (lambda weights, path: torch.save({}, path), 'holds no weights'),
    'a dict of texts': (lambda weights, path: torch.save(dict(a='b'), path), 'holds no weights'),
    'an optimizer': (
        lambda weights, path: torch.save(dict(optimizer=dict(lr=1.0)), path),
        'holds no weights',
    ),
    'weights under another key': (
        lambda weights, path: torch.save(dict(model=weights, epoch=3), path),
        "It has the keys 'model', 'epoch'",
    ),
    'a whole model': (
        lambda weights, path: torch.save(torch.nn.Sequential(torch.nn.ReLU()), path),
        'holds a pickled model (torch.nn.modules.container.Sequential), not weights: save model.state_dict()'
        if CAN_BE_SAFE
        else 'holds a Sequential',
    ),
    'another network': (other_weights, 'nothing in it fits'),
    'another number of classes': (
        fewer_classes,
        'head.fc.weight: (2, 64) in the checkpoint, (4, 64)',
    ),
    'weights that are NaN': (nan_weights, 'weights that are not finite (1 of'),
    'an attack': (
        lambda weights, path: torch.save(Attack(path.with_name('proof')), path),
        'is not a checkpoint that PyTorch can read',
    ),
}


@pytest.fixture(scope='module')
def model(classifier):
    """The fixture's network, and its weights."""
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS as PRETRAIN_MODELS

    cfg = Config.fromfile(classifier / 'config.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = PRETRAIN_MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    return model, torch.load(classifier / 'weights.pth', weights_only=True)


@pytest.mark.parametrize('case', CHECKPOINTS)
def test_a_file_that_is_not_this_networks_checkpoint(case, model, tmp_path):
    make, says = CHECKPOINTS[case]
    network, weights = model
    path = tmp_path / 'weights.pth'
    make(weights_of(weights), path)
    with pytest.raises(SystemExit) as error:
        require_checkpoint(str(path))
        check_fits(network, str(path), 'config.py')
    assert says in str(error.value) and str(path) in str(error.value)
    assert not (tmp_path / 'proof').exists()


def test_its_own_checkpoint_fits(model, tmp_path):
    torch.save(model[1], tmp_path / 'good.pth')
    assert damage_of(tmp_path / 'good.pth') is None
    check_fits(model[0], str(tmp_path / 'good.pth'), 'config.py')


# ---- Classes, labels, boxes.

CLASSES = {
    'one is missing': (list('abcd'), list('abd'), 'without c'),
    'one too many': (list('abc'), list('abcx'), 'with also x'),
    'another name': (list('abc'), list('abx'), 'without c, with also x'),
    'another order': (list('abc'), list('bac'), 'in another order'),
    'none in common': (list('abc'), list('xyz'), 'without a, b, c'),
    'many': ([f'n{i}' for i in range(1000)], ['n0'], 'and 994 more'),
}


@pytest.mark.parametrize('case', CLASSES)
def test_classes_that_differ(case):
    one, other, says = CLASSES[case]
    (problem,) = differing(one, other, 'training', 'val')
    assert says in problem and 'val_dataloader.dataset.metainfo.classes' in problem
    assert not list(differing(one, list(one), 'training', 'val'))


class Annotated:
    metainfo = dict(classes=('circle', 'square'))
    ann_file = 'shapes.json'

    def __init__(self, *infos, **more):
        self.infos = infos
        vars(self).update(more)

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return dict(img_path=f'{index}.png', **self.infos[index])


def box(label=0, corners=(0.0, 0.0, 5.0, 5.0)):
    return dict(instances=[dict(bbox=list(corners), bbox_label=label)])


ANNOTATIONS = {
    'label too large': (Annotated(dict(gt_label=1), dict(gt_label=2)), '1.png has label 2'),
    'label negative': (Annotated(dict(gt_label=-1)), '0.png has label -1'),
    'one of several labels': (Annotated(dict(gt_label=[0, 7])), '0.png has label 7'),
    'label of an array': (Annotated(dict(gt_label=np.array([0, 7]))), '0.png has label 7'),
    'label of a box': (Annotated(box(0), box(2)), '1.png has label 2'),
    'a box that is NaN': (
        Annotated(box(0, (0, 0, float('nan'), 5))),
        '0.png has the box [0, 0, nan, 5]',
    ),
    'a box that is infinite': (Annotated(box(0, (0, 0, float('inf'), 5))), '0.png has the box'),
    'no box at all': (
        Annotated(dict(instances=[])),
        'shapes.json has no box of the classes circle',
    ),
}


@pytest.mark.parametrize('case', ANNOTATIONS)
def test_annotations_that_are_wrong(case):
    dataset, says = ANNOTATIONS[case]
    (problem,) = wrong_annotations(dataset, 2)
    assert says in problem


def test_a_heads_classes_are_compared_where_they_are_those_of_the_data():
    def stock(name):
        return build(shrink(get_config(f'mmdet::{name}.py').model), initialise=False)

    assert num_classes_of(build(tiny_config('MaskRCNN'), initialise=False)) == CLASSES_DRAWN
    assert num_classes_of(build(tiny_config('RetinaNet'), initialise=False)) == CLASSES_DRAWN
    # MMDetection sets its num_classes to 1, whatever is written.
    assert num_classes_of(stock('rpn/rpn_r50_fpn_1x_coco')) is None
    # 80 things; the data have 53 classes of stuff more.
    assert num_classes_of(stock('panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco')) is None
    # Grounding DINO's, whose 256 are words.
    model = build(tiny_config('RetinaNet'), initialise=False)
    model.language_model = torch.nn.Identity()
    assert num_classes_of(model) is None


@pytest.mark.parametrize('wrapped', [False, True])
def test_labels_go_by_the_order_of_a_files_categories(tmp_path, wrapped):
    from mmdet.datasets import CocoDataset

    boxes = [
        dict(
            id=i, image_id=1, category_id=i, bbox=[0, 0, 5, 5], area=25, iscrowd=0, segmentation=[]
        )
        for i in (1, 2)
    ]

    def problems(*names, classes=('circle', 'square')):
        file = tmp_path / 'coco.json'
        # Somebody's own key of the same name first.
        content = dict(
            info=dict(categories='shapes'),
            images=[dict(id=1, file_name='1.png', height=9, width=9)],
            annotations=boxes,
            categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)],
        )
        file.write_text(json.dumps(content))
        dataset = CocoDataset(
            ann_file=str(file), metainfo=dict(classes=classes), data_prefix=dict(img='')
        )
        found = list(wrong_categories(RepeatDataset(dataset, 2) if wrapped else dataset))
        return found, [box['bbox_label'] for box in dataset.get_data_info(0)['instances']]

    assert problems('circle', 'square') == ([], [0, 1])
    assert problems('circle', 'other', 'square') == ([], [0])
    (problem,), labels = problems('square', 'circle')
    assert labels == [0, 1]  # a square is now called circle
    assert "write metainfo=dict(classes=('square', 'circle'))" in problem
    (problem,), labels = problems('crcle', 'square')
    assert labels == [0]
    assert 'has 1 of the 2 classes' in problem and 'which are crcle, square' in problem


def test_annotations_that_are_right():
    crowd = dict(instances=[dict(bbox=[0, 0, 3, 3], bbox_label=1, ignore_flag=1)])
    assert not list(wrong_annotations(Annotated(box(0), crowd, dict(instances=[])), 2))
    assert not list(wrong_annotations(Annotated(dict(gt_label=0), {}), 2))  # one has no label


# ---- Whole trainings.


def spoil_test_class(root):
    (root / 'test' / 'n1').rename(root / 'test' / 'x1')


def remove_test_class(root):
    import shutil

    shutil.rmtree(root / 'test' / 'n1')


def image_of(text):
    def spoil(root):
        for path in (root / 'train').rglob('*.png'):
            path.write_bytes(text)

    return spoil


def cut_images(root):
    for path in (root / 'train').rglob('*.png'):
        path.write_bytes(path.read_bytes()[:60])


def empty_data(root):
    for path in (root / 'train').rglob('*.png'):
        path.unlink()


TRAININGS = {
    'a test class is missing': (remove_test_class, [], 'without n1'),
    'a test class of another name': (spoil_test_class, [], 'without n1, with also x1'),
    'head of three': (None, ['model.head.num_classes=3'], 'num_classes=3'),
    'head of five': (None, ['model.head.num_classes=5'], 'write num_classes=4'),
    'infinite rate': (None, ["optim_wrapper.optimizer.lr=1e400"], 'a finite optim_wrapper.optimizer.lr'),
    'images cut off': (cut_images, [], 'could not be loaded'),
    'images of text': (image_of(b'no image'), [], '.png could not be loaded'),
    'images empty': (image_of(b''), [], '.png could not be loaded'),
    'no images': (empty_data, [], 'Found 0 files'),
    'no such folder': (None, ['train_dataloader.dataset.data_prefix=nowhere'], 'nowhere'),
}  # fmt: skip


@pytest.fixture
def training(classifier, tmp_path, monkeypatch):
    """Run tools/train.py in this process on a copy of the tiny classifier's images."""
    import shutil
    import uuid

    root = tmp_path / 'data'
    for split in ('train', 'test'):
        shutil.copytree(classifier / split, root / split)
    text = (classifier / 'config.py').read_text().replace(str(classifier), str(root))
    runtime = str(ROOT / 'configs' / '_base_' / 'default_runtime.py')
    text = f'_base_ = [{runtime!r}]\n{text}' + (
        "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)\n"
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001))\n"
        'val_dataloader, val_cfg, val_evaluator = test_dataloader, dict(), test_evaluator\n'
        f"experiment_name = {uuid.uuid4().hex!r}\nlog_level = 'WARNING'\n"
    )
    (tmp_path / 'config.py').write_text(text)

    def run(spoil=None, options=()):
        if spoil is not None:
            spoil(root)
        words = [str(tmp_path / 'config.py'), '--work-dir', str(tmp_path / 'work')]
        monkeypatch.setattr(
            sys, 'argv', ['train.py', *words, *(['--cfg-options', *options] if options else [])]
        )
        load_tool('train').main()
        return tmp_path / 'work'

    run.root = root
    return run


@pytest.mark.parametrize('case', TRAININGS)
def test_a_training_that_cannot_be_right(case, training, tmp_path):
    spoil, options, says = TRAININGS[case]
    with pytest.raises(UserError) as error:
        training(spoil, options)
    assert says in str(error.value)
    assert not list((tmp_path / 'work').glob('*.pth'))


def in_mode(mode):
    def change(root):
        for path in (root / 'train').rglob('*.png'):
            image = Image.open(path).convert('RGB')
            if mode == 'I;16':
                cv2.imwrite(str(path), np.asarray(image).astype(np.uint16)[..., ::-1] * 256)
            elif mode == 'CMYK':
                image.convert(mode).save(path, 'jpeg')
            elif mode == 'EXIF':
                exif = Image.Exif()
                exif[0x0112] = 6
                image.save(path, 'jpeg', exif=exif)
            else:
                image.convert(mode).save(path)

    return change


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'CMYK', 'I;16', 'EXIF'])
def test_images_of_every_common_kind_are_fine(mode, training):
    assert (training(in_mode(mode)) / 'epoch_1.pth').is_file()


@pytest.mark.parametrize('batch_size', [1, 11])
def test_a_training_with_a_batch_of_one_is_warned_of(batch_size, training, capfd):
    """PyTorch refuses it where maps have come down to one pixel, as here."""
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        training(options=[f'train_dataloader.batch_size={batch_size}'])
    assert 'train_dataloader.drop_last=True' in ''.join(capfd.readouterr())


def test_an_empty_class_is_named(training, capfd):
    """Its label stays its own, so nothing is wrong but the missing images."""

    def spoil(root):
        for path in (root / 'train' / 'n1').glob('*.png'):
            path.unlink()

    training(spoil, ['train_dataloader.drop_last=True'])
    assert 'no valid file in the folder n1' in ''.join(capfd.readouterr())
    with pytest.raises(
        UserError, match=r'5 classes .*: no image is in n1, tmp: remove the folder or fill it'
    ):
        training(lambda root: [(root / part / 'tmp').mkdir() for part in ('train', 'test')])


def test_what_there_is_to_train_with_is_said_and_what_is_left_out(training, capfd):
    def spoil(root):
        for path in sorted((root / 'train' / 'n1').glob('*.png'))[:2]:
            Image.open(path).save(path.with_suffix('.WebP'), 'webp')
            path.unlink()
        for name in ('notes.txt', 'film.mpg', 'data.h5'):
            (root / 'train' / 'n1' / name).write_text('no image')

    training(spoil, ['log_level=INFO', 'train_dataloader.batch_size=2'])
    said = ''.join(capfd.readouterr())
    total = len(list((training.root / 'train').rglob('*.png')))
    fewest = len(list((training.root / 'train' / 'n1').glob('*.png')))
    assert f'{total} images of 4 classes to train with, {fewest} (n1) to {fewest + 2} (' in said
    assert '2 images are left out, ' in said and ".png', '.ppm', '.tif', '.webp')" in said
    assert 'notes' not in said
    endings = "train_dataloader.dataset.extensions=('png','.webp')"
    training(None, ['log_level=INFO', 'train_dataloader.batch_size=2', endings])
    said = ''.join(capfd.readouterr())
    assert f'{total + 2} images of 4 classes' in said and 'left out' not in said


def test_a_learning_rate_of_no_part_is_warned_of(training, capfd):
    keys = 'optim_wrapper.paramwise_cfg.custom_keys'
    options = ['train_dataloader.batch_size=2', f'{keys}.haed.lr_mult=10', f'{keys}.head.lr_mult=2']
    training(None, [*options, 'auto_scale_lr.base_batch_size=64'])
    said = ''.join(capfd.readouterr())
    assert 'for 64 images an optimizer step, here it is 2: add --auto-scale-lr' in said
    assert "custom_keys: haed is in no parameter's name" in said and 'and head.fc.bias' in said


def test_gradients_of_several_iterations_make_one_batch(training, capfd):
    options = ['train_dataloader.batch_size=2', 'optim_wrapper.accumulative_counts=4']
    training(None, [*options, 'auto_scale_lr.base_batch_size=8'])
    assert 'the learning rate is' not in ''.join(capfd.readouterr())
    training(None, [*options, 'auto_scale_lr.base_batch_size=2'])
    said = ''.join(capfd.readouterr())
    assert 'for 2 images an optimizer step, here it is 8: write the rate' in said


def test_an_option_of_a_name_that_nobody_reads():
    cfg = Config(
        dict(
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=10),
            param_scheduler=[dict(type='LinearLR', end=5), dict(type='CosineAnnealingLR', end=10)],
            backend_args=None,
            val_dataloader=dict(dataset=dict(backend_args=None)),
        )
    )
    for option, says in {
        'lr': r'no lr, so .* Do you mean optim_wrapper\.optimizer\.lr\?$',
        'max_iters': r'Write train_cfg=dict\(by_epoch=False, max_iters=\.\.\.\), as --cfg-options a path',
        'seed': r'Write randomness=dict\(seed',
        'end': r'Do you mean param_scheduler\.0\.end or param_scheduler\.1\.end\?',
        'modle.type': r'Do you mean model\? What is not in the config yet, write into the config$',
    }.items():
        with pytest.raises(UserError, match=says):
            merge_options(cfg, {option: 0})
    merge_options(cfg, {'randomness.seed': 3, 'param_scheduler.1.end': 20, 'tta_model.type': 'X'})
    assert cfg.randomness.seed == 3 and cfg.param_scheduler[1].end == 20


def test_an_option_of_a_folder_names_the_paths_below_it_too(capfd):
    cfg = Config(
        dict(
            data_root='data/coco/',
            base_lr=0.1,
            val_dataloader=dict(dataset=dict(data_root='data/coco/')),
            val_evaluator=dict(ann_file='data/coco/annotations/val.json'),
            optim_wrapper=dict(optimizer=dict(lr=0.1)),
        )
    )
    says = r'Write val_dataloader\.dataset\.data_root, and the paths below it: val_evaluator\.ann_file$'
    with pytest.raises(UserError, match=says):
        merge_options(cfg, {'data_root': 'other'})
    merge_options(cfg, {'base_lr': 0.2})
    said = ''.join(capfd.readouterr())
    assert 'base_lr is a variable of the config. Unless code of your own reads it' in said


def test_an_option_of_a_variable_that_is_in_the_config_already(tmp_path):
    (tmp_path / 'mine.py').write_text(
        "train_pipeline = [dict(type='A'), dict(type='B', scale=224)]\n"
        'width = 3\n'
        "model = dict(type='X', depth=3)\n"
        "train_dataloader = dict(dataset=dict(type='D', pipeline=train_pipeline))\n"
    )
    cfg = Config.fromfile(tmp_path / 'mine.py')
    where = r'Write train_dataloader\.dataset\.pipeline\.1\.scale$'
    with pytest.raises(UserError, match=where):
        merge_options(cfg, {'train_pipeline.1.scale': 64})
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 224
    cfg.train_dataloader.dataset.pipeline = []  # as in a config that replaces its base's
    with pytest.raises(UserError, match=where):
        merge_options(cfg, {'train_pipeline.1.scale': 64})
    cfg.train_dataloader.dataset.pipeline = cfg.train_pipeline
    merge_options(cfg, {'train_dataloader.dataset.pipeline.1.scale': 64, 'width': 5})
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 64 and cfg.width == 5


def cut_off_image(*names):
    def spoil(root):
        for name in names:
            (root / name).write_bytes((root / name).read_bytes()[:60])

    return spoil


def test_a_broken_image_of_the_validation_is_named(training):
    broken = cut_off_image('test/n1/0.png')
    with pytest.raises(UserError, match=r'test/n1/0.png could not be loaded'):
        training(
            broken, ['default_hooks.data_check.replace_broken=9', 'optim_wrapper.optimizer.lr=1e-9']
        )


@pytest.mark.parametrize('workers', [0, 2])
def test_broken_images_are_replaced_counted_and_named_if_asked_for(workers, training, capfd):
    broken = cut_off_image('train/n1/0.png', 'train/n3/2.png')
    options = [
        f'train_dataloader.num_workers={workers}',
        'default_hooks.data_check.replace_broken=2',
    ]
    assert (training(broken, options) / 'epoch_1.pth').is_file()
    said = ''.join(capfd.readouterr())
    assert 'train/n1/0.png' in said and 'train/n3/2.png could not be loaded: the next image' in said
    assert '(2 broken so far, 2 may be)' in said
    with pytest.raises(UserError, match='1 others have been left out before'):
        training(None, [*options[:1], 'default_hooks.data_check.replace_broken=1'])


def test_there_are_at_least_a_hundred_cases():
    tables = (MISSPELT, CONFIGS, ARGUMENTS, CHECKPOINTS, CLASSES, ANNOTATIONS, TRAININGS)
    assert sum(map(len, tables)) >= 100
