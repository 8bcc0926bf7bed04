"""Image classification with GradAug."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.models.losses import FocalLoss, LabelSmoothLoss
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmgradaug.engine import GradAugMixin
from mmgradaug.registry import MODELS
from mmgradaug.slimming import buffers_kept
from mmgradaug.subnets import BatchOperation, check_soft_labels_switch

Logits = Union[Tensor, dict[str, Any]]


@dataclass(frozen=True)
class ClassifierBatch:
    """A preprocessed batch of MMPretrain: images (N, C, H, W) and N samples with their labels."""

    images: Tensor
    data_samples: Optional[list[DataSample]] = None

    def __len__(self) -> int:
        return len(self.images)

    def transform(self, operation: BatchOperation) -> 'ClassifierBatch':
        return replace(self, images=operation(self.images))

    def select(self, indices: Tensor) -> 'ClassifierBatch':
        samples = self.data_samples
        chosen = None if samples is None else [samples[i] for i in indices.tolist()]
        return ClassifierBatch(self.images[indices], chosen)


@MODELS.register_module()
class GradAugClassifier(GradAugMixin, ImageClassifier):
    """MMPretrain's ImageClassifier, trained by GradAug.

    The backbone's channels are narrowed; neck and head give all of theirs and may take fewer. Sub-networks see
    the transformed *preprocessed* batch, after Mixup or CutMix, and learn the full network's output
    on the untransformed one (paper, Eq. 4 and 6). Everything but training is the stock classifier,
    and so are the state_dict's keys.

    Example:
        >>> import torch
        >>> from mmengine.optim import OptimWrapper
        >>> from mmgradaug.registry import MODELS
        >>> from mmpretrain.structures import DataSample
        >>> model = MODELS.build(dict(
        ...     type='mmgradaug.GradAugClassifier',
        ...     gradaug=dict(num_subnets=2, min_width=0.8,
        ...                  transforms=dict(type='RandomResize', sizes=[32, 28, 24])),
        ...     backbone=dict(type='mmgradaug.SlimmableResNetCIFAR', depth=8),
        ...     neck=dict(type='mmpretrain.GlobalAveragePooling'),
        ...     head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64)))
        >>> data = dict(inputs=torch.rand(4, 3, 32, 32),
        ...             data_samples=[DataSample().set_gt_label(label) for label in range(4)])
        >>> optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
        >>> model.announce_iteration(seed=0, iteration=0, active=True)  # GradAugHook does this
        >>> list(model.train_step(data, optim_wrapper))
        ['loss', 'loss_full', 'loss_subnet0', 'width_subnet0', 'loss_subnet1', 'width_subnet1']

    Args:
        gradaug: see :class:`~mmgradaug.engine.GradAugMixin`; and ``soft_labels``: False trains sub-networks
            with the head's own loss on the labels (after Mixup or CutMix), without the first trick of
            Section 3.1. True, the full network's output, by default.
        *args, **kwargs: of ``mmpretrain.ImageClassifier``. The backbone is any that
            :func:`~mmgradaug.slimming.plan_channels` can follow. Backbone, neck and head are tried out
            together.

    Raises:
        SlimmingError: the backbone has no sub-networks.
        ValueError: there is no head, or an option does not fit another.
    """

    own_options = (*GradAugMixin.own_options, 'soft_labels')

    def __init__(self, *args: Any, gradaug: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
        options = gradaug if isinstance(gradaug, dict) else {}
        self.soft_labels = check_soft_labels_switch(
            options.get('soft_labels', True), bool(options.get('soft_label_loss'))
        )
        super().__init__(*args, gradaug=gradaug, **kwargs)
        if not self.with_head:
            raise ValueError('GradAugClassifier needs a head: its output is the soft label')

    def make_batch(
        self, inputs: Tensor, data_samples: Optional[list[DataSample]] = None
    ) -> ClassifierBatch:
        return ClassifierBatch(inputs, data_samples)

    def full_pass(
        self, batch: ClassifierBatch, record: bool
    ) -> tuple[dict[str, Tensor], Optional[Logits]]:
        """Loss of the full network against the labels, and its soft labels: the very logits of the loss.

        Returns:
            The head's losses; and logits of shape (N, classes), or a dict of them by task, or None.
        """
        feats = self.extract_feat(batch.images)
        with record_logits(self.head) as recorded:
            losses = self.head.loss(feats, batch.data_samples)
        if not record or not self.soft_labels:
            return losses, None
        rows = torch.arange(len(batch))
        return losses, soft_labels(self.head, recorded, feats, batch.data_samples or (), rows)

    def subnet_pass(self, batch: ClassifierBatch, recorded: Logits) -> dict[str, Tensor]:
        """Loss of the sub-network that the model is at the moment, by default against soft labels alone."""
        feats = self.extract_feat(batch.images)
        if not self.soft_labels:
            return self.head.loss(feats, batch.data_samples)
        logits = self.head(feats)
        return {'loss': self._soft_label_loss(self.head, logits, recorded)}

    def select_recorded(self, recorded: Logits, indices: Tensor) -> Logits:
        if isinstance(recorded, dict):
            return {task: self.select_recorded(each, indices) for task, each in recorded.items()}
        return recorded[indices]

    def _soft_label_loss(self, head: Any, logits: Any, soft_labels: Any) -> Tensor:
        if isinstance(logits, dict):  # a multi-task head: its tasks' losses add up, as their own do
            first, *others = (
                self._soft_label_loss(head.task_heads[task], logits[task], soft_labels[task])
                for task in logits
            )
            return sum(others, first)
        _require_tensor(logits, head)
        return self.soft_label_loss(logits, soft_labels, multi_label=predicts_by_sigmoid(head))


@contextmanager
def record_logits(head: nn.Module) -> Iterator[dict[nn.Module, Any]]:
    """Inside the context, what the head (or each task's head) gives is noted down, by head."""
    seen: dict[nn.Module, Any] = {}
    hooks = [
        each.register_forward_hook(lambda module, _, output: seen.__setitem__(module, output))
        for each in single_heads(head)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def single_heads(head: nn.Module) -> list[nn.Module]:
    """The heads of a multi-task head's tasks, of which each may have tasks again; or the one head."""
    tasks = getattr(head, 'task_heads', None)
    if tasks is None:
        return [head]
    return [single for each in tasks.values() for single in single_heads(each)]


def soft_labels(
    head: nn.Module,
    seen: dict[nn.Module, Any],
    feats: tuple[Tensor, ...],
    data_samples: Sequence[Any],
    rows: Tensor,
) -> Logits:
    """The logits of the loss, detached; or a dict of them by task.

    A task's loss leaves out images without a label for it; their logits are computed here.

    Args:
        head: of the classifier, or of one task.
        seen: what :func:`record_logits` noted down.
        feats: what the head takes.
        data_samples: labels of the images that have one for this head.
        rows: the numbers of these images in the batch.

    Raises:
        TypeError: the head's loss does not call the head, or it gives something else than a tensor.
    """
    tasks = getattr(head, 'task_heads', None)
    if tasks is not None:
        found = {}
        for task, each in tasks.items():
            labelled = [i for i, sample in enumerate(data_samples) if task in sample]
            samples = [data_samples[i].get(task) for i in labelled]
            found[task] = soft_labels(each, seen, feats, samples, rows[labelled])
        return found
    if head not in seen and len(rows):
        raise TypeError(
            f'{type(head).__name__} computes its loss without its forward(), so there are no logits '
            'for soft labels: take a head whose loss calls self(feats), LinearClsHead for instance'
        )
    logits = seen.get(head)
    if len(rows) < len(feats[-1]):
        # Over the whole batch, by whose statistics batch norms in a head normalise.
        with torch.no_grad(), buffers_kept(head):
            of_all = head(feats)
        _require_tensor(of_all, head)
        of_all[rows] = of_all[rows] if logits is None else logits.detach()
        return of_all
    return _require_tensor(logits, head).detach()


def _require_tensor(logits: Any, head: nn.Module) -> Tensor:
    if not isinstance(logits, Tensor):
        raise TypeError(
            f'{type(head).__name__} gives a {type(logits).__name__} of logits; GradAug needs heads '
            'that give one tensor (LinearClsHead, MultiLabelLinearClsHead, ...), or a '
            'MultiTaskHead of these'
        )
    return logits


def predicts_by_sigmoid(head: nn.Module) -> bool:
    """Whether a head's loss takes each class for a question of its own (sigmoid, not softmax)."""
    loss = getattr(head, 'loss_module', None)
    if isinstance(loss, LabelSmoothLoss):
        loss = loss.ce
    if isinstance(head, MultiLabelClsHead) or isinstance(loss, FocalLoss):
        return True
    return bool(getattr(loss, 'use_sigmoid', False))
