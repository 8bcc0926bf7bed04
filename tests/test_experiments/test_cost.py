"""mmgradaug cost: some iterations, and what follows for a whole training."""

import argparse
import json

import pytest
from command_line import exit_code, mmgradaug

from mmgradaug.experiments.cost import (
    WARM_UP,
    between,
    share_of_phase,
    timed_config,
    timed_iterations,
    with_other_settings,
)
from mmgradaug.experiments.items import prepare, select
from mmgradaug.resources import CONFIGS
from mmgradaug.subnets.presets import PRESETS

CONFIG = 'cifar/baseline_resnet110_cifar10.py'
TINY = [
    'model.backbone.depth=20',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
]


def test_iterations_are_timed_and_extrapolated(tmp_path, capsys):
    arguments = ['--random-images', '--iterations', 3, '--batch-size', 4, '--device', 'cpu']
    mmgradaug('cost', CONFIG, *arguments, '--out', tmp_path, '--cfg-options', *TINY)
    data = json.loads((tmp_path / 'baseline_resnet110_cifar10.json').read_text())
    assert data['kind'] == 'cost' and data['iterations'] == 3
    # 50,000 images in batches of 4, for the config's 500 epochs; noise is in their place.
    assert (data['iterations_per_epoch'], data['epochs']) == (12_500, 500)
    seconds = data['seconds_per_iteration']
    assert 0 < seconds < 60
    assert data['minutes_per_epoch'] == pytest.approx(seconds * 12_500 / 60)
    assert data['total_hours'] == pytest.approx(seconds * 12_500 * 500 / 3600)
    assert data['peak_memory_mb'] > 100
    out = ' '.join(capsys.readouterr().out.split())
    assert 'Extrapolated: nothing was trained' in out and '12500' in out


def test_what_cannot_be_timed_is_said(tmp_path, capsys):
    assert exit_code('cost', 'mask_rcnn_gradaug.py', '--random-images', '--device', 'cpu') == 1
    assert '--random-images knows ImageNet, CIFAR10, CIFAR100, not' in capsys.readouterr().err
    wrong = ['--random-images', '--iterations', 1, '--cfg-options', 'model.head.in_channels=7']
    arguments = ['--device', 'cpu', '--batch-size', 2, '--out', tmp_path / 'out']
    assert exit_code('cost', CONFIG, *arguments, *wrong, *TINY) == 1
    error = capsys.readouterr().err
    assert 'its iterations could not be timed here' in error and 'the last lines of' in error
    assert not (tmp_path / 'out').exists()


def test_a_phase_of_the_training_counts_for_its_part():
    """Sub-networks in every third iteration of the last epoch of four, and never elsewhere."""
    path = 'cifar/gradaug_wrn28_10_cifar100.py'
    (item,) = items = select([path])
    prepare(items, None, ['model.gradaug.every=3'], CONFIGS)
    args = argparse.Namespace(iterations=20, batch_size=None, random_images=True)
    assert item.phase is None and timed_iterations(item, args) == 21
    cfg = timed_config(item, args)
    assert cfg.train_cfg.max_iters == WARM_UP + 21 and cfg.custom_hooks[0].begin == 0
    item.cfg.custom_hooks = [dict(type='mmgradaug.GradAugHook', begin=3)]
    cfg = timed_config(item, args)
    assert cfg.train_cfg.max_iters == WARM_UP + 42
    hook = dict(type='mmgradaug.GradAugHook', begin=WARM_UP + 21, end=None, by_epoch=False)
    assert [dict(each) for each in cfg.custom_hooks] == [hook]
    assert share_of_phase(item.phase, 100, 400) == 0.25
    assert share_of_phase(dict(end=100, by_epoch=False), 100, 400) == 0.25
    assert share_of_phase(dict(begin=1, end=3), 100, 400) == 0.5


def test_windows_of_several_iterations_are_of_one_phase():
    """A record has at most 50 windows, so those of longer timings hold several iterations."""
    windows = [dict(iteration=each) for each in (2, 4, 6, 8, 10, 12)]
    found = between(windows, 3, 8), between(windows, 8, 12), between(windows, 0, 2)
    assert [[w['iteration'] for w in each] for each in found] == [[6, 8], [10, 12], [2]]


def test_the_cost_of_a_phase_is_measured_in_both_parts(tmp_path, capsys):
    config = tmp_path / 'later.py'
    config.write_text(
        f"_base_ = '{CONFIGS}/cifar/gradaug_resnet110_cifar10.py'\n"
        "custom_hooks = [dict(type='mmgradaug.GradAugHook', begin=100)]\n"
    )
    arguments = ['--random-images', '--iterations', 2, '--batch-size', 4, '--device', 'cpu']
    mmgradaug('cost', config, *arguments, '--out', tmp_path / 'out', '--cfg-options', *TINY)
    found = {}
    for file in (tmp_path / 'out').glob('*.json'):
        data = json.loads(file.read_text())
        found[data['setting']] = data['seconds_per_iteration']
        # As many plain iterations before those with sub-networks, and every second of these has some.
        assert data['iterations'] == dict(plain=2, economy=4, paper=4)[data['setting']]
    assert set(found) == {'plain', 'economy', 'paper'}
    assert found['plain'] < found['paper']


def test_settings_of_a_gradaug_config():
    """Widths and transformations are its own; number, part of the batch and so on a preset's."""
    path = 'cifar/gradaug_wrn28_10_cifar100.py'
    items = select([path])
    prepare(items, None, ['model.gradaug.every=2'], CONFIGS)
    found = with_other_settings(items[0])
    assert list(found) == ['plain', 'economy', 'paper', 'own'] and found['own'] is items[0]
    settings = {name: dict(item.cfg.model.gradaug) for name, item in found.items()}
    own = settings.pop('own')
    assert own['every'] == 2 and own['num_subnets'] == 3
    for name, number in dict(plain=0, economy=PRESETS['economy']['num_subnets'], paper=3).items():
        assert settings[name]['num_subnets'] == number
        for key in ('transforms', 'min_width'):
            assert settings[name][key] == own[key]
    assert len({item.key for item in found.values()}) == 4
    prepare(items := select([path]), None, [], CONFIGS)
    assert with_other_settings(items[0])['paper'] is items[0]
    prepare(rows := select(['table2'], ['gradaug']), None, [], CONFIGS)
    assert [list(with_other_settings(row)) for row in rows] == [['']] * len(rows)
