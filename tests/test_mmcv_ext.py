"""mmcv's operators without a compiler: what stands in for mmcv._ext, and detectors on top of it."""

import copy
import importlib
import inspect
import math
import subprocess
import sys
import zipfile
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    ExtensionFileLoader,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmdet')
mmcv_ext = importlib.import_module('mmcv._ext')
if not hasattr(mmcv_ext, 'SERVED'):
    pytest.skip('mmcv._ext is a compiled one', allow_module_level=True)

import mmcv.ops  # noqa: E402
from mmcv.utils import collect_env  # noqa: E402
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss  # noqa: E402
from mmdet.models.losses.focal_loss import sigmoid_focal_loss as mmdet_focal_loss  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.hub import get_config  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

SOURCE = Path(__file__).parents[1] / 'mmcv_ext_fallback'
LOW_PRECISION = [torch.float16, torch.bfloat16]


# RoIAlign.


def naive_roi_align(features, rois, size, scale, ratio, aligned):
    """RoIAlign by its definition: the mean of bilinear samples at even distances in each bin."""
    count, channels, (height, width) = len(rois), features.shape[1], features.shape[2:]
    output = torch.zeros(count, channels, *size, dtype=features.dtype)
    for r, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (corner * scale - (0.5 if aligned else 0) for corner in corners)
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1), max(h, 1)
        bin_h, bin_w = h / size[0], w / size[1]
        samples_y, samples_x = ratio or math.ceil(bin_h), ratio or math.ceil(bin_w)
        for i in range(size[0]):
            for j in range(size[1]):
                for u in range(samples_y):
                    for v in range(samples_x):
                        y = y1 + (i + (u + 0.5) / samples_y) * bin_h
                        x = x1 + (j + (v + 0.5) / samples_x) * bin_w
                        if not (-1 <= y <= height and -1 <= x <= width):
                            continue
                        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                        top, left = math.floor(y), math.floor(x)
                        for row, wy in ((top, top + 1 - y), (top + 1, y - top)):
                            for col, wx in ((left, left + 1 - x), (left + 1, x - left)):
                                if wy * wx:
                                    value = features[int(image), :, row, col]
                                    output[r, :, i, j] += wy * wx * value / (samples_y * samples_x)
    return output


def some_features(dtype=torch.float64, height=7, width=9):
    return torch.randn(2, 3, height, width, dtype=torch.float64).to(dtype)


def some_rois(dtype=torch.float64):
    """At twice the size of the features: inside, over the edge, outside, of no size, all of it."""
    rois = [
        [0, 1.3, 2.1, 9.7, 11.9],
        [1, 0, 0, 18, 14],
        [1, -5.5, -3, 4.2, 6.6],
        [0, 12.4, 9.1, 27, 22],
        [1, 60, 60, 80, 70],
        [0, 6.2, 5.4, 6.2, 5.4],
        [1, 3, 8.8, 10.1, 8.8],
        [0, 16.5, 12.5, 16.9, 13.1],
    ]
    return torch.tensor(rois, dtype=dtype)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('size', [(2, 2), (3, 5)])
def test_roi_align_is_its_definition(aligned, ratio, size):
    features, rois = some_features(), some_rois()
    layer = mmcv.ops.RoIAlign(size, spatial_scale=0.5, sampling_ratio=ratio, aligned=aligned)
    output = layer(features, rois)
    expected = naive_roi_align(features, rois, size, 0.5, ratio, aligned)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    assert (expected[4] == 0).all() and (expected[0] != 0).all()


def test_roi_align_of_a_ramp_gives_the_middles_of_the_bins():
    """Bilinear sampling is exact on a ramp. A pixel's value is that of its middle, if aligned."""
    rows, columns = torch.arange(16.0)[:, None] + 0.5, torch.arange(20.0)[None] + 0.5
    features = (3 * columns - 2 * rows)[None, None].double()
    roi = torch.tensor([[0, 4.0, 2.0, 16.0, 11.0]], dtype=torch.float64)
    output = mmcv.ops.roi_align(features, roi, (3, 4), 1.0, 0, 'avg', True)
    x = torch.tensor([5.5, 8.5, 11.5, 14.5], dtype=torch.float64)
    y = torch.tensor([3.5, 6.5, 9.5], dtype=torch.float64)[:, None]
    torch.testing.assert_close(output[0, 0], 3 * x - 2 * y, rtol=0, atol=1e-12)
    # Otherwise half a pixel is off both ways: 3 / 2 - 2 / 2 on this ramp.
    legacy = mmcv.ops.roi_align(features, roi, (3, 4), 1.0, 0, 'avg', False)
    torch.testing.assert_close(legacy, output + 0.5, rtol=0, atol=1e-12)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_gradient_of_roi_align(aligned, ratio):
    features = some_features(height=4, width=5).requires_grad_()
    rois = some_rois()[:4] / 2

    def pooled(values):
        return mmcv.ops.roi_align(values, rois, (2, 3), 0.5, ratio, 'avg', aligned)

    assert torch.autograd.gradcheck(pooled, (features,))


@pytest.mark.parametrize('dtype', LOW_PRECISION)
def test_roi_align_in_low_precision_is_a_rounded_float32(dtype):
    features = some_features(dtype).requires_grad_()
    rois, weights = some_rois(dtype), torch.randn(8, 3, 3, 3).to(dtype)
    layer = mmcv.ops.RoIAlign(3, spatial_scale=0.5)
    output = layer(features, rois)
    (output * weights).sum().backward()
    exact = features.detach().float().requires_grad_()
    expected = layer(exact, rois.float())
    (expected * weights.float()).sum().backward()
    assert output.dtype == features.grad.dtype == dtype
    assert torch.equal(output, expected.to(dtype))
    assert torch.equal(features.grad, exact.grad.to(dtype))
    assert expected.abs().max() > 0.1 and exact.grad.abs().max() > 0.1


def test_roi_align_of_features_and_rois_of_two_dtypes():
    features = some_features(torch.bfloat16)
    output = mmcv.ops.roi_align(features, some_rois(torch.float32), 2, 0.5)
    expected = mmcv.ops.roi_align(features.float(), some_rois(torch.float32), 2, 0.5)
    assert torch.equal(output, expected.bfloat16())


def test_roi_align_without_rois():
    features = some_features().requires_grad_()
    output = mmcv.ops.roi_align(features, features.new_zeros(0, 5), (2, 3))
    assert output.shape == (0, 3, 2, 3)
    output.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_roi_align_of_tensors_that_are_not_contiguous():
    features, rois = some_features(), some_rois()
    expected = mmcv.ops.roi_align(features, rois, 2, 0.5)
    turned = features.to(memory_format=torch.channels_last)
    wide = torch.stack((rois, rois), dim=2)[..., 0]
    assert not turned.is_contiguous() and not wide.is_contiguous()
    assert torch.equal(mmcv.ops.roi_align(turned, wide, 2, 0.5), expected)
    # The gradient of a sum is one number, expanded; that of a transposed output is transposed.
    grads = []
    for view in (lambda x: x, lambda x: x.transpose(0, 3)):
        leaf = turned.clone().requires_grad_()
        weights = view(torch.arange(expected.numel(), dtype=torch.float64).view_as(expected))
        (view(mmcv.ops.roi_align(leaf, wide, 2, 0.5)) * weights).sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)
    assert grads[0].abs().sum() > 0


def test_max_pooling_is_refused():
    with pytest.raises(NotImplementedError, match=r"pool_mode='max' is not available.*compiled"):
        mmcv.ops.roi_align(some_features(), some_rois(), 2, 0.5, 0, 'max')


# NMS.


def naive_nms(boxes, scores, threshold, offset=0):
    """From the highest score on, keep what overlaps with nothing kept by more than the threshold."""
    boxes, scores = boxes.tolist(), scores.tolist()

    def area(x1, y1, x2, y2):
        return max(x2 - x1 + offset, 0) * max(y2 - y1 + offset, 0)

    def overlap(a, b):
        common = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
        union = area(*a) + area(*b) - common
        return common / union if union else 0

    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


def some_boxes(count=60, dtype=torch.float32):
    """Of whole numbers, so that overlaps are the same by any formula; with duplicates and ties."""
    corners = torch.randint(0, 12, (count, 2))
    boxes = torch.cat((corners, corners + torch.randint(1, 12, (count, 2))), dim=1)
    boxes[count // 2 : count // 2 + 5] = boxes[:5]
    scores = torch.randint(1, 20, (count,)) / 20
    return boxes.to(dtype), scores.to(dtype)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.7])
def test_nms_is_its_definition(seed, offset, threshold):
    torch.manual_seed(seed)
    boxes, scores = some_boxes()
    dets, kept = mmcv.ops.nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == naive_nms(boxes, scores, threshold, offset)
    assert torch.equal(dets, torch.cat((boxes, scores[:, None]), 1)[kept])
    assert 1 < len(kept) < len(boxes)


def test_nms_at_the_threshold_and_of_duplicates_and_ties():
    scores = torch.tensor([0.5, 0.5, 0.5, 0.9])
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 4, 4], [10, 10, 11, 11]])
    # 1 overlaps 0 by exactly a half, which is not more; 2 is 0 again, and comes later.
    assert mmcv.ops.nms(boxes, scores, 0.5)[1].tolist() == [3, 0, 1]
    assert mmcv.ops.nms(boxes, scores, 0.49)[1].tolist() == [3, 0]
    # 3 / 10 is no more than 0.3, though as a float32 it is more than 0.3 as a float64.
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    assert mmcv.ops.nms(boxes, scores[:2], 0.3)[1].tolist() == [0, 1]
    assert mmcv.ops.nms(boxes.double(), scores[:2], 0.3)[1].tolist() == [0, 1]


def test_the_offset_of_nms_counts_the_last_pixel_in():
    """2 x 2 and 2 x 1 pixels: a half in common. Without the offset the second has no area."""
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 0]]), torch.tensor([0.9, 0.8])
    assert mmcv.ops.nms(boxes, scores, 0.4, offset=1)[1].tolist() == [0]
    assert mmcv.ops.nms(boxes, scores, 0.5, offset=1)[1].tolist() == [0, 1]
    assert mmcv.ops.nms(boxes, scores, 0.4, offset=0)[1].tolist() == [0, 1]
    assert boxes.tolist() == [[0, 0, 1, 1], [0, 0, 1, 0]]


def test_nms_by_score_and_number():
    boxes, scores = some_boxes()
    confident = [i for i in naive_nms(boxes, scores, 0.5) if scores[i] > 0.4]
    dets, kept = mmcv.ops.nms(boxes, scores, 0.5, score_threshold=0.4)
    assert kept.tolist() == confident
    assert dets[:, 4].min() > 0.4
    assert (
        mmcv.ops.nms(boxes, scores, 0.5, max_num=3)[1].tolist()
        == (naive_nms(boxes, scores, 0.5)[:3])
    )
    assert mmcv.ops.nms(boxes, scores, 0.5, score_threshold=2.0)[0].shape == (0, 5)


@pytest.mark.parametrize('dtype', LOW_PRECISION + [torch.float64])
def test_nms_of_other_dtypes(dtype):
    boxes, scores = some_boxes(dtype=dtype)
    dets, kept = mmcv.ops.nms(boxes, scores, 0.5)
    assert dets.dtype == dtype
    assert kept.tolist() == naive_nms(boxes, scores, 0.5)
    mixed = mmcv.ops.nms(boxes, scores.float(), 0.5)[1]
    assert torch.equal(mixed, kept)


def test_nms_of_numpy_arrays_and_views():
    boxes, scores = some_boxes(dtype=torch.float64)
    expected = naive_nms(boxes, scores, 0.5)
    assert mmcv.ops.nms(boxes.numpy(), scores.numpy(), 0.5)[1].tolist() == expected
    columns = boxes.t().contiguous().t()
    assert not columns.is_contiguous()
    assert mmcv.ops.nms(columns, scores.repeat(2, 1).t()[:, 0], 0.5)[1].tolist() == expected


def test_nms_without_boxes():
    for offset in (0, 1):
        dets, kept = mmcv.ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5, offset=offset)
        assert dets.shape == (0, 5)
        assert kept.shape == (0,) and kept.dtype == torch.long
    empty = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long)
    # Class by class, mmcv itself fails: it takes the maximum of all coordinates.
    dets, kept = mmcv.ops.batched_nms(*empty, dict(type='nms', iou_threshold=0.5), True)
    assert dets.shape == (0, 5) and kept.shape == (0,)


@pytest.mark.parametrize('split', [10000, 1], ids=['shifted', 'class by class'])
def test_batched_nms_lets_classes_be(split):
    boxes, scores = some_boxes()
    scores += torch.arange(len(scores)) * 1e-4  # no ties between classes
    classes = torch.randint(3, (len(boxes),))
    config = dict(type='nms', iou_threshold=0.5, split_thr=split)
    expected = []
    for label in range(3):
        members = torch.nonzero(classes == label)[:, 0]
        expected += members[naive_nms(boxes[members], scores[members], 0.5)].tolist()
    expected.sort(key=lambda i: -scores[i])
    dets, kept = mmcv.ops.batched_nms(boxes, scores, classes, config)
    assert kept.tolist() == expected
    torch.testing.assert_close(dets, torch.cat((boxes, scores[:, None]), 1)[kept])


def test_batched_nms_of_all_classes_together():
    boxes, scores = some_boxes()
    classes, config = torch.randint(3, (len(boxes),)), dict(type='nms', iou_threshold=0.5)
    kept = mmcv.ops.batched_nms(boxes, scores, classes, config, class_agnostic=True)[1]
    assert kept.tolist() == naive_nms(boxes, scores, 0.5)
    assert len(kept) < len(mmcv.ops.batched_nms(boxes, scores, classes, config)[1])


# The focal loss.


def focal_loss_by_definition(logits, targets, gamma, alpha, weight=None):
    answer = F.one_hot(targets, logits.shape[1] + 1)[:, :-1].bool()
    p = torch.where(answer, logits.sigmoid(), 1 - logits.sigmoid())
    loss = -torch.where(answer, alpha, 1 - alpha) * (1 - p) ** gamma * p.log()
    return loss if weight is None else loss * weight[targets][:, None]


def some_logits():
    """Three classes, and targets among which the last one, 3, is background."""
    logits = 3 * torch.randn(10, 3, dtype=torch.float64)
    return logits.requires_grad_(), torch.tensor([0, 1, 2, 3, 3, 0, 3, 2, 1, 3])


@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9)])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_focal_loss_is_its_definition(gamma, alpha, reduction):
    logits, targets = some_logits()
    factors = torch.rand(10, 3, dtype=torch.float64) if reduction == 'none' else 1
    loss = mmcv.ops.sigmoid_focal_loss(logits, targets, gamma, alpha, None, reduction)
    expected = focal_loss_by_definition(logits, targets, gamma, alpha)
    # mmcv divides by the number of rows.
    expected = expected if reduction == 'none' else expected.sum()
    expected = expected / 10 if reduction == 'mean' else expected
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad((loss * factors).sum(), logits)
    (by_autograd,) = torch.autograd.grad((expected * factors).sum(), logits)
    torch.testing.assert_close(gradient, by_autograd)


def test_focal_loss_with_class_weights():
    logits, targets = some_logits()
    targets, weight = targets % 3, torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    loss = mmcv.ops.sigmoid_focal_loss(logits, targets, 2.0, 0.25, weight, 'sum')
    expected = focal_loss_by_definition(logits, targets, 2.0, 0.25, weight).sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)
    )


def test_focal_loss_is_that_of_mmdetection_on_a_cpu():
    """MMDetection has a formula of its own there, and calls mmcv's operator on a GPU."""
    logits, targets = some_logits()
    sample_weight = torch.rand(10, dtype=torch.float64)
    loss = mmdet_focal_loss(logits, targets, sample_weight, 2.0, 0.25, 'mean', 7)
    one_hot = F.one_hot(targets, 4)[:, :3]
    expected = py_sigmoid_focal_loss(logits, one_hot, sample_weight, 2.0, 0.25, 'mean', 7)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits)
    )


def test_focal_loss_of_extreme_logits():
    """A logit of -100 has a probability that float32 cannot hold, and a loss of 100 all the same."""
    logits = torch.tensor([[-100.0, 100.0]], requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(logits, torch.tensor([0]), 2.0, 0.25, None, 'none')
    torch.testing.assert_close(loss, torch.tensor([[25.0, 75.0]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.75]]))


@pytest.mark.parametrize('dtype', LOW_PRECISION)
def test_focal_loss_in_low_precision_is_a_rounded_float32(dtype):
    exact, targets = some_logits()
    low = exact.detach().to(dtype).requires_grad_()
    high = low.detach().float().requires_grad_()
    losses = [mmcv.ops.sigmoid_focal_loss(x, targets, 2.0, 0.25, None, 'none') for x in (low, high)]
    assert torch.equal(losses[0], losses[1].to(dtype))
    for loss in losses:
        loss.sum().backward()
    assert torch.equal(low.grad, high.grad.to(dtype))


# What is not served.


def test_other_operators_are_there_and_raise():
    calls = {
        'softnms': lambda: mmcv.ops.soft_nms(torch.rand(2, 4), torch.rand(2)),
        'roi_pool_forward': lambda: mmcv.ops.RoIPool(2)(some_features(), some_rois()),
        'softmax_focal_loss_forward': lambda: mmcv.ops.softmax_focal_loss(*some_logits()),
    }
    for name, call in calls.items():
        with pytest.raises(NotImplementedError) as raised:
            call()
        message = str(raised.value)
        assert f'{name!r} is not available' in message
        for part in ('mmcv-ext-fallback', 'uninstall mmcv-lite', 'installation.html', 'model'):
            assert part in message


def test_what_is_said_to_be_served_is_served():
    functions = {name for name, value in vars(mmcv_ext).items() if inspect.isfunction(value)}
    assert {name for name in functions if not name.startswith('_')} == set(mmcv_ext.SERVED)


def test_only_operators_can_be_had_by_name():
    assert mmcv_ext.an_operator_of_a_later_mmcv.__name__ == 'an_operator_of_a_later_mmcv'
    for name in ('__path__', '__wrapped__', '__all__', '_repr_html_'):
        assert not hasattr(mmcv_ext, name)
    with pytest.raises(AttributeError, match="module 'mmcv._ext' has no attribute '__all__'"):
        _ = mmcv_ext.__all__


def test_mmcv_reports_what_it_runs_on():
    assert collect_env()['MMCV Compiler'] == 'n/a (mmcv-ext-fallback)'
    assert mmcv.ops.get_compiling_cuda_version() == 'n/a (mmcv-ext-fallback)'


# The file.


@pytest.mark.parametrize('suffix', EXTENSION_SUFFIXES)
def test_a_compiled_one_wins(tmp_path, suffix):
    (tmp_path / '_ext.py').write_text('')
    assert isinstance(PathFinder.find_spec('_ext', [str(tmp_path)]).loader, SourceFileLoader)
    importlib.invalidate_caches()
    (tmp_path / f'_ext{suffix}').write_text('')
    spec = PathFinder.find_spec('_ext', [str(tmp_path)])
    assert isinstance(spec.loader, ExtensionFileLoader)
    assert spec.origin.endswith(suffix)


def test_the_installed_file_is_that_of_the_repository():
    """Else the tests above are of an older one: `make setup` installs it anew."""
    assert Path(mmcv_ext.__file__).read_text() == (SOURCE / 'mmcv' / '_ext.py').read_text()


def test_the_wheel_holds_that_one_file(tmp_path):
    """An mmcv/__init__.py would write over mmcv's own."""
    build = 'from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])'
    folder = tmp_path / 'source'
    (folder / 'mmcv').mkdir(parents=True)
    for name in ('pyproject.toml', 'README.md', 'mmcv/_ext.py'):
        (folder / name).write_bytes((SOURCE / name).read_bytes())
    subprocess.run(
        [sys.executable, '-c', build, str(tmp_path)], cwd=folder, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob('*.whl')
    files = [name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name]
    assert files == ['mmcv/_ext.py']


# Stock detectors.

CONFIGS = {
    'Mask R-CNN': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'Faster R-CNN': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'RetinaNet': 'retinanet/retinanet_r50_fpn_1x_coco.py',
    'FCOS': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
}
WIDTH, CLASSES = 32, 3


def detector_config(name):
    """MMDetection's own config, all widths down to 32 channels and ResNet-18."""
    config = get_config(f'mmdet::{CONFIGS[name]}').model
    config.backbone.update(depth=18, base_channels=8, init_cfg=None)
    config.neck.update(in_channels=[8, 16, 32, 64], out_channels=WIDTH)
    if 'roi_head' not in config:
        config.bbox_head.update(in_channels=WIDTH, feat_channels=WIDTH, num_classes=CLASSES)
        config.test_cfg.score_thr = 0.0
        return config
    config.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    roi_head = config.roi_head
    roi_head.bbox_roi_extractor.out_channels = WIDTH
    roi_head.bbox_head.update(in_channels=WIDTH, fc_out_channels=WIDTH, num_classes=CLASSES)
    if 'mask_head' in roi_head:
        roi_head.mask_roi_extractor.out_channels = WIDTH
        roi_head.mask_head.update(in_channels=WIDTH, conv_out_channels=WIDTH, num_classes=CLASSES)
    config.test_cfg.rcnn.score_thr = 0.0
    return config


def detector(config):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(copy.deepcopy(config))


def detection_batch(height=96, width=128):
    """Two noisy images, with three objects in one and none in the other."""
    samples = []
    for boxes in ([[8, 8, 60, 70], [40, 20, 120, 90], [70, 50, 90, 80]], []):
        masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes):
            mask[y1:y2, x1:x2] = 1
        objects = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.arange(len(boxes)),
            masks=BitmapMasks(masks.numpy(), height, width),
        )
        shape = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
        samples.append(DetDataSample(metainfo=shape, gt_instances=objects))
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples)


def losses_of(model, batch):
    torch.manual_seed(0)  # the samplers draw
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    return model.parse_losses(model(**data, mode='loss'))


@pytest.mark.filterwarnings('ignore:torch.meshgrid:UserWarning')
@pytest.mark.parametrize('name', CONFIGS)
def test_a_stock_detector_trains_and_predicts(name):
    config = detector_config(name)
    model, batch = detector(config), detection_batch()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    losses = model.train().train_step(copy.deepcopy(batch), optimizer)
    assert all(value.isfinite() for value in losses.values())
    assert losses['loss'] > 0
    parts = ['backbone.layer4', 'neck', 'bbox_head', 'rpn_head', 'roi_head.bbox', 'roi_head.mask']
    parts = {part: [key for key in before if key.startswith(part)] for part in parts}
    assert sum(map(bool, parts.values())) == {'Mask R-CNN': 5, 'Faster R-CNN': 4}.get(name, 3)
    for part, keys in parts.items():
        moved = [key for key in keys if not torch.equal(model.get_parameter(key), before[key])]
        assert bool(moved) == bool(keys), part
    assert all(value.isfinite().all() for value in model.parameters())

    with torch.no_grad():
        (found, _) = [sample.pred_instances for sample in model.eval().test_step(batch)]
    test_cfg = config.test_cfg.get('rcnn', config.test_cfg)
    assert 0 < len(found) <= test_cfg.max_per_img
    assert found.bboxes.isfinite().all()
    for label in range(CLASSES):
        chosen = found[found.labels == label]
        assert naive_nms(chosen.bboxes, chosen.scores, test_cfg.nms.iou_threshold + 1e-3) == (
            list(range(len(chosen)))
        )
    if name == 'Mask R-CNN':
        assert found.masks.shape == (len(found), 96, 128)


def test_mask_rcnn_has_the_gradients_of_torchvisions_own_roi_align():
    """mmcv's layer can call torchvision's function, which comes with an autograd of its own."""
    config, batch, results = detector_config('Mask R-CNN'), detection_batch(), []
    for use_torchvision in (False, True):
        for extractor in ('bbox_roi_extractor', 'mask_roi_extractor'):
            config.roi_head[extractor].roi_layer.use_torchvision = use_torchvision
        model = detector(config).train()
        loss, losses = losses_of(model, batch)
        loss.backward()
        results.append((losses, [parameter.grad for parameter in model.parameters()]))
    (losses, gradients), (others, other_gradients) = results
    assert losses['loss_mask'] > 0
    assert losses == others
    for gradient, other in zip(gradients, other_gradients):
        torch.testing.assert_close(gradient, other)


def test_mask_rcnn_in_mixed_precision():
    """MMDetection hands bfloat16 to NMS and RoIAlign then."""
    model, batch = detector(detector_config('Mask R-CNN')).train(), detection_batch()
    exact = losses_of(model, batch)[1]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss, losses = losses_of(model, batch)
    loss.backward()
    for key in ('loss_rpn_cls', 'loss_cls', 'loss_mask'):
        assert losses[key].item() == pytest.approx(exact[key].item(), rel=0.05)
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(gradient.isfinite().all() for gradient in gradients)
