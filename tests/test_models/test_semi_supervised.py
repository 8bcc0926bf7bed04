import pytest
import torch
from helpers import classifier_config, gradaug_config
from mmengine.registry import DefaultScope
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.structures import DataSample

from mmgradaug.models import GradAugSemiClassifier, MeanTeacherClassifier, SemiClsDataPreprocessor


def batch(pattern, pixels=8):
    """'L' and 'u' for images; the i-th has the value i everywhere, and label i."""
    inputs, samples = [], []
    for i, kind in enumerate(pattern):
        inputs.append(torch.full((3, 8, 8) if kind == 'L' else (3, pixels, pixels), float(i)))
        samples.append(DataSample().set_gt_label(i) if kind == 'L' else DataSample())
    return dict(inputs=inputs, data_samples=samples)


def test_images_without_labels_come_out_apart_whatever_their_order_and_size():
    preprocessor = SemiClsDataPreprocessor(mean=[1.0] * 3, std=[2.0] * 3)
    out = preprocessor(batch('LuuLu', pixels=12), True)
    assert out['inputs'].shape == (2, 3, 8, 8) and out['unlabelled'].shape == (3, 3, 12, 12)
    assert out['inputs'][:, 0, 0, 0].tolist() == [-0.5, 1.0]
    assert out['unlabelled'][:, 0, 0, 0].tolist() == [0.0, 0.5, 1.5]
    assert [int(sample.gt_label) for sample in out['data_samples']] == [0, 3]


def test_a_stacked_batch_is_divided_too():
    mixed = batch('LuL')
    stacked = SemiClsDataPreprocessor()(dict(mixed, inputs=torch.stack(mixed['inputs'])), True)
    listed = SemiClsDataPreprocessor()(mixed, True)
    for key in ('inputs', 'unlabelled'):
        assert torch.equal(stacked[key], listed[key])


def test_cutmix_is_for_labelled_images_alone():
    augments = dict(augments=dict(type='mmpretrain.CutMix', alpha=1.0), probs=1.0)
    preprocessor = SemiClsDataPreprocessor(num_classes=5, batch_augments=augments)
    torch.manual_seed(0)
    out = preprocessor(batch('LuLuL'), True)
    assert (out['unlabelled'].flatten(1).std(1) == 0).all()
    assert out['data_samples'][0].gt_score.shape == (5,)


@pytest.mark.parametrize('training', [False, True])
def test_other_batches_come_out_as_from_the_stock_class(training):
    ours = SemiClsDataPreprocessor(mean=[1.0] * 3, std=[2.0] * 3)
    stock = ClsDataPreprocessor(mean=[1.0] * 3, std=[2.0] * 3)
    pattern = 'LLL' if training else 'uuu'  # in a test, images may lack labels
    a, b = (each(batch(pattern), training) for each in (ours, stock))
    assert list(a) == list(b) and torch.equal(a['inputs'], b['inputs'])


def test_a_batch_without_any_label_is_an_error():
    with pytest.raises(
        ValueError, match='none of the 2 images of a batch has a label.*MultiSource'
    ):
        SemiClsDataPreprocessor()(batch('uu'), True)


@pytest.mark.parametrize(
    ('kind', 'options'),
    [(GradAugSemiClassifier, dict(gradaug=gradaug_config())), (MeanTeacherClassifier, {})],
)
def test_the_models_bring_their_preprocessor_and_refuse_another(kind, options):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        config = classifier_config(data_preprocessor=dict(mean=[1.0] * 3, std=[2.0] * 3))
        model = kind(**config, **options)
        assert isinstance(model.data_preprocessor, SemiClsDataPreprocessor)
        assert model.data_preprocessor.mean.flatten().tolist() == [1.0] * 3
        # Mixup and CutMix still get to it.
        train_cfg = dict(augments=dict(type='CutMix', alpha=1.0))
        config = classifier_config(data_preprocessor=dict(num_classes=5), train_cfg=train_cfg)
        assert kind(**config, **options).data_preprocessor.batch_augments is not None
        stock = classifier_config(data_preprocessor=dict(type='ClsDataPreprocessor'))
        with pytest.raises(
            TypeError, match='ClsDataPreprocessor does not know of unlabelled images'
        ):
            kind(**stock, **options)
