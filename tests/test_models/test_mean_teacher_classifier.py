import math

import pytest
import torch
import torch.nn.functional as F
from helpers import classifier_config, mixed_batch, student_and_teacher
from mmpretrain.models import ImageClassifier


def test_loss_and_gradient_are_the_formulas():
    student, teacher = student_and_teacher(weight=3.0, ramp_up=0.5)
    stock = ImageClassifier(**classifier_config()).double().train()
    mixed, batch, more = mixed_batch(labelled=4, unlabelled=3, pixels=40)

    def logits(model, images):
        state = {
            **dict(model.named_parameters()),
            **{n: b.clone() for n, b in model.named_buffers()},
        }
        return torch.func.functional_call(stock, state, (images,))

    target = torch.cat([sample.gt_label for sample in batch['data_samples']])
    p, q = logits(student, more).softmax(1), logits(teacher, more).softmax(1)
    consistency = ((p - q) ** 2).sum() / 5 / 3
    weight = 3.0 * math.exp(-5 * (1 - 0.2 / 0.5) ** 2)
    expected = F.cross_entropy(logits(student, batch['inputs']), target) + weight * consistency
    gradients = torch.autograd.grad(expected, list(student.parameters()))

    student.announce_teacher(teacher, 0.2)
    data = student.data_preprocessor(mixed, True)
    losses = student.train()(**data, mode='loss')
    total = losses['loss'] + losses['loss_consistency']
    assert losses['loss_consistency'].item() == pytest.approx(
        (weight * consistency).item(), rel=1e-9
    )
    assert consistency.item() > 1e-5
    total.backward()
    for parameter, gradient in zip(student.parameters(), gradients):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_terms_count_as_in_one_batch_of_labelled_and_unlabelled_images():
    """Oliver et al. divide both sums by all images of a batch, half of which are unlabelled."""
    student, teacher = student_and_teacher(weight=8.0, ramp_up=0.0)
    mixed, _, _ = mixed_batch(labelled=4, unlabelled=4)
    data = student.data_preprocessor(mixed, True)
    images, target = data['inputs'], torch.cat([s.gt_label for s in data['data_samples']])

    student.announce_teacher(teacher, 1.0)
    losses = student.train()(**data, mode='loss')
    labelled = student.head(student.extract_feat(images))
    p, q = (model.head(model.extract_feat(data['unlabelled'])) for model in (student, teacher))
    cross_entropy = F.cross_entropy(labelled, target, reduction='sum') / 8
    squares = (p.softmax(1) - q.softmax(1)).square().mean(1).sum() / 8
    ratio = losses['loss_consistency'] / losses['loss']
    assert ratio.item() == pytest.approx((8.0 * squares / cross_entropy).item(), rel=1e-9)


def test_the_weight_rises_from_nearly_nothing_to_the_whole():
    model, _ = student_and_teacher(weight=8.0, ramp_up=0.4)
    assert model.consistency_weight(0.0) == pytest.approx(8 * math.exp(-5))
    assert model.consistency_weight(0.2) == pytest.approx(8 * math.exp(-5 * 0.25))
    assert model.consistency_weight(0.4) == model.consistency_weight(1.0) == 8.0
    at_once, _ = student_and_teacher(ramp_up=0)
    assert at_once.consistency_weight(0.0) == 8.0


def test_the_teacher_is_no_part_of_the_model():
    student, teacher = student_and_teacher()
    keys, parameters = list(student.state_dict()), len(list(student.parameters()))
    student.announce_teacher(teacher, 0.0)
    assert (
        list(student.state_dict())
        == keys
        == list(ImageClassifier(**classifier_config()).state_dict())
    )
    assert len(list(student.parameters())) == parameters


def test_without_its_hook_it_does_not_train():
    student, _ = student_and_teacher()
    data = student.data_preprocessor(mixed_batch()[0], True)
    with pytest.raises(RuntimeError, match='no teacher.*mmgradaug.MeanTeacherHook'):
        student(**data, mode='loss')


@pytest.mark.parametrize(
    ('options', 'error', 'says'),
    [
        (
            dict(ema=0.9),
            TypeError,
            "unknown keys .'ema'.; it takes .'weight', 'ramp_up', 'momentum'",
        ),
        (dict(weight=-1.0), ValueError, 'weight must not be negative, got -1.0'),
        (
            dict(ramp_up=200000),
            ValueError,
            'ramp_up is a share of the training, in .0, 1., got 200000',
        ),
        (dict(momentum=1.0), ValueError, r'momentum is in \(0, 1\), got 1.0'),
    ],
)
def test_wrong_options(options, error, says):
    with pytest.raises(error, match=says):
        student_and_teacher(**options)
