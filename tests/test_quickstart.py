"""tools/quickstart.py as users run it, only shorter."""

import importlib.util
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, load_tool
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

TOOL = ROOT / 'tools' / 'quickstart.py'


training_runs = load_tool('training_runs')
quickstart = load_tool('quickstart')
METHODS = ('plain', 'gradaug', 'plain_equal_cost')


def run(*arguments, **env):
    return subprocess.run(
        [sys.executable, str(TOOL), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A whole quick start: two seeds, ten iterations, ten images a batch."""
    work_dir = tmp_path_factory.mktemp('quickstart')
    done = run(
        '--seeds', 2, '--iterations', 10, '--work-dir', work_dir,
        '--cfg-options', 'train_dataloader.batch_size=10', 'model.gradaug.num_subnets=2',
        'val_dataloader.dataset.indices=100',
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return work_dir, json.loads((work_dir / 'results.json').read_text()), done.stdout


def test_results_hold_every_method_and_seed(finished):
    work_dir, results, _ = finished
    assert tuple(results['methods']) == METHODS
    assert results['setting']['seeds'] == [0, 1]
    for figures in results['methods'].values():
        assert [one['seed'] for one in figures['runs']] == [0, 1]
        finals = [one['top1'] for one in figures['runs']]
        assert all(0 <= top1 <= 100 for top1 in finals)
        assert figures['top1_mean'] == pytest.approx(statistics.mean(finals))
        assert figures['top1_std'] == pytest.approx(statistics.stdev(finals))
        for one in figures['runs']:
            assert one['top1_curve'][-1] == [figures['iterations'], one['top1']]
            assert all(math.isfinite(loss) and loss > 0 for _, loss in one['loss_curve'])
            assert 0 < one['train_seconds'] < one['wall_seconds']
            # PyTorch alone takes more than 100 MB; a mistaken unit is 1024 times off.
            assert 100 < one['peak_memory_mb'] < 20_000


def test_equal_cost_follows_from_the_measured_ratio(finished):
    work_dir, results, output = finished
    methods = results['methods']
    assert methods['plain']['iterations'] == methods['gradaug']['iterations'] == 10
    # Three passes cannot take less time than one, and hardly ten times as much.
    assert 1 < results['cost_ratio'] < 10
    assert methods['plain_equal_cost']['iterations'] == 10 * round(results['cost_ratio'])
    per_iteration = [methods[method]['cost_ratio_per_iteration'] for method in METHODS]
    assert per_iteration == [1, results['cost_ratio'], 1]
    assert f'{results["cost_ratio"]:.2f} times as long' in output


def test_the_table_says_what_the_results_say(finished):
    _, results, output = finished
    for figures in results['methods'].values():
        (row,) = re.findall(rf'^{figures["name"]} {{2,}}(.*)$', output, re.M)
        cells = re.split(r' {2,}', row.strip())
        assert cells == [
            f'{figures["top1_mean"]:.1f} +- {figures["top1_std"]:.1f}',
            str(figures['iterations']),
            f'{figures["minutes_mean"]:.2f}',
            f'{figures["cost_ratio_per_iteration"]:.2f}',
            f'{figures["peak_memory_mb"]:.0f} MB',
        ]
    assert results['comparison']['sentence'] in output
    assert '[6/6]' in output


def test_what_was_trained_is_what_the_results_name(finished):
    work_dir, results, _ = finished
    for method, figures in results['methods'].items():
        for one in figures['runs']:
            (file,) = (work_dir / f'{method}-seed{one["seed"]}').glob('*/vis_data/config.py')
            trained = Config.fromfile(file, import_custom_modules=False)
            assert trained.randomness.seed == one['seed']
            assert trained.train_dataloader.dataset.label_seed == one['seed']
            assert trained.train_cfg.max_iters == figures['iterations']
            assert trained.param_scheduler.end == figures['iterations']
            assert trained.train_dataloader.batch_size == 10
            if method == 'gradaug':
                assert trained.model.gradaug.num_subnets == 2
            else:
                assert 'gradaug' not in trained.model


def test_the_picture_shows_three_curves(finished):
    work_dir, _, _ = finished
    picture = np.asarray(Image.open(work_dir / 'curves.png').convert('RGB')).astype(int)
    assert picture.shape[0] > 300 and picture.shape[1] > 600
    for colour in ((0x7F, 0x7F, 0x7F), (0x1F, 0x77, 0xB4), (0xD6, 0x27, 0x28)):
        near = np.abs(picture - colour).max(axis=2) < 8
        assert near.sum() > 50, f'no curve of colour {colour}'


def test_a_failed_training_shows_why_and_leaves_no_old_results(tmp_path):
    for stale in ('results.json', 'curves.png'):
        (tmp_path / stale).write_text('of an earlier setting')
    done = run(
        '--seeds', 1, '--iterations', 10, '--work-dir', tmp_path,
        '--cfg-options', 'model.backbone.depth=7',
    )  # fmt: skip
    assert done.returncode == 1
    assert 'seed 0: training failed' in done.stderr
    assert 'invalid depth 7' in done.stderr  # the training's own words
    assert 'output.txt' in done.stderr
    assert not (tmp_path / 'results.json').exists()
    assert not (tmp_path / 'curves.png').exists()


@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='looks for processes in /proc')
def test_stopping_it_stops_the_trainings(tmp_path):
    tool = subprocess.Popen(
        [sys.executable, str(TOOL), '--work-dir', str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    children = []
    deadline = time.monotonic() + 60
    while len(children) < 1 and time.monotonic() < deadline:
        time.sleep(0.2)
        children = Path(f'/proc/{tool.pid}/task/{tool.pid}/children').read_text().split()
    tool.send_signal(signal.SIGTERM)
    _, errors = tool.communicate(timeout=30)
    assert children
    assert tool.returncode == 130
    assert 'stopped' in errors
    assert not any(Path(f'/proc/{child}').exists() for child in children)


def test_missing_packages_are_named_before_anything_starts(monkeypatch):
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda module: None if module == 'sklearn' else 1
    )
    with pytest.raises(training_runs.UserError, match='-m pip install scikit-learn$'):
        quickstart.check_requirements()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--seeds', '0'], '--seeds must be 1 or more'),
        (['--cfg-options', 'train_cfg.max_iters=5'], '--iterations'),
        (['--cfg-options', 'randomness.seed=5'], '--seeds'),
        (['--cfg-options', 'no_value'], 'KEY=VALUE'),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        quickstart.parse_args(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_two_configs_differ_in_gradaug_alone():
    plain, ours = (
        Config.fromfile(file, import_custom_modules=False).to_dict()
        for file in (quickstart.BASELINE, quickstart.GRADAUG)
    )
    gradaug = ours['model'].pop('gradaug')
    assert ours['model'].pop('type') == 'mmgradaug.GradAugClassifier'
    assert plain['model'].pop('type') == 'ImageClassifier'
    assert [hook['type'] for hook in ours.pop('custom_hooks')] == ['mmgradaug.GradAugHook']
    assert ours.pop('model_wrapper_cfg')['type'] == 'mmgradaug.GradAugDistributedDataParallel'
    assert ours == plain
    assert gradaug['num_subnets'] == 3


def test_a_seed_gives_both_networks_the_same_weights():
    from mmengine.runner import set_random_seed

    weights = []
    for file in (quickstart.BASELINE, quickstart.GRADAUG):
        set_random_seed(3)
        model = MODELS.build({**Config.fromfile(file).model, '_scope_': 'mmpretrain'})
        model.init_weights()
        weights.append(model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
