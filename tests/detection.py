"""Tiny detectors of MMDetection's own configs, and batches for them, that several test files use."""

import copy
import logging
import math
import re
from typing import Any, Optional

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.structures import InstanceData

CLASS_NAMES = ('circle', 'square', 'triangle')
CLASSES = len(CLASS_NAMES)
WIDTH = 8  # of the first stage
MODELS_OF_MMDET = {
    'MaskRCNN': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
    'FasterRCNN': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    'CascadeRCNN': 'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
    'RetinaNet': 'retinanet/retinanet_r50_fpn_1x_coco',
    'FCOS': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    'CondInst': 'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance',
}


class KeepsPrecision(DetDataPreprocessor):
    """The stock one makes float32 of any batch; then gradients could not be compared to 1e-10."""

    def forward(self, data: dict, training: bool = False) -> dict:
        data = super().forward(data, training)
        return {**data, 'inputs': data['inputs'].double()}


def shrink(model: ConfigDict) -> ConfigDict:
    """A detector's config with ResNet-18, few channels and classes; batch norms are trained."""
    model.backbone.update(
        depth=18, base_channels=WIDTH, norm_eval=False, frozen_stages=-1, init_cfg=None,
        norm_cfg=dict(type='BN', requires_grad=True), style='pytorch',
    )  # fmt: skip
    model.backbone.zero_init_residual = False
    model.neck.update(in_channels=[WIDTH * 2**i for i in range(4)], out_channels=32)
    _shrink_heads(model)
    if 'rpn' in (model.get('train_cfg') or {}):
        # Else tiny images are refused, which have no anchor within them.
        model.train_cfg.rpn.allowed_border = -1
    for part in ('rpn', 'rpn_proposal'):
        for stage in ('train_cfg', 'test_cfg'):
            if part in (model.get(stage) or {}):
                model[stage][part].update(nms_pre=50, max_per_img=20)
    return model


def _shrink_heads(part: Any) -> None:
    if isinstance(part, list):
        for item in part:
            _shrink_heads(item)
    if not isinstance(part, dict):
        return
    if part.get('type') in ('ResNet', 'FPN'):
        return
    small = dict(
        in_channels=32, feat_channels=32, conv_out_channels=32, fc_out_channels=32, out_channels=32,
        num_classes=CLASSES,
    )  # fmt: skip
    if part.get('type') == 'MaskFeatModule':
        small['out_channels'] = 8
    for key, value in part.items():
        if key in small and not (key in ('feat_channels', 'out_channels') and value <= 8):
            part[key] = small[key]
        else:
            _shrink_heads(value)


def tiny_config(detector: str = 'MaskRCNN', gradaug: Optional[dict] = None, **changes: Any) -> dict:
    """The model part of MMDetection's config, shrunk; with ``gradaug`` as a GradAug model."""
    model = shrink(get_config(f'mmdet::{MODELS_OF_MMDET[detector]}.py').model)
    if gradaug is not None:
        gradaug = {**dict(num_subnets=2, min_width=0.5, transforms=SCALES), **gradaug}
        if detector == 'MaskRCNN':
            model.update(type='mmgradaug.GradAugMaskRCNN', gradaug=gradaug)
        else:
            model.update(
                type='mmgradaug.GradAugDetector', detector=f'mmdet.{detector}', gradaug=gradaug
            )
    model.merge_from_dict(changes) if hasattr(model, 'merge_from_dict') else model.update(changes)
    return model


SCALES = dict(type='RandomScale', factors=[1.0, 0.8, 0.6])


def build(
    config: dict, dtype: torch.dtype = torch.float32, seed: int = 0, initialise: bool = True
) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = copy.deepcopy(config)
    if dtype == torch.float64:
        config['data_preprocessor'] = KeepsPrecision(
            **{k: v for k, v in config['data_preprocessor'].items() if k != 'type'}
        )
    model = MODELS.build({**config, '_scope_': 'mmdet'})
    logging.disable(logging.INFO)  # a line for each parameter
    if initialise:
        model.init_weights()
    logging.disable(logging.NOTSET)
    return model.to(dtype).train()


def stock_and_gradaug(
    gradaug: dict, detector: str = 'MaskRCNN', dtype: torch.dtype = torch.float64
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The stock detector and the GradAug one with the same weights."""
    stock = build(tiny_config(detector), dtype)
    model = build(tiny_config(detector, gradaug), dtype)
    model.load_state_dict(stock.state_dict(), strict=True)
    return stock, model


def random_batch(
    seed: int = 0,
    sizes: tuple[tuple[int, int], ...] = ((64, 96), (60, 83)),
    instances: int = 3,
    polygons: bool = False,
    dtype: torch.dtype = torch.float32,
) -> dict:
    """What a data loader hands on: uint8 images of several sizes, triangles with boxes and masks."""
    rng = np.random.default_rng(seed)
    inputs, samples = [], []
    for height, width in sizes:
        inputs.append(torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)))
        corners = rng.uniform(0, 1, (instances, 3, 2)) * (width, height)
        boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
        masks = PolygonMasks([[c.reshape(-1)] for c in corners], height, width)
        if not polygons:
            masks = BitmapMasks(masks.to_ndarray().astype(np.uint8), height, width)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0)
            )
        )
        labels = torch.from_numpy(rng.integers(CLASSES, size=instances))
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(boxes).to(dtype), labels=labels, masks=masks
        )
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4, dtype=dtype),
            labels=torch.zeros(0, dtype=torch.int64),
            masks=masks[[]],
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def narrow(params: dict[str, torch.Tensor], width: float) -> dict[str, torch.Tensor]:
    """The first channels of the backbone, and of what the neck takes in, by name and shape alone."""
    kept = {}
    for name, value in params.items():
        if value.dim() and name.startswith('backbone.'):
            value = value[: math.floor(value.shape[0] * width + 0.5)]
            if value.dim() > 1 and name != 'backbone.conv1.weight':
                value = value[:, : math.floor(value.shape[1] * width + 0.5)]
        elif re.match(r'neck\.lateral_convs\.\d+\.conv\.weight', name) or (
            # RetinaNet's first level beyond the backbone's is made from the backbone's last.
            name == 'neck.fpn_convs.3.conv.weight' and value.shape[1] == 8 * WIDTH
        ):
            value = value[:, : math.floor(value.shape[1] * width + 0.5)]
        kept[name] = value
    return kept


def scaled(batch: dict, factor: float, divisor: int = 32) -> dict:
    """A preprocessed batch with polygon masks at another scale, written out naively."""
    images, samples = [], []
    for image, sample in zip(batch['inputs'], batch['data_samples']):
        h, w = sample.img_shape
        new_h, new_w = int(h * factor + 0.5), int(w * factor + 0.5)
        images.append(
            F.interpolate(image[None, :, :h, :w], size=(new_h, new_w), mode='bilinear')[0]
        )
        sample = copy.deepcopy(sample)
        sample.set_metainfo(dict(img_shape=(new_h, new_w)))
        for part in (sample.gt_instances, sample.ignored_instances):
            part.bboxes = part.bboxes * part.bboxes.new_tensor([new_w / w, new_h / h] * 2)
            masks = part.masks.masks
            part.masks = PolygonMasks(
                [[p * np.array([new_w / w, new_h / h] * 3) for p in each] for each in masks],
                new_h, new_w,
            )  # fmt: skip
        samples.append(sample)
    height = math.ceil(max(i.shape[1] for i in images) / divisor) * divisor
    width = math.ceil(max(i.shape[2] for i in images) / divisor) * divisor
    inputs = torch.stack(
        [F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1])) for i in images]
    )
    for sample in samples:
        shape = sample.img_shape
        sample.set_metainfo(
            dict(
                batch_input_shape=(height, width),
                pad_shape=tuple(math.ceil(side / divisor) * divisor for side in shape),
            )
        )
        sample.gt_instances.masks = sample.gt_instances.masks.pad((height, width))
    return dict(inputs=inputs, data_samples=samples)


def stock_losses(
    stock: torch.nn.Module, params: dict[str, torch.Tensor], batch: dict, width: Optional[float]
) -> torch.Tensor:
    """The stock detector's summed loss with the first channels of ``params``; draws from torch's RNG.

    Batch norms use scratch copies of their running statistics.
    """
    scratch = {name: value.clone() for name, value in stock.named_buffers()}
    weights = {**params, **scratch}
    if width is not None:
        weights = narrow(weights, width)
    losses = torch.func.functional_call(
        stock, weights, (batch['inputs'], copy.deepcopy(batch['data_samples'])), dict(mode='loss')
    )
    return stock.parse_losses(losses)[0]


def naive_loss(stock: torch.nn.Module, batch: dict, subnets: list[Any], seed: int) -> torch.Tensor:
    """Eq. 4 with the ground truth for all: no slimmable layer runs. Proposals are drawn from ``seed``."""
    params = dict(stock.named_parameters())
    batch = stock.data_preprocessor(copy.deepcopy(batch), True)
    torch.manual_seed(seed)
    loss = stock_losses(stock, params, batch, None)
    for subnet in subnets:
        loss = loss + stock_losses(
            stock, params, scaled(batch, subnet.transform.factor), subnet.width
        )
    return loss
