import copy
import io

import pytest
import torch
from helpers import (
    classifier_config,
    gradaug_config,
    parameters_of,
    random_batch,
    sgd,
    stock_and_gradaug,
)
from mmpretrain.models import ImageClassifier

from mmgradaug.engine import GradAugMixin
from mmgradaug.models import GradAugClassifier
from mmgradaug.slimming import SlimmingError, subnetwork
from mmgradaug.subnets import RandomResize, SubnetSampler, preset


def test_an_announcement_is_good_for_one_step():
    """A hook that stops announcing must show, not repeat one iteration's draws for ever."""
    _, model = stock_and_gradaug(gradaug_config())
    model.announce_iteration(0, 3, True)
    model.train_step(random_batch(), sgd(model))
    before = model.backbone.conv1.weight.clone()
    with pytest.raises(RuntimeError, match='GradAugHook'):
        model.train_step(random_batch(), sgd(model))
    assert torch.equal(model.backbone.conv1.weight, before)


def test_draws_are_those_of_the_announced_iteration():
    _, model = stock_and_gradaug(gradaug_config())
    model.announce_iteration(4, 17, True)
    assert model.draw_subnets() == model.subnet_sampler.sample(4, 17)
    model.announce_iteration(4, 17, False)
    assert model.draw_subnets() == []


def test_forward_for_the_loss_in_training_is_refused():
    _, model = stock_and_gradaug(gradaug_config())
    with pytest.raises(RuntimeError, match='without sub-networks'):
        model(**random_batch(), mode='loss')
    assert 'loss' in model.eval()(**random_batch(), mode='loss')


@pytest.mark.parametrize('missing', ['make_batch', 'full_pass', 'subnet_pass'])
def test_a_task_that_does_not_say_what_its_passes_are_is_refused(missing):
    class Forgetful(GradAugMixin, ImageClassifier):
        soft_labels = True

    for name in ('make_batch', 'full_pass', 'subnet_pass'):
        if name != missing:
            setattr(Forgetful, name, getattr(GradAugClassifier, name))
    model = Forgetful(gradaug=gradaug_config(), **classifier_config()).double()
    model.announce_iteration(0, 0, True)
    before = parameters_of(model)
    with pytest.raises(TypeError, match=rf'Forgetful must override {missing}\(\)'):
        model.train_step(random_batch(), sgd(model))
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def deep_copied(model):
    return copy.deepcopy(model)


def pickled(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize('copied', [deep_copied, pickled])
def test_a_copy_has_the_same_subnetworks_and_trains_on(copied):
    """Its head, which has layers of its own, keeps their channels; a plan made anew would narrow them."""
    head = dict(
        type='mmpretrain.StackedLinearClsHead', num_classes=5, in_channels=64, mid_channels=[16]
    )
    _, model = stock_and_gradaug(gradaug_config(survival_prob=0.5), head=head)
    model.announce_iteration(0, 0, True)
    model.train_step(random_batch(), sgd(model, lr=0.1))
    other = copied(model)
    for each in (model, other):
        with subnetwork(each, 0.5):
            assert each.head.layers[0].fc.weight.shape == (16, 32)
    logs = []
    for each in (model, other):
        each.announce_iteration(0, 1, True)
        logs.append(each.train_step(random_batch(seed=1), sgd(each, lr=0.1)))
    assert logs[0] == logs[1] and 'dropped_blocks_subnet0' in logs[0]
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values()):
        assert torch.equal(a, b), name


def test_every_hyperparameter_of_the_sampler_is_one_of_the_models():
    """But axes, which no config can write."""
    with pytest.raises(TypeError, match=r"unknown keys \['axes'\]"):
        GradAugClassifier(gradaug=gradaug_config(axes=[]), **classifier_config())
    options = dict(num_subnets=2, min_width=0.7, smallest_if_single=True, survival_prob=0.5)
    model = GradAugClassifier(gradaug=gradaug_config(**options), **classifier_config())
    own = SubnetSampler(transforms=model.subnet_sampler.transform, **options)
    own.bind(model)
    assert model.subnet_sampler.sample(1, 2) == own.sample(1, 2)


def test_a_preset_gives_what_is_not_written_beside_it():
    def model(**gradaug):
        transforms = dict(type='RandomResize', sizes=[32, 24])
        return GradAugClassifier(
            gradaug=dict(transforms=transforms, **gradaug), **classifier_config()
        ).subnet_sampler

    economy = SubnetSampler(transforms=RandomResize([32, 24]), **preset('economy'))
    assert model(preset='economy').sample(1, 2) == economy.sample(1, 2) != []
    assert model(preset='paper').sample(1, 2) == model().sample(1, 2)
    drawn = model(preset='economy', num_subnets=2, min_width=0.5).sample(1, 2)
    assert drawn[0].width == 0.5 and len(drawn) == 2
    assert (model(preset='economy').every, model().every) == (2, 1)
    with pytest.raises(ValueError, match="no preset 'cheap': write one of paper, economy"):
        model(preset='cheap')


def hrnet(**gradaug):
    """HRNet adds feature maps of several resolutions, so its sizes are multiples of 32."""
    config = classifier_config(
        backbone=dict(type='mmpretrain.HRNet', arch='w18'),
        neck=dict(type='mmpretrain.HRFuseScales', in_channels=(18, 36, 72, 144), out_channels=64),
    )
    config['neck'] = [config['neck'], dict(type='mmpretrain.GlobalAveragePooling')]
    return GradAugClassifier(gradaug=gradaug_config(**gradaug), **config)


def test_sizes_that_the_network_cannot_take_are_refused_when_it_is_built():
    with pytest.raises(
        SlimmingError, match=r"images of 40 x 40 pixels.*'backbone\.stage\d.*Leave that size out"
    ):
        hrnet(transforms=dict(type='RandomResize', sizes=[64, 40]))
