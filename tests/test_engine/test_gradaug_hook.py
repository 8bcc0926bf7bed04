"""The hook in real runs: schedule, draws by (seed, iteration), and what it refuses."""

import copy
import json
import logging
import uuid

import pytest
import torch
from helpers import (
    classifier_config,
    gradaug_config,
    kept_share,
    naive_gradaug_loss,
    preprocess,
)
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader, Dataset

from mmgradaug.engine import GradAugDistributedDataParallel, GradAugHook
from mmgradaug.models import GradAugClassifier

OPTIMIZER = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))


class Images(Dataset):
    metainfo = {}

    def __init__(self, count):
        rng = torch.Generator().manual_seed(0)
        self.images = torch.randn(count, 3, 16, 16, generator=rng)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return dict(inputs=self.images[i], data_samples=DataSample().set_gt_label(i % 5))


def collate(items):
    inputs = torch.stack([item['inputs'] for item in items])
    return dict(inputs=inputs, data_samples=[item['data_samples'] for item in items])


def runner(tmp_path, model=None, hooks=None, count=16, epochs=2, by_epoch=True, **changes):
    """A real Runner: batches of 4 random images, the tiny classifier."""
    if model is None:
        torch.manual_seed(0)
        gradaug = gradaug_config(transforms=dict(type='RandomResize', sizes=[16, 12]))
        model = GradAugClassifier(gradaug=gradaug, **classifier_config())
    tmp_path.mkdir(exist_ok=True)
    # The weights are to stay those that the test gave; Runner.train() would draw new ones.
    getattr(model, 'module', model)._is_init = True
    data = Images(count)
    loop = dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(by_epoch=False, max_iters=8)
    options = dict(
        model=model.double(),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(
            data, batch_size=4, sampler=DefaultSampler(data, shuffle=False), collate_fn=collate
        ),
        train_cfg=loop,
        optim_wrapper=dict(type='OptimWrapper', **OPTIMIZER),
        custom_hooks=[GradAugHook()] if hooks is None else hooks,
        randomness=dict(seed=1),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        experiment_name=uuid.uuid4().hex,
    )
    return Runner(**{**options, **changes})


def logged(run, key):
    return run.message_hub.get_scalar(f'train/{key}').data[0]


def written(work_dir):
    """The lines of the log file; MMEngine writes the last value of each key it ever saw."""
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_run_draws_by_seed_and_iteration_and_logs_it(tmp_path):
    run = runner(tmp_path)
    run.train()
    sampler = run.model.subnet_sampler
    plans = [sampler.sample(1, iteration) for iteration in range(8)]
    for i in range(3):
        widths = [kept_share(run.model, plan[i].width) for plan in plans]
        assert logged(run, f'width_subnet{i}').tolist() == widths
    total = logged(run, 'loss')
    parts = sum(logged(run, k) for k in ['loss_full'] + [f'loss_subnet{i}' for i in range(3)])
    assert total == pytest.approx(parts, rel=1e-6)


@pytest.mark.parametrize(
    ('hook', 'by_epoch', 'active'),
    [
        (GradAugHook(begin=1), True, [4, 5, 6, 7]),
        (GradAugHook(end=1), True, [0, 1, 2, 3]),
        (GradAugHook(begin=3, end=6, by_epoch=False), True, [3, 4, 5]),
        (GradAugHook(begin=3, end=6, by_epoch=False), False, [3, 4, 5]),
        (GradAugHook(), False, list(range(8))),
    ],
)
def test_schedule(tmp_path, hook, by_epoch, active):
    run = runner(tmp_path, hooks=[hook], by_epoch=by_epoch)
    run.train()
    sampler = run.model.subnet_sampler
    lines = written(tmp_path)
    assert len(lines) == 8 and all('loss_full' in line for line in lines)
    for iteration, line in enumerate(lines):
        found = {key: value for key, value in line.items() if key.startswith('width_')}
        expected = {}
        if iteration in active:
            drawn = sampler.sample(1, iteration)
            expected = {
                f'width_subnet{i}': kept_share(run.model, subnet.width)
                for i, subnet in enumerate(drawn)
            }
        assert found == pytest.approx(expected), iteration
        assert ('loss_subnet0' in line) == (iteration in active)


def test_ema_accumulation_and_clipping_in_a_run_equal_the_naive_loop(tmp_path):
    """Seven iterations in windows of two; EMA counts iterations, as in plain training."""
    torch.manual_seed(0)
    stock = ImageClassifier(**classifier_config()).double().train()
    model = GradAugClassifier(
        gradaug=gradaug_config(transforms=dict(type='RandomResize', sizes=[16, 12])),
        **classifier_config(),
    )
    model.load_state_dict(stock.state_dict())
    run = runner(
        tmp_path, model, epochs=1, count=28,
        hooks=[GradAugHook(), dict(type='EMAHook', momentum=0.2)],
        optim_wrapper=dict(
            type='OptimWrapper', accumulative_counts=2, clip_grad=dict(max_norm=0.5), **OPTIMIZER
        ),
    )  # fmt: skip
    ema = {}
    run.register_hook(Watch(lambda r: ema.update(ema_parameters(r))), priority='LOWEST')
    run.train()

    optimizer = torch.optim.SGD(stock.parameters(), lr=0.1, momentum=0.9)
    average = {name: p.detach().clone() for name, p in stock.named_parameters()}
    images = Images(28)
    for iteration in range(7):
        batch = preprocess(stock, collate([images[4 * iteration + j] for j in range(4)]))
        subnets = model.subnet_sampler.sample(1, iteration)
        loss = naive_gradaug_loss(stock, dict(stock.named_parameters()), batch, subnets)
        (loss / (2 if iteration < 6 else 1)).backward()
        if iteration in (1, 3, 5, 6):
            torch.nn.utils.clip_grad_norm_(stock.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
        for name, p in stock.named_parameters():
            if iteration == 0:  # MMEngine's average begins as a copy
                average[name] = p.detach().clone()
            else:
                average[name] = 0.8 * average[name] + 0.2 * p.detach()
    for name, p in stock.named_parameters():
        torch.testing.assert_close(ema[f'source.{name}'], p, rtol=0, atol=1e-10, msg=name)
        torch.testing.assert_close(ema[f'average.{name}'], average[name], rtol=0, atol=1e-10)


class Watch(Hook):
    """Calls something after the last iteration, before EMAHook's own end of training."""

    def __init__(self, look):
        self.look = look

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == runner.max_iters - 1:
            self.look(runner)


class StopsInTheSecondEpoch(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 6:
            raise KeyboardInterrupt


def ema_parameters(run):
    hook = next(h for h in run.hooks if type(h).__name__ == 'EMAHook')
    source = {f'source.{n}': p.detach().clone() for n, p in run.model.named_parameters()}
    average = hook.ema_model.module.named_parameters()
    return {**source, **{f'average.{n}': p.detach().clone() for n, p in average}}


def test_a_resumed_run_draws_what_the_uninterrupted_one_would_have(tmp_path):
    whole = runner(tmp_path / 'whole', epochs=3)
    whole.train()
    first = runner(tmp_path / 'cut', epochs=3)
    first.register_hook(StopsInTheSecondEpoch(), priority='LOWEST')
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert first.iter == 6 and [p.name for p in (tmp_path / 'cut').glob('*.pth')] == ['epoch_1.pth']
    second = runner(tmp_path / 'cut', epochs=3, resume=True, randomness=dict(seed=None))
    second.train()
    assert len(logged(second, 'width_subnet1')) == 12
    for i in range(3):
        key = f'width_subnet{i}'
        assert logged(second, key).tolist() == logged(whole, key).tolist()
    for (name, a), b in zip(whole.model.state_dict().items(), second.model.state_dict().values()):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9, msg=name)


@pytest.fixture
def one_process_group(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/group', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def plain_model():
    return ImageClassifier(**classifier_config())


def test_plain_distributed_wrapper_is_refused(tmp_path, one_process_group):
    model = GradAugClassifier(gradaug=gradaug_config(), **classifier_config())
    run = runner(tmp_path / 'with_hook', MMDistributedDataParallel(model.double()))
    with pytest.raises(TypeError, match="model_wrapper_cfg = dict.type='mmgradaug.GradAugDist"):
        run.train()
    assert run.iter == 0
    # Without the hook the model itself notices.
    run = runner(tmp_path / 'without', MMDistributedDataParallel(model), hooks=[])
    with pytest.raises(RuntimeError, match="model_wrapper_cfg = dict.type='mmgradaug.GradAugDist"):
        run.train()
    assert run.iter == 0


def test_distributed_wrapper_refuses_a_plain_model_and_anomaly_detection(one_process_group):
    with pytest.raises(TypeError, match='wraps GradAug models, not ImageClassifier'):
        GradAugDistributedDataParallel(plain_model(), device_ids=[0])
    model = GradAugClassifier(gradaug=gradaug_config(), **classifier_config())
    with pytest.raises(ValueError, match='detect_anomalous_params'):
        GradAugDistributedDataParallel(model, detect_anomalous_params=True)
    with pytest.raises(ValueError, match='static_graph'):
        GradAugDistributedDataParallel(model, static_graph=True)


@pytest.mark.parametrize(
    ('changes', 'error', 'says'),
    [
        (dict(hooks=[]), RuntimeError, "custom_hooks = .dict.type='mmgradaug.GradAugHook'"),
        (dict(model='plain'), TypeError, 'ImageClassifier, is not a GradAug model'),
        (dict(hooks=[GradAugHook(begin=2)]), ValueError, 'training ends after 2'),
        (dict(hooks=[GradAugHook(end=5)]), ValueError, 'write end=None'),
        (dict(hooks=[GradAugHook(begin=1)], by_epoch=False), ValueError, 'by_epoch=False'),
        (dict(optim_wrapper='dict'), TypeError, 'OptimWrapperDict'),
    ],
)
def test_what_would_not_be_gradaug_is_refused_before_the_first_iteration(
    tmp_path, changes, error, says
):
    changes = copy.copy(changes)
    if changes.get('model'):
        changes['model'] = plain_model()
    if changes.get('optim_wrapper'):
        from mmengine.optim import OptimWrapper, OptimWrapperDict

        model = GradAugClassifier(gradaug=gradaug_config(), **classifier_config()).double()
        parts = (model.backbone, model.head)
        wrappers = [OptimWrapper(torch.optim.SGD(part.parameters(), 0.1)) for part in parts]
        changes.update(
            model=model, optim_wrapper=OptimWrapperDict(backbone=wrappers[0], head=wrappers[1])
        )
    run = runner(tmp_path, **changes)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    with pytest.raises(error, match=says):
        run.train()
    assert run.iter == 0 and not list(tmp_path.glob('*.pth'))
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


@pytest.mark.parametrize(
    'schedule', [dict(begin=-1), dict(begin=3, end=3), dict(end=0), dict(begin=0.5), dict(end=True)]
)
def test_empty_schedule(schedule):
    with pytest.raises(ValueError, match='empty schedule|must be whole numbers'):
        GradAugHook(**schedule)


def test_sync_bn_on_one_device_is_trained_as_batch_norm(tmp_path):
    """MMEngine replaces SyncBN by a plain batch norm of its own, after the sub-networks were planned."""
    config = classifier_config()
    config['backbone']['norm_cfg'] = dict(type='SyncBN')
    config['head'] = dict(  # with a SyncBN for (N, C)
        type='mmpretrain.StackedLinearClsHead', num_classes=5, in_channels=64,
        mid_channels=[16], norm_cfg=dict(type='SyncBN'), loss=dict(type='mmpretrain.CrossEntropyLoss'),
    )  # fmt: skip
    gradaug = gradaug_config(transforms=dict(type='RandomResize', sizes=[16, 12]))
    run = runner(tmp_path, GradAugClassifier(gradaug=gradaug, **config), epochs=1)
    assert type(run.model.backbone.bn1).__name__ == '_BatchNormXd'
    run.train()
    assert type(run.model.backbone.bn1).__name__ == '_BatchNormXd'
    assert run.model.backbone.bn1.num_batches_tracked == 4


def test_warns_of_cudnn_benchmark(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', True)
    run = runner(tmp_path, epochs=1, count=4)
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    run.logger.addHandler(handler)
    run.train()
    assert any('cudnn_benchmark=False' in text for text in said)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_last_batch_of_one_image_is_refused_where_a_drawn_size_comes_down_to_one_pixel(
    tmp_path, by_epoch
):
    """At 64 pixels one image would do; it would have failed at the end of an epoch that drew 12."""
    run = runner(tmp_path, count=17, by_epoch=by_epoch)
    with pytest.raises(ValueError, match='drop_last=True.*a single image of 12 x 12 pixels'):
        run.train()
    assert run.iter == 0
