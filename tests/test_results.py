"""What the result pages and files say of runs is what the runs' own records say."""

import importlib.util
import json
import re

import pytest
from command_line import ROOT

RESULTS = ROOT / 'docs' / 'results'


def read(name):
    return json.loads((RESULTS / name).read_text())


SWEEPS = sorted(
    str(path.relative_to(RESULTS))
    for path in RESULTS.rglob('*.json')
    if '"scale"' in path.read_text()
)


@pytest.mark.parametrize('name', SWEEPS)
def test_the_iterations_of_a_sweep_are_those_it_states(name):
    sweep = read(name)
    stated = re.search(r'([\d,]+) iterations(?!( of \d+ images)? unless said)', sweep['scale'])
    ran = {run['iterations'] for run in sweep['runs'] if 'equal_cost' not in run['key']}
    assert ran and (stated is None or ran == {int(stated[1].replace(',', ''))})


def test_the_range_of_times_of_busy_iterations():
    record = read('step_time_mask_rcnn_positives.json')
    ratios = [
        seconds / plain_seconds / (flops / record['plain_gflops'])
        for seconds, plain_seconds, flops in zip(
            record['gradaug_seconds'], record['plain_seconds'], record['gradaug_gflops']
        )
    ]
    text = (RESULTS / 'speed.md').read_text()
    assert f'{min(ratios):.2f} to {max(ratios):.2f}' in text


def script(name):
    """One of the scripts in docs."""
    spec = importlib.util.spec_from_file_location(name, ROOT / 'docs' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_made_from_their_data():
    tables = script('tables')
    files = [*RESULTS.glob('*.md'), *RESULTS.parent.glob('*.md')]
    pages = {path.name: path.read_text() for path in files}
    marks = [match[2] for text in pages.values() for match in tables.MARKED.finditer(text)]
    assert sorted(marks) == sorted(tables.TABLES)
    for name, text in pages.items():
        assert tables.made(text) == text, f'{name} differs from its data: python docs/tables.py'
    changed = pages['small_scale.md'].replace('35.5 ± 0.8', '36.5 ± 0.8')
    assert tables.made(changed) == pages['small_scale.md']


def test_what_a_sweep_came_to_is_recorded(tmp_path):
    tables = script('tables')
    about = dict(command='mmgradaug sweep x', scale=None, cfg_options=[], equal_cost={})
    (tmp_path / 'sweep.json').write_text(json.dumps(about))
    evaluation = dict(iteration=9, metrics={'accuracy/top1': 51.23456})
    run = dict(
        status='done', seed=1, iterations=9, last=evaluation['metrics'], evaluations=[evaluation],
        device='CPU', versions=dict(torch='2'), seconds_per_iteration=0.1,
        training=[dict(loss=2.0), dict(loss=0.12345)],
    )  # fmt: skip
    file = tmp_path / 'runs' / 'baseline_a' / 'seed1' / 'run.json'
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(run))
    recorded = json.loads(tables.record(tmp_path))
    assert recorded['command'] == about['command'] and recorded['device'] == 'CPU'
    (line,) = recorded['runs']
    assert (line['key'], line['seed'], line['top1'], line['curve'], line['loss']) == (
        'baseline_a', 1, 51.235, [[9, 51.235]], 0.1235
    )  # fmt: skip
    file.write_text(json.dumps(dict(run, status='stopped')))
    with pytest.raises(SystemExit, match='seed1 is not done'):
        tables.record(tmp_path)


def test_the_picture_of_gains_has_all_differences_of_the_page(tmp_path):
    gains = script('gains')
    text = gains.PAGE.read_text()
    rows = gains.gains(text)
    scratch = text.split(f'## {gains.SCRATCH}')[1].split('\n## ')[0]
    numbers = re.findall(r'[+-][\d.]+ \([\d.]+\)', '\n'.join(re.findall(r'^\|.*', scratch, re.M)))
    drawn = [row for row in rows if row.section == gains.SCRATCH]
    assert [f'{row.mean:+.1f} ({row.error:.1f})' for row in drawn] == numbers and len(numbers) > 9
    tables = sum(text.count(f'<!-- {kind}') for kind in ('table ', 'table: ', 'detection '))
    assert len({row.section for row in rows}) == 1 + tables
    for row in rows:
        assert row.verdict in gains.COLOURS, row
        # Rounded figures of the page may just miss the two standard errors, or reach them.
        if abs(abs(row.mean) - 2 * row.error) > 0.15:
            certain = abs(row.mean) > 2 * row.error
            assert (row.verdict in ('better', 'worse')) == certain, row
    gains.draw(rows, tmp_path / 'gains.png')
    assert (tmp_path / 'gains.png').stat().st_size > 10_000
