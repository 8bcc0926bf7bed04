"""What a sub-network is given, against what MMDetection's own pipeline makes at the same scale."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from detection import random_batch
from mmdet.datasets.transforms import PackDetInputs, Resize
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData

from mmgradaug.models.detectors import DetectionBatch, transform_batch
from mmgradaug.subnets import Chain, NoChange, Rotate90, Scale
from mmgradaug.subnets import Resize as ResizeOperation

SIZES = ((64, 96), (61, 83), (97, 50))


def preprocessed(data, divisor=32, **options):
    preprocessor = DetDataPreprocessor(
        mean=[120.0] * 3, std=[50.0] * 3, pad_size_divisor=divisor, pad_mask=True, **options
    )
    data = preprocessor(copy.deepcopy(data), training=True)
    return DetectionBatch(size_divisor=divisor, **data)


def through_the_pipeline(data, factor):
    """The same data, each image resized by MMDetection before it is batched."""
    resized = dict(inputs=[], data_samples=[])
    for image, sample in zip(data['inputs'], data['data_samples']):
        instances = sample.gt_instances
        results = dict(
            # Float, since the preprocessed batch has no 8-bit steps either.
            img=image.permute(1, 2, 0).numpy().astype(np.float32),
            img_shape=tuple(image.shape[1:]), ori_shape=tuple(image.shape[1:]),
            gt_bboxes=HorizontalBoxes(instances.bboxes.clone()),
            gt_bboxes_labels=instances.labels.numpy(),
            gt_masks=instances.masks, gt_ignore_flags=np.zeros(len(instances.labels), dtype=bool),
        )  # fmt: skip
        if 'gt_sem_seg' in sample:
            results['gt_seg_map'] = sample.gt_sem_seg.sem_seg[0].numpy()
        results = Resize(scale_factor=factor)(results)
        packed = PackDetInputs(meta_keys=('img_shape', 'ori_shape', 'scale_factor'))(results)
        resized['inputs'].append(packed['inputs'])
        resized['data_samples'].append(packed['data_samples'])
    return resized


def iou(a, b):
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    return (a & b).sum() / max((a | b).sum(), 1)


@pytest.mark.parametrize('factor', [0.5, 160 / 224, 0.9, 1.3])
@pytest.mark.parametrize('polygons', [False, True], ids=['bitmaps', 'polygons'])
def test_equals_resizing_in_the_pipeline(factor, polygons):
    data = random_batch(sizes=SIZES, polygons=polygons)
    rng = np.random.default_rng(0)
    for sample in data['data_samples']:
        seg = torch.from_numpy(rng.integers(0, 5, (1, *sample.img_shape), dtype=np.uint8))
        sample.gt_sem_seg = PixelData(sem_seg=seg)
    before = preprocessed(data, pad_seg=True)
    ours = transform_batch(Scale(factor), before)
    expected = preprocessed(through_the_pipeline(data, factor), pad_seg=True)

    assert ours.inputs.shape == expected.inputs.shape
    torch.testing.assert_close(ours.inputs, expected.inputs, rtol=0, atol=1e-3)
    for our, other in zip(ours.data_samples, expected.data_samples):
        for key in ('img_shape', 'batch_input_shape', 'pad_shape', 'ori_shape'):
            assert tuple(our.metainfo[key]) == tuple(other.metainfo[key]), key
        assert our.scale_factor == pytest.approx(other.scale_factor)
        torch.testing.assert_close(
            our.gt_instances.bboxes, other.gt_instances.bboxes, rtol=1e-6, atol=1e-4
        )
        assert torch.equal(our.gt_instances.labels, other.gt_instances.labels)
        # A column that lies exactly between two is rounded differently, and this is noise.
        same = our.gt_sem_seg.sem_seg == other.gt_sem_seg.sem_seg
        assert our.gt_sem_seg.sem_seg.dtype == torch.uint8 and same.double().mean() > 0.99
        masks, theirs = our.gt_instances.masks, other.gt_instances.masks
        assert (masks.height, masks.width) == (theirs.height, theirs.width)
        if polygons:
            for mine, their in zip(masks.masks, theirs.masks):
                np.testing.assert_array_equal(mine, their)
        else:
            assert isinstance(masks, BitmapMasks)
            np.testing.assert_array_equal(masks.masks, theirs.masks)


def test_nothing_that_is_handed_in_changes():
    before = preprocessed(random_batch())
    reference = copy.deepcopy(before)
    for operation in (NoChange(), Scale(0.5), Chain((Scale(0.5), Scale(0.8)))):
        after = transform_batch(operation, before)
        for sample in after.data_samples:
            # What heads do to their annotations.
            sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
            sample.gt_instances.masks = sample.gt_instances.masks.to_tensor(torch.uint8, 'cpu')
            sample.set_metainfo(dict(img_shape=(1, 1)))
    assert torch.equal(before.inputs, reference.inputs)
    for sample, other in zip(before.data_samples, reference.data_samples):
        assert sample.metainfo == other.metainfo
        assert torch.equal(sample.gt_instances.labels, other.gt_instances.labels)
        assert torch.equal(sample.gt_instances.bboxes, other.gt_instances.bboxes)
        assert np.array_equal(sample.gt_instances.masks.masks, other.gt_instances.masks.masks)


def test_factor_one_is_the_batch_itself():
    before = preprocessed(random_batch())
    after = transform_batch(Scale(1.0), before)
    assert after.inputs is before.inputs
    for old, new in zip(before.data_samples, after.data_samples):
        assert new.gt_instances.masks is old.gt_instances.masks
        assert new.metainfo == old.metainfo


def test_a_chain_is_one_after_the_other():
    before = preprocessed(random_batch(sizes=((80, 100),)))
    chained = transform_batch(Chain((Scale(0.5), NoChange(), Scale(0.5))), before)
    once = transform_batch(Scale(0.25), before)
    assert chained.data_samples[0].img_shape == once.data_samples[0].img_shape == (20, 25)
    torch.testing.assert_close(
        chained.data_samples[0].gt_instances.bboxes, once.data_samples[0].gt_instances.bboxes
    )
    masks = chained.data_samples[0].gt_instances.masks
    assert masks.masks.shape[1:] == chained.data_samples[0].batch_input_shape == (32, 32)


def test_padding_holds_the_pad_value_and_masks_without_padding_stay_so():
    data = random_batch(sizes=((64, 96), (40, 60)))
    batch = DetectionBatch(
        **DetDataPreprocessor(pad_size_divisor=32, pad_value=7)(data, training=True),
        size_divisor=32, pad_value=7.0, pad_masks=False,
    )  # fmt: skip
    after = transform_batch(Scale(0.5), batch)
    assert after.inputs.shape[-2:] == (32, 64)
    assert (after.inputs[1, :, 20:] == 7).all() and (after.inputs[1, :, :, 30:] == 7).all()
    assert after.data_samples[1].pad_shape == (32, 32)
    masks = after.data_samples[1].gt_instances.masks
    assert masks.masks.shape == (3, 20, 30)


def test_box_objects_and_ignored_instances_and_proposals_scale_too():
    batch = preprocessed(random_batch(sizes=((64, 96),)))
    sample = batch.data_samples[0]
    boxes = sample.gt_instances.bboxes.clone()
    sample.gt_instances.bboxes = HorizontalBoxes(boxes)
    sample.ignored_instances = InstanceData(bboxes=boxes[:1], labels=torch.tensor([1]))
    sample.proposals = InstanceData(bboxes=boxes, scores=torch.ones(3))
    after = transform_batch(Scale(0.5), batch).data_samples[0]
    assert isinstance(after.gt_instances.bboxes, HorizontalBoxes)
    torch.testing.assert_close(after.gt_instances.bboxes.tensor, boxes * 0.5)
    torch.testing.assert_close(after.ignored_instances.bboxes, boxes[:1] * 0.5)
    torch.testing.assert_close(after.proposals.bboxes, boxes * 0.5)
    torch.testing.assert_close(sample.gt_instances.bboxes.tensor, boxes)


@pytest.mark.parametrize('operation', [ResizeOperation((32, 32)), Rotate90(1)])
def test_operations_that_know_images_only_are_refused(operation):
    batch = preprocessed(random_batch())
    with pytest.raises(TypeError, match="write transforms=dict\\(type='RandomScale'"):
        transform_batch(operation, batch)


def test_annotations_that_cannot_be_scaled_are_refused():
    batch = preprocessed(random_batch())
    batch.data_samples[0].gt_instances.keypoints = torch.zeros(3, 17, 2)
    with pytest.raises(TypeError, match='gt_instances.keypoints .* PackDetInputs'):
        transform_batch(Scale(0.5), batch)
    batch = preprocessed(random_batch())
    batch.data_samples[0].gt_instances.masks = torch.zeros(3, 64, 96)
    batch.data_samples[0].gt_instances.masks.height = 64
    with pytest.raises(TypeError, match='masks of type Tensor'):
        transform_batch(Scale(0.5), batch)
    batch = preprocessed(random_batch())
    batch.data_samples[0].gt_instances_of_mine = InstanceData()
    with pytest.raises(TypeError, match='gt_instances_of_mine'):
        transform_batch(Scale(0.5), batch)


def test_own_operations_join_by_registration():
    class Blank:
        def __call__(self, images):
            return images * 0

    @transform_batch.register
    def _(operation: Blank, batch: DetectionBatch) -> DetectionBatch:
        return DetectionBatch(operation(batch.inputs), batch.data_samples)

    batch = preprocessed(random_batch())
    assert not transform_batch(Blank(), batch).inputs.any()


def test_images_without_instances():
    data = random_batch(instances=0)
    for masks in (BitmapMasks([], 64, 96), PolygonMasks([], 64, 96)):
        batch = preprocessed(data)
        batch.data_samples[0].gt_instances.masks = masks
        after = transform_batch(Scale(0.5), batch).data_samples[0].gt_instances
        assert len(after.masks) == 0 and after.bboxes.shape == (0, 4)
        assert after.masks.to_ndarray().shape == (0, 32, 64)


def test_segmentation_maps_of_another_size():
    """SegRescale's coarse maps keep their ratio; padded they would not be what they seem."""
    batch = preprocessed(random_batch(sizes=((64, 96),)))
    coarse = torch.arange(96).view(1, 8, 12)
    batch.data_samples[0].gt_sem_seg = PixelData(sem_seg=coarse)
    batch = replace(batch, pad_segmentation=False)
    after = transform_batch(Scale(0.5), batch).data_samples[0].gt_sem_seg.sem_seg
    assert torch.equal(after, coarse[:, ::2, ::2])
    with pytest.raises(TypeError, match='gt_sem_seg is .8, 12. pixels large.*SegRescale'):
        transform_batch(Scale(0.5), replace(batch, pad_segmentation=True))


def test_the_batch_is_a_value():
    batch = preprocessed(random_batch(sizes=SIZES))
    assert len(batch) == 3
    once, other = batch.transform(Scale(0.5)), transform_batch(Scale(0.5), batch)
    assert torch.equal(once.inputs, other.inputs)
    assert once.data_samples[1].img_shape == other.data_samples[1].img_shape == (31, 42)
    chosen = batch.select(torch.tensor([2, 0]))
    assert len(chosen) == 2 and torch.equal(chosen.inputs, batch.inputs[[2, 0]])
    assert [s is batch.data_samples[i] for s, i in zip(chosen.data_samples, (2, 0))] == [True] * 2
    assert (chosen.size_divisor, chosen.pad_masks) == (batch.size_divisor, batch.pad_masks)
    # A part of the batch is transformed as the whole is.
    part, whole = chosen.transform(Scale(0.5)), batch.transform(Scale(0.5))
    assert torch.equal(part.inputs, whole.inputs[[2, 0]])
    for mine, theirs in zip(part.data_samples, (whole.data_samples[2], whole.data_samples[0])):
        assert torch.equal(mine.gt_instances.bboxes, theirs.gt_instances.bboxes)
