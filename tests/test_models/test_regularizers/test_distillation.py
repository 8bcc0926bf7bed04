"""Distillation against its formula, for plain training and GradAug."""

import copy

import pytest
import torch
from helpers import classifier_config, gradaug_config, random_batch, sgd
from mmengine.registry import MODELS

from mmgradaug.models import GradAugClassifier

HEAD = dict(
    type='mmgradaug.DistillationClsHead',
    num_classes=5,
    in_channels=64,
    temperature=4.0,
    hard_weight=0.3,
    loss=dict(type='mmpretrain.CrossEntropyLoss'),
)


@pytest.fixture
def teacher(tmp_path):
    """A classifier's config and its checkpoint."""
    config = dict(
        type='mmpretrain.ImageClassifier',
        **classifier_config(data_preprocessor=None),
    )
    torch.manual_seed(5)
    network = MODELS.build(copy.deepcopy(config))
    torch.save(network.state_dict(), tmp_path / 'teacher.pth')
    return config, str(tmp_path / 'teacher.pth'), network.eval()


def student(teacher, **changes):
    config, checkpoint, _ = teacher
    preprocessor = dict(
        type='mmgradaug.DistillationClsDataPreprocessor',
        num_classes=5,
        teacher=copy.deepcopy(config),
        teacher_checkpoint=checkpoint,
    )
    options = classifier_config(head=HEAD, data_preprocessor=preprocessor, **changes)
    return options


def test_loss_is_the_formula_and_the_teacher_is_not_part_of_the_student(teacher):
    torch.manual_seed(0)
    model = MODELS.build(dict(type='mmpretrain.ImageClassifier', **student(teacher)))
    model.train()
    batch = random_batch()
    data = model.data_preprocessor({**batch, 'inputs': batch['inputs'].float()}, True)
    losses = model.loss(**data)
    logits = model(data['inputs'], mode='tensor')
    labels = torch.cat([sample.gt_label for sample in batch['data_samples']])
    with torch.no_grad():
        p = (teacher[2](data['inputs']) / 4).softmax(1)
    q = (logits / 4).softmax(1)
    assert losses['loss'].item() == pytest.approx(
        0.3 * torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )
    assert losses['loss_distillation'].item() == pytest.approx(
        0.7 * 16 * (p * (p / q).log()).sum(1).mean().item(), rel=1e-4
    )
    assert not any('teacher' in name for name in model.state_dict())
    assert len(list(model.parameters())) == len(list(teacher[2].parameters()))
    # In the test nobody asks the teacher.
    batch = random_batch()
    data = model.data_preprocessor({**batch, 'inputs': batch['inputs'].float()}, False)
    assert all('teacher_logits' not in sample for sample in data['data_samples'])


def test_it_goes_with_gradaug(teacher):
    model = GradAugClassifier(gradaug=gradaug_config(), **student(teacher)).train()
    model.announce_iteration(0, 0, True)
    batch = random_batch()
    log = model.train_step({**batch, 'inputs': batch['inputs'].float()}, sgd(model))
    assert log['loss_distillation'] > 0 and log['loss_subnet2'] > 0
    parts = sum(log[f'loss_subnet{i}'] for i in range(3))
    assert log['loss'].item() == pytest.approx((log['loss_full'] + parts).item(), rel=1e-5)


def test_without_a_teacher_or_its_weights(teacher, tmp_path):
    options = classifier_config(head=HEAD)
    model = MODELS.build(dict(type='mmpretrain.ImageClassifier', **options)).double().train()
    with pytest.raises(ValueError, match='DistillationClsDataPreprocessor'):
        model.loss(**model.data_preprocessor(random_batch(), True))
    config = student((teacher[0], str(tmp_path / 'none.pth'), None))['data_preprocessor']
    preprocessor = MODELS.build(config)
    batch = random_batch()
    preprocessor(batch, False)  # the test needs no teacher
    with pytest.raises(FileNotFoundError, match='none.pth'):
        preprocessor(random_batch(), True)
    with pytest.raises(ValueError, match='temperature'):
        MODELS.build({**HEAD, 'temperature': 0.0})
