"""Names of scope mmgradaug resolve from other packages' scopes, as their configs need it."""

import subprocess
import sys

import mmengine.registry
import mmpretrain.registry
import pytest
from mmengine.registry import DefaultScope

import mmgradaug


@pytest.mark.parametrize(
    ('registry', 'name'),
    [
        ('MODELS', 'GradAugClassifier'),
        ('MODELS', 'SlimmableResNet'),
        ('MODELS', 'SubnetworkClassifier'),
        ('MODELS', 'DistillationClsHead'),
        ('HOOKS', 'GradAugHook'),
        ('MODEL_WRAPPERS', 'GradAugDistributedDataParallel'),
        ('DATASETS', 'Digits'),
    ],
)
@pytest.mark.parametrize('package', [mmengine, mmpretrain])
def test_our_classes_are_found_by_their_scope(registry, name, package):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        found = getattr(package.registry, registry).get(f'mmgradaug.{name}')
    assert found.__name__ == name and found.__module__.startswith('mmgradaug.')


def test_version_is_that_of_the_installed_package_and_the_changelog():
    from importlib.metadata import version
    from pathlib import Path

    assert mmgradaug.__version__ == version('mmgradaug')
    changelog = (Path(__file__).parents[1] / 'CHANGELOG.md').read_text()
    assert f'## {mmgradaug.__version__}' in changelog


def test_an_import_does_not_warn_of_what_nobody_here_can_mend():
    code = 'import mmgradaug, mmgradaug.models, mmgradaug.datasets'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert 'pkg_resources' not in run.stderr
