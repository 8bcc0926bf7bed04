"""What the result pages and files say of runs is what the runs' own records say."""

import json
import re
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[1] / 'docs' / 'results'


def read(name):
    return json.loads((RESULTS / name).read_text())


SWEEPS = sorted(
    str(path.relative_to(RESULTS))
    for path in RESULTS.rglob('*.json')
    if '"runs"' in path.read_text()
)


@pytest.mark.parametrize('name', SWEEPS)
def test_the_iterations_of_a_sweep_are_those_it_states(name):
    sweep = read(name)
    stated = re.search(r'([\d,]+) iterations(?! unless said)', sweep['scale'])
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
