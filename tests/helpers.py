"""Tiny models and batches, and GradAug written out naively, that several test files use."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmpretrain.models import ClsDataPreprocessor, ImageClassifier
from mmpretrain.structures import DataSample
from torch import nn

from mmgradaug.models import (
    GradAugClassifier,
    GradAugSemiClassifier,
    MeanTeacherClassifier,
    SemiClsDataPreprocessor,
)
from mmgradaug.slimming import subnetwork

SIZES = [32, 28, 24]


class KeepsPrecision(ClsDataPreprocessor):
    """The stock one makes float32 of any batch; then gradients could not be compared to 1e-10."""

    def __init__(self, dtype: torch.dtype, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dtype = dtype

    def forward(self, data: dict, training: bool = False) -> dict:
        data = super().forward(data, training)
        return {**data, 'inputs': data['inputs'].to(self.dtype)}


MIXUP = dict(augments=dict(type='Mixup', alpha=1.0))
CUTMIX = dict(augments=dict(type='CutMix', alpha=1.0), probs=1.0)


def classifier_config(
    num_classes: int = 5, dtype: torch.dtype = torch.float64, **changes: Any
) -> dict[str, Any]:
    """A stock ImageClassifier small enough for a test: ResNet-18 with an eighth of the channels."""
    config = dict(
        backbone=dict(
            type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8,
            zero_init_residual=False,
        ),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=64,
            loss=dict(type='mmpretrain.CrossEntropyLoss', use_soft=changes.get('train_cfg') is not None),
        ),
        data_preprocessor=KeepsPrecision(
            dtype, num_classes=num_classes, batch_augments=changes.get('train_cfg')
        ),
    )  # fmt: skip
    return copy.deepcopy({**config, **changes})


def gradaug_config(**changes: Any) -> dict[str, Any]:
    config = dict(num_subnets=3, min_width=0.6, transforms=dict(type='RandomResize', sizes=SIZES))
    return {**config, **changes}


def stock_and_gradaug(
    gradaug: dict[str, Any], dtype: torch.dtype = torch.float64, seed: int = 0, **changes: Any
):
    """The stock classifier and the GradAug one with the same weights."""
    torch.manual_seed(seed)
    config = classifier_config(dtype=dtype, **changes)
    stock = ImageClassifier(**copy.deepcopy(config)).to(dtype)
    model = GradAugClassifier(gradaug=gradaug, **copy.deepcopy(config)).to(dtype)
    model.load_state_dict(stock.state_dict(), strict=True)
    return stock.train(), model.train()


def random_batch(size: int = 4, seed: int = 0, num_classes: int = 5, pixels: int = 32) -> dict:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (size,), generator=rng)
    return dict(
        # Values that float32 holds exactly, since the preprocessor passes through it.
        inputs=torch.randn(size, 3, pixels, pixels, generator=rng).double(),
        data_samples=[DataSample().set_gt_label(label) for label in labels],
    )


class SemiKeepsPrecision(SemiClsDataPreprocessor):
    """The stock one makes float32 of any batch."""

    def forward(self, data: dict, training: bool = False) -> dict:
        data = super().forward(data, training)
        for key in ('inputs', 'unlabelled'):
            if key in data:
                data[key] = data[key].double()
        return data


def stock_and_semi(unlabelled: Optional[dict[str, Any]] = None, **changes: Any):
    """The stock classifier and the GradAug-semi one with the same weights."""
    stock, _ = stock_and_gradaug(gradaug_config(), **changes)
    config = classifier_config(**changes)
    config['data_preprocessor'] = SemiKeepsPrecision(
        num_classes=5, batch_augments=changes.get('train_cfg')
    )
    gradaug = gradaug_config(**({} if unlabelled is None else dict(unlabelled=unlabelled)))
    model = GradAugSemiClassifier(gradaug=gradaug, **config).double().train()
    model.load_state_dict(stock.state_dict(), strict=True)
    return stock, model


def student_and_teacher(**mean_teacher: Any):
    """Mean Teacher's two, with different weights."""
    torch.manual_seed(0)
    config = classifier_config(data_preprocessor=SemiKeepsPrecision())
    models = [MeanTeacherClassifier(mean_teacher=mean_teacher, **copy.deepcopy(config)).double()]
    models.append(copy.deepcopy(models[0]).requires_grad_(False).eval())
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return models


def announce_iteration(model: GradAugClassifier, iteration: int) -> None:
    """What GradAugHook tells a model before each iteration."""
    model.announce_iteration(0, iteration, True)


def announce_teacher(teacher: MeanTeacherClassifier):
    """What MeanTeacherHook tells a model before each of three iterations."""

    def announce(student: MeanTeacherClassifier, iteration: int) -> None:
        student.announce_teacher(teacher, iteration / 3)

    return announce


def mixed_batch(labelled: int = 4, unlabelled: int = 3, pixels: int = 32, seed: int = 0):
    """One of each in turn; the unlabelled images as well by themselves."""
    batch = random_batch(labelled, seed=seed)
    more = random_batch(unlabelled, seed=seed + 1, pixels=pixels)['inputs']
    images, samples = list(batch['inputs']), batch['data_samples']
    mixed = dict(inputs=[], data_samples=[])
    for i in range(max(labelled, unlabelled)):
        if i < labelled:
            mixed['inputs'].append(images[i])
            mixed['data_samples'].append(copy.deepcopy(samples[i]))
        if i < unlabelled:
            mixed['inputs'].append(more[i])
            mixed['data_samples'].append(DataSample())
    return mixed, batch, more


def semi_batch(iteration: int, rank: int) -> dict:
    """Another number of unlabelled images on each rank; in one iteration the second has none."""
    unlabelled = (3, 0, 5)[iteration] if rank else 4
    return mixed_batch(unlabelled=unlabelled, seed=100 + 10 * iteration + 2 * rank)[0]


def sgd(
    model: torch.nn.Module, lr: float = 1.0, momentum: float = 0.0, **kwargs: Any
) -> OptimWrapper:
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum), **kwargs)


def narrow(params: dict[str, torch.Tensor], width: float) -> dict[str, torch.Tensor]:
    """The first channels of every layer of the tiny classifier, by name and shape alone."""
    kept = {}
    for name, value in params.items():
        if value.dim() == 0:
            kept[name] = value
            continue
        first = math.floor(value.shape[0] * width + 0.5)
        if name.startswith('head.'):
            first = value.shape[0]
        value = value[:first]
        if value.dim() > 1 and name != 'backbone.conv1.weight':
            value = value[:, : math.floor(value.shape[1] * width + 0.5)]
        kept[name] = value
    return kept


class Headed(nn.Module):
    """A backbone with a convolution behind each of its outputs."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        parameter = next(backbone.parameters())
        stem = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
        training = backbone.training
        backbone.eval()
        with torch.no_grad():
            outs = backbone(parameter.new_zeros(1, stem.in_channels, 64, 64))
        backbone.train(training)
        self.backbone = backbone
        self.heads = nn.ModuleList(nn.Conv2d(out.shape[1], 1, 1).to(out) for out in outs)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [head(out) for head, out in zip(self.heads, self.backbone(images))]


@contextmanager
def narrow_backbone(backbone: nn.Module, width: float) -> Iterator[nn.Module]:
    """Inside, the backbone is narrowed as part of a network: a network's own outputs would not be."""
    with subnetwork(Headed(backbone), width):
        yield backbone


def kept_share(model: torch.nn.Module, width: float) -> float:
    """The share of the tiny classifier's convolutions' output channels that a sub-network keeps."""
    full = {name: value for name, value in model.named_parameters() if value.dim() == 4}
    kept = narrow(full, width)
    return sum(len(value) for value in kept.values()) / sum(len(value) for value in full.values())


def naive_gradaug_loss(
    stock: ImageClassifier, params: dict[str, torch.Tensor], batch: dict, subnets: list[Any]
) -> torch.Tensor:
    """Eq. 4 in one graph, from a *stock* classifier and sliced parameters: no slimming runs.

    Batch norms use scratch copies of their running statistics.
    """

    def logits(weights, images):
        return torch.func.functional_call(stock, weights, (images,), dict(mode='tensor'))

    buffers = {name: value.clone() for name, value in stock.named_buffers()}
    images = batch['inputs']
    full = logits({**params, **buffers}, images)
    if 'gt_score' in batch['data_samples'][0]:
        target = torch.stack([sample.gt_score for sample in batch['data_samples']])
        loss = -(target * F.log_softmax(full, 1)).sum(1).mean()
    else:
        target = torch.cat([sample.gt_label for sample in batch['data_samples']])
        loss = F.cross_entropy(full, target)
    soft = F.softmax(full.detach(), 1)
    for subnet in subnets:
        scratch = {name: value.clone() for name, value in stock.named_buffers()}
        weights = narrow({**params, **scratch}, subnet.width)
        resized = F.interpolate(
            images, size=subnet.transform.size, mode='bilinear', align_corners=True
        )
        log_sub = F.log_softmax(logits(weights, resized), 1)
        loss = loss + (soft * (soft.log() - log_sub)).sum(1).mean()
    return loss


def parameters_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def preprocess(model: torch.nn.Module, batch: dict, seed: int = 0) -> dict:
    """What the model's data preprocessor makes of a batch, Mixup and CutMix drawn from ``seed``."""
    np.random.seed(seed)
    torch.manual_seed(seed)
    return model.data_preprocessor(copy.deepcopy(batch), True)
