"""Numbers that are not finite stop a run before they reach the weights, with names."""

import math

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from resumable import ToyImages, differences, final_state, train
from test_gradaug_hook import runner as gradaug_runner
from torch.utils._python_dispatch import TorchDispatchMode

from mmgradaug.checkpoint import damage_of
from mmgradaug.engine import NonFiniteError, NonFiniteHook
from mmgradaug.engine.non_finite import all_finite

OPTIONS = dict(guard={}, save_every=1, save_by_epoch=False, keep=1)


class Steps(Hook):
    """Counts what really reaches the optimizer."""

    def __init__(self):
        self.count = 0

    def before_train(self, runner):
        runner.optim_wrapper.optimizer.register_step_pre_hook(self.counted)

    def counted(self, *args):
        self.count += 1


@pytest.fixture
def spoilt_row():
    """One image of the data is NaN."""
    made = ToyImages.__init__

    def init(self, *args, **kwargs):
        made(self, *args, **kwargs)
        self.rows[5] = math.nan

    ToyImages.__init__ = init
    yield
    ToyImages.__init__ = made


def test_without_the_hook_nothing_is_noticed(tmp_path, spoilt_row):
    """So these tests can fail; and the last good checkpoint is gone."""
    assert train(tmp_path, save_every=1, keep=1).iter == 24
    weights = final_state(tmp_path, 'epoch_3.pth')['state_dict']
    assert not torch.isfinite(weights['layers.0.weight']).any()


def test_schedulers_do_not_warn_of_it(tmp_path, recwarn):
    train(tmp_path, **OPTIONS)
    assert not [each for each in recwarn if 'optimizer.step()' in str(each.message)]


def test_a_spoilt_image_is_named(tmp_path, spoilt_row):
    steps = Steps()
    with pytest.raises(NonFiniteError) as error:
        train(tmp_path, register=[steps], **OPTIONS)
    text = str(error.value)
    assert f'the loss of the full network in iteration {steps.count} is nan' in text
    assert 'Images that are not finite themselves: row_5.png.' in text
    assert 'Images of the batch: row_' in text and 'The optimizer was not called' in text
    if steps.count:
        contents = final_state(tmp_path, f'iter_{steps.count}.pth')
        assert all(torch.isfinite(value).all() for value in contents['state_dict'].values())


@pytest.mark.parametrize(
    ('model', 'optim', 'says'),
    [
        (dict(poison=5), {}, 'the loss of the full network in iteration 5 is nan'),
        (dict(poison=5), dict(clip_grad=dict(max_norm=1.0)), 'in iteration 5 is nan'),
        (dict(poison=5, gradients_alone=True), {}, 'the gradients of 1 parameters or buffers, layers.0.w'),
        (
            dict(poison=5, gradients_alone=True),
            dict(clip_grad=dict(max_norm=1.0)),
            'the gradients of 1 parameters',
        ),
    ],
)  # fmt: skip
def test_the_update_is_stopped_and_the_last_checkpoint_is_good(tmp_path, model, optim, says):
    steps = Steps()
    with pytest.raises(NonFiniteError, match=says):
        train(tmp_path, register=[steps], model=model, optim=optim, **OPTIONS)
    assert steps.count == 5
    assert damage_of(tmp_path / 'iter_5.pth') is None
    # Gone on from, once the cause is mended.
    assert train(tmp_path, resume=True, optim=optim, **OPTIONS).iter == 24


@pytest.mark.parametrize('clip', [{}, dict(clip_grad=dict(max_norm=1.0))])
def test_a_huge_learning_rate_is_noticed(tmp_path, clip):
    optim = dict(optimizer=dict(type='SGD', lr=1e38), **clip)
    with pytest.raises(NonFiniteError):
        train(tmp_path, optim=optim, **OPTIONS)
    for path in tmp_path.glob('*.pth'):
        for value in final_state(tmp_path, path.name)['state_dict'].values():
            assert torch.isfinite(value).all()


def test_an_infinite_learning_rate_is_refused_before_the_first_iteration(tmp_path):
    with pytest.raises(ValueError, match='the learning rate is inf: write a finite optim_wrapper'):
        train(tmp_path, optim=dict(optimizer=dict(type='SGD', lr=math.inf)), **OPTIONS)


def test_in_an_accumulation_window_the_iteration_is_named(tmp_path):
    steps = Steps()
    with pytest.raises(
        NonFiniteError, match='the loss of the full network in iteration 4 is nan'
    ) as e:
        train(tmp_path, register=[steps], model=dict(poison=4), accumulate=3, **OPTIONS)
    assert steps.count == 1
    shown = str(e.value).split('Images of the batch: ')[1].split('.  ')[0]
    assert shown.count('row_') == 3  # of that iteration, not of the window


def test_skipping_leaves_no_trace_of_the_batch(tmp_path):
    """Equal to the run in which that iteration does nothing but count."""
    guard = dict(on_non_finite='skip', max_skips=1)
    options = dict(save_by_epoch=False, save_every=1, keep=30)
    train(tmp_path / 'skips', guard=guard, model=dict(poison=5), **options)
    before, after = (final_state(tmp_path / 'skips', f'iter_{n}.pth') for n in (5, 6))
    for part in (before, after):
        part.pop('param_schedulers')  # they go on
        for group in part['optimizer']['param_groups']:
            group.pop('lr')
    assert not differences(before, after)  # running statistics and counters too
    last = final_state(tmp_path / 'skips', 'iter_24.pth')
    assert differences(before, last)


def test_skipping_has_an_end(tmp_path, capfd):
    guard = dict(on_non_finite='skip', max_skips=2)
    options = {**OPTIONS, 'guard': guard}
    with pytest.raises(NonFiniteError, match='2 updates have been left out before'):
        train(tmp_path, model=dict(poison=5, poison_for=9), **options)
    said = ''.join(capfd.readouterr())
    assert 'update left out (1 of at most 2), not finite: the loss of the full network' in said
    # The count outlives the process.
    with pytest.raises(NonFiniteError, match='2 updates have been left out before'):
        train(tmp_path, model=dict(poison=5, poison_for=9), resume=True, **options)


def test_a_spoilt_sub_network_is_named(tmp_path):
    run = gradaug_runner(tmp_path, epochs=1)
    run.register_hook(NonFiniteHook())
    steps = Steps()
    run.register_hook(steps)
    bare = run.model.soft_label_loss

    class Spoilt(torch.nn.Module):
        calls = 0  # of this one: what is tried before training is a copy

        def forward(self, *args, **kwargs):
            self.calls += 1
            loss = bare(*args, **kwargs)
            return loss * math.nan if self.calls == 5 else loss

    run.model.soft_label_loss = Spoilt()
    with pytest.raises(NonFiniteError) as error:
        run.train()
    subnet = run.model.subnet_sampler.sample(run.seed, 1)[1]
    expected = f'the loss of sub-network 1 at width {subnet.width:.4g} on {subnet.transform} in iteration 1'
    assert expected in str(error.value) and steps.count == 1


def test_a_spoilt_gradient_of_narrowed_weights_is_named(tmp_path):
    """The update is made in a sub-network's pass, where the model has views of its weights."""
    run = gradaug_runner(tmp_path, epochs=1)
    run.register_hook(NonFiniteHook())
    name, weight = next(
        (name, each) for name, each in run.model.named_parameters() if each.dim() == 4
    )
    weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(NonFiniteError, match=f'the gradients of 1 parameters.*{name}'):
        run.train()


class CountsWaits(TorchDispatchMode):
    """How often a number is read from a device, for which one waits."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_it_waits_once_an_update_however_many_passes_that_has(tmp_path):
    waits = []
    for hooks in ([], [NonFiniteHook()]):
        run = gradaug_runner(tmp_path / str(len(hooks)), epochs=1)
        for hook in hooks:
            run.register_hook(hook)
        with CountsWaits() as counted:
            run.train()
        waits.append(counted.count)
    assert run.model.subnet_sampler.num_subnets == 3 and run.iter == 4
    assert waits[1] - waits[0] == 4 + 1  # and once for the checkpoint


def test_weights_that_became_nan_are_not_saved(tmp_path):
    class Spoils(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 5:
                with torch.no_grad():
                    runner.model.layers[0].weight[0, 0] = math.nan

    with pytest.raises(
        NonFiniteError, match='layers.0.weight for instance. No checkpoint was written'
    ):
        train(tmp_path, register=[Spoils()], **OPTIONS)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_5.pth']


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledOptimWrapper(OptimWrapper):
    """As AmpOptimWrapper, which asks for a GPU."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=4.0)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()


def test_a_loss_scaler_is_left_to_its_own_skipping(tmp_path):
    run = train(
        tmp_path,
        guard={},
        model=dict(poison=5, gradients_alone=False),
        optim=dict(type='ScaledOptimWrapper'),
        save_every=-1,
        checkpoint=dict(save_last=False),
    )
    assert run.iter == 24 and run.optim_wrapper.loss_scaler.get_scale() == 2.0


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (dict(on_non_finite='ignore'), "write 'stop', or 'skip'"),
        (dict(max_skips=0), 'max_skips must be a whole number'),
        (dict(max_skips=True), 'max_skips must be a whole number'),
    ],
)
def test_wrong_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        NonFiniteHook(**arguments)


def test_large_finite_numbers_are_finite():
    assert all_finite([torch.full((1000,), 3e38), torch.zeros(0)]) == 1.0
    for wrong in (math.nan, math.inf, -math.inf):
        tensor = torch.zeros(1000)
        tensor[np.random.default_rng(0).integers(1000)] = wrong
        assert all_finite([torch.ones(3), tensor]) == 0.0
    assert all_finite([torch.zeros(2, dtype=torch.int64)]) is None
