"""GradAug for any detector of MMDetection: the step against stock detectors, and what it refuses."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from command_line import run
from detection import (
    MODELS_OF_MMDET,
    build,
    naive_loss,
    random_batch,
    stock_and_gradaug,
    tiny_config,
)
from helpers import parameters_of, sgd
from mmdet.models import RetinaNet
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks

from mmgradaug.models.detectors import GradAugDetectorMixin
from mmgradaug.slimming import SlimmingError, plan_of, subnetwork

BOTH = ['ground_truth', 'soft_labels']


def step(model, batch, iteration=0, lr=1.0):
    model.announce_iteration(0, iteration, active=True)
    return model.train_step(copy.deepcopy(batch), sgd(model, lr=lr))


@pytest.mark.parametrize('detector', ['MaskRCNN', 'RetinaNet', 'CascadeRCNN'])
@pytest.mark.parametrize('num_subnets', [1, 3])
def test_gradient_is_that_of_the_summed_loss(detector, num_subnets):
    transforms = dict(type='RandomScale', factors=[0.8, 0.6])
    stock, model = stock_and_gradaug(dict(num_subnets=num_subnets, transforms=transforms), detector)
    batch = random_batch(polygons=True, dtype=torch.float64)
    before = parameters_of(model)
    torch.manual_seed(5)
    log = step(model, batch, iteration=11)

    subnets = model.subnet_sampler.sample(0, 11)
    assert len(subnets) == num_subnets
    loss = naive_loss(stock, batch, subnets, seed=5)
    params = dict(stock.named_parameters())
    gradients = dict(zip(params, torch.autograd.grad(loss, list(params.values()))))
    for name, value in model.named_parameters():
        moved = before[name] - value.detach()
        torch.testing.assert_close(moved, gradients[name], rtol=0, atol=1e-8, msg=name)
    assert log['loss'].item() == pytest.approx(loss.item(), rel=1e-10)


def test_on_part_of_the_batch_it_is_trained_as_on_these_images_alone():
    transforms = dict(type='RandomScale', factors=[0.8, 0.6])
    settings = dict(num_subnets=2, transforms=transforms, batch_fraction=0.5)
    stock, model = stock_and_gradaug(settings, 'RetinaNet')
    batch = random_batch(polygons=True, dtype=torch.float64)
    before = parameters_of(model)
    log = step(model, batch)
    params = dict(stock.named_parameters())
    full = naive_loss(stock, batch, [], seed=0)
    losses = [full]
    for subnet in model.subnet_sampler.sample(0, 0):
        (row,) = subnet.part.indices(2).tolist()
        one = {key: [values[row]] for key, values in copy.deepcopy(batch).items()}
        losses.append(naive_loss(stock, one, [subnet], seed=0) - naive_loss(stock, one, [], seed=0))
    gradients = dict(zip(params, torch.autograd.grad(sum(losses), list(params.values()))))
    for name, value in model.named_parameters():
        moved = before[name] - value.detach()
        torch.testing.assert_close(moved, gradients[name], rtol=0, atol=1e-8, msg=name)
    assert log['loss'].item() == pytest.approx(sum(losses).item(), rel=1e-10)
    with pytest.raises(
        ValueError, match='batch_fraction is for sub-networks that learn from the ground'
    ):
        stock_and_gradaug({**settings, 'subnets_learn': 'soft_labels'}, 'RetinaNet')


@pytest.mark.parametrize('detector', list(MODELS_OF_MMDET))
def test_no_subnetworks_is_stock_mmdetection_bit_for_bit(detector):
    config = tiny_config(detector)
    stock = build(config)
    model = build(tiny_config(detector, dict(num_subnets=0)))
    assert list(model.state_dict()) == list(stock.state_dict())
    model.load_state_dict(stock.state_dict(), strict=True)
    batch = random_batch(polygons=detector == 'CondInst')
    logs = []
    for each in (stock, model):
        if each is model:
            each.announce_iteration(0, 0, active=True)
        torch.manual_seed(5)
        logs.append(each.train_step(copy.deepcopy(batch), sgd(each)))
    for key, value in logs[0].items():
        assert torch.equal(value, logs[1][key]), key
    for (name, value), other in zip(stock.state_dict().items(), model.state_dict().values()):
        assert torch.equal(value, other), name


@pytest.mark.parametrize('learn', BOTH)
@pytest.mark.parametrize('detector', list(MODELS_OF_MMDET))
def test_every_detector_trains(detector, learn):
    model = build(tiny_config(detector, dict(subnets_learn=learn)))
    assert isinstance(model, GradAugDetectorMixin)
    before = parameters_of(model)
    logs = [step(model, random_batch(seed=i, polygons=i == 1), i, lr=0.01) for i in range(2)]
    for log in logs:
        assert all(np.isfinite(float(value)) for value in log.values())
        parts = [float(log[f'loss_subnet{i}']) for i in range(2)]
        assert float(log['loss']) == pytest.approx(float(log['loss_full']) + sum(parts), rel=1e-5)
        assert log['width_subnet0'] == 0.5
    moved = {
        name for name, value in model.named_parameters() if not torch.equal(before[name], value)
    }
    assert {'backbone.conv1.weight', 'backbone.layer4.1.bn2.weight'} <= moved
    assert any(name.startswith('neck') for name in moved)


@pytest.mark.parametrize('detector', ['MaskRCNN', 'CondInst'])
def test_running_statistics_move_in_the_full_pass_alone(detector):
    """CondInst has batch norms in its mask head too."""
    plain = build(tiny_config(detector, dict(num_subnets=0)))
    model = build(tiny_config(detector, {}))
    model.load_state_dict(plain.state_dict())
    batch = random_batch()
    for each in (plain, model):
        step(each, batch, lr=0.0)
    statistics = dict(plain.named_buffers())
    assert any('mask_head' in name for name in statistics) == (detector == 'CondInst')
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, statistics[name], rtol=0, atol=0)


def test_only_the_backbone_is_slimmed():
    model = build(tiny_config('FasterRCNN', {})).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        full = model.extract_feat(images)
        with subnetwork(model, 0.5):
            narrow = model.backbone(images)
            sub = model.extract_feat(images)
            scores = model.rpn_head(sub)[0]
    assert [feat.shape[1] for feat in narrow] == [4, 8, 16, 32]
    assert [feat.shape for feat in sub] == [feat.shape for feat in full]
    assert [score.shape[1] for score in scores] == [3] * 5
    narrowed = {name.split('.')[0] for name in plan_of(model).selections}
    assert narrowed == {'backbone', 'neck'}  # the neck takes fewer channels


@pytest.mark.parametrize('learn', BOTH)
def test_frozen_batch_norm_is_frozen_for_all(learn):
    """norm_eval and frozen_stages as MMDetection's own configs have them."""
    config = tiny_config('MaskRCNN', dict(subnets_learn=learn))
    config['backbone'].update(norm_eval=True, frozen_stages=1)
    model = build(config)
    for name, value in model.named_buffers():
        if 'running' in name:
            value.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model, random_batch(), lr=0.01)
    for name, value in model.state_dict().items():
        frozen = 'running' in name or 'num_batches' in name
        frozen |= name.startswith(('backbone.conv1', 'backbone.bn1', 'backbone.layer1'))
        assert not frozen or torch.equal(value, before[name]), name
    # A sub-network uses the first entries of the frozen statistics.
    layer = model.backbone.layer2[0].bn1
    x = torch.randn(2, 8, 4, 4)
    with subnetwork(model, 0.5):
        found = layer(x)
    mean, var = (v[:8].view(1, 8, 1, 1) for v in (layer.running_mean, layer.running_var))
    weight, bias = (v[:8].view(1, 8, 1, 1) for v in (layer.weight, layer.bias))
    torch.testing.assert_close(found, (x - mean) / (var + layer.eps).sqrt() * weight + bias)


def hard_batch():
    """An image without annotations, one with a crowd alone, one with tiny boxes."""
    batch = random_batch(sizes=((128, 160), (120, 143), (256, 256)))
    empty, crowd, tiny = batch['data_samples']
    masks = empty.gt_instances.masks
    for sample in (empty, crowd):
        sample.gt_instances = sample.gt_instances[:0]
    crowd_masks = BitmapMasks(np.ones((1, 120, 143), np.uint8), 120, 143)
    crowd.ignored_instances.bboxes = torch.tensor([[10.0, 10.0, 90.0, 80.0]])
    crowd.ignored_instances.labels = torch.tensor([1])
    crowd.ignored_instances.masks = crowd_masks
    tiny.gt_instances.bboxes = torch.tensor(
        [[5.0, 5.0, 6.0, 6.0], [254.5, 254.5, 256.0, 256.0], [20.0, 20.0, 21.0, 60.0]]
    )
    masks = np.zeros((3, 256, 256), np.uint8)
    masks[0, 5, 5] = masks[1, 255, 255] = masks[2, 20:60, 20] = 1
    tiny.gt_instances.masks = BitmapMasks(masks, 256, 256)
    return batch


@pytest.mark.parametrize('learn', BOTH)
@pytest.mark.parametrize('detector', list(MODELS_OF_MMDET))
def test_images_with_nothing_crowds_and_vanishing_boxes(detector, learn):
    gradaug = dict(subnets_learn=learn, transforms=dict(type='RandomScale', factors=[0.25, 0.34]))
    if learn == 'soft_labels' and detector in ('MaskRCNN', 'CascadeRCNN'):
        gradaug['soft_label_parts'] = ['classification', 'boxes', 'masks']
    model = build(tiny_config(detector, gradaug))
    # Together, each alone (twice, as batch norm wants more than one value), and without any box.
    for images in ((0, 1, 2), (0, 0), (1, 1), (2, 2), (0, 1)):
        batch = {key: [value[i] for i in images] for key, value in hard_batch().items()}
        log = step(model, batch, lr=0.01)
        assert all(np.isfinite(float(value)) for value in log.values()), (images, log)
        for name, value in model.named_parameters():
            assert torch.isfinite(value).all(), (images, name)


def test_any_detector_by_name():
    config = tiny_config('RetinaNet', {})
    model = build(config)
    assert isinstance(model, RetinaNet) and type(model).__name__ == 'GradAugRetinaNet'
    assert type(build(config)) is type(model)
    model = build(dict(config, detector='RetinaNet'))
    assert isinstance(model, RetinaNet)
    for name, message in (
        (None, "write for instance detector='mmdet.RetinaNet'"),
        ('mmdet.RetinaNt', 'not a detector of MMDetection'),
        ('mmdet.FPN', 'not a detector of MMDetection'),
        ('mmgradaug.GradAugMaskRCNN', "write type='mmgradaug.GradAugMaskRCNN'"),
        ('mmdet.SemiBaseDetector', 'no backbone of its own'),
    ):
        with pytest.raises(TypeError, match=message):
            build(dict(config, detector=name))
    # Not this detector's arguments: the name of the class is said.
    with pytest.raises(TypeError, match='RetinaNet.*roi_head'):
        build(dict(config, roi_head=dict()))


def test_wrong_hyperparameters():
    def refused(error, message, **gradaug):
        with pytest.raises(error, match=message):
            build(tiny_config('MaskRCNN', gradaug))

    refused(ValueError, "write 'ground_truth' .* or 'soft_labels'", subnets_learn='labels')
    refused(ValueError, 'without effect', soft_label_loss=dict(weight=2.0))
    refused(ValueError, 'without effect', soft_label_parts=['boxes'])
    refused(
        ValueError, 'list of classification, boxes, masks',
        subnets_learn='soft_labels', soft_label_parts=['box'],
    )  # fmt: skip
    refused(
        ValueError, 'write a list', subnets_learn='soft_labels', soft_label_parts='classification'
    )
    refused(TypeError, 'subnets_learn', subnet_learns='ground_truth')  # the known keys are listed
    refused(
        TypeError, "write transforms=dict\\(type='RandomScale'",
        transforms=dict(type='RandomResize', sizes=[64]),
    )  # fmt: skip
    with pytest.raises(TypeError, match="needs its hyperparameters.*type='RandomScale'"):
        config = tiny_config('MaskRCNN')
        build(dict(config, type='mmgradaug.GradAugMaskRCNN'))


def test_soft_labels_that_a_detector_does_not_have():
    def refused(message, detector, parts=('classification',), **changes):
        gradaug = dict(subnets_learn='soft_labels', soft_label_parts=list(parts))
        config = tiny_config(detector, gradaug)
        for key, value in changes.items():
            config['roi_head'][key] = value
        with pytest.raises(TypeError, match=f"{message}.* subnets_learn='ground_truth'"):
            build(config)

    refused('boxes and masks need RoI heads', 'RetinaNet', ['boxes'])
    refused('no mask head', 'FasterRCNN', ['masks'])
    # One level alone; a loss with outputs beside the classes.
    seesaw = dict(type='SeesawLoss', p=0.8, q=2.0, num_classes=3)
    with pytest.raises(TypeError, match='YOLOFHead is none of .*RetinaHead'):
        config = tiny_config('RetinaNet', dict(subnets_learn='soft_labels'))
        config['bbox_head'] = dict(
            type='YOLOFHead', num_classes=3, in_channels=32, num_cls_convs=1, num_reg_convs=1,
            anchor_generator=dict(
                type='AnchorGenerator', ratios=[1.0], scales=[1, 2], strides=[32]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss'),
        )  # fmt: skip
        config['train_cfg'].assigner = dict(
            type='UniformAssigner', pos_ignore_thr=0.15, neg_ignore_thr=0.7
        )
        build(config)
    with pytest.raises(TypeError, match='Shared2FCBBoxHead does not classify by a softmax'):
        config = tiny_config('FasterRCNN', dict(subnets_learn='soft_labels'))
        config['roi_head'].bbox_head.loss_cls = seesaw
        build(config)
    refused('no RoI extractor of its own', 'MaskRCNN', ['masks'], mask_roi_extractor=None)
    refused(
        'DoubleHeadRoIHead is neither',
        'FasterRCNN',
        type='DoubleHeadRoIHead',
        reg_roi_scale_factor=1.3,
    )


def test_grouped_convolutions_train():
    config = tiny_config('FasterRCNN', {})
    config['backbone'].update(type='ResNeXt', depth=50, groups=2, base_width=4, base_channels=8)
    config['neck']['in_channels'] = [32, 64, 128, 256]
    model = build(config)
    before = parameters_of(model)
    log = step(model, random_batch(), lr=0.01)
    assert np.isfinite(float(log['loss_subnet0'])) and log['width_subnet0'] == 0.5
    moved = {n for n, value in model.named_parameters() if not torch.equal(before[n], value)}
    assert {name for name in before if name.startswith('backbone')} <= moved


class Unplannable(torch.nn.Module):
    """Its code has numbers of channels in it."""

    def __init__(self):
        super().__init__()
        self.stem, self.stage = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 64, 3)

    def forward(self, x):
        x = self.stem(x)
        return (self.stage(x + torch.ones(8, 1, 1).to(x)),)


def test_a_backbone_that_cannot_be_slimmed_is_refused():
    MODELS.register_module(name='Unplannable', module=Unplannable, force=True)
    config = tiny_config('RetinaNet', {})
    config['neck'] = None
    config['backbone'] = dict(type='Unplannable')
    config['bbox_head'].update(in_channels=64)
    config['bbox_head'].anchor_generator.strides = [1]
    with pytest.raises(SlimmingError):
        build(config)


def without_a_neck(detector, strides):
    config = tiny_config(detector, {})
    config['neck'] = None
    config['backbone'].out_indices = (3,)
    head = config['rpn_head' if 'rpn_head' in config else 'bbox_head']
    head.update(in_channels=64)
    head.anchor_generator.strides = strides
    return config


def test_without_a_neck_the_heads_take_slimmed_inputs():
    """Faster R-CNN on the last stage alone; its RoI head flattens channels with pixels."""
    model = build(without_a_neck('RetinaNet', [32]))
    log = step(model, random_batch(), lr=0.01)
    assert np.isfinite(float(log['loss_subnet0']))

    config = without_a_neck('FasterRCNN', [32])
    config['roi_head'].bbox_roi_extractor.update(out_channels=64, featmap_strides=[32])
    config['roi_head'].bbox_head.update(in_channels=64)
    model = build(config).eval()
    inputs = model.roi_head.bbox_head.shared_fcs[0]
    full = inputs.weight
    with subnetwork(model, 0.5):
        assert model.rpn_head.rpn_conv.weight.shape == (32, 32, 3, 3)
        # The first half of the channels, each with its 7 x 7 pixels.
        assert torch.equal(inputs.weight, full[:, : 32 * 49]) and len(inputs.weight) == 32
    log = step(model.train(), random_batch(), lr=0.01)
    assert np.isfinite(float(log['loss_subnet1']))


def deep_copied(model):
    return copy.deepcopy(model)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize('copied', [deep_copied, pickled])
@pytest.mark.parametrize('detector', ['RetinaNet', 'MaskRCNN'])
def test_a_copy_is_of_the_same_class_and_trains_on(detector, copied):
    """RetinaNet's class is made when it is asked for; its head has convolutions of its own."""
    model = build(tiny_config(detector, {}))
    step(model, random_batch(), lr=0.01)
    other = copied(model)
    assert type(other) is type(model)
    for each in (model, other):
        with subnetwork(each, 0.5):
            assert len(each.backbone.conv1.weight) == 4
            # RetinaNet begins with the second stage, of twice the channels.
            lateral = each.neck.lateral_convs[0].conv.weight
            assert lateral.shape == (32, 4 if detector == 'MaskRCNN' else 8, 1, 1)
    logs = []
    for each in (model, other):
        torch.manual_seed(0)
        logs.append(step(each, random_batch(seed=1), iteration=1, lr=0.01))
    assert logs[0] == logs[1]
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values()):
        assert torch.equal(a, b), name


def test_a_copy_unpickles_in_a_process_that_never_built_one(tmp_path):
    torch.save(build(tiny_config('RetinaNet', {})), tmp_path / 'model.pth')
    code = (
        'import sys, torch\n'
        f'model = torch.load({str(tmp_path / "model.pth")!r}, weights_only=False)\n'
        'from mmdet.models import RetinaNet\n'
        'assert isinstance(model, RetinaNet)\n'
        'print(type(model).__name__, model.draw_subnets.__name__)\n'
    )
    code, output = run(sys.executable, '-c', code)
    assert code == 0 and 'GradAugRetinaNet draw_subnets' in output, output


def test_checkpoints_go_both_ways_and_detect_the_same():
    config = tiny_config('RetinaNet')
    config['test_cfg'].score_thr = 0.0
    stock = build(config)
    model = MODELS.build(
        {**tiny_config('RetinaNet', {}), 'test_cfg': config['test_cfg'], '_scope_': 'mmdet'}
    )
    step(model, random_batch(), lr=0.01)
    stock.load_state_dict(model.state_dict(), strict=True)
    batch = random_batch(seed=3)
    results = []
    for each in (stock.eval(), model.eval()):
        with torch.no_grad():
            results.append([r.pred_instances for r in each.test_step(copy.deepcopy(batch))])
    for one, other in zip(*results):
        assert len(one) and torch.equal(one.scores, other.scores)
        assert torch.equal(one.bboxes, other.bboxes)


def c4(gradaug):
    """Faster R-CNN without a neck: RoIs go through the backbone's last stage (C4)."""
    config = tiny_config('FasterRCNN', gradaug)
    config['neck'] = None
    config['backbone'].update(
        num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), base_channels=64
    )
    config['backbone'].out_indices = (2,)
    config['rpn_head'].update(in_channels=256)
    config['rpn_head'].anchor_generator.update(strides=[16], scales=[2, 4])
    config['test_cfg'].rpn.update(nms_pre=6000, max_per_img=1000)
    roi_head = config['roi_head']
    roi_head.shared_head = dict(type='ResLayer', depth=18, stage=3, stride=2, norm_eval=False)
    roi_head.bbox_roi_extractor.update(out_channels=256, featmap_strides=[16])
    roi_head.bbox_roi_extractor.roi_layer.output_size = 14
    roi_head.bbox_head = dict(
        type='BBoxHead', with_avg_pool=True, in_channels=512, roi_feat_size=7, num_classes=3,
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'), loss_cls=dict(type='CrossEntropyLoss'),
        loss_bbox=dict(type='L1Loss'),
    )  # fmt: skip
    return config


def test_a_shared_head_takes_slimmed_inputs_and_is_tried_with_a_handful_of_proposals():
    seen = []

    class Watched(ResLayer):
        def forward(self, x):
            seen.append(tuple(x.shape[:2]))
            return super().forward(x)

    MODELS.register_module(name='WatchedResLayer', module=Watched, force=True)
    config = c4({})
    config['roi_head'].shared_head.type = 'WatchedResLayer'
    model = build(config)
    assert {channels for _, channels in seen} > {256} and max(rois for rois, _ in seen) <= 8
    assert model.rpn_head.test_cfg.max_per_img == 1000  # what was tried was a copy
    log = step(model, random_batch(sizes=((96, 128), (90, 110))), lr=0.01)
    assert np.isfinite(float(log['loss_subnet1']))
    with pytest.raises(TypeError, match='one pyramid level only'):
        build(c4(dict(subnets_learn='soft_labels')))


def test_losses_that_count_samples_count_them_in_the_full_pass_alone():
    counted = []
    for num_subnets in (0, 2):
        config = tiny_config('FasterRCNN', dict(num_subnets=num_subnets))
        config['roi_head'].bbox_head.loss_cls = dict(type='SeesawLoss', p=0.8, q=2.0, num_classes=3)
        model = build(config)
        torch.manual_seed(0)
        step(model, random_batch(), lr=0.0)
        counted.append(model.roi_head.bbox_head.loss_cls.cum_samples.clone())
    assert counted[0].sum() > 8 and torch.equal(*counted)


def test_thresholds_that_adapt_to_each_pass_are_refused():
    config = tiny_config('FasterRCNN', {})
    config['roi_head'].type = 'DynamicRoIHead'
    config['roi_head'].bbox_head.loss_bbox = dict(type='SmoothL1Loss')
    config['train_cfg'].rcnn.dynamic_rcnn = dict(
        iou_topk=75, beta_topk=10, update_iter_interval=100, initial_iou=0.4, initial_beta=1.0
    )
    with pytest.raises(TypeError, match='DynamicRoIHead adapts its thresholds'):
        build(config)


def test_heads_that_write_into_annotations_do_not_reach_the_subnetworks():
    model = build(tiny_config('FasterRCNN', {}))
    loss, seen = model.loss, []

    def writes(inputs, data_samples):
        seen.append([sample.gt_instances.labels.clone() for sample in data_samples])
        found = loss(inputs, data_samples)
        for sample in data_samples:
            sample.gt_instances.labels = torch.full_like(sample.gt_instances.labels, 2)
            sample.gt_instances.bboxes = sample.gt_instances.bboxes * 0
        return found

    model.loss = writes
    data = random_batch()
    labels = [sample.gt_instances.labels.clone() for sample in data['data_samples']]
    step(model, data, lr=0.0)
    assert len(seen) == 3
    for each in seen:
        assert all(torch.equal(one, other) for one, other in zip(each, labels))


def test_data_samples_may_hold_anything_where_nothing_is_scaled():
    model = build(tiny_config('FasterRCNN', dict(num_subnets=0)))
    data = random_batch()
    data['data_samples'][0].set_field([1, 2], 'note')
    assert np.isfinite(float(step(model, data, lr=0.0)['loss']))


def test_padding_is_the_preprocessors():
    config = tiny_config('MaskRCNN', {})
    config['data_preprocessor'].update(
        pad_value=3, pad_size_divisor=16, pad_mask=False, pad_seg=True, seg_pad_value=9
    )
    model = build(config)
    batch = model.make_batch(torch.zeros(1, 3, 8, 8), [])
    assert (batch.size_divisor, batch.pad_value, batch.pad_masks) == (16, 3.0, False)
    assert (batch.pad_segmentation, batch.segmentation_padding) == (True, 9)


@pytest.mark.parametrize('detector', ['MaskRCNN', 'RetinaNet'])
@pytest.mark.parametrize('learn', BOTH)
def test_mixed_precision(detector, learn):
    """The step in bfloat16 points where that in float32 does."""
    steps = []
    for enabled in (False, True):
        model = build(tiny_config(detector, dict(subnets_learn=learn)))
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        torch.manual_seed(0)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            step(model, random_batch(sizes=((128, 192), (128, 160))), lr=1e-3)
        steps.append(before - torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.isfinite(steps[1]).all()
    assert torch.nn.functional.cosine_similarity(*steps, dim=0) > 0.8
