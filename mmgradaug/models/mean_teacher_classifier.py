"""Mean Teacher, the semi-supervised method that the paper compares GradAug-semi with."""

import math
from typing import Any, Optional

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from mmgradaug.arguments import refuse_unknown_keys
from mmgradaug.registry import MODELS

from .semi_supervised import SemiSupervisedMixin


@MODELS.register_module()
class MeanTeacherClassifier(SemiSupervisedMixin, ImageClassifier):
    """Mean Teacher (arXiv:1703.01780), as Oliver et al. (arXiv:1804.09170) run it.

    The loss is the head's on the labelled images and, on the unlabelled ones, the consistency with a
    teacher whose weights are an exponential moving average of the model's:

        w(t) * mean over unlabelled images x and classes of (softmax(student(x)) - softmax(teacher(x)))^2

    with ``w(t) = weight * exp(-5 (1 - min(t / (ramp_up * T), 1))^2)`` in iteration t of T. (Oliver et al.'s
    code divides this sum and the cross-entropy's both by the number of all images in the batch, half of
    which are unlabelled: the same ratio of the two.) The teacher sees the same images; noise and dropout
    inside the network it draws for itself (theirs draws its own flip and shift as well), and it normalises
    by batch statistics, like the student. :class:`~mmgradaug.engine.MeanTeacherHook` keeps it and has it
    tested and saved in place of the student (Oliver et al.'s code tests the student), so the state_dict is
    that of the stock classifier.

    Example:
        >>> from mmgradaug.registry import MODELS
        >>> model = MODELS.build(dict(
        ...     type='mmgradaug.MeanTeacherClassifier', mean_teacher=dict(weight=8, ramp_up=0.4),
        ...     backbone=dict(type='mmgradaug.WideResNet', depth=10, widen_factor=1),
        ...     neck=dict(type='mmpretrain.GlobalAveragePooling'),
        ...     head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=64)))
        >>> [round(model.consistency_weight(progress), 2) for progress in (0, 0.2, 0.4, 1)]
        [0.05, 2.29, 8.0, 8.0]

    Args:
        mean_teacher: ``weight`` (8 by default), ``ramp_up`` (share of the training, in [0, 1]; 0.4,
            which is 200,000 of 500,000 iterations) and ``momentum`` (0.95: teacher = 0.95 * teacher +
            0.05 * student after each iteration). The defaults are those of Oliver et al.
        *args, data_preprocessor, **kwargs: of ``mmpretrain.ImageClassifier``.

    Raises:
        TypeError, ValueError: an option is unknown or out of its range.
        RuntimeError: in training, without the hook.
    """

    def __init__(
        self, *args: Any, mean_teacher: Optional[dict[str, Any]] = None, **kwargs: Any
    ) -> None:
        options = {'weight': 8.0, 'ramp_up': 0.4, 'momentum': 0.95}
        refuse_unknown_keys('mean_teacher', mean_teacher or {}, list(options))
        options.update(mean_teacher or {})
        if not options['weight'] >= 0:
            raise ValueError(f'mean_teacher: weight must not be negative, got {options["weight"]}')
        if not 0 <= options['ramp_up'] <= 1:
            raise ValueError(
                'mean_teacher: ramp_up is a share of the training, in [0, 1], got '
                f'{options["ramp_up"]}'
            )
        if not 0 < options['momentum'] < 1:
            raise ValueError(f'mean_teacher: momentum is in (0, 1), got {options["momentum"]}')
        super().__init__(*args, **kwargs)
        self.weight, self.ramp_up = options['weight'], options['ramp_up']
        self.momentum = options['momentum']
        # In a tuple: no submodule.
        self._teacher: Optional[tuple[MeanTeacherClassifier, float]] = None

    def announce_teacher(self, teacher: 'MeanTeacherClassifier', progress: float) -> None:
        """MeanTeacherHook's word before each iteration, good for one; ``progress`` is t / T."""
        self._teacher = (teacher, progress)

    def consistency_weight(self, progress: float) -> float:
        """w, from ``weight * exp(-5)`` at the start of training to ``weight`` from ``ramp_up`` on."""
        ramp = min(progress / self.ramp_up, 1.0) if self.ramp_up else 1.0
        return self.weight * math.exp(-5.0 * (1.0 - ramp) ** 2)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Optional[list[DataSample]] = None,
        mode: str = 'tensor',
        unlabelled: Optional[Tensor] = None,
    ) -> Any:
        """The stock classifier's modes; with ``mode='loss'`` unlabelled images, (M, C, H', W')."""
        if mode == 'loss' and unlabelled is not None:
            return self.loss(inputs, data_samples, unlabelled)
        return super().forward(inputs, data_samples, mode)

    def loss(
        self,
        inputs: Tensor,
        data_samples: Optional[list[DataSample]],
        unlabelled: Optional[Tensor] = None,
    ) -> dict[str, Tensor]:
        """The head's losses, and ``loss_consistency``."""
        losses = super().loss(inputs, data_samples)
        if unlabelled is None:
            if self.training:
                self.warn_without_unlabelled()
            return losses
        if self._teacher is None:
            raise RuntimeError(
                'MeanTeacherClassifier has no teacher: write '
                "custom_hooks = [dict(type='mmgradaug.MeanTeacherHook')] in the config"
            )
        teacher, progress = self._teacher
        self._teacher = None
        prediction = self.head(self.extract_feat(unlabelled)).softmax(dim=1)
        teacher.train()
        with torch.no_grad():
            target = teacher.head(teacher.extract_feat(unlabelled)).softmax(dim=1)
        consistency = (prediction - target).square().mean()
        losses['loss_consistency'] = self.consistency_weight(progress) * consistency
        return losses
