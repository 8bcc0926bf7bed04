"""tools/quickstart_detection.py as users run it, only shorter."""

import inspect
import json
import math
import re
import sys

import numpy as np
import pytest
from command_line import ROOT, load_tool, run
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

training_runs = load_tool('training_runs')
make_shapes = load_tool('make_shapes')
quickstart = load_tool('quickstart_detection')
TOOL = ROOT / 'tools' / 'quickstart_detection.py'
METHODS = ('plain', 'gradaug', 'plain_equal_cost')
METRICS = ('box_ap', 'mask_ap')


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A whole quick start: one seed, ten iterations of one image, six test images."""
    folder = tmp_path_factory.mktemp('quickstart')
    code, output = run(
        sys.executable, TOOL, '--iterations', 10, '--pictures', 2,
        '--data', folder / 'shapes', '--out', folder / 'out',
        '--cfg-options', 'train_dataloader.batch_size=1', 'model.gradaug.num_subnets=1',
        'val_dataloader.dataset.indices=6',
    )  # fmt: skip
    assert code == 0, output
    return folder, json.loads((folder / 'out' / 'results.json').read_text()), output


def test_results_hold_every_method(finished):
    _, results, output = finished
    assert tuple(results['methods']) == METHODS
    assert 'Made 300 images of shapes to train with and 60 to test with' in output
    assert '[3/3]' in output
    for figures in results['methods'].values():
        (one,) = figures['runs']
        assert one['seed'] == 0
        for key in METRICS:
            assert 0 <= one[key] <= 100
            assert figures[f'{key}_mean'] == one[key] and figures[f'{key}_std'] is None
            assert len(one[f'{key}_curve']) == 5
            assert one[f'{key}_curve'][-1] == [figures['iterations'], one[key]]
        assert all(math.isfinite(loss) and loss > 0 for _, loss in one['loss_curve'])
    methods = results['methods']
    assert methods['plain']['iterations'] == methods['gradaug']['iterations'] == 10
    longer = 10 * max(1, round(results['cost_ratio']))
    assert methods['plain_equal_cost']['iterations'] == longer


def test_the_table_says_what_the_results_say(finished):
    _, results, output = finished
    for figures in results['methods'].values():
        (row,) = re.findall(rf'^{figures["name"]} {{2,}}(.*)$', output, re.M)
        assert re.split(r' {2,}', row.strip()) == [
            f'{figures["box_ap_mean"]:.1f}',
            f'{figures["mask_ap_mean"]:.1f}',
            str(figures['iterations']),
            f'{figures["minutes_mean"]:.2f}',
            f'{figures["cost_ratio_per_iteration"]:.2f}',
            f'{figures["peak_memory_mb"]:.0f} MB',
        ]
    for key, name in (('box_ap', 'box AP'), ('mask_ap', 'mask AP')):
        sentence = results['comparison'][key]['sentence']
        assert f'points of {name}' in sentence and 'one seed cannot tell' in sentence
        assert sentence in output


def test_what_was_trained_is_what_the_results_name(finished):
    folder, results, _ = finished
    for method, figures in results['methods'].items():
        trained = Config.fromfile(
            folder / 'out' / f'{method}-seed0' / quickstart.CONFIGS[method].name,
            import_custom_modules=False,
        )
        assert trained.train_cfg.max_iters == figures['iterations']
        assert trained.param_scheduler[1].end == figures['iterations']
        assert trained.train_dataloader.batch_size == 1
        assert ('gradaug' in trained.model) == (method == 'gradaug')
    options = quickstart.make_run('gradaug', 3, 10, quickstart.parse_args([])).options
    assert {'randomness.seed=3', 'train_dataloader.dataset.image_seed=3'} <= set(options)


def test_pictures_show_curves_and_detections(finished):
    folder, results, output = finished
    curves = np.asarray(Image.open(folder / 'out' / 'curves.png').convert('RGB')).astype(int)
    for colour in ((0x7F, 0x7F, 0x7F), (0x1F, 0x77, 0xB4), (0xD6, 0x27, 0x28)):
        near = np.abs(curves - colour).max(axis=2) < 8
        assert near.sum() > 50, f'no curve of colour {colour}'
    pictures = sorted(path.name for path in (folder / 'out' / 'detections').iterdir())
    assert [name[:5] for name in pictures] == ['00006', '00007', 'overv']
    assert str(folder / 'out' / 'detections' / 'overview.png') in output


@pytest.fixture
def few(monkeypatch):
    """The data set that the tool wants is smaller."""
    monkeypatch.setattr(quickstart, 'SHAPES', {**quickstart.SHAPES, 'train': 3, 'val': 2})


def test_shapes_are_made_once(few, tmp_path, capsys):
    data = tmp_path / 'shapes'
    quickstart.prepare_shapes(data)
    made = {path: path.stat().st_mtime_ns for path in data.rglob('*')}
    quickstart.prepare_shapes(data)
    assert {path: path.stat().st_mtime_ns for path in data.rglob('*')} == made
    assert 'are used again' in capsys.readouterr().out


@pytest.mark.parametrize(
    'change', [dict(train=4), dict(val=3), dict(seed=1), dict(shapes=(1, 2)), dict(size=(80, 80))]
)
def test_other_shapes_are_neither_used_nor_removed(few, tmp_path, change):
    data = tmp_path / 'shapes'
    make_shapes.generate(data, **{**quickstart.SHAPES, **change})
    with pytest.raises(training_runs.UserError, match='name another folder by --data'):
        quickstart.prepare_shapes(data)
    assert (data / 'annotations').is_dir()


def test_a_changed_picture_or_somebodys_folder_is_noticed(few, tmp_path):
    data = tmp_path / 'shapes'
    quickstart.prepare_shapes(data)
    first = min((data / 'val2017').iterdir())
    Image.open(first).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(first)
    assert not quickstart.holds_shapes(data)
    first.unlink()
    assert not quickstart.holds_shapes(data)
    assert not quickstart.holds_shapes(tmp_path)


def test_the_shapes_are_those_of_make_shapes_alone():
    """So that one can make them by `python tools/make_shapes.py data/shapes`."""
    parameters = inspect.signature(make_shapes.generate).parameters
    defaults = {name: p.default for name, p in parameters.items() if name != 'out'}
    assert quickstart.SHAPES == defaults
    args = make_shapes.parse_args(['data/shapes'])
    assert dict(
        train=args.train, val=args.val, size=args.size, seed=args.seed, shapes=args.shapes,
        image_format=args.format,
    ) == defaults  # fmt: skip


def test_the_two_configs_differ_in_gradaug_alone():
    plain, ours = (
        Config.fromfile(file, import_custom_modules=False).to_dict()
        for file in (quickstart.BASELINE, quickstart.GRADAUG)
    )
    gradaug = ours['model'].pop('gradaug')
    assert ours['model'].pop('type') == 'mmgradaug.GradAugMaskRCNN'
    assert plain['model'].pop('type') == 'MaskRCNN'
    assert [hook['type'] for hook in ours.pop('custom_hooks')] == ['mmgradaug.GradAugHook']
    assert ours.pop('model_wrapper_cfg')['type'] == 'mmgradaug.GradAugDistributedDataParallel'
    assert ours == plain
    assert gradaug['num_subnets'] == 3
    # Their training is evaluated on what testing reads.
    assert plain['val_dataloader'] == plain['test_dataloader']
    assert plain['val_evaluator'] == plain['test_evaluator']


def test_a_seed_gives_both_networks_the_same_weights():
    from mmengine.runner import set_random_seed

    weights = []
    for file in (quickstart.BASELINE, quickstart.GRADAUG):
        cfg = Config.fromfile(file)
        set_random_seed(3)
        model = MODELS.build({**cfg.model, '_scope_': 'mmdet'})
        model.init_weights()
        weights.append(model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert sum(value.numel() for value in weights[0].values()) < 1_200_000


def test_a_failed_training_shows_why_and_leaves_no_old_results(few, tmp_path, monkeypatch):
    for stale in ('results.json', 'curves.png', 'detections/overview.png'):
        (tmp_path / stale).parent.mkdir(exist_ok=True)
        (tmp_path / stale).write_text('of an earlier setting')
    args = quickstart.parse_args(
        ['--out', str(tmp_path), '--data', str(tmp_path / 'shapes'), '--jobs', '1',
         '--cfg-options', 'model.backbone.depth=7']
    )  # fmt: skip
    with pytest.raises(training_runs.UserError) as error:
        quickstart.quickstart_detection(args)
    assert 'seed 0: training failed' in str(error.value)
    assert 'invalid depth 7' in str(error.value)  # the training's own words
    assert not [path for path in tmp_path.rglob('*.png') if 'shapes' not in path.parts]
    assert not (tmp_path / 'results.json').exists()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--seeds', '0'], '--seeds must be 1 or more'),
        (['--pictures', '-1'], '--pictures must be from 0 to 54, got -1'),
        (['--cfg-options', 'train_cfg.max_iters=5'], '--iterations'),
        (['--cfg-options', 'train_dataloader.dataset.image_seed=5'], '--seeds'),
        (['--cfg-options', 'train_dataloader.dataset.data_root=data/x'], '--data'),
        (['--cfg-options', 'no_value'], 'KEY=VALUE'),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        quickstart.parse_args(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_packages_are_named_before_anything_starts(monkeypatch):
    monkeypatch.setattr(
        training_runs.importlib.util, 'find_spec', lambda module: None if module == 'mmdet' else 1
    )
    with pytest.raises(training_runs.UserError, match='mmdet is not installed'):
        quickstart.check_requirements()


def test_training_without_the_data_says_what_to_type(tmp_path):
    code, output = run(
        sys.executable, ROOT / 'tools' / 'train.py', quickstart.GRADAUG,
        '--work-dir', tmp_path / 'work',
        '--cfg-options', f'train_dataloader.dataset.data_root={tmp_path}/none',
    )  # fmt: skip
    assert code == 1
    assert f'python tools/make_shapes.py {tmp_path}/none' in output.splitlines()[-1]
