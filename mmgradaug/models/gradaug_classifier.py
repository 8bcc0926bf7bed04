"""Image classification with GradAug."""

from typing import Any, Optional

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.models.losses import FocalLoss, LabelSmoothLoss
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmgradaug.engine import GradAugMixin
from mmgradaug.registry import MODELS
from mmgradaug.slimming import SlimmingError, convert_layers, subnetwork
from mmgradaug.subnets import BatchOperation


@MODELS.register_module()
class GradAugClassifier(GradAugMixin, ImageClassifier):
    """MMPretrain's ImageClassifier, trained by GradAug.

    The backbone is slimmed; neck and head keep their outputs and take fewer inputs. Sub-networks see
    the transformed *preprocessed* batch, after Mixup or CutMix, and learn the full network's output
    on the untransformed one (paper, Eq. 4 and 6). Everything but training is the stock classifier,
    and so are the state_dict's keys.

    Example::

        model = dict(
            type='mmgradaug.GradAugClassifier',
            gradaug=dict(num_subnets=3, min_width=0.9,
                         transforms=dict(type='RandomResize', sizes=[224, 192, 160, 128])),
            backbone=dict(type='ResNet', depth=50), neck=..., head=...)

    Args:
        gradaug: see :class:`~mmgradaug.engine.GradAugMixin`.
        *args, **kwargs: of ``mmpretrain.ImageClassifier``. The backbone is any that
            :func:`~mmgradaug.slimming.make_slimmable` can convert. Backbone, neck and head are tried out
            together.

    Raises:
        SlimmingError: the backbone has nothing to slim or cannot be slimmed.
        ValueError: there is no head.
    """

    def slim(self) -> int:
        if not self.with_head:
            raise ValueError('GradAugClassifier needs a head: its output is the soft label')
        return slim_classifier(self)

    def full_pass(
        self,
        *,
        inputs: Tensor,
        data_samples: Optional[list[DataSample]] = None,
        give_soft_labels: bool,
    ) -> tuple[dict[str, Tensor], Any]:
        """Loss of the full network against the labels, and its soft labels.

        The soft labels are the head's logits from the very features of the loss. With dropout inside the
        head, which draws anew, they are not the very logits of the loss.

        Args:
            inputs: (N, C, H, W), preprocessed.
            data_samples: N samples with their labels.
            give_soft_labels: False where no sub-network follows.

        Returns:
            The head's losses, and logits of shape (N, classes), or a dict of them by task; or None.
        """
        feats = self.extract_feat(inputs)
        losses = self.head.loss(feats, data_samples)
        if not give_soft_labels:
            return losses, None
        # Heads hand out losses, not logits, so the head runs once more, on the same features. As a
        # sub-network of full width, so that a batch norm in it does not count the batch twice.
        with torch.no_grad(), subnetwork(self, 1.0):
            return losses, self.head(feats)

    def subnet_pass(
        self,
        *,
        inputs: Tensor,
        data_samples: Optional[list[DataSample]] = None,
        transform: BatchOperation,
        soft_labels: Any,
    ) -> dict[str, Tensor]:
        """Soft-label loss of the sub-network that the model is at the moment.

        Args:
            inputs: (N, C, H, W), preprocessed, not yet transformed.
            data_samples: unused; a sub-network does not see labels.
            transform: of the batch.
            soft_labels: what :meth:`full_pass` returned.
        """
        logits = self.head(self.extract_feat(transform(inputs)))
        return {'loss': self._soft_label_loss(self.head, logits, soft_labels)}

    def _soft_label_loss(self, head: nn.Module, logits: Any, soft_labels: Any) -> Tensor:
        if isinstance(logits, dict):  # a multi-task head: its tasks' losses add up, as their own do
            return sum(
                self._soft_label_loss(head.task_heads[task], logits[task], soft_labels[task])
                for task in logits
            )
        if not isinstance(logits, Tensor):
            raise TypeError(
                f'{type(head).__name__} gives a {type(logits).__name__} of logits; GradAug needs heads '
                'that give one tensor (LinearClsHead, MultiLabelLinearClsHead, ...), or a '
                'MultiTaskHead of these'
            )
        return self.soft_label_loss(logits, soft_labels, multi_label=predicts_by_sigmoid(head))


def slim_classifier(model: ImageClassifier) -> int:
    """Convert a classifier in place: the backbone is slimmed, neck and head keep their outputs.

    Args:
        model: ours or a stock one. Whether its sub-networks exist is not tried out; see
            :func:`~mmgradaug.slimming.try_subnetworks`.

    Returns:
        The number of slimmable layers.

    Raises:
        SlimmingError: the backbone has nothing to slim or cannot be slimmed.
    """
    num_layers = convert_layers(model.backbone)
    if num_layers == 0:
        raise SlimmingError(
            f'{type(model.backbone).__name__} has no layer to slim, so every sub-network would be '
            'the full network'
        )
    for part in (model.neck, model.head):
        if part is not None:
            num_layers += convert_layers(part, keep_outputs=True)
    return num_layers


def predicts_by_sigmoid(head: nn.Module) -> bool:
    """Whether a head's loss takes each class for a question of its own (sigmoid, not softmax)."""
    loss = getattr(head, 'loss_module', None)
    if isinstance(loss, LabelSmoothLoss):
        loss = loss.ce
    if isinstance(head, MultiLabelClsHead) or isinstance(loss, FocalLoss):
        return True
    return bool(getattr(loss, 'use_sigmoid', False))
