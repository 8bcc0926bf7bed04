"""When sub-networks are trained: the step, the hook around it, the distributed wrapper."""

from .gradaug_distributed import GradAugDistributedDataParallel
from .gradaug_hook import GradAugHook
from .gradaug_model import GradAugMixin, statistics_untouched
from .gradaug_step import gradaug_step
from .mean_teacher_hook import MeanTeacherHook
from .pretrained_backbone_hook import PretrainedBackboneHook
from .run_record_hook import RunRecordHook

__all__ = [
    'GradAugDistributedDataParallel',
    'GradAugHook',
    'GradAugMixin',
    'MeanTeacherHook',
    'PretrainedBackboneHook',
    'RunRecordHook',
    'gradaug_step',
    'statistics_untouched',
]
