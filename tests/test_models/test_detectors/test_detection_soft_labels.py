"""Soft labels of a detector against what they are defined as, written out from stock parts."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detection import build, narrow, random_batch, scaled, stock_and_gradaug, tiny_config
from helpers import parameters_of, sgd
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmgradaug.models.detectors import DetectionBatch, transform_batch
from mmgradaug.models.detectors.detection_soft_labels import _same_points, levels_of_stride
from mmgradaug.slimming import subnetwork
from mmgradaug.subnets import Scale

ALL = ['classification', 'boxes', 'masks']
FULL_SIZE = dict(type='RandomScale', factors=[1.0])


def preprocessed(model, **options):
    data = random_batch(polygons=True, dtype=torch.float64, **options)
    return model.make_batch(**model.data_preprocessor(data, True))


@pytest.mark.parametrize('detector', ['MaskRCNN', 'CascadeRCNN', 'RetinaNet', 'FCOS'])
def test_who_is_the_full_network_has_nothing_to_learn(detector):
    """Width 1, the original images: every comparison is of a thing with itself."""
    parts = ALL if 'RCNN' in detector else ['classification']
    gradaug = dict(subnets_learn='soft_labels', soft_label_parts=parts)
    model = opinionated(build(tiny_config(detector, gradaug), torch.float64))
    batch = preprocessed(model)
    with torch.no_grad():
        _, soft_labels = model.full_pass(batch, record=True)
        with subnetwork(model, 1.0):
            same = model.subnet_pass(batch.transform(Scale(1.0)), soft_labels)
        with subnetwork(model, 0.5):
            other = model.subnet_pass(batch.transform(Scale(0.7)), soft_labels)
    kinds = {'RetinaNet': 1, 'FCOS': 1, 'MaskRCNN': 1 + 2 + 1, 'CascadeRCNN': 1 + 3 * 2 + 3}
    assert len(same) == kinds[detector]
    for name, value in same.items():
        assert abs(value.item()) < 1e-12, name
        assert other[name] > 1e-5, name


def test_no_soft_labels_where_no_subnetwork_follows():
    model = build(tiny_config('MaskRCNN', dict(subnets_learn='soft_labels')), torch.float64)
    assert model.full_pass(preprocessed(model), record=False)[1] is None
    taught_by_annotations = build(tiny_config('MaskRCNN', {}), torch.float64)
    batch = preprocessed(taught_by_annotations)
    assert taught_by_annotations.full_pass(batch, record=True)[1] is None


def test_soft_labels_are_noted_without_a_trace():
    """No hook stays, no gradient flows into them, batch norms count the batch once."""
    gradaug = dict(subnets_learn='soft_labels', soft_label_parts=ALL)
    model = build(tiny_config('MaskRCNN', gradaug), torch.float64)
    batch = preprocessed(model)
    _, labels = model.full_pass(batch, record=True)
    assert not any(module._forward_hooks for module in model.modules())
    noted = [*labels.dense, *(t for r in labels.rois for t in (r.rois, r.cls_score, r.values))]
    assert len(noted) == 5 + 6 and not any(tensor.requires_grad for tensor in noted)
    assert model.backbone.bn1.num_batches_tracked == 1


def opinionated(model):
    """Dense class logits start almost equal everywhere; here they are not."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(('rpn_cls.weight', 'retina_cls.weight', 'conv_cls.weight')):
                value.normal_(0, 0.3, generator=generator)
            elif 'cls_convs' in name and name.endswith('conv.weight'):
                value.normal_(0, 0.1, generator=generator)
    return model


def stages(part):
    return list(part) if isinstance(part, torch.nn.ModuleList) else [part]


class Outputs(torch.nn.Module):
    """A stock detector's dense logits, and its heads' outputs on given RoIs, with other parameters."""

    def __init__(self, stock):
        super().__init__()
        self.stock = stock

    def forward(self, images, regions):
        feats = self.stock.extract_feat(images)
        if not hasattr(self.stock, 'roi_head'):
            return self.stock.bbox_head(feats)[0], []
        head = self.stock.roi_head
        cascade = isinstance(head.bbox_head, torch.nn.ModuleList)
        found = []
        for kind, stage, rois in regions:
            where = (stage, feats) if cascade else (feats,)
            if kind == 'box':
                result = head._bbox_forward(*where, rois)
                found.append((result['cls_score'], result['bbox_pred']))
            else:
                masks = head._mask_forward(*where, rois)['mask_preds']
                # The class is what the box head of the same stage says.
                found.append((head._bbox_forward(*where, rois)['cls_score'], masks))
        return self.stock.rpn_head(feats)[0], found


def divergence(full, sub):
    """KL(full || sub) of probabilities over the last dimension."""
    return (full * (full.log() - sub.log())).sum(-1)


def binary(logits):
    return torch.stack([logits.sigmoid(), (-logits).sigmoid()], dim=-1)


def logits_at(full_map, y, x):
    """Between the neighbours of a point, in units of the map."""
    y = min(max(y, 0), full_map.shape[1] - 1)
    x = min(max(x, 0), full_map.shape[2] - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, full_map.shape[1] - 1), min(left + 1, full_map.shape[2] - 1)
    upper = (1 - x + left) * full_map[:, top, left] + (x - left) * full_map[:, top, right]
    lower = (1 - x + left) * full_map[:, bottom, left] + (x - left) * full_map[:, bottom, right]
    return (1 - y + top) * upper + (y - top) * lower


def naive_dense_loss(full, sub, sizes, head):
    """Definition in the docstring of DetectionSoftLabels, by loops; strides double by level."""
    loss, foreground = 0.0, 0.0
    strides = [stride[0] for stride in head.prior_generator.strides]
    offset = getattr(head.prior_generator, 'center_offset', 0.5)
    factors = [new[i] / old[i] for old, new in sizes for i in (0, 1)]
    octaves = -sum(math.log2(factor) for factor in factors) / len(factors)
    compared = 0
    for level, sub_map in enumerate(sub):
        coarser = level + octaves
        if coarser > len(full) - 1:
            continue
        compared += 1
        for image, ((h, w), (new_h, new_w)) in enumerate(sizes):
            for row in range(sub_map.shape[2]):
                for column in range(sub_map.shape[3]):
                    y, x = (row + offset) * strides[level], (column + offset) * strides[level]
                    if y >= new_h or x >= new_w:
                        continue
                    y, x, value = y * h / new_h, x * w / new_w, 0.0
                    for other in {math.floor(coarser), math.ceil(coarser)}:
                        share = 1 - abs(coarser - other)
                        place = (y / strides[other] - offset, x / strides[other] - offset)
                        value = value + share * logits_at(full[other][image], *place)
                    own = sub_map[image, :, row, column]
                    loss = loss + divergence(binary(value), binary(own)).sum()
                    by_anchor = value.view(-1, head.cls_out_channels)
                    foreground = foreground + by_anchor.sigmoid().max(1).values.sum()
    assert compared == len(sub) - (octaves > 0)
    return loss / max(float(foreground), 1.0)


def naive_roi_loss(kind, full, sub, parts):
    scores = full[0].softmax(1)
    likely = scores[:, :-1].argmax(1)
    if kind == 'mask':
        pixels = [
            divergence(binary(full[1][k, c]), binary(sub[1][k, c])).mean()
            for k, c in enumerate(likely)
        ]
        return sum(pixels) / len(likely)
    loss = divergence(scores, sub[0].softmax(1)).mean()
    if 'boxes' in parts:
        for k, c in enumerate(likely):
            c = 0 if full[1].shape[1] == 4 else c  # one set of deltas for all classes
            l1 = (full[1][k, 4 * c : 4 * c + 4] - sub[1][k, 4 * c : 4 * c + 4]).abs().sum()
            loss = loss + l1 * (1 - scores[k, -1]) / len(likely)
    return loss


@pytest.mark.parametrize(
    ('detector', 'parts'),
    [
        ('MaskRCNN', ['classification']),
        ('MaskRCNN', ALL),
        ('CascadeRCNN', ALL),
        ('RetinaNet', ['classification']),
        ('FCOS', ['classification']),
    ],
)
def test_gradient_is_that_of_the_summed_loss(detector, parts):
    gradaug = dict(
        subnets_learn='soft_labels', soft_label_parts=parts,
        transforms=dict(type='RandomScale', factors=[0.8, 0.6]),
    )  # fmt: skip
    stock, model = stock_and_gradaug(gradaug, detector)
    model.load_state_dict(opinionated(stock).state_dict())
    data = random_batch(polygons=True, dtype=torch.float64, instances=2)
    before = parameters_of(model)
    model.announce_iteration(0, 3, active=True)
    torch.manual_seed(5)
    log = model.train_step(copy.deepcopy(data), sgd(model, lr=1.0))

    # The full pass, watched from outside.
    batch = stock.data_preprocessor(data, True)
    regions = []
    if hasattr(stock, 'roi_head'):
        for kind, name in (('box', 'bbox_roi_extractor'), ('mask', 'mask_roi_extractor')):
            if kind == 'box' or 'masks' in parts:
                for stage, extractor in enumerate(stages(getattr(stock.roi_head, name))):
                    extractor.register_forward_hook(
                        lambda _, inputs, __, kind=kind, stage=stage: regions.append(
                            (kind, stage, inputs[1].detach())
                        )
                    )
    params, buffers = dict(stock.named_parameters()), dict(stock.named_buffers())
    torch.manual_seed(5)
    losses = torch.func.functional_call(
        stock, {**params, **{k: v.clone() for k, v in buffers.items()}},
        (batch['inputs'], copy.deepcopy(batch['data_samples'])), dict(mode='loss'),
    )  # fmt: skip
    loss = stock.parse_losses(losses)[0]
    for extractor in stages(getattr(stock, 'roi_head', stock)):
        for module in extractor.modules():
            module._forward_hooks.clear()
    outputs = Outputs(stock)

    def run(images, width, regions):
        weights = {**params, **{k: v.clone() for k, v in buffers.items()}}
        weights = weights if width is None else narrow(weights, width)
        weights = {f'stock.{name}': value for name, value in weights.items()}
        return torch.func.functional_call(outputs, weights, (images, regions))

    with torch.no_grad():
        full = run(batch['inputs'], None, regions)
    soft = 0.0
    for subnet in model.subnet_sampler.sample(0, 3):
        new = scaled(batch, subnet.transform.factor)
        sizes = [
            (old.img_shape, each.img_shape)
            for old, each in zip(batch['data_samples'], new['data_samples'])
        ]
        factors = torch.tensor(
            [[w / old_w, h / old_h] * 2 for (old_h, old_w), (h, w) in sizes], dtype=torch.float64
        )
        moved = [
            (kind, stage, torch.cat([r[:, :1], r[:, 1:] * factors[r[:, 0].long()]], dim=1))
            for kind, stage, r in regions
        ]
        sub = run(new['inputs'], subnet.width, moved)
        head = stock.rpn_head if hasattr(stock, 'roi_head') else stock.bbox_head
        soft = soft + naive_dense_loss(full[0], sub[0], sizes, head)
        for (kind, _, _), one, other in zip(regions, full[1], sub[1]):
            soft = soft + naive_roi_loss(kind, one, other, parts)
    loss = loss + soft
    assert float(soft) > 1e-3
    assert log['loss'].item() == pytest.approx(loss.item(), rel=1e-9)
    gradients = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    for name, gradient in zip(params, gradients):
        step = before[name] - dict(model.named_parameters())[name].detach()
        expected = torch.zeros_like(step) if gradient is None else gradient
        torch.testing.assert_close(step, expected, rtol=0, atol=1e-8, msg=name)


def test_dense_head_with_a_softmax_and_almost_no_foreground():
    """RetinaNet with background as a class of its own, sure of background everywhere."""
    gradaug = dict(subnets_learn='soft_labels')
    config = tiny_config('RetinaNet', gradaug)
    config['bbox_head'].loss_cls = dict(type='CrossEntropyLoss', use_sigmoid=False)
    config['bbox_head'].reg_decoded_bbox = False
    model = opinionated(build(config, torch.float64))
    with torch.no_grad():
        model.bbox_head.retina_cls.weight.mul_(0.1)
        model.bbox_head.retina_cls.bias.view(9, 4)[:, 3] = 15.0
    batch = preprocessed(model)
    with torch.no_grad():
        _, labels = model.full_pass(batch, record=True)
        with subnetwork(model, 0.5):
            (loss,) = model.subnet_pass(batch.transform(Scale(1.0)), labels).values()
            maps = model.bbox_head(model.extract_feat(batch.inputs))[0]
    expected = foreground = 0.0
    for stride, full, sub in zip((8, 16, 32, 64, 128), labels.dense, maps):
        for image, sample in enumerate(batch.data_samples):
            h, w = (math.ceil(side / stride) for side in sample.img_shape)
            one, other = (
                v[image, :, :h, :w].permute(1, 2, 0).reshape(-1, 9, 4).softmax(-1)
                for v in (full, sub)
            )
            expected = expected + divergence(one, other).sum()
            foreground = foreground + one[..., :3].sum()
    assert foreground < 0.5 and expected > 1e-6  # so the sum is divided by 1
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)


def test_positions_are_not_computed_in_half_precision():
    """Logits that came out of mixed precision are compared as if they were the same numbers in float32."""
    model = opinionated(build(tiny_config('RetinaNet', dict(subnets_learn='soft_labels'))))
    data = model.data_preprocessor(random_batch(sizes=((250, 380), (256, 301))), True)
    batch = model.make_batch(**data)
    losses = []
    with torch.no_grad():
        _, labels = model.full_pass(batch, record=True)
        rounded = [maps.bfloat16() for maps in labels.dense]
        for dense in (rounded, [maps.float() for maps in rounded]):
            labels.dense = dense
            with subnetwork(model, 0.5):
                (loss,) = model.subnet_pass(batch.transform(Scale(0.7)), labels).values()
            losses.append(loss)
    assert losses[0] > 1e-3 and torch.equal(*losses)


def test_no_head_runs_twice_and_soft_labels_are_the_very_outputs_of_the_loss():
    """Which class's mask counts is what the box head said of the same regions, and dropout said it once."""
    gradaug = dict(subnets_learn='soft_labels', soft_label_parts=ALL)
    config = tiny_config('MaskRCNN', gradaug)
    config['roi_head'].bbox_head.update(
        type='ConvFCBBoxHead', num_shared_convs=1, num_shared_fcs=1, norm_cfg=dict(type='BN')
    )
    model = build(config, torch.float64)
    model.roi_head.bbox_head.fc_cls = torch.nn.Sequential(
        torch.nn.Dropout(0.5), model.roi_head.bbox_head.fc_cls
    )
    heads = {
        'dense': model.rpn_head, 'box': model.roi_head.bbox_head, 'mask': model.roi_head.mask_head
    }  # fmt: skip
    outputs = {name: [] for name in heads}
    for name, head in heads.items():
        head.register_forward_hook(lambda m, x, out, name=name: outputs[name].append(out))
    losses, labels = model.full_pass(preprocessed(model), record=True)
    assert {name: len(outs) for name, outs in outputs.items()} == dict(dense=1, box=1, mask=1)
    assert all(torch.equal(a, b) for a, b in zip(labels.dense, outputs['dense'][0][0]))
    box, mask = labels.rois
    assert torch.equal(box.cls_score, outputs['box'][0][0])
    assert torch.equal(box.values, outputs['box'][0][1])
    assert torch.equal(mask.values, outputs['mask'][0])
    assert 0 < len(mask.rois) < len(box.rois)
    for rois, scores in zip(mask.rois, mask.cls_score):
        (same,) = (box.rois == rois).all(1).nonzero()[:1]
        assert torch.equal(scores, box.cls_score[same[0]])
    counted = [v for n, v in model.named_buffers() if 'roi_head' in n and 'num_batches' in n]
    assert counted and all(value == 1 for value in counted)


def test_temperature_and_weight():
    def loss(**options):
        gradaug = dict(subnets_learn='soft_labels', soft_label_loss=options)
        model = build(tiny_config('MaskRCNN', gradaug), torch.float64)
        batch = preprocessed(model)
        torch.manual_seed(1)
        with torch.no_grad():
            labels = model.full_pass(batch, record=True)[1]
            with subnetwork(model, 0.5):
                return model.subnet_pass(batch.transform(Scale(0.7)), labels)

    plain, weighted, warm = loss(), loss(weight=0.5), loss(temperature=3.0)
    for name, value in plain.items():
        torch.testing.assert_close(weighted[name], 0.5 * value, rtol=1e-9, atol=0)
        assert warm[name] != value


@pytest.mark.parametrize('offset', [0.0, 0.5])
def test_locations_are_those_of_the_same_point(offset):
    """A map that holds its own coordinates, looked up from a level of the smaller image."""
    before = DetectionBatch(
        torch.zeros(1, 3, 64, 96),
        [DetDataSample(metainfo=dict(img_shape=(60, 90), scale_factor=(1.0, 1.0)))],
        size_divisor=32,
    )
    after = transform_batch(Scale(0.5), before)
    assert after.inputs.shape[-2:] == (32, 64) and after.data_samples[0].img_shape == (30, 45)
    head = SimpleNamespace(prior_generator=SimpleNamespace(offset=offset, strides=[(4, 4), (8, 8)]))
    for full_level, sub_level in ((0, 0), (1, 0), (1, 1), (0, 1)):
        full_stride, stride = (head.prior_generator.strides[i][0] for i in (full_level, sub_level))
        rows, columns = torch.meshgrid(
            torch.arange(64 // full_stride), torch.arange(96 // full_stride), indexing='ij'
        )
        coordinates = torch.stack([columns + offset, rows + offset])[None].double() * full_stride
        sub = torch.zeros(1, 1, 32 // stride, 64 // stride)
        points, inside = _same_points(before, after, head, full_level, sub_level, coordinates, sub)
        found = F.grid_sample(coordinates, points, padding_mode='border', align_corners=False)
        # Location (row, column) of the smaller image is at twice the coordinates, where there is one.
        rows, columns = torch.meshgrid(
            torch.arange(32 // stride), torch.arange(64 // stride), indexing='ij'
        )
        expected = torch.stack([columns + offset, rows + offset]).double() * stride * 2
        expected[0].clamp_(offset * full_stride, 96 - (1 - offset) * full_stride)
        expected[1].clamp_(offset * full_stride, 64 - (1 - offset) * full_stride)
        assert torch.equal(
            inside[0], ((rows + offset) * stride < 30) & ((columns + offset) * stride < 45)
        )
        for axis in range(2):
            torch.testing.assert_close(found[0, axis][inside[0]], expected[axis][inside[0]])


def test_levels_of_a_stride():
    strides = [4, 8, 16, 32]
    assert levels_of_stride(strides, 8) == {1: 1.0}
    assert levels_of_stride(strides, 8.01) == {1: 1.0}
    assert levels_of_stride(strides, 32 / 0.5) == {} == levels_of_stride(strides, 3)
    shares = levels_of_stride(strides, 8 * 2**0.25)
    assert shares == pytest.approx({1: 0.75, 2: 0.25})


@pytest.mark.parametrize('factor', [192 / 224, 160 / 224, 128 / 224, 1.25])
def test_soft_labels_of_a_perfect_network_do_not_contradict_the_ground_truth(factor):
    """What the RPN's own assigner says at the other scale, against logits that know what it says at this.

    Where it says object, the soft label must not say background. (Of the same level, without looking at
    the neighbours, 31% and 57% of them would at the factors 160 / 224 and 128 / 224.)
    """
    transforms = dict(type='RandomScale', factors=[factor])
    head = build(tiny_config('MaskRCNN', dict(transforms=transforms))).rpn_head
    strides = [4, 8, 16, 32, 64]

    def knowledge(batch):
        """Per level (3, h, w) logits: 4 object, -4 background, 0 neither."""
        shapes = [[-(-side // stride) for side in batch.inputs.shape[-2:]] for stride in strides]
        priors = head.prior_generator.grid_priors(shapes, device='cpu')
        truth = batch.data_samples[0].gt_instances
        found = head.assigner.assign(InstanceData(priors=torch.cat(priors)), truth).gt_inds
        logits = torch.where(found > 0, 4.0, torch.where(found == 0, -4.0, 0.0))
        parts = logits.split([len(each) for each in priors])
        return [part.view(h, w, 3).permute(2, 0, 1) for part, (h, w) in zip(parts, shapes)]

    rng = np.random.default_rng(0)
    objects, background = [], []
    for _ in range(40):
        width = rng.uniform(40, 250)
        x, y = rng.uniform(0, 511 - width, 2)
        corners = [x, y, x + width, min(511, y + width * rng.uniform(0.6, 1.6))]
        sample = DetDataSample(metainfo=dict(img_shape=(512, 512), scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(bboxes=torch.tensor([corners]), labels=torch.tensor([0]))
        before = DetectionBatch(torch.zeros(1, 3, 512, 512), [sample], size_divisor=32)
        after = transform_batch(Scale(factor), before)
        known = knowledge(before)
        for level, truth in enumerate(knowledge(after)):
            soft = 0.0
            for other, share in levels_of_stride(strides, strides[level] / factor).items():
                maps, sub = known[other][None], torch.zeros(1, 1, *truth.shape[1:])
                points, inside = _same_points(before, after, head, other, level, maps, sub)
                soft = (
                    soft
                    + share
                    * F.grid_sample(maps, points, padding_mode='border', align_corners=False)[0]
                )
            if isinstance(soft, torch.Tensor):
                objects.append(soft[(truth == 4) & inside])
                background.append(soft[(truth == -4) & inside])
    objects, background = torch.cat(objects), torch.cat(background)
    assert len(objects) > 100
    assert background.mean() < -3.9 and (background > 0).float().mean() < 1e-3
    assert (objects < -2).float().mean() < 0.15 and objects.mean() > -0.5
