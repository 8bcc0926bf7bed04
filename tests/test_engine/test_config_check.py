"""What MMEngine takes in silence is told before anything is built."""

import ast
from pathlib import Path

import mmdet
import mmpretrain
import pytest
from mmengine.config import Config

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
