"""The step against GradAug written out naively, from stock classes alone."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    CUTMIX,
    MIXUP,
    gradaug_config,
    kept_share,
    naive_gradaug_loss,
    narrow,
    parameters_of,
    preprocess,
    random_batch,
    sgd,
    stock_and_gradaug,
)
from mmengine.optim import OptimWrapper


def naive_gradients(stock, batch, subnets):
    params = dict(stock.named_parameters())
    loss = naive_gradaug_loss(stock, params, batch, subnets)
    return loss, dict(zip(params, torch.autograd.grad(loss, list(params.values()))))


@pytest.mark.parametrize('train_cfg', [None, CUTMIX, MIXUP], ids=['plain', 'cutmix', 'mixup'])
@pytest.mark.parametrize('num_subnets', [0, 1, 3])
def test_gradient_is_that_of_the_summed_loss(num_subnets, train_cfg):
    changes = {} if train_cfg is None else dict(train_cfg=train_cfg)
    stock, model = stock_and_gradaug(gradaug_config(num_subnets=num_subnets), **changes)
    batch = random_batch()
    model.announce_iteration(seed=3, iteration=11, active=True)
    before = parameters_of(model)
    np.random.seed(5)
    torch.manual_seed(5)
    log = model.train_step(copy.deepcopy(batch), sgd(model, lr=1.0))

    subnets = model.subnet_sampler.sample(3, 11)
    assert len(subnets) == num_subnets
    mixed = preprocess(stock, batch, seed=5)
    assert ('gt_score' in mixed['data_samples'][0]) == bool(train_cfg)
    loss, gradients = naive_gradients(stock, mixed, subnets)
    for name, value in model.named_parameters():
        step = before[name] - value.detach()
        torch.testing.assert_close(step, gradients[name], rtol=0, atol=1e-10, msg=name)
    assert log['loss'].item() == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize('soft_labels', [True, False])
def test_on_part_of_the_batch(soft_labels):
    """As if the sub-networks had got a batch of the chosen images alone."""
    gradaug = gradaug_config(num_subnets=2, batch_fraction=0.5, soft_labels=soft_labels, every=2)
    stock, model = stock_and_gradaug(gradaug)
    batch = random_batch(6)
    model.announce_iteration(0, 4, True)
    before = parameters_of(model)
    log = model.train_step(copy.deepcopy(batch), sgd(model))
    subnets = model.subnet_sampler.sample(0, 4)

    whole = preprocess(stock, batch)
    loss, gradients = naive_gradients(stock, whole, [])
    with torch.no_grad():
        soft = stock.train()(**{**whole, 'mode': 'tensor'}).softmax(1)
    for i, subnet in enumerate(subnets):
        rows = subnet.part.indices(6)
        images = subnet.transform(whole['inputs'][rows])
        labels = torch.cat([whole['data_samples'][r].gt_label for r in rows.tolist()])
        target = soft[rows] if soft_labels else F.one_hot(labels, 5).double()
        params = dict(stock.named_parameters())
        weights = narrow({**params, **dict(stock.named_buffers())}, subnet.width)
        weights = {k: v.clone() for k, v in weights.items()}
        logits = torch.func.functional_call(stock, weights, (images,), dict(mode='tensor'))
        term = F.kl_div(logits.log_softmax(1), target, reduction='batchmean')
        assert log[f'loss_subnet{i}'].item() == pytest.approx(term.item(), rel=1e-9)
        more = torch.autograd.grad(term, list(params.values()))
        gradients = {name: gradients[name] + value for name, value in zip(params, more)}
    for name, value in model.named_parameters():
        step = before[name] - value.detach()
        torch.testing.assert_close(step, gradients[name], rtol=0, atol=1e-10, msg=name)
    model.announce_iteration(0, 5, True)
    assert set(model.train_step(batch, sgd(model))) == {'loss', 'loss_full'}


def test_with_label_smoothing_temperature_and_weight():
    head = dict(
        type='mmpretrain.LinearClsHead', num_classes=5, in_channels=64,
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    )  # fmt: skip
    gradaug = gradaug_config(soft_label_loss=dict(temperature=3.0, weight=0.5))
    stock, model = stock_and_gradaug(gradaug, head=head)
    batch = preprocess(stock, random_batch())
    subnets = model.subnet_sampler.sample(0, 0)
    model.announce_iteration(0, 0, True)
    log = model.train_step(random_batch(), sgd(model))

    smooth = stock(**batch, mode='loss')['loss']
    assert log['loss_full'].item() == pytest.approx(smooth.item(), rel=1e-12)
    # The naive sum has temperature 1: divide the logits by 3 in its head to get the sub-networks' terms.
    with torch.no_grad():
        stock.head.fc.weight /= 3
        stock.head.fc.bias /= 3
    params = dict(stock.named_parameters())
    cold_full = naive_gradaug_loss(stock, params, batch, [])
    for i, subnet in enumerate(subnets):
        kl = (naive_gradaug_loss(stock, params, batch, [subnet]) - cold_full).item()
        assert log[f'loss_subnet{i}'].item() == pytest.approx(0.5 * 9 * kl, rel=1e-9)


@pytest.mark.parametrize('how', ['n = 0', 'outside the schedule'])
def test_without_subnetworks_it_is_plain_training_bit_for_bit(how):
    gradaug = gradaug_config(num_subnets=0) if how == 'n = 0' else gradaug_config()
    stock, model = stock_and_gradaug(gradaug, dtype=torch.float32)
    wrappers = [sgd(net, lr=0.1, momentum=0.9) for net in (stock, model)]
    for iteration in range(3):
        batch = random_batch(seed=iteration)
        batch['inputs'] = batch['inputs'].float()
        model.announce_iteration(0, iteration, active=how == 'n = 0')
        plain = stock.train_step(copy.deepcopy(batch), wrappers[0])
        log = model.train_step(copy.deepcopy(batch), wrappers[1])
        assert set(log) == {'loss', 'loss_full'}
        assert torch.equal(log['loss'], plain['loss'])
    for (name, a), b in zip(stock.state_dict().items(), model.state_dict().values()):
        assert torch.equal(a, b), name


def test_running_statistics_are_those_of_a_plain_step():
    stock, model = stock_and_gradaug(gradaug_config())
    stock.train_step(random_batch(), sgd(stock))
    model.announce_iteration(0, 0, True)
    model.train_step(random_batch(), sgd(model))
    buffers = dict(model.named_buffers())
    assert len(list(stock.named_buffers())) > 30
    for name, value in stock.named_buffers():
        assert torch.equal(value, buffers[name]), name


def test_logs_each_term_and_each_width():
    _, model = stock_and_gradaug(gradaug_config())
    model.announce_iteration(0, 4, True)
    log = model.train_step(random_batch(), sgd(model))
    subnets = model.subnet_sampler.sample(0, 4)
    widths = [log[f'width_subnet{i}'] for i in range(3)]
    assert widths == [kept_share(model, subnet.width) for subnet in subnets]
    assert widths != [subnet.width for subnet in subnets]  # rounding shows
    terms = [log['loss_full'], *(log[f'loss_subnet{i}'] for i in range(3))]
    assert log['loss'].item() == pytest.approx(sum(t.item() for t in terms), rel=1e-12)
    assert not any(t.requires_grad for t in terms)


def test_no_pass_keeps_the_activations_of_another_alive():
    """What autograd saved in one pass is freed before the next one begins."""
    _, model = stock_and_gradaug(gradaug_config())
    saved = weakref.WeakSet()
    alive_at_start = []

    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor

    def pack(tensor):
        box = Saved(tensor)
        saved.add(box)
        return box

    def count(_module, _args, _kwargs):
        gc.collect()
        alive_at_start.append(len(saved))

    model.backbone.register_forward_pre_hook(count, with_kwargs=True)
    most = []
    model.backbone.register_forward_hook(lambda *args: most.append(len(saved)))
    model.announce_iteration(0, 0, True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        model.train_step(random_batch(), sgd(model))
    assert alive_at_start == [0, 0, 0, 0]
    assert min(most) > 50


class CountingWrapper(OptimWrapper):
    """Says when it stepped, and with which gradients."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.steps = []

    def step(self, **kwargs):
        self.steps.append(self.inner_count)
        super().step(**kwargs)


@pytest.mark.parametrize('clip', [None, 0.05])
def test_accumulation_with_a_remainder_and_clipping_see_one_backward(clip):
    """Eight iterations in windows of three: updates after 3, 6 and 8, the last window divided by 2."""
    stock, model = stock_and_gradaug(gradaug_config())
    wrapper = CountingWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        accumulative_counts=3,
        clip_grad=dict(max_norm=clip) if clip else None,
    )
    wrapper.initialize_count_status(model, 0, 8)
    optimizer = torch.optim.SGD(stock.parameters(), lr=0.1, momentum=0.9)
    for iteration in range(8):
        batch = random_batch(seed=iteration)
        model.announce_iteration(0, iteration, True)
        model.train_step(copy.deepcopy(batch), wrapper)

        subnets = model.subnet_sampler.sample(0, iteration)
        params = dict(stock.named_parameters())
        loss = naive_gradaug_loss(stock, params, preprocess(stock, batch), subnets)
        (loss / (3 if iteration < 6 else 2)).backward()
        if iteration in (2, 5, 7):
            if clip:
                norm = torch.nn.utils.clip_grad_norm_(stock.parameters(), clip)
                assert norm > clip
            optimizer.step()
            optimizer.zero_grad()
    assert wrapper.steps == [3, 6, 8] and wrapper.inner_count == 8
    for (name, a), b in zip(stock.named_parameters(), model.parameters()):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-10, msg=name)


def test_activation_checkpointing_changes_nothing():
    backbone = dict(
        type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8, with_cp=True,
        zero_init_residual=False,
    )  # fmt: skip
    stock, model = stock_and_gradaug(gradaug_config(), backbone=backbone)
    batch = random_batch()
    subnets = model.subnet_sampler.sample(0, 0)
    for block in stock.modules():
        if hasattr(block, 'with_cp'):
            block.with_cp = False
    _, gradients = naive_gradients(stock, preprocess(stock, batch), subnets)
    before = parameters_of(model)
    model.announce_iteration(0, 0, True)
    model.train_step(batch, sgd(model))
    for name, value in model.named_parameters():
        step = before[name] - value.detach()
        torch.testing.assert_close(step, gradients[name], rtol=0, atol=1e-10, msg=name)


class Amp(OptimWrapper):
    """What AmpOptimWrapper does, which runs on accelerators only: autocast, and a scaled loss."""

    scale = 1024.0

    def optim_context(self, model):
        return torch.autocast('cpu', torch.bfloat16)

    def backward(self, loss, **kwargs):
        super().backward(loss * self.scale, **kwargs)

    def step(self, **kwargs):
        for group in self.optimizer.param_groups:
            for p in group['params']:
                p.grad /= self.scale
        super().step(**kwargs)


class OnlyScaling(Amp):
    optim_context = OptimWrapper.optim_context


def test_every_pass_goes_through_the_optim_wrappers_autocast():
    """And the gradient is that of the naive loop in bfloat16, which is far from that in float32."""
    stock, model = stock_and_gradaug(gradaug_config(), dtype=torch.float32)
    dtypes = []
    model.backbone.conv1.register_forward_hook(lambda m, args, out: dtypes.append(out.dtype))
    model.announce_iteration(0, 0, True)
    before = parameters_of(model)
    log = model.train_step(random_batch(), Amp(torch.optim.SGD(model.parameters(), lr=1.0)))
    assert dtypes == [torch.bfloat16] * 4
    batch, subnets = preprocess(stock, random_batch()), model.subnet_sampler.sample(0, 0)
    _, exact = naive_gradients(stock, batch, subnets)
    # Without the cache of cast weights, in which the passes' gradients would be added up in bfloat16.
    with torch.autocast('cpu', torch.bfloat16, cache_enabled=False):
        _, expected = naive_gradients(stock, batch, subnets)
    errors = {
        name: [
            (g - (before[name] - value.detach())).norm().item()
            for g in (expected[name], exact[name])
        ]
        for name, value in model.named_parameters()
    }
    # The losses' formulas differ, hence some roundings.
    assert sum(near for near, _ in errors.values()) < 1e-2 * sum(far for _, far in errors.values())
    assert all(log[f'loss_subnet{i}'].dtype == torch.float32 for i in range(3))


def test_every_pass_goes_through_the_optim_wrappers_loss_scaling():
    """A pass that missed it would count 1024 times too little."""
    states = []
    for wrapper_class in (OptimWrapper, OnlyScaling):
        _, model = stock_and_gradaug(gradaug_config())
        model.announce_iteration(0, 0, True)
        wrapper = wrapper_class(torch.optim.SGD(model.parameters(), lr=1.0))
        model.train_step(random_batch(), wrapper)
        states.append(parameters_of(model))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=1e-12, msg=name)
