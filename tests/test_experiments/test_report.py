"""mmgradaug report, on made-up runs, and on the results that are kept in docs/."""

import json
import re
import shutil
import statistics

import numpy as np
import pytest
from command_line import ROOT, exit_code, mmgradaug
from made_up_runs import record, write

from mmgradaug.experiments.reading import differences, read_work_dirs, reference, result_of
from mmgradaug.experiments.report import compose
from mmgradaug.experiments.results import (
    OTHER,
    OWN,
    PAPER,
    SMALL,
    Difference,
    Found,
    Group,
    Result,
    difference,
)  # fmt: skip
from mmgradaug.experiments.summary import paper_grid, signed, summary, table2_grid, verdicts
from mmgradaug.experiments.tables import ROWS, TABLES, TOP1

TABLE = {table.name: table for table in TABLES}


def own_runs(folder, plain=(60.0, 62.0, 61.0), gradaug=(63.0, 66.0, 64.5)):
    for name, values in (('baseline', plain), ('gradaug', gradaug)):
        ours = name == 'gradaug'
        for seed, top1 in enumerate(values):
            made = record(top1, seed, gradaug=ours, seconds=0.3 if ours else 0.1)
            write(folder / name / f'seed{seed}', made)
    return folder


def test_own_configs_get_a_table_of_their_own(tmp_path):
    (group,) = read_work_dirs([own_runs(tmp_path)]).groups
    assert group.badge == OWN and group.title == 'ResNet on Digits'
    grid = summary(group)
    rows = {row[0]: dict(zip(grid.head, row)) for row in grid.rows}
    pairs = [3.0, 4.0, 3.5]
    error = statistics.stdev(pairs) / 3**0.5
    ours = rows['my_gradaug']
    assert ours['to plain'] == f'+3.50 ({error:.2f})' and rows['my_baseline']['to plain'] == '–'
    assert ours['top-1 %'] == f'64.50 ± {statistics.stdev([63, 66, 64.5]):.2f}'
    assert (ours['seeds'], ours['ms/iteration'], ours['memory']) == ('3', '300 (3.00×)', '100 MB')
    (said,) = verdicts(group)
    assert 'my_gradaug is 3.5 points of top-1 above plain training of the same length' in said
    assert (
        'better with 3 of 3 seeds' in said
        and 'more than two standard errors (by chance in one of five' in said
    )


def test_what_trains_by_gradaug_is_told_by_the_config_not_by_its_name(tmp_path):
    for name, top1 in (('plain', 60.0), ('ours', 63.0)):
        made = record(top1, gradaug=name == 'ours', config_file=f'{name}.py')
        write(tmp_path / name, made)
    (group,) = read_work_dirs([tmp_path]).groups
    assert [row[0] for row in summary(group).rows] == ['plain', 'ours']
    assert 'ours is 3.0 points of top-1 above plain training' in verdicts(group)[0]
    (alone,) = read_work_dirs([tmp_path / 'ours']).groups
    assert verdicts(alone) == ['No GradAug run beside a plain one.']
    # Other plain methods are measured by the one that is called so.
    write(tmp_path / 'more', record(61.5, config_file='mixup.py'))
    (group,) = read_work_dirs([tmp_path]).groups
    found = {row[0]: row[summary(group).head.index('to plain')] for row in summary(group).rows}
    assert found == {'plain': '–', 'ours': '+3.00 (1 pair)', 'mixup': '+1.50 (1 pair)'}
    ours, mixup = verdicts(group)  # each method is said something of, GradAug first
    assert ours.startswith('ours is 3.0 points') and mixup.startswith('mixup is 1.5 points')


@pytest.mark.parametrize(
    'plain, ours, said',
    [
        # Of 24 images, 3 and 1 more: a ratio of exactly two, which float32 lifts a little over it.
        ((50.0, 50.0), (62.5, 54.1666667), 'two seeds cannot tell a difference from chance'),
        ((50.0, 50.0), (60.0, 60.1), 'two seeds cannot tell a difference from chance'),
        ((50.0, 50.0, 50.0), (60.0, 61.0, 62.0), 'more than two standard errors (by chance in one of five'),
        ((50.0,) * 5, (60.0, 61.0, 62.0, 61.0, 60.0), 'more than two standard errors.'),
        ((50.0,) * 3, (56.0, 50.0, 50.0), 'less than two standard errors, so it may be chance'),
        ((50.0,), (50.0,), 'ours is level with plain training of the same length in top-1 (better with 0 of 1'),
        ((50.0,) * 3, (51.0, 49.0, 50.0), 'level with plain training of the same length in top-1 (standard error'),
    ],
)  # fmt: skip
def test_what_is_said_of_few_seeds(tmp_path, plain, ours, said):
    for name, values in (('plain', plain), ('ours', ours)):
        for seed, top1 in enumerate(values):
            made = record(top1, seed, gradaug=name == 'ours', config_file=f'{name}.py')
            write(tmp_path / name / f'seed{seed}', made)
    (group,) = read_work_dirs([tmp_path]).groups
    assert said in verdicts(group)[0]


def test_exactly_two_standard_errors_are_not_beyond_them():
    error = float(np.float32(100 / 24))  # one image of 24
    assert not Difference(float(np.float32(200 / 24)), error * (1 - 1e-7), 4, 4).is_certain
    assert Difference(8.4, error, 4, 4).is_certain and not Difference(8.4, error, 2, 2).is_certain


def test_groups_of_one_title_are_told_apart_by_their_methods(tmp_path):
    for depth, name in ((18, 'ft'), (34, 'ft_more'), (50, 'ft')):
        config = record(60.0)['config']
        config['model']['backbone']['depth'] = depth
        write(tmp_path / str(depth), record(60.0, config=config, config_file=f'{name}.py'))
    titles = [group.title for group in read_work_dirs([tmp_path]).groups]
    ft = 'ResNet on Digits: ft'
    assert titles == [ft, f'{ft}_more', f'{ft} (2)']


def test_no_difference_has_no_sign():
    assert signed(-0.001) == '+0.00' and signed(-0.01) == '−0.01'


def test_own_runs_stand_before_the_papers_tables(tmp_path):
    own_runs(tmp_path / 'own')
    paper = reference('baseline_r50')
    write(
        tmp_path / 'r50',
        record(76.0, config=paper, config_file='/x/configs/imagenet/baseline_r50.py', world_size=8),
    )
    found = read_work_dirs([tmp_path])
    assert [group.badge for group in found.groups] == [OWN, PAPER]
    parts = compose(found, 'Title')
    texts = [p['text'] for p in parts if p['kind'] == 'heading']
    assert texts.index('ResNet on Digits') < texts.index(TABLE['table1'].title)
    # Tables without a run are left out.
    assert TABLE['table3'].title not in texts and TABLE['table10'].title not in texts
    assert len(texts) == len(set(texts))


def test_a_page_and_its_markdown(tmp_path, capsys):
    own_runs(tmp_path / 'runs')
    out = tmp_path / 'out'
    mmgradaug('report', tmp_path / 'runs', '--out', out, '--title', 'Ours & <others>')
    page, text = (out / 'index.html').read_text(), (out / 'report.md').read_text()
    assert 'Ours &amp; &lt;others&gt;' in page and '<others>' not in page
    assert page.count('<svg') == 1 and (out / 'runs-1-curves.png').stat().st_size > 5000
    assert '64.50 ± 1.50' in page and '64.50 ± 1.50' in text
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    # The table below a heading does not say it again.
    assert '>ResNet on Digits</h2>' in page and '<span>ResNet on Digits' not in page
    # GradAug is red in it, plain training grey.
    assert '#d62728' in page and '#7f7f7f' in page
    # A page that is none of ours stays.
    (out / 'index.html').write_text('mine')
    assert exit_code('report', tmp_path / 'runs', '--out', out) == 1
    assert 'is no earlier report' in capsys.readouterr().err
    assert (out / 'index.html').read_text() == 'mine'
    for page in ('index.html', 'report.md'):
        (out / page).unlink()
    (out / 'report.md').write_text('mine')
    assert exit_code('report', tmp_path / 'runs', '--out', out) == 1
    assert (out / 'report.md').read_text() == 'mine' and not (out / 'index.html').exists()


def test_a_report_replaces_its_own_pictures_alone(tmp_path):
    out = tmp_path / 'out'
    own_runs(tmp_path / 'runs')
    config = record(60.0)['config']
    config['model']['backbone']['depth'] = 101
    write(tmp_path / 'runs' / 'deeper', record(60.0, config=config))
    mmgradaug('report', tmp_path / 'runs', '--out', out)
    first = {path.name for path in out.glob('*.png')}
    (out / 'robustness.png').write_bytes(b'mine')
    shutil.rmtree(tmp_path / 'runs' / 'deeper')
    mmgradaug('report', tmp_path / 'runs', '--out', out)
    second = {path.name for path in out.glob('*.png')}
    assert 'runs-2-curves.png' in first and second == first - {'runs-2-curves.png'} | {
        'robustness.png'
    }


def test_runs_of_one_config_with_other_settings_are_not_averaged(tmp_path):
    for seed, (lr, top1) in enumerate([(0.1, 90.0), (0.001, 40.0), (0.1, 92.0), (0.001, 41.0)]):
        made = record(top1, seed, config_file='my.py')
        made['config']['optim_wrapper'] = dict(optimizer=dict(type='SGD', lr=lr))
        write(tmp_path / f'{seed}', made)
    (group,) = read_work_dirs([tmp_path]).groups
    found = {row[0]: row[2] for row in summary(group).rows}
    assert found == {'my': '91.00 ± 1.41', 'my (lr=0.001)': '40.50 ± 0.71'}


def test_settings_that_begin_alike_are_told_apart_too(tmp_path):
    """By all that differs, although the name says two of it; and by the batch of all processes."""
    for number, more in enumerate([{}, dict(lr=1, a=1, b=1, c=1), dict(lr=1, a=1, b=1, c=2)]):
        made = record(60.0 + number, number, config_file='my.py')
        made['config']['optim_wrapper'] = dict(optimizer=more)
        write(tmp_path / f'{number}', made)
    write(tmp_path / '3', {**record(70.0, 3, config_file='my.py'), 'world_size': 8})
    ends = [dict(begin=0, end=5), dict(begin=0, end=10)]
    for number, end in enumerate([[5, 5], [10, 5], [5, 10]]):
        made = record(50.0 + number, number, config_file='ends.py')
        made['config']['param_scheduler'] = [dict(each, end=e) for each, e in zip(ends, end)]
        write(tmp_path / f'ends{number}', made)
    (group,) = read_work_dirs([tmp_path]).groups
    assert {row[0]: row[1] for row in summary(group).rows} == dict.fromkeys(
        ['my', 'my (a=1, b=1, 2 more)', 'my (a=1, b=1, 2 more) 2', 'my (batch_size=64)',
         'ends', 'ends (end=10)', 'ends (end=10) 2'], '1',
    )  # fmt: skip


def test_gradaug_is_compared_with_plain_training_of_its_own_settings(tmp_path):
    for name, lr, top1 in (
        ('baseline', 0.1, 60.0),
        ('baseline', 0.2, 75.0),
        ('gradaug', 0.2, 70.0),
    ):
        for seed in range(2):
            made = record(top1 + seed, seed, gradaug=name == 'gradaug')
            made['config']['optim_wrapper'] = dict(optimizer=dict(type='SGD', lr=lr))
            write(tmp_path / f'{name}{lr}' / f'seed{seed}', made)
    (group,) = read_work_dirs([tmp_path]).groups
    assert (
        'my_gradaug is 5.0 points of top-1 below plain training of the same length'
        in verdicts(group)[0]
    )
    made['config']['optim_wrapper']['optimizer']['lr'] = 0.3
    shutil.rmtree(tmp_path / 'gradaug0.2')
    write(tmp_path / 'third', made)
    (group,) = read_work_dirs([tmp_path]).groups
    assert verdicts(group) == ['No GradAug run beside a plain one.']


def of_folder(root, gradaug=False, **changes):
    """A record of a training on one's own folder of images."""
    made = record(60.0, gradaug=gradaug, **changes)
    made['config']['train_dataloader']['dataset'] = dict(type='CustomDataset', data_root=root)
    return made


def test_trainings_on_other_images_are_not_compared(tmp_path):
    for seed in range(3):
        write(tmp_path / f'plain{seed}', of_folder('data/flowers/train', seed=seed))
        write(tmp_path / f'ours{seed}', of_folder('data/cats/train', True, seed=seed))
    groups = read_work_dirs([tmp_path]).groups
    assert {group.title for group in groups} == {
        'ResNet on CustomDataset of flowers',
        'ResNet on CustomDataset of cats',
    }
    assert [verdicts(group) for group in groups] == [['No GradAug run beside a plain one.']] * 2
    # The same folder elsewhere on another machine.
    write(tmp_path / 'more', of_folder('/mnt/flowers/train', True, seed=0))
    groups = read_work_dirs([tmp_path]).groups
    assert sorted(len(group.results) for group in groups) == [1, 2]


def test_trainings_tested_on_other_images_are_not_compared(tmp_path):
    def made(tested_on, gradaug=False, seed=0):
        found = of_folder('data/flowers/train', gradaug, seed=seed)
        found['config']['val_dataloader'] = dict(dataset=dict(type='CustomDataset', **tested_on))
        return found

    val, easy = dict(data_root='data/flowers/val'), dict(data_root='data/flowers/test_easy')
    write(tmp_path / 'plain', made(val))
    write(tmp_path / 'ours', made(easy, True))
    (group,) = read_work_dirs([tmp_path]).groups
    assert verdicts(group) == ['No GradAug run beside a plain one.']
    write(tmp_path / 'plain1', made(easy, seed=1))
    (group,) = read_work_dirs([tmp_path]).groups
    assert sorted(len(runs) for runs in group.results.values()) == [1, 1, 1]
    # The same folder in other words, on another machine.
    write(tmp_path / 'ours', made(dict(data_root='/mnt/b/flowers', data_prefix='val/'), True))
    shutil.rmtree(tmp_path / 'plain1')
    (group,) = read_work_dirs([tmp_path]).groups
    assert verdicts(group)[0].startswith('my_gradaug is level with plain training')


def test_what_else_differs_is_said(tmp_path):
    for lr, gradaug in ((0.0001, False), (0.1, True)):
        made = record(60.0, gradaug=gradaug)
        made['config']['optim_wrapper'] = dict(optimizer=dict(type='SGD', lr=lr))
        made['config']['model']['backbone']['init_cfg'] = dict(checkpoint=f'/mnt/{lr}/r18.pth')
        write(tmp_path / str(lr), made)
    (group,) = read_work_dirs([tmp_path]).groups
    assert verdicts(group)[0].endswith(
        'They differ in optim_wrapper.optimizer.lr (0.1 against 0.0001) too.'
    )


def test_sweeps_of_other_overlays_with_one_sentence_are_two_groups(tmp_path):
    key = 'baseline_wrn28_10_cifar100'
    for name, overlay in (('a', 'depth=10'), ('b', 'depth=16')):
        folder = tmp_path / name / 'runs' / key / 'seed0'
        write(folder, record(60.0))
        (folder / 'request.json').write_text(json.dumps(dict(key=key, seed=0)))
        shared = dict(scale='Tiny.', overlay=overlay, cfg_options=[])
        (tmp_path / name / 'sweep.json').write_text(json.dumps(shared))
    assert [len(group.results[key]) for group in read_work_dirs([tmp_path]).groups] == [1, 1]


def test_one_config_on_two_data_sets_is_not_averaged(tmp_path):
    write(tmp_path / 'a', of_folder('data/birds', seed=0))
    write(tmp_path / 'b', of_folder('data/cars', seed=1))
    assert [len(g.results['my_baseline']) for g in read_work_dirs([tmp_path]).groups] == [1, 1]


def test_a_plain_training_on_other_images_is_no_measure_within_a_sweep_either(tmp_path):
    for key, root in (('birds_baseline', 'birds'), ('cars_gradaug', 'cars')):
        for seed in range(3):
            folder = tmp_path / 'runs' / key / f'seed{seed}'
            write(folder, of_folder(f'data/{root}', 'gradaug' in key, seed=seed))
            (folder / 'request.json').write_text(json.dumps(dict(key=key, seed=seed)))
    (group,) = read_work_dirs([tmp_path]).groups
    assert verdicts(group) == ['No GradAug run beside a plain one.']


def with_metric(made, name, value):
    made['evaluations'] = [dict(iteration=made['iterations'], epoch=0, metrics={name: value})]
    made['last'] = made['best'] = {name: value}
    return made


@pytest.mark.parametrize(
    ('metric', 'plain', 'gain', 'said'),
    [
        ('pascal_voc/mAP', 0.7, 0.04, '4.0 points of pascal_voc/mAP above'),
        ('val/bbox_mAP_50', 0.7, 0.04, '4.0 points of val/bbox_mAP_50 above'),
        ('multi-label/mAP', 70.0, 4.0, '4.0 points of multi-label/mAP above'),
        ('coco/AR@100', 0.5, 0.04, '4.0 points of coco/AR@100 above'),
        ('mine/ratio', 0.7, 0.04, '0.04 points of mine/ratio above'),
        ('colossal/top1', 70.0, 4.0, 'better with 5 of 5 seeds'),
        ('mine/MAE', 7.0, 4.0, 'better with 0 of 5 seeds'),
        ('mine/error', 10.0, 5.0, 'better with 0 of 5 seeds'),
    ],
)
def test_metrics_of_any_unit_and_direction(tmp_path, metric, plain, gain, said):
    for gradaug in (False, True):
        for seed in range(5):
            value = plain * (1 + seed / 100) + gain * gradaug
            made = with_metric(record(0.0, seed, gradaug=gradaug), metric, value)
            write(tmp_path / f'{gradaug}{seed}', made)
    (group,) = read_work_dirs([tmp_path]).groups
    (verdict,) = verdicts(group)
    assert said in verdict and 'more than two standard errors' in verdict


def test_a_metric_is_better_as_the_config_says(tmp_path):
    checkpoint = dict(type='CheckpointHook', save_best='mine/distance', rule='less')
    for gradaug in (False, True):
        for seed in range(3):
            made = with_metric(record(0.0, seed, gradaug=gradaug), 'mine/distance', 9.0 - gradaug)
            made['config']['default_hooks'] = dict(checkpoint=checkpoint)
            write(tmp_path / f'{gradaug}{seed}', made)
    (group,) = read_work_dirs([tmp_path]).groups
    assert 'below plain training' in verdicts(group)[0]
    assert 'better with 3 of 3 seeds' in verdicts(group)[0]


def test_a_detector_that_found_nothing_is_left_out_with_a_reason(tmp_path):
    for gradaug in (False, True):
        for seed in range(3):
            made = with_metric(record(0.0, seed, gradaug=gradaug), 'coco/bbox_mAP', 0.3)
            if gradaug and seed == 2:
                made['evaluations'][-1]['metrics'] = made['last'] = made['best'] = {}
            write(tmp_path / f'{gradaug}{seed}', made)
    found = read_work_dirs([tmp_path])
    (group,) = found.groups
    assert group.metrics == ['coco/bbox_mAP'] and len(group.results['my_gradaug']) == 2
    ((left_out, reason),) = found.left_out
    assert left_out.seed == 2 and 'finds nothing' in reason


def test_a_file_named_like_a_row_is_none(tmp_path):
    for name in ('baseline_r50', 'gradaug_r50'):
        for seed in range(3):
            made = record(60.0 + 5 * (name == 'gradaug_r50'), seed, gradaug=name == 'gradaug_r50')
            made['config_file'] = f'/x/my_configs/finetune/{name}.py'
            write(tmp_path / name / str(seed), made)
    (group,) = read_work_dirs([tmp_path]).groups
    assert group.badge == OWN and set(group.results) == {'finetune_baseline_r50', 'gradaug_r50'}
    assert '5.0 points of top-1 above plain training' in verdicts(group)[0]


def test_records_of_something_else_are_passed_over(tmp_path):
    own_runs(tmp_path)
    for name, text in (('a', '[{"a": 1}]'), ('b', '{"version": "2.0"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'run.json').write_text(text)
    assert len(read_work_dirs([tmp_path]).groups) == 1


def test_unfinished_and_doubled_runs_are_left_out_with_a_reason(tmp_path):
    own_runs(tmp_path / 'own')
    write(tmp_path / 'again' / 'b', record(99.0, 0))
    write(tmp_path / 'half', record(50.0, 7, status='running', iterations=20, max_iters=40))
    broken = record(50.0, 8)
    broken['training'][3]['loss'] = None
    write(tmp_path / 'nan', broken)
    found = read_work_dirs([tmp_path])
    reasons = {result.source.name: why for result, why in found.left_out}
    assert reasons['half'] == 'unfinished: iteration 20 of 40'
    assert reasons['nan'] == 'the loss became infinite or NaN'
    assert any(why.startswith('seed 0 was found before, in') for why in reasons.values())


def test_seeds_are_paired_and_one_seed_is_no_proof():
    def results(values):
        return [result_of(record(v, seed), {}, ROOT) for seed, v in values]

    plain, ours = results([(0, 60.0), (1, 62.0), (2, 61.0)]), results([(0, 61.0), (2, 65.0)])
    found = difference(ours, plain, 'accuracy/top1')
    assert (found.mean, found.pairs, found.better) == (2.5, 2, 2)
    assert found.error == pytest.approx(statistics.stdev([1, 4]) / 2**0.5)
    assert difference(ours[:1], plain, 'accuracy/top1') == Difference(1.0, None, 1, 1)
    assert difference(results([(5, 70.0)]), plain, 'accuracy/top1') == Difference(9.0, None, 0, 0)
    assert difference([], plain, 'accuracy/top1') is None


def result_with(key, world_size=1, **changes):
    config = json.loads(json.dumps(reference(key)))
    for path, value in changes.items():
        place = config
        *parts, last = path.split('__')
        for part in parts:
            place = place[part]
        place[last] = value
    return result_of(record(70.0, config=config, world_size=world_size), {'key': key}, ROOT)


def test_the_papers_setting_is_told_from_others():
    key = 'gradaug_r50_imagenet'
    assert differences(result_with(key, 8), ROWS[key]) == []
    # One GPU with all the images is the same; with an eighth of them it is not.
    assert differences(result_with(key, 1, train_dataloader__batch_size=512), ROWS[key]) == []
    (batch,) = differences(result_with(key, 1), ROWS[key])
    assert batch == ('train_dataloader.batch_size', '64', '512')
    harmless = result_with(
        key, 8, train_dataloader__num_workers=1, randomness__seed=9, train_cfg__val_interval=7,
        train_dataloader__dataset__ann_file='meta/train.txt', val_dataloader__dataset__ann_file='meta/val.txt',
    )  # fmt: skip
    assert differences(harmless, ROWS[key]) == []
    (changed,) = differences(result_with(key, 8, model__gradaug__num_subnets=2), ROWS[key])
    assert changed == ('model.gradaug.num_subnets', '2', '3')


@pytest.mark.parametrize(
    ('changes', 'badge'),
    [({'model__gradaug__num_subnets': 2}, OTHER), ({'train_cfg__max_epochs': 2}, SMALL)],
)
def test_other_settings_are_marked(tmp_path, changes, badge):
    made = result_with('gradaug_r50_imagenet', 8, **changes)
    file = '/x/configs/gradaug_r50_imagenet.py'
    data = record(70.0, config=made.config, config_file=file, world_size=8)
    write(tmp_path, data)
    (group,) = read_work_dirs([tmp_path]).groups
    assert group.badge == badge and "the row's config: " in group.sentence


def test_rows_that_share_a_config_are_told_apart(tmp_path):
    row = ROWS['gradaug_wrn28_10_cifar100']
    for alpha in (0.5, 0.8):
        config = reference(row.key)
        config = json.loads(json.dumps(config))
        config['model']['gradaug']['min_width'] = alpha
        write(
            tmp_path / str(alpha),
            record(80.0, config=config, config_file=f'/x/configs/{row.config}'),
        )
    (group,) = read_work_dirs([tmp_path]).groups
    assert group.badge == PAPER
    assert set(group.results) == {
        'gradaug_wrn28_10_cifar100',
        'gradaug_wrn28_10_cifar100+min_width=0.5',
    }


def test_table_2_is_measured_or_marked(tmp_path):
    config = reference('mixup_r50')
    file = '/x/configs/imagenet/mixup_r50.py'
    made = record(77.5, config=config, config_file=file, world_size=8)
    made.update(unit='epoch', length=200, train_seconds=200 * 1800.0)
    write(tmp_path / 'run', made)
    entry = dict(
        kind='cost', model=dict(name='gradaug_r50_imagenet'), seconds_per_iteration=0.5, peak_memory_mb=9000,
        memory_of='GPU', iterations=20, iterations_per_epoch=2502, epochs=120, minutes_per_epoch=20.85,
        total_hours=41.7, batch_size=512, device='GPU X',
    )  # fmt: skip
    (tmp_path / 'cost.json').write_text(json.dumps(entry))
    grid = table2_grid(TABLE['table2'], read_work_dirs([tmp_path]))
    rows = {row[0]: dict(zip(grid.head, row)) for row in grid.rows}
    mixup = rows['Mixup, 200 epochs']
    assert (mixup['ours: epochs'], mixup['ours: min/epoch'], mixup['ours: hours']) == (
        '200',
        '30.00',
        '100.00',
    )
    assert (mixup['paper: hours'], mixup['ours: top-1 %']) == ('77', '77.50')
    ours = rows['GradAug, 120 epochs']
    assert (
        ours['ours is'] == 'extrapolated from 20 iterations, GPU X'
        and ours['ours: hours'] == '41.7'
    )
    assert rows['CutMix, 300 epochs']['ours: hours'] == '–'


def test_the_cost_of_an_own_config_is_no_row_of_table_2(tmp_path):
    entry = dict(
        kind='cost', model=dict(name='mine+setting=economy'), setting='economy', seconds_per_iteration=1.2345,
        peak_memory_mb=9000, memory_of='process', iterations=20, iterations_per_epoch=10, epochs=1,
        minutes_per_epoch=0.2058, total_hours=0.00343, batch_size=8, device='CPU',
    )  # fmt: skip
    (tmp_path / 'cost.json').write_text(json.dumps(entry))
    parts = compose(read_work_dirs([tmp_path]), 'Title')
    assert [p['text'] for p in parts if p['kind'] == 'heading'] == ['Title', 'Cost']
    (row,) = next(p['grid'].rows for p in parts if p['kind'] == 'grid')
    assert row[:4] == ['mine', 'economy', '1,234', '9,000'] and row[5:7] == ['0.206', '0.00343']


def test_a_table_of_the_paper_has_ours_beside_it():
    found, runs = Found(), {'baseline': (80.0, 82.0, 81.0), 'gradaug': (83.0, 84.0, 85.0)}
    results = [
        Result(f'{method}_wrn28_10_cifar100', '', seed, ROOT, last={TOP1: value})
        for method, values in runs.items()
        for seed, value in enumerate(values)
    ]
    found.add(Group(('made up',), SMALL, 'Small.', []), results)
    grid = paper_grid(TABLE['table4'], found.groups[0])
    rows = {row[0]: dict(zip(grid.head, row)) for row in grid.rows if len(row) > 1}
    gradaug = rows['GradAug']
    assert (gradaug['paper: top-1 %'], gradaug['paper: to baseline']) == ('83.98', '+2.45')
    assert gradaug['ours: top-1 %'] == '84.00 ± 1.00' and gradaug['seeds'] == '3'
    assert gradaug['ours: to baseline'].startswith('+3.00')
    assert [
        row['paper: top-1 %'] for row in rows.values() if row['ours: top-1 %'] == 'no run'
    ] != []
    assert grid.notes.endswith('Ours: Small.') and grid.badge == SMALL


def test_nothing_to_report_is_said(tmp_path, capsys):
    assert exit_code('report', tmp_path / 'gone') == 1
    assert 'no such folder' in capsys.readouterr().err
    assert exit_code('report', tmp_path) == 1
    assert 'looked there and in all folders below for run.json' in capsys.readouterr().err
