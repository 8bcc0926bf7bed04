"""Knowledge distillation from a bigger network, as in "Bag of Tricks" (arXiv:1812.01187, Section 5.2)."""

import copy
from typing import Any, Optional

import torch
import torch.nn.functional as F
from mmengine.runner import load_checkpoint
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmgradaug.registry import MODELS


@MODELS.register_module()
class DistillationClsDataPreprocessor(ClsDataPreprocessor):
    """MMPretrain's preprocessor, which also asks a teacher about each training batch.

    The teacher sees the preprocessed batch, after Mixup or CutMix, as the student does, and its logits go
    into the data samples as ``teacher_logits``, for :class:`DistillationClsHead`. It is no part of the
    state_dict and is not trained. So it works for plain training and GradAug alike.

    Args:
        teacher: a classifier's config; its own preprocessing is not used, so it must expect the same.
        teacher_checkpoint: of the teacher; path or address.
        *args, **kwargs: of ``ClsDataPreprocessor``.

    Raises:
        FileNotFoundError, RuntimeError: with the first training batch, if there is no such checkpoint, or
            it is not this network's. Whoever only tests needs none.
    """

    def __init__(
        self, *args: Any, teacher: dict[str, Any], teacher_checkpoint: str, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.teacher_config = teacher
        self.teacher_checkpoint = teacher_checkpoint
        # In a list, so that it is no submodule: not saved, not counted, not trained.
        self._teacher: list[nn.Module] = []

    def _load_teacher(self) -> nn.Module:
        if not self._teacher:
            teacher = MODELS.build(copy.deepcopy(self.teacher_config))
            # Strict: a teacher with random layers would teach nonsense in silence.
            load_checkpoint(teacher, self.teacher_checkpoint, map_location='cpu', strict=True)
            self._teacher.append(teacher.eval().requires_grad_(False))
        return self._teacher[0]

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        data = super().forward(data, training)
        if training:
            teacher = self._load_teacher()
            with torch.no_grad():
                logits = teacher.to(data['inputs'].device)(data['inputs'])
            for sample, logit in zip(data['data_samples'], logits):
                sample.set_field(logit, 'teacher_logits', dtype=torch.Tensor)
        return data


@MODELS.register_module()
class DistillationClsHead(LinearClsHead):
    """A linear head that learns the labels and a teacher's softened output.

    loss = hard_weight * (loss of the labels) + (1 - hard_weight) * T^2 * KL(teacher_T || student_T), the
    softmaxes of logits / T. GluonCV's reproduction of "Bag of Tricks" has T = 20 and hard_weight = 0.5.

    Args:
        temperature: T > 0.
        hard_weight: in [0, 1].
        *args, **kwargs: of ``LinearClsHead``.

    Raises:
        ValueError: an argument is out of its range; or, in training, there is no teacher.
    """

    def __init__(
        self, *args: Any, temperature: float = 20.0, hard_weight: float = 0.5, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if temperature <= 0 or not 0.0 <= hard_weight <= 1.0:
            raise ValueError(
                f'DistillationClsHead: temperature is above 0 and hard_weight in [0, 1], got {temperature} '
                f'and {hard_weight}'
            )
        self.temperature = temperature
        self.hard_weight = hard_weight

    def _get_loss(
        self, cls_score: Tensor, data_samples: list[DataSample], **kwargs: Any
    ) -> dict[str, Any]:
        logits: list[Optional[Tensor]] = [s.get('teacher_logits') for s in data_samples]
        given = [logit for logit in logits if logit is not None]
        if len(given) < len(logits):
            raise ValueError(
                'DistillationClsHead got no teacher_logits: write data_preprocessor = dict(type='
                "'mmgradaug.DistillationClsDataPreprocessor', teacher=..., teacher_checkpoint=...)"
            )
        teacher = (torch.stack(given) / self.temperature).softmax(1)
        student = (cls_score / self.temperature).log_softmax(1)
        soft = F.kl_div(student, teacher, reduction='batchmean') * self.temperature**2
        losses = super()._get_loss(cls_score, data_samples, **kwargs)
        losses['loss'] = self.hard_weight * losses['loss']
        losses['loss_distillation'] = (1.0 - self.hard_weight) * soft
        return losses
