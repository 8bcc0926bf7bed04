import pytest
import torch
from helpers import classifier_config, gradaug_config, random_batch, sgd, stock_and_gradaug
from mmpretrain.models import ImageClassifier

from mmgradaug.engine import GradAugMixin
from mmgradaug.slimming import SlimmingError


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


def test_a_model_that_does_not_say_what_it_slims_is_refused():
    class Forgetful(GradAugMixin, ImageClassifier):
        pass

    with pytest.raises(SlimmingError, match='override slim'):
        Forgetful(gradaug=gradaug_config(), **classifier_config())
