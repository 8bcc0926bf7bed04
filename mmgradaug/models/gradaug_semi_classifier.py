"""Semi-supervised image classification with GradAug."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Optional

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from mmgradaug.arguments import refuse_unknown_keys
from mmgradaug.registry import MODELS
from mmgradaug.slimming import subnetwork
from mmgradaug.subnets import BatchOperation

from .gradaug_classifier import ClassifierBatch, GradAugClassifier, Logits, predicts_by_sigmoid
from .semi_supervised import SemiSupervisedMixin


@dataclass(frozen=True)
class SemiBatch(ClassifierBatch):
    """Labelled images with their samples, and unlabelled ones (M, C, H', W') or None."""

    unlabelled: Optional[Tensor] = None

    def __len__(self) -> int:
        return len(self.images) + (0 if self.unlabelled is None else len(self.unlabelled))

    def transform(self, operation: BatchOperation) -> 'SemiBatch':
        unlabelled = None if self.unlabelled is None else operation(self.unlabelled)
        return SemiBatch(operation(self.images), self.data_samples, unlabelled)

    def select(self, indices: Tensor) -> 'SemiBatch':
        """Numbers from N on are unlabelled images."""
        labelled = ClassifierBatch.select(self, indices[indices < len(self.images)])
        others = indices[indices >= len(self.images)] - len(self.images)
        unlabelled = None if self.unlabelled is None else self.unlabelled[others]
        return SemiBatch(labelled.images, labelled.data_samples, unlabelled)


@MODELS.register_module()
class GradAugSemiClassifier(SemiSupervisedMixin, GradAugClassifier):
    """GradAug-semi: sub-networks also learn what the full network says about unlabelled images.

    Paper, Section 4.6: "We can leverage the full-network to generate labels for unlabeled data and use
    them to train the sub-networks." Details are in a supplement that could not be found; ours: the full
    network learns from the labelled images alone, its detached output on the unlabelled ones is their
    soft label, and a sub-network's loss is

        soft-label loss of the labelled images + weight * soft-label loss of the unlabelled ones,

    each a mean over its images. Both kinds get the sub-network's one transformation, and each is
    normalised by its own batch statistics, so that unlabelled images may have another size. Without
    unlabelled images in a batch this is :class:`GradAugClassifier`, bit for bit.

    Example:
        >>> import torch
        >>> from mmgradaug.registry import MODELS
        >>> from mmpretrain.structures import DataSample
        >>> model = MODELS.build(dict(
        ...     type='mmgradaug.GradAugSemiClassifier',
        ...     gradaug=dict(num_subnets=2, min_width=0.8, unlabelled=dict(weight=0.5),
        ...                  transforms=dict(type='RandomResize', sizes=[32, 28, 24])),
        ...     backbone=dict(type='mmgradaug.SlimmableResNetCIFAR', depth=8),
        ...     neck=dict(type='mmpretrain.GlobalAveragePooling'),
        ...     head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64)))
        >>> labelled = [DataSample().set_gt_label(label) for label in range(3)]
        >>> batch = model.make_batch(torch.rand(3, 3, 32, 32), labelled, unlabelled=torch.rand(5, 3, 32, 32))
        >>> losses, soft_labels = model.full_pass(batch, record=True)
        >>> [tuple(each.shape) for each in soft_labels]
        [(3, 10), (5, 10)]
        >>> sorted(model.subnet_pass(batch, soft_labels))
        ['loss', 'loss_unlabelled']

    Args:
        gradaug: as for :class:`GradAugClassifier`, and ``unlabelled=dict(...)`` with

            - ``weight``: >= 0, of the unlabelled images' loss. 1 by default.
            - ``threshold``: in [0, 1). Unlabelled images of which the full network is less sure (its
              greatest probability is below) do not count; the mean stays over all. 0, off, by default.
            - ``move_statistics``: whether the full network's pass over unlabelled images moves the
              running statistics of batch norms as well. Off by default: they are those of the
              labelled images, as in plain training.
        *args, data_preprocessor, **kwargs: of ``mmpretrain.ImageClassifier``.

    Raises:
        TypeError, ValueError: an option is unknown or out of its range.
    """

    own_options = (*GradAugClassifier.own_options, 'unlabelled')

    def __init__(self, *args: Any, gradaug: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
        options = dict((gradaug or {}).get('unlabelled') or {})
        known = ('weight', 'threshold', 'move_statistics')
        refuse_unknown_keys('gradaug.unlabelled', options, known)
        self.unlabelled_weight = options.get('weight', 1.0)
        self.threshold = options.get('threshold', 0.0)
        self.move_statistics = options.get('move_statistics', False)
        if not self.unlabelled_weight >= 0:
            raise ValueError(
                f'gradaug.unlabelled: weight must not be negative, got {self.unlabelled_weight}'
            )
        if not 0 <= self.threshold < 1:
            raise ValueError(
                f'gradaug.unlabelled: threshold is in [0, 1), 0 for none, got {self.threshold}'
            )
        super().__init__(*args, gradaug=gradaug, **kwargs)
        if self.subnet_sampler.batch_fraction < 1:
            raise ValueError(
                'batch_fraction might leave a sub-network without labelled images: write batch_fraction=1, '
                'and make the batches smaller instead'
            )

    def make_batch(
        self,
        inputs: Tensor,
        data_samples: Optional[list[DataSample]] = None,
        unlabelled: Optional[Tensor] = None,
    ) -> SemiBatch:
        return SemiBatch(inputs, data_samples, unlabelled)

    # Its batches are those that it makes: a GradAugClassifier's would have no unlabelled images.
    def full_pass(  # type: ignore[override]
        self, batch: SemiBatch, record: bool
    ) -> tuple[dict[str, Tensor], tuple[Optional[Logits], Optional[Logits]]]:
        """As :meth:`GradAugClassifier.full_pass`, of the labelled images; soft labels of all.

        Returns:
            The head's losses on the labelled images, and the soft labels of both kinds, (N, classes) and
            (M, classes) or None.
        """
        losses, of_labelled = super().full_pass(batch, record)
        if batch.unlabelled is None:
            self.warn_without_unlabelled()
        if batch.unlabelled is None or not record:
            return losses, (of_labelled, None)
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if not self.move_statistics:
                # A sub-network of full width normalises by the batch, and leaves running statistics alone.
                stack.enter_context(subnetwork(self, 1.0))
            return losses, (of_labelled, self.head(self.extract_feat(batch.unlabelled)))

    def subnet_pass(  # type: ignore[override]  # for the same reason
        self, batch: SemiBatch, recorded: tuple[Logits, Optional[Logits]]
    ) -> dict[str, Tensor]:
        """As :meth:`GradAugClassifier.subnet_pass`, and the loss of the unlabelled images."""
        of_labelled, of_unlabelled = recorded
        losses = super().subnet_pass(batch, of_labelled)
        if batch.unlabelled is None:
            return losses
        logits = self.head(self.extract_feat(batch.unlabelled))
        if not self.threshold:
            loss = self._soft_label_loss(self.head, logits, of_unlabelled)
        else:
            loss = self._confident_loss(logits, of_unlabelled)
        losses['loss_unlabelled'] = self.unlabelled_weight * loss
        return losses

    def _confident_loss(self, logits: Tensor, soft_labels: Optional[Logits]) -> Tensor:
        if not isinstance(soft_labels, Tensor) or predicts_by_sigmoid(self.head):
            raise TypeError(
                'gradaug.unlabelled: a threshold needs a head with one softmax over the classes, not '
                f'{type(self.head).__name__} as configured: write threshold=0'
            )
        sure = soft_labels.softmax(dim=1).amax(dim=1) >= self.threshold
        if not sure.any():
            return 0.0 * logits.sum()  # of every parameter a gradient, as DDP expects
        loss = self._soft_label_loss(self.head, logits[sure], soft_labels[sure])
        return loss * (sure.sum() / len(sure))
