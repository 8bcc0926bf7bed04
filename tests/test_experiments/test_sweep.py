"""mmgradaug sweep, with a made-up trainer in place of tools/train.py; and once with the real one."""

import errno
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import ROOT, exit_code, mmgradaug, run_mmgradaug
from made_up_runs import GRADAUG, PLAIN, TRAINER

from mmgradaug.experiments import lock, runs, sweep
from mmgradaug.experiments.equal_cost import equal_cost_items, make_as_expensive, stretch
from mmgradaug.experiments.items import prepare, read_overlay, select
from mmgradaug.files import UserError

BY_EPOCH = """
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=4)
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=4, end=4)
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Call it with arguments; its work dir is tmp_path / 'work'."""
    folder = tmp_path / 'trainer'
    folder.mkdir()
    (folder / 'train.py').write_text(TRAINER)
    monkeypatch.setattr(runs, 'TRAIN', folder / 'train.py')
    (tmp_path / 'baseline_a.py').write_text(PLAIN)
    (tmp_path / 'gradaug_a.py').write_text(GRADAUG)

    def call(*arguments, fails=()):
        (folder / 'fails').write_text(' '.join(fails))
        runs._config_text.cache_clear()
        work_dir = tmp_path / 'work'
        return exit_code('sweep', *arguments, '--work-dir', work_dir, '--jobs', 2)

    return call


@pytest.fixture
def pair(tmp_path):
    return [tmp_path / 'baseline_a.py', tmp_path / 'gradaug_a.py']


def folder_of(tmp_path, key, seed=0):
    return tmp_path / 'work' / 'runs' / key / f'seed{seed}'


def record(tmp_path, key, seed=0):
    return json.loads((folder_of(tmp_path, key, seed) / 'run.json').read_text())


def options(tmp_path, key, seed=0):
    return json.loads((folder_of(tmp_path, key, seed) / 'request.json').read_text())['options']


def starts(tmp_path, key, seed=0):
    lines = (folder_of(tmp_path, key, seed) / 'output.txt').read_text().splitlines()
    return [line for line in lines if line.startswith('trainer ')]


def test_rows_of_several_tables_are_trained_once():
    items = select(['table3', 'table4', 'table5', 'figure2'])
    keys = [item.key for item in items]
    assert len(keys) == len(set(keys))
    gradaug = next(item for item in items if item.key == 'gradaug_wrn28_10_cifar100')
    assert gradaug.tables == ['table3', 'table4', 'table5', 'figure2']
    assert 'gradaug_wrn28_10_cifar100+num_subnets=2' in keys
    only = select(['table1', 'configs/imagenet/baseline_r50.py'], ['baseline', 'cutmix'])
    assert [item.key for item in only] == [
        'baseline_r50', 'baseline_300e_r50', 'cutmix_r50', 'gradaug_cutmix_r50'
    ]  # fmt: skip
    assert only[0].tables == ['table1', 'configs']
    # By what the paper calls them, too.
    assert len(select(['table10'], ['250 labels'])) == 7
    assert [item.key for item in select(['table2'], ['Mixup'])] == [
        'mixup_r50+max_epochs=90+milestones=[30,60,80]',
        'mixup_r50',
    ]


@pytest.mark.parametrize(
    'names, only, message',
    [
        (['table99'], [], r'table99 is neither .* Tables: table1, table2'),
        (['table8'], [], 'table8 is about trained networks: .* mmgradaug robustness'),
        (['table4'], ['nothing'], 'leaves nothing of: baseline_wrn28_10_cifar100'),
    ],
)
def test_wrong_names_are_answered_with_right_ones(names, only, message):
    with pytest.raises(UserError, match=message):
        select(names, only)


def test_every_run_gets_its_seed_and_only_gradaug_its_options(tool, pair, tmp_path, capsys):
    more = ['--cfg-options', 'model.gradaug.num_subnets=2', 'model.x=1']
    assert tool(*pair, '--seeds', 2, *more) == 0
    added = 'default_hooks.run_record.type=mmgradaug.RunRecordHook'
    seed = ['randomness.seed=1', 'train_dataloader.dataset.label_seed=1']
    gradaug = ['model.gradaug.num_subnets=2', 'model.x=1', added, *seed]
    assert options(tmp_path, 'gradaug_a', 1) == gradaug
    assert options(tmp_path, 'baseline_a', 1) == ['model.x=1', added, *seed]
    assert record(tmp_path, 'gradaug_a', 1)['config']['model']['gradaug']['num_subnets'] == 2
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = {line[0]: line[1:] for line in lines if line and line[0].endswith('_a') and '±' in line}
    assert table['baseline_a'] == '2 50.50 ± 0.71 – 20 100 100 MB'.split()
    assert table['gradaug_a'] == '2 51.50 ± 0.71 +1.00 (0.00) 20 300 (3.00×) 100 MB'.split()


def test_a_failure_does_not_end_the_others_and_is_tried_again(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--seeds', 2, fails=['baseline_a/seed0']) == 1
    said = capsys.readouterr()
    assert '1 trainings failed' in said.err and '| no more memory' in said.err
    assert '[4/4]' in said.out
    # Why, as soon as it fails; the lines before it at the end alone.
    assert said.out.count('  | no more memory') == 1 and 'the last lines of' not in said.out
    assert tool(*pair, '--seeds', 2) == 0
    assert len(starts(tmp_path, 'gradaug_a')) == 1
    assert len(starts(tmp_path, 'baseline_a')) == 2


def test_equal_cost_stretches_the_schedule_by_the_measured_ratio(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--equal-cost') == 0
    shared = json.loads((tmp_path / 'work' / 'sweep.json').read_text())
    assert shared['equal_cost'] == {'baseline_a+equal_cost': pytest.approx(3)}
    assert record(tmp_path, 'baseline_a+equal_cost')['iterations'] == 60
    assert {
        'train_cfg.max_iters=60',
        'train_cfg.val_interval=30',
        'param_scheduler.0.end=12',
        'param_scheduler.1.milestones=[30,45]',
    } < set(options(tmp_path, 'baseline_a+equal_cost'))
    assert 'above plain training at equal cost' in capsys.readouterr().out
    # More seeds do not change what the first ones' length was.
    assert tool(*pair, '--equal-cost', '--seeds', 2) == 0
    assert len(starts(tmp_path, 'baseline_a+equal_cost')) == 1
    assert len(starts(tmp_path, 'baseline_a+equal_cost', 1)) == 1
    assert tool(pair[0], '--equal-cost') == 1
    assert 'none of baseline_a has GradAug' in capsys.readouterr().err


def test_equal_cost_of_two_configs_of_any_name(tool, pair, tmp_path, capsys):
    plain, ours = (path.rename(tmp_path / name) for path, name in zip(pair, ('a.py', 'b.py')))
    assert tool(ours, plain, '--equal-cost') == 0
    assert record(tmp_path, 'a+equal_cost')['iterations'] == 60
    assert 'b is 1.0 points of top-1 above plain training at equal cost' in capsys.readouterr().out
    (tmp_path / 'c.py').write_text(PLAIN)
    assert tool(plain, ours, tmp_path / 'c.py', '--equal-cost') == 1
    assert 'Without GradAug: a, c. With it: b. Name one without it' in capsys.readouterr().err


def test_equal_cost_counts_another_length_and_batch_of_gradaug(tool, pair, tmp_path, capsys):
    """Three times as long an iteration, twice the batch, half the iterations: three plain trainings."""
    pair[1].write_text(
        GRADAUG + 'train_cfg = dict(max_iters=10)\ntrain_dataloader["batch_size"] = 16\n'
    )
    assert tool(*pair, '--equal-cost') == 0
    assert record(tmp_path, 'gradaug_a')['iterations'] == 10
    assert record(tmp_path, 'baseline_a+equal_cost')['iterations'] == 60
    out = capsys.readouterr().out
    assert 'gradaug_a takes 3.00 times as long as baseline_a' in out
    assert 'plain training (20 against 10)' in out


def test_where_subnetworks_begin_later_goes_with_the_length(tool, pair, tmp_path):
    for text, known in (('begin=2', True), ('end=1', True), ('', False)):
        hook = f"custom_hooks = [dict(type='mmgradaug.GradAugHook', {text})]\n"
        pair[1].write_text(GRADAUG + hook)
        (item,) = select([str(pair[1])])
        prepare([item], None, [], pair[1].parent)
        assert bool(item.phase) is known
    pair[1].write_text(
        GRADAUG
        + "custom_hooks = [dict(type='mmgradaug.GradAugHook', begin=5, end=20, by_epoch=False)]\n"
    )
    (item,) = select([str(pair[1])])
    prepare([item], None, [], tmp_path)
    stretch(item, item, 8 / 20)
    hook = item.cfg.custom_hooks[0]
    assert (hook.begin, hook.end, item.cfg.train_cfg.max_iters) == (2, 8, 8)


def test_each_gradaug_config_has_a_plain_training_of_its_own_cost(tool, pair, tmp_path, capsys):
    half = tmp_path / 'half_a.py'
    half.write_text(
        GRADAUG + "train_cfg = dict(type='IterBasedTrainLoop', max_iters=10, val_interval=10)\n"
    )
    strong = tmp_path / 'strong_a.py'
    strong.write_text(PLAIN + 'train_dataloader["pipeline"] = 1\n')
    assert tool(*pair, half, strong, '--equal-cost') == 0
    shared = json.loads((tmp_path / 'work' / 'sweep.json').read_text())
    longer = [f'baseline_a+as_{name}_a+equal_cost' for name in ('gradaug', 'half')]
    assert shared['equal_cost'] == dict(zip(longer, (pytest.approx(3), pytest.approx(1.5))))
    assert [record(tmp_path, key)['iterations'] for key in longer] == [60, 30]
    out = capsys.readouterr().out
    for name, direction in (('gradaug', 'above'), ('half', 'above')):
        assert f'{name}_a is 1.0 points of top-1 {direction} plain training at equal cost' in out
    assert 'strong_a is level with plain training of the same length' in out
    assert 'baseline_a, equal cost to half_a' in out
    # The rows of the tables have one alone, by their names.
    keys = [longer.key for _, _, longer in equal_cost_items(select(['table4']))]
    assert keys == ['baseline_wrn28_10_cifar100+equal_cost']


def test_a_gradaug_config_that_is_called_baseline_is_no_baseline(tool, pair, tmp_path, capsys):
    plain, ours = (
        path.rename(tmp_path / name) for path, name in zip(pair, ('a.py', 'baseline_b.py'))
    )
    assert tool(plain, ours, '--equal-cost') == 0
    assert record(tmp_path, 'a+equal_cost')['iterations'] == 60
    assert 'baseline_b takes 3.00 times as long as a' in capsys.readouterr().out


def test_each_gradaug_config_is_measured_by_the_plain_one_that_it_adds_to(
    tool, pair, tmp_path, capsys
):
    more = 'train_dataloader["pipeline"] = 1\n'
    (tmp_path / 'flip.py').write_text(PLAIN + more)
    (tmp_path / 'gradaug_flip.py').write_text(GRADAUG + more)
    assert tool(*pair, tmp_path / 'flip.py', tmp_path / 'gradaug_flip.py', '--equal-cost') == 0
    assert not folder_of(tmp_path, 'baseline_a+as_gradaug_flip+equal_cost').exists()
    assert record(tmp_path, 'flip+equal_cost')['iterations'] == 60
    out = capsys.readouterr().out
    for ours, plain in (('gradaug_flip', 'flip'), ('gradaug_a', 'baseline_a')):
        assert f'{ours} is 1.0 points of top-1 above {plain} at equal cost' in out
        assert f'{ours} is 1.0 points of top-1 above {plain} of the same length' in out


def test_another_length_does_not_hide_which_plain_config_is_meant(tmp_path):
    more = 'train_dataloader["pipeline"] = 1\n'
    for name, text in {
        'baseline': PLAIN,
        'cutmix': PLAIN + more,
        'gradaug_cutmix': GRADAUG + more + 'train_cfg = dict(max_iters=10, val_interval=10)\n',
    }.items():
        (tmp_path / f'{name}.py').write_text(text)
    items = select([str(path) for path in sorted(tmp_path.glob('*.py'))])
    assert [[item.key for item in triple[:2]] for triple in equal_cost_items(items)] == [
        ['cutmix', 'gradaug_cutmix']
    ]
    # One's own beside rows of a table.
    rows = [f'configs/cifar/{name}_wrn28_10_cifar100.py' for name in ('baseline', 'gradaug')]
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{ROOT / rows[1]}'\nmodel = dict(gradaug=dict(num_subnets=1))\n"
    )
    pairs = [triple[:2] for triple in equal_cost_items(select([*rows, str(tmp_path / 'mine.py')]))]
    assert [gradaug.key for _, gradaug in pairs] == ['gradaug_wrn28_10_cifar100', 'mine']
    assert {plain.key for plain, _ in pairs} == {'baseline_wrn28_10_cifar100'}


def test_a_plain_config_of_other_images_is_no_measure(tmp_path):
    def write(name, text, folder):
        place = f"train_dataloader['dataset']['data_root'] = 'data/{folder}/train'\n"
        (tmp_path / f'{name}.py').write_text(text + place)

    write('plain_birds', PLAIN, 'birds')
    write('cars_baseline', PLAIN, 'cars')
    write('birds_gradaug', GRADAUG, 'birds')
    items = select([str(path) for path in sorted(tmp_path.glob('*.py'))])
    ((plain, _, _),) = equal_cost_items(items)
    assert plain.key == 'plain_birds'
    (tmp_path / 'plain_birds.py').unlink()
    with pytest.raises(UserError, match='which plain training'):
        equal_cost_items(select([str(path) for path in sorted(tmp_path.glob('*.py'))]))


def test_a_shipped_config_that_is_named_like_a_row_is_none():
    items = select([f'configs/finetune/{name}_r50.py' for name in ('baseline', 'gradaug')])
    assert [item.key for item in items] == ['finetune_baseline_r50', 'gradaug_r50']
    ((plain, gradaug, _),) = equal_cost_items(items)
    assert (plain.key, gradaug.key) == ('finetune_baseline_r50', 'gradaug_r50')
    # Beside the row of that name.
    assert len(select(['table1', 'configs/finetune/baseline_r50.py'])) == 1 + len(
        select(['table1'])
    )


def test_a_training_at_equal_cost_keeps_its_name(tool, pair, tmp_path, capsys):
    half = tmp_path / 'half_a.py'
    half.write_text(GRADAUG + 'model["gradaug"]["every"] = 2\n')
    assert tool(*pair, '--equal-cost') == 0
    assert tool(*pair, half, '--equal-cost') == 0
    there = {path.name for path in (tmp_path / 'work' / 'runs').glob('*+equal_cost')}
    assert there == {'baseline_a+equal_cost', 'baseline_a+as_half_a+equal_cost'}
    assert tool(pair[0], half, '--equal-cost') == 0
    assert {path.name for path in (tmp_path / 'work' / 'runs').glob('*+equal_cost')} == there
    for key in there:
        assert len(starts(tmp_path, key)) == 1
    assert (
        'half_a is 1.0 points of top-1 above plain training at equal cost'
        in capsys.readouterr().out
    )


def test_all_that_is_in_epochs_or_iterations_goes_with_the_length(tool, pair, tmp_path):
    pair[0].write_text(
        PLAIN
        + "train_cfg = dict(type='IterBasedTrainLoop', max_iters=20, val_interval=10, val_begin=5,\n"
        '    dynamic_intervals=[(15, 2)])\n'
        "param_scheduler = dict(type='CosineRestartLR', periods=[10, 10], restart_weights=[1, 1])\n"
        'custom_hooks = [\n'
        "    dict(type='EMAHook', begin_iter=4, begin_epoch=0, momentum=2, interval=2),\n"
        "    dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=6, loss=dict(weight=3)), dict()])]\n"
        "default_hooks = dict(logger=dict(type='LoggerHook', interval=20),\n"
        "    switch=dict(type='PipelineSwitchHook', switch_epoch=6))\n"
        "model['backbone'].update(init_epoch=4, iters=3)\n"
    )
    (item,) = select([str(pair[0])])
    prepare([item], None, [], tmp_path)
    stretch(item, item, 2.5)
    cfg = item.cfg
    assert (cfg.train_cfg.val_begin, cfg.train_cfg.dynamic_intervals) == (12, [(38, 5)])
    assert (cfg.param_scheduler.periods, cfg.param_scheduler.restart_weights) == ([25, 25], [1, 1])
    item.cfg.param_scheduler = [dict(type='ExponentialLR', gamma=0.9, begin=0.5)]
    item.options.clear()
    stretch(item, item, 2)
    (scheduler,) = item.cfg.param_scheduler
    assert (scheduler.gamma**2, scheduler.begin) == (pytest.approx(0.9), 0.5)
    item.cfg = cfg
    assert cfg.default_hooks.switch.switch_epoch == 15
    assert cfg.default_hooks.logger.interval == 20
    assert (cfg.model.backbone.init_epoch, cfg.model.backbone.iters) == (10, 3)
    ema, switch = cfg.custom_hooks
    assert (ema.begin_iter, ema.begin_epoch, ema.momentum, ema.interval) == (10, 0, 2, 2)
    assert (switch.schedule[0].action_epoch, switch.schedule[0].loss.weight) == (15, 3)


def test_validation_is_as_rare_as_by_default(tmp_path):
    (tmp_path / 'a.py').write_text(PLAIN.replace(', val_interval=10', ''))
    (item,) = select([str(tmp_path / 'a.py')])
    prepare([item], None, [], tmp_path)
    stretch(item, item, 3)
    assert (item.cfg.train_cfg.max_iters, item.cfg.train_cfg.val_interval) == (60, 3000)


@pytest.mark.parametrize('gradaug', ['num_subnets=2', 'num_subnets=3, min_width=0.8'])
def test_an_overlay_makes_no_gradaug_of_plain_training(tool, pair, tmp_path, capsys, gradaug):
    (tmp_path / 'small.py').write_text(f'model = dict(gradaug=dict({gradaug}))\n')
    assert tool(*pair, '--overlay', tmp_path / 'small.py') == 1
    assert 'makes GradAug of a plain training' in capsys.readouterr().err
    assert not (tmp_path / 'work' / 'runs').exists()


def test_equal_cost_needs_subnetworks(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--equal-cost', '--cfg-options', 'model.gradaug.num_subnets=0') == 1
    assert 'gradaug_a has no sub-networks' in capsys.readouterr().err
    assert not (tmp_path / 'work' / 'runs').exists()


def test_a_cost_of_another_device_is_no_measure(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--equal-cost') == 0
    file = tmp_path / 'work' / 'sweep.json'
    data = json.loads(file.read_text())
    assert data['device'] == 'cpu'
    file.write_text(json.dumps(data | dict(device='cuda')))
    for more in ([], ['--overwrite']):  # which would keep the trainings that were timed
        assert tool(*pair, '--equal-cost', *more) == 1
        assert 'was measured with cuda, and is another with cpu' in capsys.readouterr().err
        assert tool(*pair) == 0 and len(starts(tmp_path, 'baseline_a')) == 1


def test_without_subnetworks_it_is_plain_training(tool, pair, tmp_path, capsys):
    plain, ours = (path.rename(tmp_path / name) for path, name in zip(pair, ('a.py', 'b.py')))
    plain.write_text(GRADAUG.replace('num_subnets=3', 'num_subnets=0'))
    assert tool(plain, ours, '--equal-cost') == 0
    assert (tmp_path / 'work/runs/a+equal_cost').is_dir()
    assert 'b is ' in (out := capsys.readouterr().out) and 'a is ' not in out


def test_a_sweep_keeps_two_checkpoints_a_run_unless_the_config_says(tool, pair, tmp_path):
    hook = "default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1{}))\n"
    pair[0].write_text(PLAIN + hook.format(''))
    pair[1].write_text(GRADAUG + hook.format(', max_keep_ckpts=7'))
    assert tool(*pair) == 0
    keep = 'default_hooks.checkpoint.max_keep_ckpts=2'
    assert keep in options(tmp_path, 'baseline_a') and keep not in options(tmp_path, 'gradaug_a')


def test_equal_cost_needs_what_it_is_compared_with(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--equal-cost', fails=['gradaug_a/seed0']) == 1
    assert 'not trained, as its cost is not known' in capsys.readouterr().err
    assert not folder_of(tmp_path, 'baseline_a+equal_cost').exists()
    assert record(tmp_path, 'baseline_a')['status'] == 'done'


def test_an_overlay_turns_all_to_another_scale_by_epochs(tool, pair, tmp_path, capsys):
    overlay = tmp_path / 'small.py'
    overlay.write_text(BY_EPOCH + "scale = 'four epochs'\n")
    assert tool(*pair, '--overlay', overlay, '--equal-cost') == 0
    plain, longer = record(tmp_path, 'baseline_a'), record(tmp_path, 'baseline_a+equal_cost')
    assert (plain['length'], plain['unit'], plain['iterations']) == (4, 'epoch', 40)
    assert (longer['length'], longer['iterations']) == (12, 120)
    assert 'param_scheduler.T_max=12' in options(tmp_path, 'baseline_a+equal_cost')
    assert 'four epochs' in capsys.readouterr().out
    # Another wording trains nothing anew.
    overlay.write_text(BY_EPOCH + "# so be it\nscale = 'no more than four epochs'\n")
    assert tool(*pair, '--overlay', overlay, '--equal-cost') == 0
    assert len(starts(tmp_path, 'baseline_a')) == 1
    assert 'no more than four epochs' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ("_base_ = 'x.py'", 'leave _base_ out'),
        ('x = (', 'line 1'),
        ('scale = f(1)', 'plain string'),
    ],
)
def test_wrong_overlays(tool, pair, tmp_path, capsys, text, says):
    (tmp_path / 'small.py').write_text(text)
    assert tool(*pair, '--overlay', tmp_path / 'small.py') == 1
    assert says in capsys.readouterr().err


def test_the_overlay_of_few_labels_leaves_each_method_as_it_is(tmp_path):
    names = [f'configs/finetune/{name}_efficientnet_lite0.py' for name in ('baseline', 'trivial')]
    items = select(names)
    overlay = read_overlay(ROOT / 'configs/_base_/small_scale_finetune.py')
    prepare(items, overlay, ['train_dataloader.dataset.pipeline.1.scale=64'], tmp_path)
    datasets = [item.cfg.train_dataloader.dataset for item in items]
    for item, dataset in zip(items, datasets):
        assert (dataset.of, dataset.num_labels, dataset.split_seed) == ('CustomDataset', 1000, 0)
        assert (item.length, item.cfg.param_scheduler.end) == (('iterations', 700), 700)
        assert dataset.pipeline[1].scale == 64 and item.cfg.model.head.num_classes == 10
    assert [len(dataset.pipeline) for dataset in datasets] == [4, 7]
    assert '1,000 labels' in overlay.scale


def test_a_new_style_config_takes_no_overlay(tmp_path):
    (tmp_path / 'new.py').write_text(
        'from torch.optim import SGD\noptim_wrapper = dict(optimizer=dict(type=SGD, lr=0.1))\n'
    )
    (tmp_path / 'small.py').write_text('x = 1\n')
    overlay = read_overlay(tmp_path / 'small.py')
    with pytest.raises(UserError, match=r'takes --cfg-options in place of --overlay$'):
        prepare(select([str(tmp_path / 'new.py')]), overlay, [], tmp_path)


def test_what_has_changed_is_trained_anew_only_if_asked(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--seeds', 2) == 0
    assert tool(*pair, '--cfg-options', 'model.x=1') == 1
    assert '--overwrite' in capsys.readouterr().err
    pair[0].write_text(PLAIN.replace('20', '30'))
    assert tool(*pair) == 1
    error = capsys.readouterr().err
    # Seed 1 too, though it is not asked for: means are over trainings of one kind.
    assert 'runs/baseline_a/seed0' in error and 'runs/baseline_a/seed1' in error
    assert 'gradaug_a' not in error
    assert tool(*pair, '--overwrite') == 0
    assert record(tmp_path, 'baseline_a')['iterations'] == 30
    assert not folder_of(tmp_path, 'baseline_a', 1).exists()
    assert len(starts(tmp_path, 'gradaug_a')) == 1
    assert len(starts(tmp_path, 'gradaug_a', 1)) == 1


def test_options_do_not_make_another_row_of_one(tool, capsys):
    more = ['--only', 'num_subnets=2', '--cfg-options', 'model.gradaug.num_subnets=5']
    assert tool('figure2', *more) == 1
    told = 'would make another row of gradaug_wrn28_10_cifar100+num_subnets=2'
    assert told in capsys.readouterr().err


def test_labelled_images_are_not_written_elsewhere(tool, pair, tmp_path, capsys):
    for path, text in zip(pair, (PLAIN, GRADAUG)):
        path.write_text(
            text.replace('label_seed=0', "split_file=''").replace('Digits', 'LabelledSplit')
        )
    for name in ('my runs', 'a,b'):
        assert exit_code('sweep', *pair, '--work-dir', tmp_path / name, '--jobs', 2) == 1
        assert 'neither white space nor commas' in capsys.readouterr().err
        assert not (tmp_path / name / 'runs').exists()


def test_listing_trains_nothing(tool, pair, tmp_path, capsys):
    assert tool('table4', pair[0], '--list') == 0
    output = capsys.readouterr().out
    assert '81.74' in output and 'baseline_a ' in output
    assert not (tmp_path / 'work').exists()
    assert tool(pair[0]) == 0
    capsys.readouterr()
    assert tool(*pair, '--list') == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    done = {line[0]: line[-3:] for line in lines if line and line[0].endswith('_a')}
    assert done == {'baseline_a': ['1', 'of', '1'], 'gradaug_a': ['0', 'of', '1']}


def test_two_sweeps_do_not_work_in_one_folder(tool, pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, 'PATIENCE', 0)
    with lock.locked(tmp_path / 'work'):
        assert tool(*pair) == 1
    assert 'another sweep, or a training' in capsys.readouterr().err


def test_a_sweep_reads_what_another_wrote_while_it_waited(tool, pair, tmp_path, capsys):
    """Else it would take the other's options, and its trainings at equal cost, for changed ones."""
    held = lock.locked(tmp_path / 'work')
    held.__enter__()

    def end():
        other = dict(overlay=None, cfg_options=['model.x=1'], device='cpu')
        (tmp_path / 'work' / 'sweep.json').write_text(json.dumps(other))
        held.__exit__(None, None, None)

    threading.Timer(0.5, end).start()
    assert tool(*pair) == 1
    assert 'sweep.json is of another --overlay or other --cfg-options' in capsys.readouterr().err


def test_a_disk_without_locks_and_one_that_refuses(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOSYS, 'Function not implemented')

    with monkeypatch.context() as patch:
        patch.setattr(lock.fcntl, 'flock', refuse)
        with lock.locked(tmp_path):
            assert 'no locks there (Function not implemented)' in capsys.readouterr().out
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='--work-dir .*file cannot be written to: File exists'):
        lock.locked(tmp_path / 'file').__enter__()


def test_what_a_training_would_refuse_is_told_before_any(tool, pair, tmp_path, capsys):
    """Another option would be another sweep, so what had been trained would be lost."""
    pair[1].write_text(GRADAUG + "val_evalautor = dict(type='Accuracy')\n")
    assert tool(*pair) == 1
    said = capsys.readouterr().err
    assert 'gradaug_a: val_evalautor at the top' in said and 'do you mean val_evaluator?' in said
    assert not (tmp_path / 'work' / 'runs').exists()


def test_what_is_done_is_shown_without_its_data(tool, pair, tmp_path):
    (tmp_path / 'first.pth').write_text('')
    for path, text in zip(pair, (PLAIN, GRADAUG)):
        path.write_text(text + f"load_from = '{tmp_path}/first.pth'\n")
    assert tool(*pair) == 0
    (tmp_path / 'first.pth').unlink()
    assert tool(*pair) == 0
    assert tool(*pair, '--seeds', 2) == 1


def test_what_only_a_training_imports_is_not_missing(tool, pair, tmp_path, capsys):
    own = "custom_imports = dict(imports=['my_optimizers'])\n"
    own += "optim_wrapper = dict(optimizer=dict(type='MyOwnSGD'))\nwork_dir = __file__\nmax_iters = 7\n"
    for path, text in zip(pair, (PLAIN, GRADAUG)):
        path.write_text(text + own.replace('__file__', repr(str(path))))
    assert tool(*pair) == 0
    # Once, though both say it.
    assert (
        capsys.readouterr().out.count('max_iters=7 at the top of the config is read by nobody') == 1
    )


@pytest.mark.parametrize(
    'code, first, last',
    [
        ("sys.exit('INFO 1\\n\\nmy.py:\\n  wrong\\n(ValueError)\\n')", 'my.py:', '(ValueError)'),
        ('print(1, flush=True); raise ValueError("CUDA error\\nset CUDA_X")', '', 'set CUDA_X'),
        ("print('INFO 1', flush=True); import os; os.kill(os.getpid(), 9)", None, None),
        ("sys.exit('my.py:\\n' + 20 * '  wrong\\n' + '(ValueError)')", 'my.py:', '(ValueError)'),
        ("print('INFO 1')", None, None),
    ],
)
def test_the_last_words_of_a_training_are_its_error(tmp_path, code, first, last):
    run = runs.Run('a', 0, tmp_path, Path('a.py'))
    with run.output.open('wb') as output:
        command = [sys.executable, '-c', f'import sys; {code}']
        run.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    run.process.wait()
    words = run.last_words()
    assert not words if first is None else words[0].startswith(first) and words[-1] == last
    assert len(words) <= 8


def test_a_sweep_waits_for_the_workers_of_a_killed_one(tmp_path):
    held = lock.locked(tmp_path)
    held.__enter__()
    threading.Timer(0.5, held.__exit__, (None, None, None)).start()
    with lock.locked(tmp_path):
        pass


def test_a_training_that_outlives_its_sweep_keeps_the_folder(
    tool, pair, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(lock, 'PATIENCE', 0)
    (tmp_path / 'slow.py').write_text('import time\ntime.sleep(60)')
    with monkeypatch.context() as patch, lock.locked(tmp_path / 'work') as held:
        patch.setattr(runs, 'TRAIN', tmp_path / 'slow.py')
        run = runs.Run('baseline_a', 0, folder_of(tmp_path, 'baseline_a'), pair[0], lock=held)
        run.start()
    assert tool(*pair, '--overwrite') == 1
    assert 'a training of one that was killed, is at work' in capsys.readouterr().err
    run.stop()
    assert tool(*pair, '--overwrite') == 0


def test_a_sweep_goes_on_where_its_folder_was_moved_to(tool, pair, tmp_path):
    for path, text in zip(pair, (PLAIN, GRADAUG)):
        path.write_text(
            text.replace('label_seed=0', "split_file=''").replace('Digits', 'LabelledSplit')
        )
    assert tool(*pair) == 0
    (tmp_path / 'work').rename(tmp_path / 'moved')
    assert (
        exit_code('sweep', *pair, '--work-dir', tmp_path / 'moved', '--jobs', 2, '--seeds', 2) == 0
    )
    (tmp_path / 'moved').rename(tmp_path / 'work')
    assert [len(starts(tmp_path, 'gradaug_a', seed)) for seed in range(2)] == [1, 1]


def test_as_many_processes_make_another_training(tool, tmp_path, pair):
    one, eight = (runs.Run('a', 0, tmp_path, pair[0], processes=n) for n in (1, 8))
    assert one.fingerprint != eight.fingerprint


@pytest.mark.parametrize(
    'epochs, ratio, expected',
    [(2, 1.24, 3), (2, 1.3, 3), (2, 2.0, 4), (120, 2.7, 324), (4, 1.0, 4)],
)
def test_whole_epochs_at_equal_cost_are_rounded_up(tool, pair, tmp_path, epochs, ratio, expected):
    iterations = "train_cfg = dict(type='IterBasedTrainLoop', max_iters=20, val_interval=10)"
    assert iterations in PLAIN
    by_epoch = f'train_cfg = dict(by_epoch=True, max_epochs={epochs})'
    pair[0].write_text(PLAIN.replace(iterations, by_epoch))
    items = select([str(path) for path in pair])
    ((plain, _, longer),) = equal_cost_items(items)
    prepare(items, None, [], tmp_path)
    make_as_expensive(longer, plain, ratio)
    assert longer.length == ('epochs', expected)


def test_a_gpu_is_taken_if_there_is_one(monkeypatch, tool, pair, capsys):
    monkeypatch.setattr(sweep, 'gpu_is_there', lambda: False)
    assert tool(*pair, '--device', 'cuda') == 1
    assert 'PyTorch sees no GPU here' in capsys.readouterr().err
    assert tool(*pair, '--device', 'cpu', '--slurm', 'p') == 1
    assert 'without --slurm' in capsys.readouterr().err
    monkeypatch.setattr(sweep, 'gpu_is_there', lambda: True)
    assert tool('configs/gradaug_r50_imagenet.py') == 1
    # Its learning rate is for eight times as many images.
    assert 'with 1 GPU(s) it is 64: add --auto-scale-lr' in capsys.readouterr().err


SBATCH = """#!/bin/sh
cat "$1" >> {folder}/scripts
echo x >> {folder}/calls
echo "Submitted batch job $(wc -l < {folder}/calls)"
"""
SACCT = """#!/bin/sh
echo 'JobID|State|NodeList'
for job in 1 2 3; do echo "$job|$(cat {folder}/state)|node"; done
"""


def test_slurm_jobs_are_seen_to_die(tool, pair, tmp_path, monkeypatch, capsys):
    binaries = tmp_path / 'bin'
    binaries.mkdir()
    for name, text in (('srun', '#!/bin/sh\n'), ('sbatch', SBATCH), ('sacct', SACCT)):
        (binaries / name).write_text(text.format(folder=tmp_path))
        (binaries / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{binaries}:/usr/bin:/bin')
    (tmp_path / 'state').write_text('RUNNING')
    arguments = [pair[0], '--slurm', 'gpu', '--gpus', 2, '--srun-args=--time=90 --qos=low']
    assert tool(*arguments) == 0
    assert 'baseline_a, seed 0: submitted as job 1' in capsys.readouterr().out
    script = (tmp_path / 'scripts').read_text()
    for line in (
        '--partition=gpu',
        '--ntasks-per-node=2',
        '--time=90',
        '--qos=low',
        '--gpus-per-node=2',
    ):
        assert line in script
    assert tool(*arguments) == 0
    assert 'job 1, running, 0 % done' in capsys.readouterr().out
    fewer = [*arguments[:4], 1]  # another batch
    assert tool(*fewer) == 1 and 'have changed since' in capsys.readouterr().err
    (tmp_path / 'state').write_text('NODE_FAIL')
    assert tool(*arguments) == 0
    said = capsys.readouterr().out
    assert 'job 1 ended (node_fail) before it was done' in said and 'submitted as job 2' in said
    assert (tmp_path / 'calls').read_text().count('x') == 2


def test_a_real_training_is_interrupted_and_goes_on(tmp_path):
    """Two epochs of digits by the real tools/train.py; a SIGTERM in between."""
    import os
    import subprocess

    from command_line import MMGRADAUG, NO_GPU, ROOT

    overlay = tmp_path / 'tiny.py'
    overlay.write_text(
        "train_cfg = dict(max_iters=30, val_interval=10)\n"
        "default_hooks = dict(checkpoint=dict(interval=10))\n"
        "scale = 'thirty iterations of digits'\n"
    )  # fmt: skip
    work = tmp_path / 'work'
    command = ['sweep', 'quickstart/digits_baseline.py', '--overlay', overlay, '--jobs', 1]
    command += ['--work-dir', work]
    process = subprocess.Popen(
        [*MMGRADAUG, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **NO_GPU},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    folder = work / 'runs' / 'digits_baseline' / 'seed0'
    while process.poll() is None and not (folder / 'last_checkpoint').exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode in (0, 130), output
    code, output = run_mmgradaug(*command)
    assert code == 0, output
    done = json.loads((folder / 'run.json').read_text())
    # A checkpoint is saved before the evaluation of its iteration, which an interrupt may prevent.
    assert [e['iteration'] for e in done['evaluations']][-2:] == [20, 30]
    assert [w['iteration'] for w in done['training']] == list(range(1, 31))
    assert 'thirty iterations of digits' in output


def test_a_config_is_asked_for_its_metric_and_any_is_taken(tool, tmp_path, capsys):
    for name in ('baseline_f1', 'gradaug_f1'):
        text = GRADAUG if name == 'gradaug_f1' else PLAIN
        text = text.replace("'Accuracy', topk=(1, 5)", "'mmpretrain.SingleLabelMetric'")
        (tmp_path / f'{name}.py').write_text(f"{text}logs = 'single-label/f1-score'\n")
    assert tool(tmp_path / 'baseline_f1.py', tmp_path / 'gradaug_f1.py') == 0
    output = capsys.readouterr().out
    assert 'single-label/f1-score' in output and '+1.00' in output, output
    request = json.loads((folder_of(tmp_path, 'gradaug_f1') / 'request.json').read_text())
    assert request['metric'] == 'single-label/f1-score'


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ("custom_hooks = [dict(type='mmengine.EarlyStoppingHook', monitor='x')]", 'EarlyStoppingHook'),
        ("val_evaluator = dict(_delete_=True, type='MyMetric')", 'what MyMetric logs is not known: .*save_best='),
        ('val_evaluator = None', 'it has no validation'),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said_before_anything_is_trained(
    tool, tmp_path, capsys, change, says
):
    (tmp_path / 'base.py').write_text(PLAIN)
    (tmp_path / 'new.py').write_text(f"_base_ = 'base.py'\n{change}\n")
    assert tool(tmp_path / 'new.py') == 1
    assert re.search(f'new.py: .*{says}', capsys.readouterr().err, re.DOTALL)
    assert not (tmp_path / 'work' / 'runs').exists()


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit):
        mmgradaug('sweep', '--help')
    assert 'example: mmgradaug sweep table4' in ' '.join(capsys.readouterr().out.split())
