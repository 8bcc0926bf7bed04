"""The loss of a sub-network: the full network's output as soft labels."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def soft_label_loss(
    logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, multi_label: bool = False
) -> Tensor:
    """KL divergence from the full network's prediction to the sub-network's, mean over the batch.

    ``T^2 / N * sum_n KL(p_full(x_n) || p_sub(x_n))`` with ``p = softmax(logits / T)``; the factor T^2
    keeps the gradient's size at any temperature (Hinton et al., arXiv:1503.02531). The paper (Section
    3.1 and Algorithm 1) says "soft labels" and ``criterion(output_i, output_f)``; the authors' code
    uses this divergence at T = 1. Its gradient is that of the soft cross-entropy.

    Example:
        >>> import torch
        >>> from mmgradaug import soft_label_loss
        >>> full = torch.tensor([[3.0, 1.0]]).log()  # probabilities 0.75 and 0.25
        >>> soft_label_loss(torch.zeros(1, 2), full)  # 0.75 ln(0.75 / 0.5) + 0.25 ln(0.25 / 0.5)
        tensor(0.1308)
        >>> soft_label_loss(full, full)
        tensor(0.)

    Args:
        logits: (N, C), or (N, C, ...), of the sub-network.
        teacher_logits: same shape, of the full network; no gradient flows into it.
        temperature: T > 0.
        multi_label: each class is a yes-or-no question of its own (sigmoid): the binary divergences
            are summed over the classes.

    Returns:
        A scalar >= 0.
    """
    if logits.shape != teacher_logits.shape:
        raise ValueError(
            f'the sub-network gives logits of shape {tuple(logits.shape)}, the full network of '
            f'{tuple(teacher_logits.shape)}: a head must keep its outputs in a sub-network'
        )
    student, teacher = logits / temperature, teacher_logits.detach() / temperature
    if student.dtype in (torch.float16, torch.bfloat16):
        student, teacher = student.float(), teacher.float()
    if multi_label:
        log_student = torch.stack([F.logsigmoid(student), F.logsigmoid(-student)], dim=1)
        log_teacher = torch.stack([F.logsigmoid(teacher), F.logsigmoid(-teacher)], dim=1)
    else:
        log_student, log_teacher = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    loss = F.kl_div(log_student, log_teacher, reduction='batchmean', log_target=True)
    return loss * temperature**2


class SoftLabelLoss(nn.Module):
    """:func:`soft_label_loss` with its options, as ``gradaug=dict(soft_label_loss=...)`` gives them.

    Example:
        >>> import torch
        >>> from mmgradaug import SoftLabelLoss
        >>> full, sub = torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2)
        >>> SoftLabelLoss()(sub, full), SoftLabelLoss(weight=10)(sub, full)
        (tensor(0.1308), tensor(1.3081))

    Args:
        temperature: > 0. 1, the default, is the paper's.
        weight: >= 0, of each sub-network's loss. 1, the default, is the paper's Eq. 4.
    """

    def __init__(self, temperature: float = 1.0, weight: float = 1.0) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f'temperature must be above 0 and finite, got {temperature}')
        if not 0 <= weight < math.inf:
            raise ValueError(f'weight must be 0 or more and finite, got {weight}')
        self.temperature = temperature
        self.weight = weight

    def forward(self, logits: Tensor, teacher_logits: Tensor, multi_label: bool = False) -> Tensor:
        loss = soft_label_loss(logits, teacher_logits, self.temperature, multi_label)
        return self.weight * loss

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}, weight={self.weight}'


def check_soft_labels_switch(soft_labels: Any, has_loss: bool) -> bool:
    """``soft_labels=...`` as it was given.

    Example:
        >>> from mmgradaug.subnets import check_soft_labels_switch
        >>> check_soft_labels_switch(True, has_loss=True)
        True
        >>> check_soft_labels_switch(False, has_loss=True)
        Traceback (most recent call last):
            ...
        ValueError: soft_label_loss is without effect where sub-networks learn from labels: ...

    Args:
        soft_labels: whether sub-networks learn the full network's output.
        has_loss: whether ``soft_label_loss`` was given too.

    Raises:
        TypeError: it is neither True nor False.
        ValueError: it is False, and the loss would be without effect.
    """
    if not isinstance(soft_labels, bool):
        raise TypeError(f'soft_labels is True or False, got {soft_labels!r}')
    if not soft_labels and has_loss:
        raise ValueError(
            'soft_label_loss is without effect where sub-networks learn from labels: leave it out, or '
            'soft_labels=False'
        )
    return soft_labels
