"""The search for settings of a pretrained network: what it trains is what it says."""

import copy
import json
import re
import sys

import numpy as np
import pytest
import torch
from command_line import ROOT
from torchvision.models import mobilenet_v2

from mmgradaug import GradAug, RandomResize
from mmgradaug.slimming import plan_channels
from mmgradaug.subnets import Identity

sys.path.append(str(ROOT / 'benchmarks'))

import finetune_search  # noqa: E402  found by the line above
import search  # noqa: E402
from measuring import flops  # noqa: E402


@pytest.fixture(scope='module')
def network():
    """Inverted residuals, as in EfficientNet-Lite, and a plan."""
    torch.manual_seed(0)
    model = mobilenet_v2(num_classes=5, width_mult=0.25)
    for p in model.parameters():
        torch.nn.init.normal_(p, 1.0 if p.dim() == 1 else 0.0, 0.1)
    plan_channels(model, torch.zeros(2, 3, 32, 32))
    return model.eval()


def test_sorting_channels_leaves_the_function_and_puts_the_important_first(network):
    images = torch.randn(2, 3, 32, 32)
    gamma = (
        network.features[2].conv[0][1].weight
    )  # of a depthwise layer's channels, tied to nothing else
    with torch.no_grad():
        gamma[5] = 50.0
        before = network(images)
        finetune_search.sort_channels(network)
        after = network(images)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert gamma[0] == 50.0


def test_random_channels_are_as_many_as_the_first_ones(network):
    plan = plan_channels(network, torch.zeros(2, 3, 32, 32))
    one, other = (finetune_search._KeptAtRandom(plan, 0.8, seed) for seed in (0, 1))
    first = plan.kept(0.8)
    chosen = []
    for selections in plan.selections.values():
        for _, selection in selections:
            assert one.count(selection) == other.count(selection) == first.count(selection)
            chosen.append(not np.array_equal(one.indices(selection), other.indices(selection)))
    assert any(chosen)
    choice = finetune_search._AtRandomChannels(0.8, 0)
    network.train()
    with choice.enter(network):
        network(torch.randn(4, 3, 32, 32)).sum().backward()
    network.eval()


def test_every_method_has_the_same_cost(network):
    """The counted cost is that of passes that are counted one by one."""
    network = copy.deepcopy(network).train()
    images, targets = torch.zeros(2, 3, 48, 48), torch.tensor([0, 1])

    def cost(begin=0.0, **settings):
        gradaug = GradAug(network, example_input=images, **settings)
        return finetune_search.relative_cost(gradaug, images, targets, 4, begin)

    def operations(size):
        return flops(lambda: network(torch.zeros(2, 3, size, size)).sum().backward())

    same = dict(min_width=1.0, transforms=Identity())
    assert cost(num_subnets=3, **same) == pytest.approx(4)
    assert cost(num_subnets=1, every=2, **same) == pytest.approx(1.5)
    assert cost(num_subnets=1, begin=0.75, **same) == pytest.approx(1.25)
    smaller = cost(num_subnets=1, min_width=1.0, transforms=RandomResize([40]))
    assert smaller == pytest.approx(1 + operations(40) / operations(48))
    assert smaller > 1 + (40 / 48) ** 2  # maps are rounded up
    assert cost(num_subnets=1, min_width=0.5, transforms=Identity()) < 2
    assert all(p.grad is None for p in network.parameters())


def test_mixing_keeps_the_sum_of_labels_and_the_share_of_pixels():
    images = torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)])
    for kind in ('mixup', 'cutmix'):
        mix = finetune_search._mixes(dict(mix=kind, mix_alpha=1.0), 5, 0, 64)
        for i in range(5):
            mixed, labels = mix(i, images, torch.eye(2))
            torch.testing.assert_close(mixed.mean((1, 2, 3)), labels[:, 1])


def prepare(factor):
    def run(job):
        if job['x'] == 3:
            raise RuntimeError('no')
        return dict(top1=factor * job['x'])

    return run


def test_a_queue_leaves_out_what_is_done_and_survives_a_failure(tmp_path, capsys):
    out = tmp_path / 'runs.jsonl'
    out.write_text(json.dumps(dict(x=1, top1=7)) + '\n')
    jobs = [dict(x=x) for x in (1, 2, 3)]
    search.run_queue(jobs, prepare, (10,), out, processes=1, seconds=100)
    lines = search.read_lines(out)
    assert [(line['x'], line['top1']) for line in lines] == [(1, 7), (2, 20)]
    text = capsys.readouterr().out
    assert '2 runs, 1 are there' in text and 'RuntimeError: no' in text and '1 failed' in text


def test_better_is_said_beyond_two_standard_errors():
    def lines(method, *values):
        run = dict(method=method, labels=5, iterations=1, loss_full=[2.0, 1.0], loss_smallest=[])
        return [dict(run, seed=seed, top1=value) for seed, value in enumerate(values)]

    runs = [
        *lines('plain', 50.0, 52.0, 48.0),
        *lines('up', 53.0, 55.0, 52.0),
        *lines('same', 55.0, 50.0),
        *lines('one', 55.5),
        *lines('down', 40.0, 42.5, 38.0),
    ]
    rows = [line.split(' | ') for line in finetune_search.table(runs, 'cifar10', 5)[2:]]
    assert [row[0].strip('| ') for row in rows] == ['one', 'up', 'same', 'plain', 'down']
    assert [row[5].strip() for row in rows] == ['', 'better', '', '', 'worse']
    assert rows[1][4] == '+3.3 (0.3)' and rows[0][4] == rows[3][4] == ''
    assert rows[1][2] == '53.3 ± 1.5' and rows[1][6] == '2.00 to 1.00'


def test_a_record_holds_the_command_and_the_lines_and_fills_a_page(tmp_path, monkeypatch):
    line = dict(
        method='plain', labels=5, seed=0, iterations=1, top1=50.0, loss_full=[1.0], loss_smallest=[]
    )
    (tmp_path / 'runs.jsonl').write_text(json.dumps(line) + '\n')
    command = ['search.py', '--out', str(tmp_path / 'runs.jsonl'), '--seeds', '0']
    monkeypatch.setattr(sys, 'argv', [*command, '--record', str(tmp_path / 'x.json')])
    finetune_search.main()
    record = json.loads((tmp_path / 'x.json').read_text())
    assert record['command'].endswith('runs.jsonl --seeds 0') and record['lines'] == [line]
    page = 'A\n<!-- table x.json cifar10 5 plain -->\nold\n<!-- end -->\nB\n'
    filled = finetune_search.fill(page, tmp_path)
    assert '| plain | 1 | 50.0 | 1 |' in filled and 'old' not in filled and filled.endswith('B\n')


PAGE = ROOT / 'docs' / 'when_it_helps.md'


def test_the_pages_tables_are_those_of_the_records():
    text = PAGE.read_text()
    assert finetune_search.fill(text, PAGE.parent) == text and '| gradaug |' in text


def test_figures_from_other_pages_stand_there():
    """``+4.0 (0.5)`` in a table of the page, or ``+3.2, standard error 0.9`` in its words."""
    rows = re.findall(
        r'\| ([+-][\d.]+) \(([\d.]+)\).*\((results/[\w/]+\.md)\) \|', PAGE.read_text()
    )
    assert len(rows) == 14
    for difference, error, file in rows:
        text = ' '.join((PAGE.parent / file).read_text().split()).replace('*', '')
        number = difference.lstrip('+-')
        ways = (
            rf'{re.escape(difference)} \({error}\)',
            rf'{re.escape(difference)}, standard error {error}',
            rf'{number} points .* \({error}\)',
            rf'{number} box AP and .* \(standard errors {error} ',
            rf'by {number} box AP \(standard error {error}\)',
        )
        assert any(re.search(way, text) for way in ways), (difference, error, file)


def test_runs_of_several_lengths_are_not_compared():
    run = dict(labels=5, iterations=1, loss_full=[2.0], loss_smallest=[], seed=0, top1=1.0)
    runs = [dict(run, method='plain', budget=budget, test_images=9) for budget in (100, 700)]
    with pytest.raises(SystemExit, match=r'cifar10, 5 labels: runs of several --budget'):
        finetune_search.table(runs, 'cifar10', 5)
    assert len(finetune_search.table(runs[1:], 'cifar10', 5)) == 3
