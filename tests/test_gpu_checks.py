"""The script for GPUs does on the CPU what it says; its parts are run by hand with --tiny."""

import argparse
import json
import sys

import pytest
import torch
from command_line import ROOT
from torch import nn

sys.path.append(str(ROOT / 'benchmarks'))

import gpu_checks  # noqa: E402  found by the line above
import gpu_correctness  # noqa: E402
import gpu_networks  # noqa: E402
import gpu_speed  # noqa: E402
import measuring  # noqa: E402

TINY = gpu_networks.Network(lambda: gpu_networks.WideResNet(10, 1, classes=10), 16, (16, 12))


def test_flops_are_those_of_the_matrix_products():
    layer, images = nn.Linear(8, 4), torch.randn(5, 8)
    # Forward, and backward to the weight; nothing asks for the gradient of the images.
    assert measuring.flops(lambda: layer(images).sum().backward()) == 2 * (2 * 5 * 8 * 4)


def test_wide_resnet_has_the_parameters_of_the_paper():
    with torch.device('meta'):
        model = gpu_networks.WideResNet()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(36.5e6, rel=2e-3)


def test_equality_is_seen_and_so_is_a_difference(monkeypatch):
    assert gpu_correctness.same_on_both(TINY, 'cpu', survival_prob=0.6)['ok']
    naive = gpu_correctness.naive_step(TINY, 'cpu', torch.float64)
    doubled = {name: 2 * value for name, value in naive.items()}
    monkeypatch.setattr(gpu_correctness, 'naive_step', lambda *args, **kwargs: doubled)
    assert not gpu_correctness.same_on_both(TINY, 'cpu')['ok']


def test_speed_counts_the_passes_that_are_made():
    training = gpu_speed.Training(TINY, 'cpu', 2)
    training.add('whole', num_subnets=2)
    training.add('unknown here', no_such_option=1)
    assert list(training.samplers) == ['whole']
    plain = training.flops('plain', 0)
    assert plain < training.flops('whole', 0) < 3 * plain
    times = gpu_speed.measure_times(training, 2, 60.0)
    assert [len(times[name]['first']) for name in ('plain', 'whole')] == [2, 2]


def test_a_check_that_fails_is_a_row_and_the_next_one_runs(tmp_path, capsys):
    report = gpu_checks.Report(tmp_path / 'rows', 60.0, argparse.Namespace())
    report.check('bad', lambda: 1 / 0)
    report.check('good', lambda: dict(ok=True))
    report.end = 0.0
    report.check('late', lambda: dict(ok=True))
    rows = [json.loads(line) for line in (tmp_path / 'rows').read_text().splitlines()]
    assert [row['ok'] for row in rows] == [False, True, None]
    gpu_checks.print_table(gpu_checks.read_rows(tmp_path, ['rows']))
    assert 'FAILED bad: why=ZeroDivisionError' in capsys.readouterr().out


def test_old_new_needs_a_folder(capsys):
    assert 'old_new' not in gpu_checks.parse_args([]).only
    with pytest.raises(SystemExit):
        gpu_checks.parse_args(['--only', 'old_new'])
    assert '--old PATH' in capsys.readouterr().err
