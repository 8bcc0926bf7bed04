"""run.json: what a training leaves, whole at every moment, and after resuming."""

import json
import statistics
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmgradaug.engine.run_record_hook import RECORD, RunRecordHook, best_of


def test_numbers_of_ones_own_metrics(monkeypatch):
    """NumPy's and PyTorch's are evaluated like others; an evaluation without figures would be thrown away."""
    hook = RunRecordHook()
    hook._data = dict(evaluations=[])
    monkeypatch.setattr(hook, '_write', lambda runner: None)
    metrics = dict(
        a=np.float32(0.5), b=torch.tensor(0.25), c=np.int64(3), d=1, e='x', f=np.zeros(2)
    )
    hook.after_val_epoch(SimpleNamespace(iter=1, epoch=0), metrics)
    (evaluation,) = hook._data['evaluations']
    assert evaluation['metrics'] == dict(a=0.5, b=0.25, c=3.0, d=1.0)


def config(work_dir, by_epoch=False, **changes):
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=4)
    if by_epoch:
        train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
    digits = dict(
        type='mmgradaug.Digits', split='train', labels_per_class=4, pipeline=[dict(type='PackInputs')]
    )  # fmt: skip
    cfg = dict(
        default_scope='mmpretrain',
        experiment_name=f'{work_dir.parent.name}_{work_dir.name}_{by_epoch}_{len(changes)}',
        work_dir=str(work_dir),
        model=dict(
            type='ImageClassifier',
            backbone=dict(type='mmgradaug.WideResNet', depth=10, widen_factor=1),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
            data_preprocessor=dict(mean=[64.0] * 3, std=[96.0] * 3),
        ),
        train_dataloader=dict(
            batch_size=10,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(
                type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True
            ),
            dataset=digits,
        ),
        train_cfg=train_cfg,
        val_dataloader=dict(
            batch_size=100,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='mmgradaug.Digits', split='test', pipeline=[dict(type='PackInputs')]),
        ),
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy', topk=(1, 5)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=by_epoch),
            checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 4),
            run_record=dict(type='mmgradaug.RunRecordHook'),
        ),
        log_processor=dict(by_epoch=by_epoch, window_size=1),
        randomness=dict(seed=3),
    )  # fmt: skip
    return Config({**cfg, **changes})


def record(work_dir):
    return json.loads((work_dir / RECORD).read_text())


@pytest.mark.parametrize('hooks', [[], [dict(type='mmgradaug.ExactResumeHook')]])
def test_images_seen(hooks, tmp_path):
    Runner.from_cfg(config(tmp_path, custom_hooks=hooks)).train()
    assert record(tmp_path)['images_seen'] == 120


def test_a_training_by_iterations(tmp_path):
    runner = Runner.from_cfg(config(tmp_path))
    runner.train()
    data = record(tmp_path)
    assert (data['status'], data['unit'], data['length']) == ('done', 'iteration', 12)
    assert (data['iterations'], data['images_seen'], data['seed']) == (12, 120, 3)
    assert data['config']['model']['backbone']['depth'] == 10
    assert [e['iteration'] for e in data['evaluations']] == [4, 8, 12]
    top1 = [e['metrics']['accuracy/top1'] for e in data['evaluations']]
    assert data['last']['accuracy/top1'] == top1[-1]
    assert data['best']['accuracy/top1'] == max(top1)
    # What MMEngine logged of the same iterations.
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    logged = [entry for entry in logged if 'loss' in entry]
    assert [w['loss'] for w in data['training']] == pytest.approx([e['loss'] for e in logged])
    times = [e['time'] for e in logged]
    assert data['seconds_per_iteration'] == pytest.approx(statistics.median(times))
    assert data['train_seconds'] == pytest.approx(sum(times))
    assert data['peak_memory_mb'] > 100
    assert data['versions']['mmengine'] and data['device']


class Stop(Hook):
    """Ends the process's training as a crash would: after the checkpoint of iteration 4, in the sixth."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 6:
            raise RuntimeError('power cut')


def test_a_resumed_training_goes_on_with_the_file(tmp_path):
    HOOKS.register_module(module=Stop, force=True)
    with pytest.raises(RuntimeError, match='power cut'):
        Runner.from_cfg(
            config(tmp_path, custom_hooks=[dict(type='Stop', priority='LOWEST')])
        ).train()
    before = record(tmp_path)
    assert before['status'] == 'running' and before['last']['accuracy/top1'] > 0
    # What was recorded after the checkpoint is done again.
    before['evaluations'].append({'iteration': 6, 'epoch': 0, 'metrics': {'accuracy/top1': 101.0}})
    before['training'].append({**before['training'][-1], 'iteration': 5, 'loss': 9.0})
    (tmp_path / RECORD).write_text(json.dumps(before))
    Runner.from_cfg(config(tmp_path, resume=True)).train()
    data = record(tmp_path)
    assert data['status'] == 'done' and data['started'] == before['started']
    assert [e['iteration'] for e in data['evaluations']] == [4, 8, 12]
    assert data['evaluations'][0] == before['evaluations'][0]
    assert [w['iteration'] for w in data['training']] == list(range(1, 13))
    assert data['best']['accuracy/top1'] < 101
    # Trained afresh, nothing of it stays.
    Runner.from_cfg(config(tmp_path, experiment_name=f'{tmp_path.name}_afresh')).train()
    assert record(tmp_path)['evaluations'][0]['iteration'] == 4
    assert len(record(tmp_path)['evaluations']) == 3


def test_a_training_by_epochs_counts_iterations_too(tmp_path):
    Runner.from_cfg(config(tmp_path, by_epoch=True)).train()
    data = record(tmp_path)
    assert (data['unit'], data['length'], data['max_iters']) == ('epoch', 3, 12)
    counted = [(e['epoch'], e['iteration']) for e in data['evaluations']]
    assert counted == [(1, 4), (2, 8), (3, 12)]


def test_a_broken_earlier_file_is_replaced(tmp_path):
    (tmp_path / RECORD).write_text('{"half of')
    Runner.from_cfg(config(tmp_path)).train()
    assert record(tmp_path)['status'] == 'done'


def test_the_best_is_the_lowest_of_losses_and_errors():
    evaluations = [
        {
            'iteration': i,
            'epoch': 0,
            'metrics': {'val_loss': loss, 'coco/bbox_mAP': ap, 'error': ap},
        }
        for i, (loss, ap) in enumerate([(3.0, 0.1), (1.0, 0.3), (2.0, None)])
    ]
    assert best_of(evaluations) == {'val_loss': 1.0, 'coco/bbox_mAP': 0.3, 'error': 0.1}


def test_validation_alone_leaves_no_record(tmp_path):
    Runner.from_cfg(config(tmp_path)).val()
    assert not (tmp_path / RECORD).exists()


def test_iterations_with_and_without_sub_networks_are_timed_apart(tmp_path):
    """Their median over all would be the time of plain iterations, or of the others."""

    class Waits(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            time.sleep(0.0 if runner.iter % 3 else 0.3)

    gradaug = dict(num_subnets=1, every=3, transforms=dict(type='Identity'))
    cfg = config(tmp_path, custom_hooks=[dict(type='mmgradaug.GradAugHook')])
    cfg.model.update(type='mmgradaug.GradAugClassifier', gradaug=gradaug)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Waits(), 'LOWEST')
    runner.train()
    data = record(tmp_path)
    kinds = [list(window['by_subnets']) for window in data['training']]
    assert kinds == [['1'], ['0'], ['0']] * 4
    times = {'0': [], '1': []}
    for window in data['training']:
        for kind, part in window['by_subnets'].items():
            times[kind].append(part['seconds'])
    slow, fast = statistics.median(times['1']), statistics.median(times['0'])
    assert slow > fast + 0.25
    assert data['seconds_per_iteration'] == pytest.approx((slow + 2 * fast) / 3)
