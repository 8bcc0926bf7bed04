"""The search for cheaper settings counts and trains what it says; tiny runs on the digits."""

import json
import sys

import pytest
import torch
from command_line import ROOT
from torch.utils.flop_counter import FlopCounterMode

from mmgradaug import subnetwork

sys.path.append(str(ROOT / 'benchmarks'))

import economy_search  # noqa: E402  found by the line above


@pytest.fixture(scope='module')
def digits():
    return economy_search.load_images('digits', None)


def trainer(digits, variant, iterations=4, augment=False):
    job = economy_search.Job('digits', 100, augment, variant, 0, iterations)
    return economy_search.Trainer(job, digits, torch.device('cpu'), False)


def forward_flops(model, images):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    return counter.get_total_flops()


def test_cost_is_that_of_pytorchs_counter(digits):
    run = trainer(digits, 'paper')
    for size, width, divisor in [(16, 1.0, 1), (14, 0.8, 1), (12, 0.9137, 1), (12, 0.83, 8)]:
        with subnetwork(run.model, width, divisor=divisor):
            counted = forward_flops(
                run.model, torch.zeros(2, 3, size, size)[:, : digits.train.shape[3]]
            )
        assert 4 * run.cost.forward(size, width, divisor) == counted


def test_relative_cost_of_an_iteration(digits):
    """n sub-networks as large as the network cost as much again, each; on a third of the batch a third."""
    costs = {}
    for name in (
        'plain',
        'plain x1.5',
        'RandScale',
        'n=1 second half',
        'n=3 third of batch',
        'paper',
    ):
        costs[name] = trainer(digits, name, 12).relative_cost()
    assert costs['plain'] == 1 and costs['plain x1.5'] == 1.5
    assert 3 < costs['RandScale'] < 4 and 2 < costs['paper'] < costs['RandScale']
    assert costs['n=3 third of batch'] - 1 == pytest.approx((costs['paper'] - 1) / 3)
    assert 1.2 < costs['n=1 second half'] < 1.5


def test_labelled_images_are_equally_many_of_each_class_and_others_for_each_seed(digits):
    chosen = [digits.choose(100, seed) for seed in (0, 0, 1)]
    assert (chosen[0] == chosen[1]).all() and (chosen[0] != chosen[2]).any()
    for each in chosen:
        assert len(set(each.tolist())) == 100
        assert [list(digits.train_labels[each]).count(label) for label in range(10)] == [10] * 10


def test_augmentation_crops_and_flips_the_padded_images(digits):
    run = trainer(digits, 'plain', augment=True)
    images, _ = run.batch()
    for image, number, top, left, flip in zip(
        images, run.order[0], run.tops[0], run.lefts[0], run.flips[0]
    ):
        expected = run.pool[number, top : top + 16, left : left + 16].permute(2, 0, 1)
        assert torch.equal(image, expected.flip(-1) if flip else expected)
    assert len(set(run.tops[0].tolist())) > 3 and set(run.flips[0].tolist()) == {True, False}
    plain = trainer(digits, 'plain')
    centre = plain.pool[plain.order[0]][:, 4:20, 4:20].permute(0, 3, 1, 2)
    assert torch.equal(plain.batch()[0], centre)


@pytest.mark.parametrize('variant', ['Mixup', 'CutMix'])
def test_mixed_labels_are_the_share_of_the_pixels(digits, variant):
    run = trainer(digits, variant)
    ones, labels = torch.zeros(2, 1, 16, 16), torch.tensor([3, 7])
    ones[0] = 1
    shares = set()
    for _ in range(10):
        images, mixed = run.mix(ones, labels)
        if mixed.dim() == 1:
            continue
        torch.testing.assert_close(images.mean((1, 2, 3)), mixed[:, 3].float())
        torch.testing.assert_close(mixed.sum(1), torch.ones(2))
        shares.add(round(float(mixed[0, 3]), 4))
    assert len(shares) > 3


def test_a_search_is_resumed_and_summed_up(tmp_path, capsys):
    out = tmp_path / 'runs.jsonl'
    done = dict(dataset='digits', labels=100, augment=False, variant='plain', plain_iterations=2)
    lines = [json.dumps(dict(done, seed=seed, top1=10.0 + seed, flops=1.0)) for seed in (0, 1)]
    out.write_text('\n'.join(lines) + '\n')
    arguments = [
        'train',
        '--dataset',
        'digits',
        '--length',
        '0.01',
        '--seeds',
        '2',
        '--out',
        str(out),
    ]
    economy_search.search(economy_search.parse([*arguments, '--only', '^plain$|^n=1$']))
    runs = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(run['variant'], run['seed']) for run in runs] == [
        (name, seed) for name in ('plain', 'n=1') for seed in (0, 1)
    ]
    text = capsys.readouterr().out
    assert '2 runs, 2 are there already' in text and '2 of 2 runs, 0 failed' in text
    flops, top1 = ((runs[2][key] + runs[3][key]) / 2 for key in ('flops', 'top1'))
    assert text.splitlines()[-1].split()[:4] == [
        *('n=1', f'{flops:.2f}', f'{top1:.2f}', f'{top1 - 10.5:+.1f}')
    ]


def test_networks_are_saved_and_runs_of_another_precision_are_not_taken_for_these(tmp_path):
    out, weights = tmp_path / 'runs.jsonl', tmp_path / 'weights'
    arguments = [
        'train',
        '--dataset',
        'digits',
        '--length',
        '0.01',
        '--seeds',
        '1',
        '--only',
        '^plain$',
    ]
    arguments += ['--out', str(out)]
    economy_search.search(economy_search.parse([*arguments, '--bf16', '--weights', str(weights)]))
    (line,) = (json.loads(line) for line in out.read_text().splitlines())
    assert line['machine'] == 'CPU, bf16'
    (file,) = weights.iterdir()
    assert file.name == 'digits-100-plain-2-bf16-0.pth'
    assert torch.load(file, weights_only=True)['stem.weight'].shape == (16, 1, 3, 3)
    with pytest.raises(SystemExit, match='holds runs with --bf16: name another --out'):
        economy_search.search(economy_search.parse(arguments))
    with pytest.raises(SystemExit, match='has runs whose networks are not in'):
        other = ['--bf16', '--weights', str(tmp_path / 'other')]
        economy_search.search(economy_search.parse([*arguments, *other]))


def test_differences_are_paired_by_seed():
    """Plain training of cost 1.85 lies halfway between those of 1 and 2.7."""
    group = economy_search.Group
    groups = {
        'plain': group('plain', 1.0, {0: 50.0, 1: 60.0, 2: 10.0}),
        'plain x2.7': group('plain x2.7', 2.7, {0: 52.0, 1: 61.0}),
        'paper': group('paper', 2.7, {0: 54.0, 1: 65.0}),
        'n=1': group('n=1', 1.85, {0: 53.0, 1: 63.5, 2: 90.0}),
    }
    plain = economy_search.plain_at(groups, 1.85)
    assert plain == pytest.approx({0: 51.0, 1: 60.5})
    found = economy_search.paired(groups['n=1'].top1, plain)
    assert (found.mean, found.error, found.pairs) == pytest.approx((2.5, 0.5, 2))
    assert str(found) == '+2.5 (0.5)' and not found.is_certain  # of two seeds
    assert economy_search.share(groups, 'n=1') == f'{100 * 6.5 / 9:.0f}'
    assert economy_search.share(groups, 'paper') == '100'


PAGES = {'search': 'docs/economy.md', 'ablations': 'docs/results/ablations.md'}


@pytest.mark.parametrize('name', PAGES)
def test_the_page_has_the_tables_of_its_data(name):
    data = json.loads((ROOT / f'docs/results/economy/{name}.json').read_text())
    assert economy_search.tables(data) in (ROOT / PAGES[name]).read_text()


def test_runs_are_added_to_a_page_and_the_rest_of_it_stays(tmp_path):
    file, page, runs = (tmp_path / name for name in ('data.json', 'page.md', 'runs.jsonl'))
    group = dict(dataset='digits', labels=100, augment=False, plain_iterations=200, machine='CPU')
    old = [dict(group, variant='plain', flops=1.0, top1={str(s): 80.0 + s for s in range(3)})]
    times = [dict(dataset='digits', variant='n=5', ratio=4.25)]
    file.write_text(json.dumps(dict(timed_on=['a CPU'], times=times, groups=old)))
    page.write_text('before\n<!-- tables: begin -->\nold\n<!-- end -->\nafter\n')
    for name, gain in (('paper', 4.0), ('n=5', 3.0)):
        with runs.open('a') as lines:
            for seed in range(3):
                run = dict(group, variant=name, seed=seed, top1=80.0 + seed + gain, flops=2.0)
                lines.write(json.dumps(run) + '\n')
    options = ['--out', str(runs), '--json', str(file), '--page', str(page)]
    economy_search.page(economy_search.parse(['page', *options]))
    text = page.read_text()
    assert text.startswith('before\n') and text.endswith('\nafter\n') and 'old' not in text
    assert '| n=5 | 2.00 | 4.25 | **+3.0 (0.0)** |' in text
    assert '| n=5 | **-1.0 (0.0)**, 75% |' in text
    assert json.loads(file.read_text())['timed_on'] == ['a CPU']
    assert file.with_suffix('.png').stat().st_size > 10_000
