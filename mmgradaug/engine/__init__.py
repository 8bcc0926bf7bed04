"""The GradAug step with its hook and distributed wrapper, and the hooks that check, record and resume a training."""

from .data_check_hook import DataCheckHook
from .exact_resume_hook import ExactResumeHook
from .gradaug_distributed import GradAugDistributedDataParallel
from .gradaug_hook import GradAugHook
from .gradaug_model import GradAugMixin
from .gradaug_step import gradaug_step
from .mean_teacher_hook import MeanTeacherHook
from .non_finite import NonFiniteError
from .non_finite_hook import NonFiniteHook
from .pretrained_backbone_hook import PretrainedBackboneHook
from .run_record_hook import RunRecordHook
from .stop_on_signal_hook import StopOnSignalHook
from .stuck_rank_hook import StuckRankHook
from .weights_check_hook import WeightsCheckHook
from .whole_checkpoint_hook import WholeCheckpointHook

__all__ = [
    'DataCheckHook',
    'ExactResumeHook',
    'GradAugDistributedDataParallel',
    'GradAugHook',
    'GradAugMixin',
    'MeanTeacherHook',
    'NonFiniteError',
    'NonFiniteHook',
    'PretrainedBackboneHook',
    'RunRecordHook',
    'StopOnSignalHook',
    'StuckRankHook',
    'WeightsCheckHook',
    'WholeCheckpointHook',
    'gradaug_step',
]
