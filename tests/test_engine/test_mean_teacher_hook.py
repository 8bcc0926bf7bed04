"""Training of Mean Teacher by MMEngine's runner."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

DIGITS = dict(
    type='mmgradaug.LabelledSplit',
    of='mmgradaug.Digits',
    num_labels=20,
    split='train',
    pipeline=[dict(type='PackInputs')],
)


def config(work_dir, max_iters=4, **changes):
    cfg = dict(
        default_scope='mmpretrain',
        experiment_name=f'{work_dir.parent.name}_{work_dir.name}_{max_iters}',
        work_dir=str(work_dir),
        model=dict(
            type='mmgradaug.MeanTeacherClassifier',
            mean_teacher=dict(momentum=0.7, ramp_up=0.0),
            backbone=dict(type='mmgradaug.WideResNet', depth=10, widen_factor=1),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
            data_preprocessor=dict(mean=[64.0] * 3, std=[96.0] * 3),
        ),
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='mmdet.MultiSourceSampler', batch_size=2, source_ratio=[1, 1]),
            dataset=dict(DIGITS, part='both'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=2),
        val_dataloader=dict(
            batch_size=100,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(type='mmgradaug.Digits', split='test', pipeline=[dict(type='PackInputs')]),
        ),
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        custom_hooks=[dict(type='mmgradaug.MeanTeacherHook')],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
        ),
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=0),
    )
    return Config({**copy.deepcopy(cfg), **changes})


def weights(checkpoint, key):
    """Those of a checkpoint's model, by name, without buffers."""
    state = torch.load(checkpoint, weights_only=True)[key]
    state = {name.removeprefix('module.'): value for name, value in state.items()}
    return {
        n: v
        for n, v in state.items()
        if 'running' not in n and 'num_batches' not in n and n != 'steps'
    }


def test_the_teacher_is_the_average_of_the_students_weights(tmp_path):
    runner = Runner.from_cfg(config(tmp_path))
    students, step = [], runner.model.train_step

    def train_step(data, optim_wrapper):
        if not students:
            students.append({n: p.detach().clone() for n, p in runner.model.named_parameters()})
        log = step(data, optim_wrapper)
        students.append({n: p.detach().clone() for n, p in runner.model.named_parameters()})
        return log

    runner.model.train_step = train_step
    runner.train()
    assert len(students) == 5
    teacher = students[0]
    for student in students[1:]:
        teacher = {name: 0.7 * teacher[name] + 0.3 * student[name] for name in teacher}
    # The teacher is what a checkpoint has for testing, the student what it goes on from.
    saved = weights(tmp_path / 'iter_4.pth', 'state_dict')
    assert set(saved) == set(teacher)
    for name, value in teacher.items():
        torch.testing.assert_close(saved[name], value, rtol=1e-5, atol=1e-6, msg=name)
    ongoing = weights(tmp_path / 'iter_4.pth', 'ema_state_dict')
    for name, value in students[-1].items():
        assert torch.equal(ongoing[name], value), name
    assert any(not torch.allclose(teacher[name], students[-1][name], atol=1e-3) for name in teacher)


def test_the_teacher_is_what_is_tested(tmp_path):
    runner = Runner.from_cfg(config(tmp_path))
    runner.train()
    trained = runner.message_hub.get_scalar('val/accuracy/top1').current()
    cfg = config(tmp_path / 'test', load_from=str(tmp_path / 'iter_4.pth'))
    cfg.test_dataloader, cfg.test_evaluator, cfg.test_cfg = (
        cfg.val_dataloader,
        cfg.val_evaluator,
        {},
    )
    cfg.custom_hooks = []
    cfg.model = dict(
        cfg.model, type='ImageClassifier', data_preprocessor=dict(mean=[64.0] * 3, std=[96.0] * 3)
    )
    cfg.model.pop('mean_teacher')
    assert Runner.from_cfg(cfg).test()['accuracy/top1'] == pytest.approx(trained)


def test_a_test_right_after_the_training_is_of_the_teacher(tmp_path):
    cfg = config(tmp_path)
    cfg.test_dataloader, cfg.test_evaluator, cfg.test_cfg = (
        cfg.val_dataloader,
        cfg.val_evaluator,
        {},
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    tested, step = [], runner.model.test_step

    def test_step(data):
        tested.append({n: p.detach().clone() for n, p in runner.model.named_parameters()})
        return step(data)

    runner.model.test_step = test_step
    student = {n: p.detach().clone() for n, p in runner.model.named_parameters()}
    runner.test()
    teacher = weights(tmp_path / 'iter_4.pth', 'state_dict')
    for name, value in teacher.items():
        assert torch.equal(tested[0][name], value), name
    for name, value in runner.model.named_parameters():  # and the student is back
        assert torch.equal(value, student[name]), name


def test_a_model_without_a_teacher_is_refused(tmp_path):
    cfg = config(tmp_path)
    cfg.model = dict(cfg.model, type='ImageClassifier')
    cfg.model.pop('mean_teacher')
    with pytest.raises(
        TypeError, match='ImageClassifier, learns from no teacher.*MeanTeacherClassifier'
    ):
        Runner.from_cfg(cfg).train()
