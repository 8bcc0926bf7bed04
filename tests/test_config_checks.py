"""What MMEngine takes in silence is told before anything is built."""

import subprocess
import sys

import pytest
from command_line import ROOT
from mmengine.config import Config

from mmgradaug.config_checks import check_config

HOOK = dict(type='mmgradaug.GradAugHook')


@pytest.mark.parametrize(
    ('wrong', 'right'),
    [
        ('custom_hook', 'custom_hooks'),
        ('train_cf', 'train_cfg'),
        ('randomnes', 'randomness'),
        ('defualt_hooks', 'default_hooks'),
        ('param_schedulers', 'param_scheduler'),
        ('optim_wraper', 'optim_wrapper'),
    ],
)
def test_a_misspelt_name_at_the_top(wrong, right):
    # The right one comes from a base, and stays as it was.
    cfg = Config({wrong: dict(x=1), right: dict(x=2)})
    with pytest.raises(ValueError, match=f'{wrong}.*MMEngine ignores: write {right!r}'):
        check_config(cfg)


def test_classes_that_are_a_string(tmp_path):
    inner = dict(type='CocoDataset', metainfo=dict(classes=('circle')))
    dataset = dict(type='RepeatDataset', times=2, dataset=inner)
    with pytest.raises(
        ValueError, match=r"of CocoDataset: classes is the string 'circle'.*\('circle',\)"
    ):
        check_config(Config(dict(train_dataloader=dict(dataset=dataset))))
    (tmp_path / 'names.txt').write_text('circle\n')
    for classes in (('circle',), ['circle'], str(tmp_path / 'names.txt')):
        inner['metainfo'] = dict(classes=classes)
        check_config(Config(dict(train_dataloader=dict(dataset=dataset))))


def test_two_gradaug_hooks():
    with pytest.raises(ValueError, match='2 GradAugHooks'):
        check_config(Config(dict(custom_hooks=[HOOK, dict(type='EMAHook'), HOOK])))
    check_config(Config(dict(custom_hooks=[HOOK, dict(type='EMAHook')])))


@pytest.mark.parametrize('name', sorted(str(p.relative_to(ROOT)) for p in (ROOT / 'configs').rglob('*.py')
                                        if '_base_' not in p.parts))  # fmt: skip
def test_our_own_configs_pass(name):
    check_config(Config.fromfile(ROOT / name, import_custom_modules=False))


def test_configs_of_mmpretrain_and_mmdetection_pass():
    """As many as are there, read by text: their variables are no misspelt names."""
    import ast

    import mmdet
    import mmpretrain

    names = set()
    for package in (mmdet, mmpretrain):
        from pathlib import Path

        for file in (Path(package.__file__).parent / '.mim' / 'configs').rglob('*.py'):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.Assign):
                    names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert len(names) > 50
    check_config({name: None for name in names if not name.startswith('_')})


def test_the_command_says_it_before_it_starts(tmp_path):
    (tmp_path / 'mine.py').write_text("custom_hook = [dict(type='x')]\n")
    for tool in ('train.py', 'test.py'):
        done = subprocess.run(
            [sys.executable, ROOT / 'tools' / tool, tmp_path / 'mine.py', *(['x.pth'] if tool == 'test.py' else [])],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 1 and "mine.py: the config has 'custom_hook'" in done.stderr
        assert 'Traceback' not in done.stderr
