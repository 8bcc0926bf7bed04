"""The quick starts as users run them, only shorter."""

import argparse
import json
import re

import pytest
from command_line import exit_code, mmgradaug, run_mmgradaug

from mmgradaug.datasets import drawn_shapes
from mmgradaug.experiments import quickstart, watch
from mmgradaug.files import UserError

METHODS = ('digits_baseline', 'digits_gradaug', 'digits_baseline+equal_cost')


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A whole quick start: two seeds, ten iterations, ten images a batch."""
    work_dir = tmp_path_factory.mktemp('quickstart')
    code, output = run_mmgradaug(
        'quickstart', '--seeds', 2, '--iterations', 10, '--work-dir', work_dir, '--jobs', 2,
        '--cfg-options', 'train_dataloader.batch_size=10', 'model.gradaug.num_subnets=2',
        'val_dataloader.dataset.indices=100',
    )  # fmt: skip
    assert code == 0, output
    return work_dir, output


def test_what_was_trained(finished):
    work_dir, output = finished
    ratio = float(re.search(r'takes ([\d.]+) times as long', output)[1])
    for key in METHODS:
        for seed in (0, 1):
            data = json.loads((work_dir / 'runs' / key / f'seed{seed}' / 'run.json').read_text())
            config = data['config']
            assert data['seed'] == config['train_dataloader']['dataset']['label_seed'] == seed
            length = 10
            if 'equal_cost' in key:
                length = data['iterations']
                # The ratio is printed with two digits.
                assert abs(length - 10 * ratio) <= 1
            assert data['iterations'] == config['param_scheduler']['end'] == length
            assert ('gradaug' in config['model']) == ('gradaug' in key)
            if 'gradaug' in key:
                assert config['model']['gradaug']['num_subnets'] == 2


def test_table_verdict_and_page(finished):
    work_dir, output = finished
    rows = [line.split('  ') for line in output.splitlines()]
    names = [row[0].strip() or row[1].strip() for row in rows if len(row) > 3]
    assert [n for n in names if n in ('plain', 'plain, equal cost', 'GradAug')] == [
        'plain', 'plain, equal cost', 'GradAug'
    ]  # fmt: skip
    assert 'plain training at equal cost' in output and '[6/6]' in output
    assert 'too short to compare' in output and 'points of top-1' not in output
    page = (work_dir / 'index.html').read_text()
    assert 'A small ResNet on 100 of scikit-learn&#39;s digits' in page


def test_without_a_bar_lines_say_how_far_it_is(monkeypatch, capsys):
    run = argparse.Namespace(key='a', title='a, seed 0', share_done=0.25)
    progress = watch.Watch({})
    progress.expect([run.key])
    progress.tick([run])
    assert capsys.readouterr().out == ''  # not yet
    monkeypatch.setattr(watch, 'LINE_EVERY', -1.0)
    progress.tick([run])
    assert capsys.readouterr().out.startswith('[0/1] a, seed 0 25 %')


def test_an_earlier_one_is_replaced_or_kept(finished, tmp_path, monkeypatch):
    work_dir, _ = finished
    quickstart.clear(tmp_path)  # of nothing: no error
    kept = tmp_path / 'runs' / 'x'
    kept.mkdir(parents=True)
    (tmp_path / 'mine.txt').write_text('stays')
    quickstart.clear(tmp_path)
    assert not kept.exists() and (tmp_path / 'mine.txt').exists()
    before = (work_dir / 'runs' / METHODS[0] / 'seed0' / 'run.json').stat().st_mtime
    code, output = run_mmgradaug(
        'quickstart', '--resume', '--seeds', 2, '--iterations', 10, '--work-dir', work_dir,
        '--cfg-options', 'train_dataloader.batch_size=10', 'model.gradaug.num_subnets=2',
        'val_dataloader.dataset.indices=100',
    )  # fmt: skip
    assert code == 0 and output.count('done before') == 6, output
    assert (work_dir / 'runs' / METHODS[0] / 'seed0' / 'run.json').stat().st_mtime == before


def test_a_failing_training_is_shown(tmp_path, capsys):
    arguments = ('--seeds', 1, '--iterations', 5, '--work-dir', tmp_path, '--jobs', 1)
    wrong = ['--cfg-options', 'model.head.in_channels=7']
    assert exit_code('quickstart', *arguments, *wrong) == 1
    error = capsys.readouterr().err
    assert 'training failed (exit code 1)' in error and 'the last lines of' in error


def test_settings_of_its_own_are_refused(tmp_path, capsys):
    wrong = ['--cfg-options', 'randomness.seed=3', '--work-dir', tmp_path]
    assert exit_code('quickstart', *wrong) == 1
    assert 'randomness.seed is set here; use --seeds' in capsys.readouterr().err


def test_missing_packages_are_named_with_what_to_type(monkeypatch):
    monkeypatch.setattr(quickstart.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='needs scikit-learn and matplotlib, .* -m pip install'):
        quickstart.check_installed(quickstart.NEEDED['digits'])


def test_other_shapes_are_not_taken_for_these(tmp_path):
    drawn_shapes.generate(tmp_path / 'shapes', train=3, val=2)
    with pytest.raises(UserError, match='does not hold what mmgradaug shapes makes'):
        quickstart.prepare_shapes(tmp_path / 'shapes')
    assert drawn_shapes.holds(
        tmp_path / 'shapes', **{**quickstart.SHAPES_MADE, 'train': 3, 'val': 2}
    )


def test_the_shapes(tmp_path, monkeypatch, capfd):
    """The whole of it in four iterations, with pictures."""
    monkeypatch.setattr(
        quickstart, 'SHAPES_MADE', {**quickstart.SHAPES_MADE, 'train': 40, 'val': 10}
    )
    mmgradaug(
        'quickstart', 'shapes', '--iterations', 4, '--jobs', 2, '--work-dir', tmp_path / 'work',
        '--shapes', tmp_path / 'shapes', '--pictures', 2,
    )  # fmt: skip
    output = capfd.readouterr().out
    assert 'box AP' in output and 'mask AP' in output
    names = sorted(path.name for path in (tmp_path / 'work' / 'detections').iterdir())
    assert len(names) == 3 and names[-1] == 'overview.png'
