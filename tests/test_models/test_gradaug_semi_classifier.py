import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import (
    classifier_config,
    gradaug_config,
    mixed_batch,
    naive_gradaug_loss,
    narrow,
    parameters_of,
    random_batch,
    sgd,
    stock_and_gradaug,
    stock_and_semi,
)
from mmengine.logging import MMLogger
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample

from mmgradaug.models.gradaug_semi_classifier import GradAugSemiClassifier, SemiBatch
from mmgradaug.subnets import Resize


def naive_loss_of_unlabelled(stock, params, images, subnets, weight=1.0, threshold=0.0):
    """Soft labels of the stock network in training mode; each image's divergence by hand."""

    def logits(width, images):
        scratch = {name: value.clone() for name, value in stock.named_buffers()}
        weights = narrow({**params, **scratch}, width)
        return torch.func.functional_call(stock, weights, (images,), dict(mode='tensor'))

    soft = F.softmax(logits(1.0, images).detach(), 1)
    total = 0.0
    for subnet in subnets:
        resized = F.interpolate(
            images, size=subnet.transform.size, mode='bilinear', align_corners=True
        )
        log_sub = F.log_softmax(logits(subnet.width, resized), 1)
        divergence = (soft * (soft.log() - log_sub)).sum(1)
        sure = (soft.max(1).values >= threshold).double()
        total = total + weight * (sure * divergence).sum() / len(images)
    return total


@pytest.mark.parametrize('pixels', [32, 40])
@pytest.mark.parametrize('thresholded', [False, True])
def test_gradient_is_the_naive_sum(thresholded, pixels):
    mixed, batch, more = mixed_batch(unlabelled=6, pixels=pixels)
    options = {}
    if thresholded:  # it divides these images
        stock, _ = stock_and_semi()
        sure = F.softmax(stock(more), 1).max(1).values
        options = dict(weight=0.3, threshold=sure.mean().item())
    stock, model = stock_and_semi(options)
    before = parameters_of(model)
    model.announce_iteration(3, 7, True)
    log = model.train_step(mixed, sgd(model))
    subnets = model.subnet_sampler.sample(3, 7)

    params = {name: value.clone().requires_grad_() for name, value in before.items()}
    loss = naive_gradaug_loss(stock, params, batch, subnets)
    of_unlabelled = naive_loss_of_unlabelled(stock, params, more, subnets, **options)
    assert of_unlabelled > 1e-4
    gradients = torch.autograd.grad(loss + of_unlabelled, list(params.values()))
    assert float(log['loss']) == pytest.approx((loss + of_unlabelled).item(), rel=1e-10)
    for (name, after), gradient in zip(model.named_parameters(), gradients):
        torch.testing.assert_close(before[name] - after, gradient, rtol=1e-8, atol=1e-10, msg=name)


@pytest.mark.parametrize('train_cfg', [None, dict(augments=dict(type='CutMix', alpha=1.0))])
def test_without_unlabelled_images_it_is_gradaug_bit_for_bit(train_cfg):
    changes = {} if train_cfg is None else dict(train_cfg=train_cfg)
    _, gradaug = stock_and_gradaug(gradaug_config(), **changes)
    _, semi = stock_and_semi(dict(weight=5.0), **changes)
    for iteration in range(3):
        logs = []
        for model in (gradaug, semi):
            torch.manual_seed(iteration)
            np.random.seed(iteration)
            model.announce_iteration(0, iteration, True)
            logs.append(
                model.train_step(random_batch(seed=iteration), sgd(model, lr=0.1, momentum=0.9))
            )
        assert logs[0] == logs[1]
    for (name, a), b in zip(gradaug.state_dict().items(), semi.state_dict().values()):
        assert torch.equal(a, b), name


def test_it_says_once_that_there_are_no_unlabelled_images(caplog):
    _, model = stock_and_semi()
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        for iteration in range(2):
            model.announce_iteration(0, iteration, True)
            model.train_step(random_batch(), sgd(model))
    finally:
        logger.removeHandler(caplog.handler)
    told = [r for r in caplog.records if 'without unlabelled images' in r.getMessage()]
    assert len(told) == 1


def test_running_statistics_are_those_of_the_labelled_images_unless_asked_otherwise():
    buffers = {}
    for move in (False, True):
        stock, model = stock_and_semi(dict(move_statistics=move))
        mixed, batch, more = mixed_batch()
        model.announce_iteration(0, 0, True)
        model.train_step(mixed, sgd(model, lr=0.0))
        with torch.no_grad():
            stock(batch['inputs'])
            if move:
                stock(more)
        for (name, a), b in zip(stock.named_buffers(), model.buffers()):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=name)
        buffers[move] = model.backbone.bn1.running_mean.clone()
    assert not torch.allclose(buffers[False], buffers[True])


def test_outside_the_schedule_it_is_plain_training():
    stock, model = stock_and_semi()
    mixed, batch, _ = mixed_batch()
    model.announce_iteration(0, 0, False)
    log = model.train_step(mixed, sgd(model))
    stock.train_step(batch, sgd(stock))
    assert 'loss_subnet0' not in log
    for (name, a), b in zip(stock.state_dict().items(), model.state_dict().values()):
        assert torch.equal(a, b), name


def test_where_the_network_is_sure_of_nothing_only_labelled_images_count():
    _, model = stock_and_semi(dict(threshold=0.999999))
    mixed, batch, _ = mixed_batch()
    model.announce_iteration(0, 0, True)
    log = model.train_step(mixed, sgd(model))
    _, gradaug = stock_and_gradaug(gradaug_config())
    gradaug.announce_iteration(0, 0, True)
    alone = gradaug.train_step(batch, sgd(gradaug))
    assert float(log['loss']) == pytest.approx(float(alone['loss']), rel=1e-12)
    for (name, a), b in zip(gradaug.named_parameters(), model.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=name)


def test_prediction_is_the_stock_classifiers():
    stock, model = stock_and_semi()
    stock.eval(), model.eval()
    batch = random_batch()
    unlabelled = dict(inputs=batch['inputs'], data_samples=[DataSample() for _ in range(4)])
    ours = [sample.pred_score for sample in model.test_step(unlabelled)]
    with torch.no_grad():
        expected = stock(batch['inputs'].float().double()).softmax(1)
    torch.testing.assert_close(torch.stack(ours), expected, rtol=1e-12, atol=0)
    assert list(ImageClassifier(**classifier_config()).state_dict()) == list(model.state_dict())


@pytest.mark.parametrize(
    ('unlabelled', 'error', 'says'),
    [
        (dict(ratio=2), TypeError, "unknown keys .'ratio'.; it takes .'weight'"),
        (dict(weight=-1), ValueError, 'weight must not be negative'),
        (dict(threshold=1.0), ValueError, 'threshold is in .0, 1., 0 for none, got 1.0'),
    ],
)
def test_wrong_options(unlabelled, error, says):
    with pytest.raises(error, match=says):
        stock_and_semi(unlabelled)


def test_part_of_a_batch_might_have_no_labels():
    config = classifier_config(data_preprocessor=None)
    with pytest.raises(ValueError, match='without labelled images: write batch_fraction=1'):
        GradAugSemiClassifier(gradaug=gradaug_config(batch_fraction=0.5), **config)


def test_a_threshold_needs_one_softmax():
    head = dict(type='mmpretrain.MultiLabelLinearClsHead', num_classes=5, in_channels=64)
    _, model = stock_and_semi(dict(threshold=0.5), head=head)
    mixed, _, _ = mixed_batch()
    for sample in mixed['data_samples']:
        if 'gt_label' in sample:
            sample.set_gt_label([int(sample.gt_label)])
    model.announce_iteration(0, 0, True)
    with pytest.raises(
        TypeError, match='threshold needs a head with one softmax.*write threshold=0'
    ):
        model.train_step(mixed, sgd(model))


def test_the_batch_is_a_value_with_unlabelled_images_last():
    data = random_batch()
    more = random_batch(size=3, seed=1, pixels=40)['inputs']
    batch = SemiBatch(data['inputs'], data['data_samples'], more)
    assert len(batch) == 7
    resized = batch.transform(Resize((24, 24)))
    assert torch.equal(resized.images, Resize((24, 24))(data['inputs']))
    assert torch.equal(resized.unlabelled, Resize((24, 24))(more))
    assert resized.data_samples is batch.data_samples and batch.unlabelled.shape[-1] == 40
    chosen = batch.select(torch.tensor([6, 3, 4, 1]))
    assert torch.equal(chosen.images, data['inputs'][[3, 1]])
    assert torch.equal(chosen.unlabelled, more[[2, 0]])
    assert [s is data['data_samples'][i] for s, i in zip(chosen.data_samples, (3, 1))] == [True] * 2
    alone = SemiBatch(data['inputs'], data['data_samples'])
    assert len(alone) == 4 and alone.transform(Resize((8, 8))).unlabelled is None
    assert alone.select(torch.tensor([2])).unlabelled is None


def test_the_head_runs_once_for_labels_and_once_for_unlabelled_images():
    _, model = stock_and_semi()
    calls = []
    model.head.register_forward_hook(lambda *_: calls.append(1))
    mixed, _, _ = mixed_batch()
    model.announce_iteration(0, 0, True)
    model.train_step(mixed, sgd(model))
    assert len(calls) == 2 * 4
