"""Soft labels of a detector against what they are defined as, written out from stock parts."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from detection import build, narrow, random_batch, scaled, stock_and_gradaug, tiny_config
from helpers import parameters_of, sgd
from mmdet.structures import DetDataSample

from mmgradaug.models.detectors import DetectionBatch, transform_batch
from mmgradaug.models.detectors.detection_soft_labels import _same_points
from mmgradaug.slimming import subnetwork
from mmgradaug.subnets import Scale

ALL = ['classification', 'boxes', 'masks']
FULL_SIZE = dict(type='RandomScale', factors=[1.0])


def preprocessed(model, **options):
    data = random_batch(polygons=True, dtype=torch.float64, **options)
    return model.data_preprocessor(data, True)


@pytest.mark.parametrize('detector', ['MaskRCNN', 'CascadeRCNN', 'RetinaNet', 'FCOS'])
def test_who_is_the_full_network_has_nothing_to_learn(detector):
    """Width 1, the original images: every comparison is of a thing with itself."""
    parts = ALL if 'RCNN' in detector else ['classification']
    gradaug = dict(subnets_learn='soft_labels', soft_label_parts=parts)
    model = build(tiny_config(detector, gradaug), torch.float64)
    batch = preprocessed(model)
    with torch.no_grad():
        _, soft_labels = model.full_pass(**batch, give_soft_labels=True)
        with subnetwork(model, 1.0):
            same = model.subnet_pass(**batch, transform=Scale(1.0), soft_labels=soft_labels)
        with subnetwork(model, 0.5):
            other = model.subnet_pass(**batch, transform=Scale(0.7), soft_labels=soft_labels)
    kinds = {'RetinaNet': 1, 'FCOS': 1, 'MaskRCNN': 1 + 2 + 1, 'CascadeRCNN': 1 + 3 * 2 + 3}
    assert len(same) == kinds[detector]
    for name, value in same.items():
        assert abs(value.item()) < 1e-12, name
        assert other[name] > 1e-9, name


def test_no_soft_labels_where_no_subnetwork_follows():
    model = build(tiny_config('MaskRCNN', dict(subnets_learn='soft_labels')), torch.float64)
    assert model.full_pass(**preprocessed(model), give_soft_labels=False)[1] is None
    taught_by_annotations = build(tiny_config('MaskRCNN', {}), torch.float64)
    batch = preprocessed(taught_by_annotations)
    assert taught_by_annotations.full_pass(**batch, give_soft_labels=True)[1] is None


def test_soft_labels_are_noted_without_a_trace():
    """No hook stays, no gradient flows into them, batch norms count the batch once."""
    gradaug = dict(subnets_learn='soft_labels', soft_label_parts=ALL)
    model = build(tiny_config('MaskRCNN', gradaug), torch.float64)
    batch = preprocessed(model)
    _, labels = model.full_pass(**batch, give_soft_labels=True)
    assert not any(module._forward_hooks for module in model.modules())
    noted = [*labels.dense, *(t for r in labels.rois for t in (r.rois, r.cls_score, r.values))]
    assert len(noted) == 5 + 6 and not any(tensor.requires_grad for tensor in noted)
    assert model.backbone.bn1.num_batches_tracked == 1


class Outputs(torch.nn.Module):
    """A stock detector's outputs on given RoIs, to be called with other parameters."""

    def __init__(self, stock):
        super().__init__()
        self.stock = stock

    def forward(self, images, rois, mask_rois):
        feats = self.stock.extract_feat(images)
        dense = self.stock.rpn_head(feats)[0]
        head = self.stock.roi_head
        box = head._bbox_forward(feats, rois)
        mask = head._mask_forward(feats, rois=mask_rois)['mask_preds']
        classes = head._bbox_forward(feats, mask_rois)['cls_score']
        return dense, box['cls_score'], box['bbox_pred'], mask, classes


def divergence(full, sub):
    """KL(full || sub) of probabilities over the last dimension."""
    return (full * (full.log() - sub.log())).sum(-1)


def binary(logits):
    return torch.stack([logits.sigmoid(), (-logits).sigmoid()], dim=-1)


def naive_soft_loss(full, sub, sizes, parts):
    """Definition in the docstring of DetectionSoftLabels, by loops."""
    loss, foreground = 0.0, 0.0
    for stride, full_map, sub_map in zip((4, 8, 16, 32, 64), full[0], sub[0]):
        for image, ((h, w), (new_h, new_w)) in enumerate(sizes):
            rows, columns = sub_map.shape[-2:]
            for row in range(rows):
                for column in range(columns):
                    # MMDetection centres the anchors of location i at pixel i * stride.
                    y, x = row * stride, column * stride
                    if y >= new_h or x >= new_w:
                        continue
                    y = min(y * h / new_h / stride, full_map.shape[2] - 1)
                    x = min(x * w / new_w / stride, full_map.shape[3] - 1)
                    value = 0.0
                    for i in (math.floor(y), math.ceil(y)):
                        for j in (math.floor(x), math.ceil(x)):
                            weight = max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j))
                            if math.floor(y) == math.ceil(y):
                                weight /= 2
                            if math.floor(x) == math.ceil(x):
                                weight /= 2
                            value = value + weight * full_map[image, :, i, j]
                    own = sub_map[image, :, row, column]
                    loss = loss + divergence(binary(value), binary(own)).sum()
                    foreground = foreground + value.sigmoid().sum()
    loss = loss / max(float(foreground), 1.0)
    scores = full[1].softmax(1)
    loss = loss + divergence(scores, sub[1].softmax(1)).mean()
    if 'boxes' in parts:
        likely = scores[:, :-1].argmax(1)
        for k, c in enumerate(likely):
            l1 = (full[2][k, 4 * c : 4 * c + 4] - sub[2][k, 4 * c : 4 * c + 4]).abs().sum()
            loss = loss + l1 * (1 - scores[k, -1]) / len(likely)
    if 'masks' in parts:
        likely = full[4].softmax(1)[:, :-1].argmax(1)
        for k, c in enumerate(likely):
            per_pixel = divergence(binary(full[3][k, c]), binary(sub[3][k, c]))
            loss = loss + per_pixel.mean() / len(likely)
    return loss


@pytest.mark.parametrize('parts', [['classification'], ALL], ids=['classification', 'all'])
def test_gradient_is_that_of_the_summed_loss(parts):
    gradaug = dict(
        subnets_learn='soft_labels', soft_label_parts=parts,
        transforms=dict(type='RandomScale', factors=[0.8, 0.6]),
    )  # fmt: skip
    stock, model = stock_and_gradaug(gradaug)
    data = random_batch(polygons=True, dtype=torch.float64, instances=2)
    before = parameters_of(model)
    model.announce_iteration(0, 3, active=True)
    torch.manual_seed(5)
    log = model.train_step(copy.deepcopy(data), sgd(model, lr=1.0))

    # The full pass, watched from outside.
    batch = stock.data_preprocessor(data, True)
    seen = []
    for extractor in (stock.roi_head.bbox_roi_extractor, stock.roi_head.mask_roi_extractor):
        extractor.register_forward_hook(lambda _, inputs, __: seen.append(inputs[1].detach()))
    params, buffers = dict(stock.named_parameters()), dict(stock.named_buffers())
    torch.manual_seed(5)
    losses = torch.func.functional_call(
        stock, {**params, **{k: v.clone() for k, v in buffers.items()}},
        (batch['inputs'], copy.deepcopy(batch['data_samples'])), dict(mode='loss'),
    )  # fmt: skip
    loss = stock.parse_losses(losses)[0]
    rois, mask_rois = seen[:2]
    outputs = Outputs(stock)

    def run(images, width, *regions):
        weights = {**params, **{k: v.clone() for k, v in buffers.items()}}
        weights = weights if width is None else narrow(weights, width)
        weights = {f'stock.{name}': value for name, value in weights.items()}
        return torch.func.functional_call(outputs, weights, (images, *regions))

    with torch.no_grad():
        full = run(batch['inputs'], None, rois, mask_rois)
    for subnet in model.subnet_sampler.sample(0, 3):
        new = scaled(batch, subnet.transform.factor)
        sizes = [
            (old.img_shape, each.img_shape)
            for old, each in zip(batch['data_samples'], new['data_samples'])
        ]

        def moved(regions, sizes=sizes):
            factors = torch.tensor(
                [[w / old_w, h / old_h] * 2 for (old_h, old_w), (h, w) in sizes],
                dtype=torch.float64,
            )
            numbers = regions[:, 0].long()
            return torch.cat([regions[:, :1], regions[:, 1:] * factors[numbers]], dim=1)

        sub = run(new['inputs'], subnet.width, moved(rois), moved(mask_rois))
        loss = loss + naive_soft_loss(full, sub, sizes, parts)
    assert log['loss'].item() == pytest.approx(loss.item(), rel=1e-9)
    gradients = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    for name, gradient in zip(params, gradients):
        step = before[name] - dict(model.named_parameters())[name].detach()
        torch.testing.assert_close(step, gradient, rtol=0, atol=1e-8, msg=name)


def test_temperature_and_weight():
    def loss(**options):
        gradaug = dict(subnets_learn='soft_labels', soft_label_loss=options)
        model = build(tiny_config('MaskRCNN', gradaug), torch.float64)
        batch = preprocessed(model)
        torch.manual_seed(1)
        with torch.no_grad():
            labels = model.full_pass(**batch, give_soft_labels=True)[1]
            with subnetwork(model, 0.5):
                return model.subnet_pass(**batch, transform=Scale(0.7), soft_labels=labels)

    plain, weighted, warm = loss(), loss(weight=0.5), loss(temperature=3.0)
    for name, value in plain.items():
        torch.testing.assert_close(weighted[name], 0.5 * value, rtol=1e-9, atol=0)
        assert warm[name] != value


@pytest.mark.parametrize('offset', [0.0, 0.5])
def test_locations_are_those_of_the_same_point(offset):
    """A map that holds its own coordinates, looked up from a smaller one."""
    before = DetectionBatch(
        torch.zeros(1, 3, 64, 96),
        [DetDataSample(metainfo=dict(img_shape=(60, 90), scale_factor=(1.0, 1.0)))],
        size_divisor=32,
    )
    after = transform_batch(Scale(0.5), before)
    assert after.inputs.shape[-2:] == (32, 64) and after.data_samples[0].img_shape == (30, 45)
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(24), indexing='ij')
    coordinates = torch.stack([(columns + offset) * 4, (rows + offset) * 4])[None].double()
    points, inside = _same_points(
        before, after, coordinates, torch.zeros(1, 1, 8, 16).double(), (4, 4), offset
    )
    found = F.grid_sample(coordinates, points, padding_mode='border', align_corners=False)
    # Location (row, column) is at twice the coordinates.
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(16), indexing='ij')
    expected = torch.stack([(columns + offset) * 8, (rows + offset) * 8]).double()
    # Below 30 and 45 pixels.
    assert inside[0].sum() == (8 if offset == 0 else 7) * (12 if offset == 0 else 11)
    for axis in range(2):
        torch.testing.assert_close(found[0, axis][inside[0]], expected[axis][inside[0]])
