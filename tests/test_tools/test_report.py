"""tools/report.py: its arithmetic and its pages, of made-up sweeps and of work dirs as MMEngine leaves them."""

import html.parser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT, load_tool
from mmengine.config import Config

report = load_tool('report')
UserError = report.UserError
BASE, GRADAUG = 'baseline_wrn28_10_cifar100', 'gradaug_wrn28_10_cifar100'
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser'))), None)
VOID = {'meta', 'br', 'img', 'link', 'input', 'hr'}


def run(key, seed, top1, best=None, **other):
    """An entry of sweep.json."""
    return {
        'key': key,
        'label': key.split('_')[0],
        'config': f'configs/cifar/{key}.py',
        'options': [],
        'seed': seed,
        'work_dir': f'{key}/seed{seed}',
        'status': 'done',
        'iterations': 200,
        'top1': top1,
        'top5': None if top1 is None else top1 + 20,
        'best_top1': best or top1,
        'curve': [] if top1 is None else [[100, top1 - 10], [200, top1]],
        'seconds_per_iteration': 0.3 if 'gradaug' in key else 0.1,
        'train_seconds': 20,
        'peak_memory_mb': 1500 if 'gradaug' in key else 1000,
        **other,
    }


def write_sweep(folder, runs, scale='A tiny network on 500 images.', **other):
    folder.mkdir(parents=True, exist_ok=True)
    sweep = {
        'command': 'python tools/sweep.py table3',
        'created': '2026-01-01T00:00:00+00:00',
        'commit': 'abcdef',
        'scale': scale,
        'overlay': None,
        'cfg_options': [],
        'setting': {'seeds': [0, 1, 2]},
        'runs': runs,
        **other,
    }
    (folder / 'sweep.json').write_text(json.dumps(sweep))
    return folder


# Plain: mean 42, deviation 2. GradAug: 45 and 3. Differences by seed 2, 3, 4: mean 3, error 1 / sqrt(3).
RUNS = [
    *(run(BASE, seed, top1, top1 + 1) for seed, top1 in enumerate((40, 42, 44))),
    *(run(GRADAUG, seed, top1, 50) for seed, top1 in enumerate((42, 45, 48))),
]


def make(tmp_path, *work_dirs, title='A title'):
    """Write a report; return its page."""
    out = tmp_path / 'out'
    report.report(report.parse_args([*map(str, work_dirs), '--out', str(out), '--title', title]))
    return (out / 'index.html').read_text()


def rows_of(page, table, section=''):
    """{method: cells} of a table in the page, of its first body."""
    page = page[page.index(f'<h2 id="{section}"') :] if section else page
    body = page[page.index(f'<h3>{table}') :]
    body = body[body.index('<tbody>') : body.index('</tbody>')]
    rows = {}
    for line in re.findall(r'<tr><th scope="row">.*?</tr>', body):
        head, *cells = re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', line)
        rows[head] = cells
    return rows


class Checker(html.parser.HTMLParser):
    """Every tag is closed in its turn; collects tags with their attributes, and the ids."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_figures_are_those_worked_out_by_hand(tmp_path):
    rows = rows_of(make(tmp_path, write_sweep(tmp_path / 's', RUNS)), 'Table 3')
    assert rows['Baseline'] == [
        '81.53', '95.59', '–',
        '42.00 ± 2.00', '62.00 ± 2.00', '43.00 ± 2.00', '–', '3', '200', '1.00 × (0.1 s)', '1,000 MB',
    ]  # fmt: skip
    assert rows['GradAug'] == [
        '83.98', '96.17', '+2.45',
        '45.00 ± 3.00', '65.00 ± 3.00', '50.00 ± 0.00', '+3.00 ± 0.58', '3', '200', '3.00 × (0.3 s)', '1,500 MB',
    ]  # fmt: skip
    assert rows['Mixup'] == ['82.50', '–', '+0.97', 'no run', *['–'] * 7]


def test_a_difference_is_of_common_seeds():
    def results(*pairs):
        return [report.Result('', '', seed, Path(), top1=top1) for seed, top1 in pairs]

    plain = results((0, 40.0), (1, 42.0), (5, 90.0))
    both = report.difference(results((1, 45.0), (0, 41.0)), plain)
    assert (both.mean, both.pairs) == (2.0, 2)
    assert both.error == pytest.approx(1.0)  # of 3 and 1: deviation sqrt(2), over sqrt(2)
    one = report.difference(results((1, 45.0), (7, 0.0)), plain)
    assert (one.mean, one.error, one.pairs) == (3.0, None, 1)
    none = report.difference(results((8, 60.0)), results((0, 40.0), (1, 42.0)))
    assert (none.mean, none.error, none.pairs) == (19.0, None, 0)
    unknown = report.difference(results((None, 50.0)), results((None, 40.0)))
    assert unknown.pairs == 0  # two unknown seeds are not the same seed


def test_curves_are_averaged_where_all_seeds_were_validated():
    curves = ([(10, 1.0), (20, 4.0), (30, 7.0)], [(10, 3.0), (30, 9.0)])
    results = [report.Result('', '', i, Path(), curve=c) for i, c in enumerate(curves)]
    assert report.mean_curve(results) == [(10, 2.0), (30, 8.0)]


def test_plain_training_at_equal_cost_stands_below_its_baseline(tmp_path):
    longer = [run(f'{BASE}+equal_cost', s, 43, iterations=600 + 10 * s) for s in range(2)]
    page = make(tmp_path, write_sweep(tmp_path / 's', [*RUNS, *longer]))
    rows = rows_of(page, 'Table 3')
    assert list(rows)[:2] == ['Baseline', 'Baseline, at equal cost']
    # To the baseline of seeds 0 and 1: 3 and 1.
    cells = rows['Baseline, at equal cost']
    assert cells[3] == '43.00 ± 0.00' and cells[6:9] == ['+2.00 ± 1.00', '2', '600 to 610']
    assert 'to the baseline at equal cost +0.50 ± 1.50 (2 pairs)' in page


def test_scales_are_never_averaged(tmp_path):
    other = [run(BASE, seed, 80, iterations=200) for seed in (3, 4)]
    for name, change in (
        ('scale', {'scale': 'A middling network.'}),
        ('overlay', {'overlay': 'train_cfg = dict(max_epochs=3)'}),
        ('options', {'cfg_options': ['train_dataloader.batch_size=7']}),
        ('length', {'runs': [dict(one, iterations=300) for one in other]}),
    ):
        folder = tmp_path / name
        write_sweep(folder / 'a', RUNS)
        write_sweep(folder / 'b', **{'runs': other, **change})
        page = make(folder, folder)
        assert rows_of(page, 'Table 3', 'small-scale-1')['Baseline'][3] == '42.00 ± 2.00', name
        assert rows_of(page, 'Table 3', 'small-scale-2')['Baseline'][3] == '80.00 ± 0.00', name


def test_seeds_of_one_scale_from_two_sweeps_are_averaged_and_each_seed_counts_once(tmp_path):
    write_sweep(tmp_path / 'a', RUNS)
    again = [run(BASE, 0, 99), run(BASE, 3, 46)]
    # Speed changes no accuracy.
    write_sweep(tmp_path / 'b', again, cfg_options=['train_dataloader.num_workers=2'])
    page = make(tmp_path, tmp_path)
    cells = rows_of(page, 'Table 3', 'small-scale')['Baseline']
    assert (cells[3], cells[7]) == ('43.00 ± 2.58', '4')  # of 40, 42, 44, 46
    assert 'seed 0 was found before' in page


def test_unfinished_runs_are_listed_and_do_not_count(tmp_path):
    more = [
        run(BASE, 3, 99, status='running'),
        run(BASE, 4, None, status='failed'),
        run(BASE, 5, None),
        run('digits', 0, 99),
    ]
    page = make(tmp_path, write_sweep(tmp_path / 's', [*RUNS, *more]))
    assert rows_of(page, 'Table 3')['Baseline'][3] == '42.00 ± 2.00'
    left_out = page[page.index('<h2 id="left-out"') :]
    for seed, why in ((3, 'running'), (4, 'failed'), (5, 'no accuracy recorded')):
        assert f'<td>{seed}</td><td>{why}</td>' in left_out
    assert 'a row of none of the tables' in left_out


def test_each_scale_says_whether_it_is_the_papers(tmp_path):
    write_sweep(tmp_path / 'small', RUNS)
    write_sweep(tmp_path / 'full', [run(BASE, 0, 81)], scale=None)
    changed = ['optim_wrapper.optimizer.lr=0.3']
    write_sweep(tmp_path / 'changed', [run(BASE, 0, 82)], scale=None, cfg_options=changed)
    page = make(tmp_path, tmp_path)
    sections = {
        anchor: text
        for anchor, text in re.findall(r'<h2 id="([\w-]+)">(.*?)(?=<h2|<footer)', page, re.DOTALL)
    }
    for anchor, badge in (
        ('small-scale', report.SMALL),
        ('the-papers-setting', report.PAPER),
        ('another-setting', report.OTHER),
    ):
        badges = re.findall(r'<span class="badge[^>]*>(.*?)</span>', sections[anchor])
        tables = sections[anchor].count('<table')
        # In the section's head, each table's caption and head of columns, and each figure's caption.
        assert len(badges) == 1 + 2 * tables + sections[anchor].count('<figure>')
        assert set(map(html.unescape, badges)) == {badge}
        assert f'({badge})' in html.unescape(sections['contents'])
    assert 'A tiny network on 500 images.' in sections['small-scale']
    assert 'lr=0.3' in sections['another-setting']
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert text.count(f'Ours: **{report.SMALL}**') == sections['small-scale'].count('<table')


def test_curves_by_epochs_are_drawn_over_iterations(tmp_path):
    epochs = dict(step_unit='epoch', epochs=2, iterations=20, curve=[[1, 40.0], [2, 50.0]])
    found = report.Found()
    report.read_sweep(write_sweep(tmp_path, [run(BASE, 0, 50, **epochs)]) / 'sweep.json', found)
    (result,) = found.scales[0].results[BASE]
    assert result.curve == [(10, 40.0), (20, 50.0)] and result.epochs == 2


def test_labels_by_seed_are_one_setting_and_a_folder_is_the_same_data(tmp_path, monkeypatch):
    row = report.ROWS[BASE]
    monkeypatch.setenv('CIFAR100_FOLDER', str(tmp_path))
    folder = Config.fromfile(ROOT / 'configs' / row.config)
    monkeypatch.delenv('CIFAR100_FOLDER')
    assert folder.train_dataloader.dataset.type == 'mmgradaug.ImageFolder'
    assert report.differences(folder, row, 1) == []
    few = []
    for seed in (0, 1):
        cfg = Config.fromfile(ROOT / 'configs' / row.config)
        cfg.train_dataloader.dataset.update(type='mmgradaug.LabelledSplit', split_seed=seed)
        few.append(report.differences(cfg, row, 1))
        assert f'split_seed {seed}' not in report.describe(cfg)
    assert few[0] == few[1] != []


def test_page_is_well_formed_and_needs_nothing_else(tmp_path):
    numbers = [run(f'{GRADAUG}+num_subnets={n}', 0, 40 + n) for n in (1, 2, 4)]
    page = make(tmp_path, write_sweep(tmp_path / 's', [*RUNS, *numbers], scale='a <b> & "c"'))
    checker = Checker(page)
    ids = [attrs['id'] for _, attrs in checker.tags if 'id' in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in checker.tags:
        assert tag not in ('script', 'link', 'iframe', 'b')
        for name in ('src', 'href', 'xlink:href'):
            value = attrs.get(name)
            assert value is None or (value.startswith('#') and value[1:] in ids)
        if tag == 'th':
            assert attrs['scope']
        if tag == 'svg':
            assert attrs['role'] == 'img' and 'mean over seeds' in attrs['aria-label']
    assert not re.search(r'url\((?!#)|@import', page)
    assert 'a &lt;b&gt; &amp; &quot;c&quot;' in page
    # Table 3's curves and Figure 2, with the values for who cannot see it; Tables 4 and 5 repeat curves.
    svgs = [attrs['aria-label'] for tag, attrs in checker.tags if tag == 'svg']
    assert len(svgs) == 2
    assert 'n = 1: 41.00; n = 2: 42.00; n = 3: 45.00 ± 3.00; n = 4: 44.00' in svgs[1]


def test_markdown_has_the_same_tables_and_its_figures_exist(tmp_path):
    make(tmp_path, write_sweep(tmp_path / 's', RUNS), title='My *runs*')
    text = (tmp_path / 'out' / 'report.md').read_text()
    assert '# My \\*runs\\*\n' in text
    assert '| GradAug | 83.98 | 96.17 | +2.45 | 45.00 ± 3.00 | 65.00 ± 3.00 | 50.00' in text
    pictures = re.findall(r'!\[.*?\]\((.*?)\)\n', text)
    assert pictures == ['small-scale-table3-curves1.png']
    for name in pictures:
        assert (tmp_path / 'out' / name).read_bytes().startswith(b'\x89PNG')
    widths = [{line.count(' | ') for line in block.splitlines()} for block in text.split('\n\n')
              if block.startswith('| ')]  # fmt: skip
    assert len(widths) == len(report.TABLES) == 7 and all(len(one) == 1 for one in widths)


def test_an_earlier_report_is_replaced_and_nothing_else(tmp_path):
    sweep = write_sweep(tmp_path / 's', RUNS)
    make(tmp_path, sweep)
    out = tmp_path / 'out'
    write_sweep(sweep, [run('baseline_resnet110_cifar10', 0, 70)])
    (out / 'mine.png').write_bytes(b'mine')
    make(tmp_path, sweep)
    left = {'index.html', 'report.md', 'mine.png', 'small-scale-table6-curves1.png'}
    assert {file.name for file in out.iterdir()} == left
    (out / 'report.md').write_text('my notes')
    page = (out / 'index.html').read_text()
    with pytest.raises(UserError, match='no earlier report'):
        make(tmp_path, write_sweep(sweep, RUNS))
    assert (out / 'report.md').read_text() == 'my notes'
    assert (out / 'index.html').read_text() == page  # nothing was written before the refusal


def test_bad_input_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match='no such folder'):
        make(tmp_path, tmp_path / 'missing')
    with pytest.raises(UserError, match='looked for sweep.json.*scalars.json'):
        make(tmp_path, tmp_path)
    for text in ('{', '{}', '[]', '{"runs": [{"key": "x"}]}'):
        (tmp_path / 'sweep.json').write_text(text)
        with pytest.raises(UserError, match='not what tools/sweep.py writes'):
            make(tmp_path, tmp_path)
    assert not (tmp_path / 'out').exists()


# Work dirs of tools/train.py


def write_start(work_dir, config, lines, options=None, seed=0, time='20260101_000000', gpus=8):
    """What one start of tools/train.py leaves, as MMEngine 0.10 writes it."""
    cfg = report.read_config(ROOT / 'configs' / config)
    cfg.merge_from_dict({'launcher': 'none', 'work_dir': str(work_dir), 'randomness.seed': seed})
    cfg.merge_from_dict(options or {})
    logs = work_dir / time / 'vis_data'
    logs.mkdir(parents=True)
    for file in (logs / 'config.py', work_dir / Path(config).name):
        file.write_text(cfg.pretty_text)
    (logs.parent / f'{time}.log').write_text(f'Runtime environment:\n    GPU number: {gpus}\n')
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    for name in ('scalars.json', f'{time}.json'):
        (logs / name).write_text(text)
    return work_dir


def epochs(first, last, top1, length=250, loss=1.0):
    """Lines of epochs: two log entries in each, and a validation, whose step is the epoch."""
    for epoch in range(first, last + 1):
        for i in (100, 200):
            step = (epoch - 1) * length + i
            yield {'lr': 0.1, 'data_time': 0.01, 'loss': loss, 'time': 0.4, 'epoch': epoch,
                   'iter': step, 'memory': 5000 + epoch, 'step': step}  # fmt: skip
        yield {'accuracy/top1': top1(epoch), 'accuracy/top5': 90.0, 'data_time': 0.01, 'time': 0.2,
               'step': epoch}  # fmt: skip


IMAGENET = 'imagenet/baseline_r50.py'


def test_a_work_dir_of_the_papers_setting_that_was_resumed(tmp_path):
    run_dir, other = tmp_path / 'runs' / 'x', {'train_dataloader.num_workers': 1}
    write_start(run_dir, IMAGENET, epochs(1, 70, lambda epoch: 99.0 if epoch > 60 else epoch / 2))
    # From the checkpoint of epoch 60; what came after it does not count.
    lines = epochs(61, 120, lambda epoch: 76.5 if epoch == 110 else 30 + epoch / 4)
    write_start(run_dir, IMAGENET, lines, other, time='20260102_000000')
    found = report.read_work_dirs([tmp_path])
    (scale,), ((result,),) = found.scales, found.scales[0].results.values()
    assert scale.badge == report.PAPER and found.left_out == []
    assert (result.key, result.seed, result.status) == ('baseline_r50', 0, 'done')
    assert (result.top1, result.top5, result.best) == (60.0, 90.0, 76.5)
    assert (result.iterations, result.epochs) == (120 * 250, 120)
    assert result.curve[0] == (250, 0.5) and result.curve[-1] == (30000, 60.0)
    assert [step for step, _ in result.curve] == [250 * epoch for epoch in range(1, 121)]
    assert (result.seconds, result.memory) == (0.4, 5120)
    assert rows_of(make(tmp_path, tmp_path / 'runs'), 'Table 1')['Baseline'][3:9] == [
        '60.00', '90.00', '76.50', '–', '1', '30,000 (120 epochs)',
    ]  # fmt: skip


def test_an_unfinished_work_dir_does_not_count(tmp_path):
    write_start(tmp_path / 'a', IMAGENET, epochs(1, 119, lambda _: 99.0), seed=1)
    write_start(tmp_path / 'b', IMAGENET, epochs(1, 120, lambda _: 76.0))
    write_start(tmp_path / 'c', IMAGENET, list(epochs(1, 1, lambda _: 9.0))[:2], seed=2)
    found = report.read_work_dirs([tmp_path])
    assert [result.top1 for result in found.scales[0].results['baseline_r50']] == [76.0]
    assert [why for _, why in found.left_out] == [
        'unfinished: epoch 119 of 120',
        'unfinished: not validated yet',
    ]


def test_a_work_dir_of_another_setting_says_what_differs(tmp_path):
    short = {'train_cfg.max_epochs': 2, 'param_scheduler.T_max': 2}
    write_start(tmp_path / 'a', IMAGENET, epochs(1, 2, lambda _: 20.0), short)
    write_start(tmp_path / 'b', 'gradaug_r50_imagenet.py', epochs(1, 2, lambda _: 23.0), short)
    write_start(tmp_path / 'c', IMAGENET, epochs(1, 120, lambda _: 70.0), gpus=1)
    found = report.read_work_dirs([tmp_path])
    small, other = found.scales
    assert (small.badge, other.badge) == (report.SMALL, report.OTHER)
    assert set(small.results) == {'baseline_r50', 'gradaug_r50_imagenet'}
    assert "train_cfg.max_epochs 2 (the row's config: 120)" in small.sentence
    assert 'param_scheduler.T_max 2' in small.sentence and 'seed' not in small.sentence
    # The config is the paper's; one GPU instead of eight makes an eighth of its batch.
    assert "train_dataloader.batch_size 64 (the row's config: 512)" in other.sentence
    assert 'ResNet (depth 50' in small.results['baseline_r50'][0].as_run


def test_trainings_of_a_sweep_are_not_counted_again_as_work_dirs(tmp_path):
    sweep = write_sweep(tmp_path, [run('baseline_r50', 0, 50, work_dir='runs/0')])
    write_start(sweep / 'runs' / '0', IMAGENET, epochs(1, 120, lambda _: 60.0))
    (scale,) = report.read_work_dirs([tmp_path, tmp_path]).scales
    (result,) = scale.results['baseline_r50']
    assert result.top1 == 50 and result.epochs == 120


def test_a_sweep_whose_trainings_were_not_the_papers_is_not_taken_at_its_word(tmp_path):
    write_sweep(tmp_path, [run('baseline_r50', 0, 50, work_dir='0')], scale=None)
    lines = epochs(1, 3, lambda _: 50.0)
    write_start(tmp_path / '0', IMAGENET, lines, {'train_cfg.max_epochs': 3})
    (scale,) = report.read_work_dirs([tmp_path]).scales
    assert scale.badge == report.SMALL and 'max_epochs 3' in scale.sentence


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """A repository with a config of CIFAR alone."""
    folder = tmp_path / 'repo' / 'configs' / 'cifar'
    folder.mkdir(parents=True)
    (folder / f'{GRADAUG}.py').write_text(
        "model = dict(type='A', gradaug=dict(num_subnets=3, min_width=0.8))\n"
        'train_cfg = dict(max_epochs=200)\n'
    )
    monkeypatch.setattr(report, 'ROOT', tmp_path / 'repo')
    report.reference.cache_clear()
    yield folder
    report.reference.cache_clear()


def test_rows_that_share_a_config_are_told_apart_by_its_values(configs):
    def told(number, width):
        cfg = report.read_config(configs / f'{GRADAUG}.py')
        cfg.merge_from_dict({'model.gradaug': {'num_subnets': number, 'min_width': width}})
        row = report.row_of(GRADAUG, cfg)
        return row and row.options, row and report.differences(cfg, row, 1)

    assert told(3, 0.8) == ((), [])
    assert told(1, 0.8) == (('model.gradaug.num_subnets=1',), [])
    assert told(3, 0.5) == (('model.gradaug.min_width=0.5',), [])
    assert told(1, 0.5) == told(6, 0.8) == (None, None)


def test_lengths_in_iterations(tmp_path, monkeypatch):
    """As configs/quickstart/digits_baseline.py leaves it: validation in iterations, no epochs."""
    row = report.Row('Baseline', 'quickstart/digits_baseline.py', 'a ResNet', 'digits')
    monkeypatch.setitem(report.ROWS, row.key, row)
    lines = [
        {'lr': 0.1, 'data_time': 0.01, 'loss': 2.4, 'time': 0.03, 'iter': 4, 'step': 4},
        {'lr': 0.1, 'data_time': 0.01, 'loss': 2.3, 'time': 0.02, 'iter': 100, 'step': 100},
        {'accuracy/top1': 80.5, 'data_time': 0.01, 'time': 0.2, 'step': 100},
        {'lr': 0.1, 'data_time': 0.01, 'loss': 2.2, 'time': 0.01, 'iter': 200, 'step': 200},
        {'accuracy/top1': 79.5, 'data_time': 0.01, 'time': 0.2, 'step': 200},
    ]
    write_start(tmp_path / 'a', row.config, lines, seed=3, gpus=1)
    write_start(tmp_path / 'b', row.config, lines[:3], seed=4, gpus=1)
    found = report.read_work_dirs([tmp_path])
    (result,) = found.scales[0].results['digits_baseline']
    assert found.scales[0].badge == report.PAPER
    assert (result.seed, result.top1, result.top5, result.best) == (3, 79.5, None, 80.5)
    assert result.curve == [(100, 80.5), (200, 79.5)]
    assert (result.seconds, result.memory, result.iterations) == (0.02, None, 200)
    assert [why for _, why in found.left_out] == ['unfinished: iteration 100 of 200']


def test_command(tmp_path):
    write_sweep(tmp_path / 's', RUNS)
    command = [
        sys.executable,
        ROOT / 'tools' / 'report.py',
        tmp_path / 's',
        '--out',
        tmp_path / 'o',
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r'Small scale \(small scale.*\) +2 +6\n', done.stdout)
    done = subprocess.run([*command[:2], tmp_path / 'o'], capture_output=True, text=True)
    assert done.returncode == 1 and 'no runs in' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason='needs chromium')
def test_no_page_is_wider_than_a_browsers_window(tmp_path):
    page = make(tmp_path, write_sweep(tmp_path / 's', RUNS))
    assert page.count('<table') == len(report.TABLES)
    # The frame is 420 px wide; the page writes down what it is as drawn.
    measure = (
        '<script>onload=()=>{const d=document.documentElement;document.title='
        '`width ${d.scrollWidth} of ${innerWidth}`}</script></body>'
    )
    (tmp_path / 'page.html').write_text(page.replace('</body>', measure))
    frame = (
        '<iframe src="page.html" width="420" height="900" onload="setTimeout(()=>{document.title='
        'frames[0].document.title},50)"></iframe>'
    )
    (tmp_path / 'frame.html').write_text(frame)
    command = [
        CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "user"}',
        '--allow-file-access-from-files', '--virtual-time-budget=3000', '--dump-dom',
        (tmp_path / 'frame.html').as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    width, window = map(int, re.search(r'width (\d+) of (\d+)', done.stdout).groups())
    assert window == 420 and width <= window
