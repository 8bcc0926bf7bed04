"""tools/quickstart.py as users run it, only shorter, and its arithmetic on made-up runs."""

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
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

ROOT = Path(__file__).parents[1]
TOOL = ROOT / 'tools' / 'quickstart.py'


def load_tool():
    spec = importlib.util.spec_from_file_location('quickstart', TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


quickstart = load_tool()
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
        quickstart.importlib.util, 'find_spec', lambda module: None if module == 'sklearn' else 1
    )
    with pytest.raises(quickstart.QuickstartError, match='-m pip install scikit-learn$'):
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


def made_up_methods(gradaug, equal_cost, minutes=(1.0, 1.0)):
    return {
        'gradaug': dict(runs=[dict(top1=top1) for top1 in gradaug], minutes_mean=minutes[0]),
        'plain_equal_cost': dict(
            runs=[dict(top1=top1) for top1 in equal_cost], minutes_mean=minutes[1]
        ),
    }


@pytest.mark.parametrize(
    'gradaug, equal_cost, words',
    [
        # differences 4, 5, 6: mean 5, deviation 1, standard error 1 / sqrt(3)
        ([94, 95, 96], [90, 90, 90], ['5.0 points above', '3 of 3', '0.6', 'more than two']),
        ([86, 85, 84], [90, 90, 90], ['5.0 points below', '0 of 3', '0.6', 'more than two']),
        ([96, 90, 87], [90, 90, 90], ['1.0 points above', '1 of 3', 'may be chance']),
        ([90, 90], [90, 90], ['0.0 points', '0 of 2', 'may be chance']),
        ([99], [90], ['9.0 points above', '1 of 1', 'one seed cannot']),
    ],
)
def test_the_sentence_follows_the_numbers(gradaug, equal_cost, words):
    comparison = quickstart.compare(made_up_methods(gradaug, equal_cost))
    for word in words:
        assert word in comparison['sentence']
    assert 'busy' not in comparison['time_sentence']


def test_unequal_times_are_admitted():
    comparison = quickstart.compare(made_up_methods([90], [90], minutes=(1.0, 0.5)))
    assert comparison['equal_cost_time_ratio'] == 0.5
    assert 'not equally busy' in comparison['time_sentence']


def made_up_run(method, windows, iterations=30):
    return quickstart.Run(method, 0, iterations, Path('nowhere'), seconds=windows)


def test_times_are_read_as_means_of_windows():
    # Ten iterations of 0.1 s, twenty of 0.2 s; three more are not in the log.
    one = made_up_run('plain', [(4, 0.1), (10, 0.1), (30, 0.2)], iterations=33)
    assert one.logged_seconds == pytest.approx(5.0)
    assert one.train_seconds == pytest.approx(5.5)


def test_the_ratio_is_robust_to_a_disturbed_window():
    runs = [
        made_up_run('plain', [(10, 1.0), (20, 1.0), (30, 9.0)]),
        made_up_run('gradaug', [(10, 3.0), (20, 30.0), (30, 3.0)]),
    ]
    assert quickstart.cost_ratio(runs) == 3.0


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
