"""tools/sweep.py: its logic with a made-up trainer, and one real training."""

import json
import re
import signal
import sys

import pytest
from command_line import ROOT, load_tool, run

sweep = load_tool('sweep')
training_runs = sys.modules['training_runs']

# By iterations, or by epochs of 10 iterations, as MMEngine logs them: validations by the epoch. A run
# of GradAug takes three times as long an iteration. It fails where the file `fails` names its work dir.
TRAINER = """
import json, pathlib, sys
arguments = sys.argv[1:]
config = pathlib.Path(arguments[0])
work_dir = pathlib.Path(arguments[arguments.index('--work-dir') + 1])
options = dict(option.split('=', 1) for option in arguments if '=' in option)
print('trainer', *arguments)
def read(file):
    values = {}
    exec(file.read_text(), values)
    base = read(pathlib.Path(values['_base_'])) if '_base_' in values else {}
    return {**base, **values, 'train_cfg': {**base.get('train_cfg', {}), **values.get('train_cfg', {})}}
values = read(config)
loop = values['train_cfg']
epochs = 'max_epochs' in loop
length = int(options.get('train_cfg.max_epochs' if epochs else 'train_cfg.max_iters',
                         loop['max_epochs' if epochs else 'max_iters']))
name = f'{work_dir.parent.name}/{work_dir.name}'
logs = work_dir / str(len(list(work_dir.glob('*/vis_data')))) / 'vis_data'
logs.mkdir(parents=True)
(logs.parent / 'x.log').write_text('Epoch(train)  [1][10/10]  lr: 1' if epochs else '')
seconds = 0.3 if 'gradaug' in values['model'] else 0.1
with (logs / 'scalars.json').open('w') as file:
    if name in pathlib.Path(__file__).with_name('fails').read_text().split():
        sys.exit('no more memory')
    for i in range(1, length + 1 if epochs else length // 10 + 1):
        entry = dict(loss=1.0, time=seconds, iter=10 * i, step=10 * i)
        print(json.dumps({**entry, 'epoch': i} if epochs else entry), file=file)
        top1 = 50.0 + int(options['randomness.seed']) + 9 * (i == 1)
        key = values.get('logs', 'accuracy/top1')
        print(json.dumps({key: top1, 'step': i if epochs else 10 * i}), file=file)
"""
PLAIN = """
model = dict(type='ImageClassifier')
train_dataloader = dict(dataset=dict(label_seed=0))
val_evaluator = dict(type='Accuracy', topk=(1, 5))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=20, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', begin=0, end=4, by_epoch=False),
    dict(type='MultiStepLR', milestones=[10, 15], by_epoch=False),
]
default_hooks = dict(logger=dict(interval=10, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
"""
BY_EPOCH = """
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=4)
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=4, end=4)
default_hooks = dict(_delete_=True)
log_processor = dict(_delete_=True)
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Call it with arguments; its work dir is tmp_path / 'work'."""
    folder = tmp_path / 'trainer'
    folder.mkdir()
    (folder / 'train.py').write_text(TRAINER)
    monkeypatch.setattr(training_runs, 'TRAIN', folder / 'train.py')
    gradaug = PLAIN.replace("Classifier'", "Classifier', gradaug=dict(num_subnets=3)")
    (tmp_path / 'baseline_a.py').write_text(PLAIN)
    (tmp_path / 'gradaug_a.py').write_text(gradaug)
    before = {number: signal.getsignal(number) for number in training_runs.STOP_SIGNALS}

    def call(*arguments, fails=()):
        (folder / 'fails').write_text(' '.join(fails))
        training_runs._config_text.cache_clear()
        work_dir = ['--work-dir', str(tmp_path / 'work')]
        return sweep.main([str(argument) for argument in [*arguments, *work_dir, '--jobs', '2']])

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def pair(tmp_path):
    return [tmp_path / 'baseline_a.py', tmp_path / 'gradaug_a.py']


def written(tmp_path):
    data = json.loads((tmp_path / 'work' / 'sweep.json').read_text())
    return data, {(entry['key'], entry['seed']): entry for entry in data['runs']}


def starts(tmp_path, key, seed=0):
    output = tmp_path / 'work' / 'runs' / key / f'seed{seed}' / 'output.txt'
    return [line for line in output.read_text().splitlines() if line.startswith('trainer ')]


def test_rows_of_several_tables_are_trained_once():
    items = sweep.select(['table3', 'table4', 'table5', 'figure2'], [])
    keys = [item.key for item in items]
    assert len(keys) == len(set(keys))
    gradaug = next(item for item in items if item.key == 'gradaug_wrn28_10_cifar100')
    assert gradaug.tables == ['table3', 'table4', 'table5', 'figure2']
    assert gradaug.labels['table5'] == 'RandScale' and gradaug.labels['table4'] == 'GradAug'
    assert 'gradaug_wrn28_10_cifar100+num_subnets=2' in keys
    only = sweep.select(['table1', 'configs/imagenet/baseline_r50.py'], ['baseline', 'cutmix'])
    assert [item.key for item in only] == [
        'baseline_r50', 'baseline_300e_r50', 'cutmix_r50', 'gradaug_cutmix_r50'
    ]  # fmt: skip
    assert only[0].tables == ['table1', 'configs'] and only[0].row.top1 == 76.32


@pytest.mark.parametrize(
    'names, only, message',
    [
        (['table2'], [], r'table2 is neither .* Tables: table1, table3'),
        (['table4'], ['nothing'], 'leaves nothing of: baseline_wrn28_10_cifar100'),
    ],
)
def test_wrong_names_are_answered_with_right_ones(names, only, message):
    with pytest.raises(training_runs.UserError, match=message):
        sweep.select(names, only)


def test_options_do_not_make_another_row_of_one(tool, capsys):
    assert (
        tool('figure2', '--only', 'num_subnets=2', '--cfg-options', 'model.gradaug.num_subnets=5')
        == 1
    )
    assert (
        'would make another row of gradaug_wrn28_10_cifar100+num_subnets=2'
        in capsys.readouterr().err
    )


def test_too_few_seeds(capsys):
    with pytest.raises(SystemExit):
        sweep.parse_args(['table4', '--seeds', '0'])
    assert '--seeds must be 1 or more, got 0' in capsys.readouterr().err


def test_every_run_gets_its_seed_and_only_gradaug_its_options(tool, pair, tmp_path, capsys):
    options = ['--cfg-options', 'model.gradaug.num_subnets=2', 'model.x=1']
    assert tool(*pair, '--seeds', 2, *options) == 0
    data, runs = written(tmp_path)
    assert {entry['status'] for entry in runs.values()} == {'done'} and len(runs) == 4
    one = runs['gradaug_a', 1]
    assert one['work_dir'] == 'runs/gradaug_a/seed1'
    assert (one['top1'], one['best_top1'], one['top5']) == (51, 60, None)
    assert one['curve'] == [[10, 60], [20, 51]]
    assert (one['iterations'], one['seconds_per_iteration']) == (20, 0.3)
    seed = ['randomness.seed=1', 'train_dataloader.dataset.label_seed=1']
    assert one['options'] == ['model.gradaug.num_subnets=2', 'model.x=1', *seed]
    assert runs['baseline_a', 1]['options'] == ['model.x=1', *seed]
    line = [line for line in capsys.readouterr().out.splitlines() if line.startswith('gradaug_a ')]
    assert line[-1].split() == 'gradaug_a - 50.5 +- 0.7 2 300 3.00'.split()


def test_the_scale_names_the_options_that_were_put_on_top(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--cfg-options', 'model.x=1') == 0
    told = "Scale of ours: the configs' own, with model.x=1."
    assert told in capsys.readouterr().out
    # The figures' own are named, though this command has none.
    assert tool(*pair, '--list') == 0
    assert told in capsys.readouterr().out


def test_a_failure_does_not_end_the_others_and_is_tried_again(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--seeds', 2, fails=['baseline_a/seed0']) == 1
    _, runs = written(tmp_path)
    assert [entry['status'] for entry in runs.values()].count('done') == 3
    assert runs['baseline_a', 0]['status'] == 'failed'
    assert 'no more memory' in runs['baseline_a', 0]['error']
    error = capsys.readouterr().err
    assert '1 of 4 trainings failed' in error and '| no more memory' in error
    assert tool(*pair, '--seeds', 2) == 0
    _, runs = written(tmp_path)
    assert {entry['status'] for entry in runs.values()} == {'done'}
    assert len(starts(tmp_path, 'gradaug_a')) == 1
    assert len(starts(tmp_path, 'baseline_a')) == 2


def test_equal_cost_stretches_the_schedule_by_the_measured_ratio(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--equal-cost') == 0
    data, runs = written(tmp_path)
    assert data['equal_cost']['baseline_a+equal_cost']['cost_ratio'] == pytest.approx(3)
    longer = runs['baseline_a+equal_cost', 0]
    assert longer['iterations'] == 60 and longer['curve'][-1] == [60, 50]
    assert {
        'train_cfg.max_iters=60',
        'train_cfg.val_interval=30',
        'param_scheduler.0.end=12',
        'param_scheduler.1.milestones=[30,45]',
    } < set(longer['options'])
    # More seeds do not change what the first ones' length was.
    assert tool(*pair, '--equal-cost', '--seeds', 2) == 0
    assert len(starts(tmp_path, 'baseline_a+equal_cost')) == 1
    assert len(starts(tmp_path, 'baseline_a+equal_cost', 1)) == 1
    assert tool(pair[0], '--equal-cost') == 1
    assert 'gradaug_a or gradaug_a_imagenet, which must be in the same' in capsys.readouterr().err


def test_equal_cost_needs_what_it_is_compared_with(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--equal-cost', fails=['gradaug_a/seed0']) == 1
    assert 'what it costs is not known' in capsys.readouterr().err
    _, runs = written(tmp_path)
    assert runs['baseline_a+equal_cost', 0]['status'] == 'failed'
    assert runs['baseline_a', 0]['status'] == 'done'


def test_an_overlay_turns_all_to_another_scale_by_epochs(tool, pair, tmp_path, capsys):
    overlay = tmp_path / 'small.py'
    overlay.write_text(BY_EPOCH + "scale = 'four epochs'\n")
    assert tool(*pair, '--overlay', overlay, '--equal-cost') == 0
    data, runs = written(tmp_path)
    assert data['scale'] == 'four epochs' and data['overlay'] == overlay.read_text()
    plain, longer = runs['baseline_a', 0], runs['baseline_a+equal_cost', 0]
    assert (plain['epochs'], plain['iterations'], plain['step_unit']) == (4, 40, 'epoch')
    assert plain['curve'] == [[1, 59], [2, 50], [3, 50], [4, 50]]
    assert (longer['epochs'], longer['iterations']) == (12, 120)
    assert 'param_scheduler.T_max=12' in longer['options']
    assert 'Scale of ours: four epochs.' in capsys.readouterr().out
    # Another wording trains nothing anew.
    overlay.write_text(BY_EPOCH + "# so be it\nscale = 'no more than four epochs'\n")
    assert tool(*pair, '--overlay', overlay, '--equal-cost') == 0
    assert len(starts(tmp_path, 'baseline_a')) == 1
    assert written(tmp_path)[0]['scale'] == 'no more than four epochs'


def test_a_resumed_run_by_epochs_counts_its_validations_by_epoch(tmp_path):
    """The second start begins after epoch 1, while the first had validated epoch 2 already."""
    for start, epochs in enumerate([(1, 2), (2, 3)]):
        logs = tmp_path / str(start) / 'vis_data'
        logs.mkdir(parents=True)
        (logs.parent / 'x.log').write_text('... Epoch(train)   [1][ 5/10]  lr: 1\n')
        entries = []
        for epoch in epochs:
            for i in (10 * epoch - 5, 10 * epoch):
                entries.append(dict(loss=1.0, time=start + 1.0, epoch=epoch, iter=i, step=i))
            entries.append({'accuracy/top1': 10.0 * start + epoch, 'step': epoch})
        (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))
    run = training_runs.Run('a', 0, 0, tmp_path, metrics=[sweep.TOP1], epochs=3)
    run.read_log()
    assert run.curves['top1'] == [(1, 1), (2, 12), (3, 13)]
    assert run.iterations == 30 and run.length == 3 and run.progress == '3/3 epochs'
    assert run.train_seconds == 10 * 1 + 20 * 2


def test_what_has_changed_is_trained_anew_only_if_asked(tool, pair, tmp_path, capsys):
    assert tool(*pair) == 0
    before = (tmp_path / 'work' / 'sweep.json').read_text()
    assert tool(*pair, '--cfg-options', 'model.x=1') == 1
    assert '--overwrite' in capsys.readouterr().err
    pair[0].write_text(PLAIN.replace('20', '30'))
    assert tool(*pair) == 1
    error = capsys.readouterr().err
    assert 'runs/baseline_a/seed0' in error and 'gradaug_a' not in error
    assert '--overwrite' in error
    assert (tmp_path / 'work' / 'sweep.json').read_text() == before
    assert tool(*pair, '--overwrite') == 0
    assert written(tmp_path)[1]['baseline_a', 0]['iterations'] == 30
    assert (
        'max_iters' not in starts(tmp_path, 'gradaug_a')[0]
        and len(starts(tmp_path, 'gradaug_a')) == 1
    )


def test_earlier_rows_and_seeds_stay_in_the_file(tool, pair, tmp_path):
    assert tool(pair[0], '--seeds', 2) == 0
    assert tool(pair[1]) == 0
    _, runs = written(tmp_path)
    assert {key: entry['status'] for key, entry in runs.items()} == {
        ('baseline_a', 0): 'done',
        ('baseline_a', 1): 'done',
        ('gradaug_a', 0): 'done',
    }


def test_seeds_of_another_config_are_not_averaged(tool, pair, tmp_path, capsys):
    assert tool(*pair, '--seeds', 2) == 0
    pair[0].write_text(PLAIN.replace('20', '30'))
    assert tool(*pair) == 1
    error = capsys.readouterr().err
    assert 'baseline_a/seed0' in error and 'baseline_a/seed1' in error
    assert len(written(tmp_path)[1]) == 4
    assert tool(*pair, '--overwrite') == 0
    _, runs = written(tmp_path)
    # Seed 1 was not asked for: it is left out, its work dir stays; the other row keeps both.
    assert set(runs) == {('baseline_a', 0), ('gradaug_a', 0), ('gradaug_a', 1)}
    assert runs['baseline_a', 0]['iterations'] == 30
    assert starts(tmp_path, 'baseline_a', seed=1)


def test_listing_trains_nothing(tool, pair, tmp_path, capsys):
    assert tool('table4', pair[0], '--list') == 0
    output = capsys.readouterr().out
    assert '81.74' in output and 'baseline_a ' in output
    assert not (tmp_path / 'work').exists()
    assert tool(pair[0]) == 0
    capsys.readouterr()
    assert tool(*pair, '--list') == 0
    lines = capsys.readouterr().out.splitlines()
    assert [' '.join(line.split()[2:5]) for line in lines[2:4]] == ['1 of 1', '0 of 1']


def test_a_gpu_is_taken_if_there_is_one(monkeypatch, capsys):
    monkeypatch.setattr(sweep, 'gpu_is_there', lambda: True)
    args = sweep.parse_args(['table4'])
    assert (args.device, args.jobs) == ('gpu', 1)
    assert sweep.parse_args(['table4', '--device', 'cpu', '--jobs', '3']).device == 'cpu'
    items = sweep.select(['table4'], [])[:1]
    sweep.prepare(items, None, args)
    assert sweep.make_run(items[0], 0, args).on_gpu
    monkeypatch.setattr(sweep, 'gpu_is_there', lambda: False)
    args = sweep.parse_args(['table4'])
    assert args.device == 'cpu' and not sweep.make_run(items[0], 0, args).on_gpu
    for wrong, says in (
        (['--device', 'gpu'], 'PyTorch sees no GPU here'),
        (['--device', 'cpu', '--slurm', 'p'], 'without --slurm'),
    ):
        with pytest.raises(SystemExit):
            sweep.parse_args(['table4', *wrong])
        assert says in capsys.readouterr().err


def test_slurm_jobs_are_submitted_once(tool, pair, tmp_path, monkeypatch, capsys):
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    srun.chmod(0o755)
    monkeypatch.setenv('PATH', f'{srun.parent}:/usr/bin:/bin')
    arguments = [pair[0], '--slurm', 'gpu', '--gpus', 2, '--srun-args=--time=9']

    def calls(number):
        for _ in range(100):
            lines = (
                (tmp_path / 'calls').read_text().splitlines()
                if (tmp_path / 'calls').exists()
                else []
            )
            if len(lines) >= number:
                break
            sweep.time.sleep(0.05)
        return lines

    assert tool(*arguments) == 0
    (line,) = calls(1)
    assert '-p gpu --job-name=baseline_a-seed0 --gres=gpu:2 --ntasks=2' in line
    assert '--time=9' in line and 'randomness.seed=0' in line and '--launcher=slurm' in line
    assert written(tmp_path)[1]['baseline_a', 0]['status'] == 'running'
    assert tool(*arguments) == 0
    assert 'submitted before' in capsys.readouterr().out
    assert tool(*arguments, '--resubmit') == 0
    assert len(calls(2)) == 2 and calls(2)[1].endswith('--resume')


def test_a_real_training(tmp_path):
    overlay = tmp_path / 'tiny.py'
    overlay.write_text(
        "train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=2, val_interval=1)\n"
        "param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=2, by_epoch=True)\n"
        "train_dataloader = dict(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))\n"
        "default_hooks = dict(checkpoint=dict(_delete_=True, type='CheckpointHook', interval=1))\n"
        "scale = 'two epochs of digits'\n"
    )  # fmt: skip
    code, output = run(
        sys.executable, ROOT / 'tools' / 'sweep.py', 'configs/quickstart/digits_baseline.py',
        '--overlay', overlay, '--work-dir', tmp_path / 'work', '--jobs', 1,
    )  # fmt: skip
    assert code == 0, output
    (entry,) = json.loads((tmp_path / 'work' / 'sweep.json').read_text())['runs']
    assert entry['status'] == 'done'
    # 100 images by 25, twice.
    assert (entry['epochs'], entry['iterations']) == (2, 8)
    assert [step for step, _ in entry['curve']] == [1, 2]
    assert 0 < entry['top1'] < 100 and entry['peak_memory_mb'] > 100
    assert 'two epochs of digits' in output


def test_a_config_is_asked_for_its_metric_and_any_is_taken(tool, tmp_path, capsys):
    other = PLAIN.replace("'Accuracy', topk=(1, 5)", "'mmpretrain.SingleLabelMetric'")
    (tmp_path / 'f1_only.py').write_text(other + "logs = 'single-label/f1-score'\n")
    assert tool(tmp_path / 'f1_only.py', '--seeds', '1') == 0
    output = capsys.readouterr().out
    assert 'f1_only [single-label/f1-score]' in output, output
    entry = written(tmp_path)[1]['f1_only', 0]
    assert entry['top1'] == 50.0 and entry['label'] == 'f1_only [single-label/f1-score]'


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
    assert tool(tmp_path / 'new.py', '--seeds', '1') == 1
    assert re.search(f'new.py: .*{says}', capsys.readouterr().err, re.DOTALL)
    assert not (tmp_path / 'work' / 'runs').exists()
