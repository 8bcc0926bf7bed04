"""tools/low_data.py: its table from made-up results, and a real training of two splits."""

import json
import os
import statistics
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import ROOT, load_tool, run
from PIL import Image

low_data = load_tool('low_data')
sweep = low_data.sweep
TABLE = low_data.LOW_DATA_TABLES['table10']


def record(results):
    """Of {key: [top-1 of each split]}."""
    runs = [
        dict(key=key, seed=split, status='done', top1=top1)
        for key, values in results.items()
        for split, top1 in enumerate(values)
        if top1 is not None
    ]
    return SimpleNamespace(data=dict(runs=[*runs, dict(key='x', seed=0, status='running')]))


def cells(text):
    """The lines of a table, by their first column."""
    return {
        line[:24].strip(): line[24:].split()
        for line in text.splitlines()
        if line and line[0] != '-'
    }


def test_every_cell_of_table_10_has_a_config_and_the_papers_figures():
    rows = low_data.chosen_rows(TABLE, list(low_data.COLUMNS), list(low_data.METHODS))
    assert len(rows) == len({row.key for row in rows}) == 7 * 4
    assert all((ROOT / 'configs' / row.config).is_file() for row in rows)
    figures = {(row.label, low_data.column_of(row)): (row.top1, row.top1_std) for row in rows}
    assert figures['GradAug-semi', '1000'] == (71.74, 0.77)
    assert figures['CutMix (p=0.1)', 'stl10'] == (69.34, 0.70)
    assert figures['Mean Teacher', 'stl10'] == (None, None)
    (row,) = low_data.chosen_rows(TABLE, ['4000'], ['cutmix-0.1'])
    assert row.key == 'cutmix_wrn28_2_cifar10+num_labels=4000+probs=0.1'


def test_the_table_has_means_deviations_and_differences_on_the_same_splits():
    rows = low_data.chosen_rows(TABLE, ['250', '1000'], ['baseline', 'gradaug', 'cutmix'])
    plain, ours = 'baseline_wrn28_2_cifar10', 'gradaug_wrn28_2_cifar10'
    text = low_data.paper_form(
        rows,
        record(
            {
                plain: [30.0, 33.0, 36.0],
                plain + '+equal_cost': [31.0, 34.0, 37.0],
                ours: [35.0, None, 42.0, 99.0],  # the last split has no baseline
                ours + '+num_labels=1000': [50.0],
            }
        ),
        equal_cost=True,
    )
    first, second = (cells(part) for part in text.split('above the baseline'))
    assert first['Baseline'] == ['33.00±3.00', '(3)', '-']
    assert first['Baseline, equal cost'] == ['34.00±3.00', '(3)', '-']
    mean, deviation = statistics.mean([35, 42, 99]), statistics.stdev([35, 42, 99])
    assert first['GradAug'] == [f'{mean:.2f}±{deviation:.2f}', '(3)', '50.00', '(one', 'split)']
    assert '50.11±1.21' in text and '63.21±0.73' in text
    # +5 and +6: the standard error is 0.5.
    assert second['GradAug'] == ['+5.50', '(0.50)', '-']
    assert second['Baseline, equal cost'] == ['+1.00', '(0.00)', '-']
    assert 'CutMix (p=0.5)' not in second


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['table3'], "invalid choice: 'table3'"),
        (['table10', '--labels', '500'], "invalid choice: '500'"),
        (['table10', '--methods', 'mixup'], "invalid choice: 'mixup'"),
        (['table10', '--splits', '0'], '--splits must be 1 or more, got 0'),
        (['table10', '--seeds', '3'], '--seeds: write --splits for seeds'),
        (
            ['table10', '--cfg-options', 'train_dataloader.dataset.split_seed=1'],
            'is set by the sweep',
        ),
        (['table10', '--stl10-folds'], '--stl10-folds takes --labels stl10'),
        (
            ['table10', '--labels', 'stl10', '--stl10-folds', '--splits', '11'],
            '--splits of 10 or fewer',
        ),
        (
            ['table10', '--cfg-options', 'train_dataloader.dataset.fold=1'],
            'use tools/low_data.py --stl10-folds',
        ),
        (['table10', '--nonsense'], 'unrecognized arguments: --nonsense'),
    ],
)
def test_wrong_arguments(arguments, says, capsys):
    with pytest.raises(SystemExit):
        low_data.parse_args(arguments)
    assert says in capsys.readouterr().err


def test_splits_are_the_predefined_folds_if_asked_for(tmp_path):
    command = ['table10', '--labels', 'stl10', '--work-dir', str(tmp_path)]
    _, args = low_data.parse_args([*command, '--stl10-folds'])
    (item,) = sweep.select(['table10'], [], ['baseline_wrn28_2_stl10'])
    sweep.prepare([item], None, args)
    for split in range(5):
        options = sweep.make_run(item, split, args).options
        assert f'train_dataloader.dataset.fold={split}' in options
        assert options[-1].endswith(f'stl10_1000_fold{split}.json')
    _, args = low_data.parse_args(command)
    assert not any('.fold=' in option for option in sweep.make_run(item, 1, args).options)


def test_eight_gpus_are_refused_since_the_learning_rate_is_for_one(tmp_path):
    command = ['table10', '--slurm', 'gpu', '--work-dir', str(tmp_path), '--methods', 'baseline']
    says = 'for 100 images an iteration; with 8 GPU.s. it is 800: add --auto-scale-lr'
    with pytest.raises(sweep.UserError, match=says):
        low_data.low_data(*low_data.parse_args(command))
    assert not (tmp_path / 'runs').exists() and not (tmp_path / 'sweep.json').exists()


def test_two_splits_are_trained_and_kept(tmp_path):
    rng = np.random.default_rng(0)
    for split, number in (('train', 6), ('test', 2)):
        for label in range(10):
            folder = tmp_path / 'cifar10' / split / str(label)
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{i}.png')
    overlay = tmp_path / 'tiny.py'
    overlay.write_text(
        'model = dict(backbone=dict(depth=10, widen_factor=1), head=dict(in_channels=64))\n'
        'train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False,\n'
        '                        dataset=dict(num_labels=30))\n'
        'val_dataloader = dict(num_workers=0, persistent_workers=False)\n'
        'train_cfg = dict(max_iters=4, val_interval=4)\n'
        "default_hooks = dict(logger=dict(interval=2), checkpoint=dict(interval=-1))\n"
        "scale = '30 labels'\n"
    )  # fmt: skip
    command = [
        sys.executable, ROOT / 'tools' / 'low_data.py', 'table10', '--labels', '250', '--methods',
        'baseline', 'gradaug-semi', '--splits', 2, '--overlay', overlay, '--jobs', 2,
        '--work-dir', tmp_path / 'work',
    ]  # fmt: skip
    environment = dict(CIFAR10_FOLDER=str(tmp_path / 'cifar10'))
    code, output = run(*command, **environment)
    assert code == 0, output
    data = json.loads((tmp_path / 'work' / 'sweep.json').read_text())
    top1 = {(e['key'], e['seed']): e['top1'] for e in data['runs']}
    assert set(top1) == {
        (f'{name}_wrn28_2_cifar10', split)
        for name in ('baseline', 'gradaug_semi')
        for split in (0, 1)
    }
    plain = [top1['baseline_wrn28_2_cifar10', split] for split in (0, 1)]
    told = f'{statistics.mean(plain):.2f}±{statistics.stdev(plain):.2f} (2)'
    assert told in output and '45.23±1.01' in output and 'Scale of ours: 30 labels' in output
    assert data['command'].startswith('tools/low_data.py table10 --labels 250')
    # Both methods read the same files, one for each split.
    splits = {file.name: file.read_text() for file in (tmp_path / 'work' / 'splits').iterdir()}
    assert sorted(splits) == ['imagefolder_30_split0.json', 'imagefolder_30_split1.json']
    chosen = [json.loads(text)['labelled'] for text in splits.values()]
    assert chosen[0] != chosen[1]
    for entry in data['runs']:
        file = tmp_path / 'work' / 'splits' / f'imagefolder_30_split{entry["seed"]}.json'
        assert f'train_dataloader.dataset.split_file={file}' in entry['options']
        assert f'train_dataloader.dataset.split_seed={entry["seed"]}' in entry['options']
    # Again: nothing is trained, and the table is the same.
    runs = tmp_path / 'work' / 'runs'
    before = {path: os.stat(path).st_mtime_ns for path in runs.rglob('*.pth')}
    code, again = run(*command, **environment)
    assert code == 0 and told in again
    assert {path: os.stat(path).st_mtime_ns for path in runs.rglob('*.pth')} == before
