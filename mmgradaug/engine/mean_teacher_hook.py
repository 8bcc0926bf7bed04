"""Keeps the teacher of Mean Teacher."""

from typing import Any, Optional

from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmgradaug.registry import HOOKS


@HOOKS.register_module()
class MeanTeacherHook(EMAHook):
    """MMEngine's EMAHook, whose averaged model is the teacher of a MeanTeacherClassifier.

    After each iteration teacher = momentum * teacher + (1 - momentum) * student, from the student's
    initial weights on; ``momentum`` is the model's. Buffers (running statistics) are the student's. The
    teacher is what is tested, and what a checkpoint has as its ``state_dict``; the student is there
    under ``ema_state_dict``, for resuming.

    Raises:
        TypeError: before the first iteration, if the model is no MeanTeacherClassifier.
    """

    def __init__(self) -> None:
        super().__init__(ema_type='ExponentialMovingAverage')

    def before_run(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'announce_teacher'):
            raise TypeError(
                f'the config has a MeanTeacherHook but its model, {type(model).__name__}, learns from no '
                "teacher: write model = dict(type='mmgradaug.MeanTeacherClassifier', ...), or remove the "
                'hook'
            )
        if getattr(self, 'src_model', None) is model:
            return  # a test after the training: MMEngine's would begin a new teacher, as the student is
        self.ema_cfg['momentum'] = 1.0 - model.momentum  # MMEngine's is the student's share
        super().before_run(runner)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if self.ema_model.steps == 0:
            # The copy is from before the weights were initialised. MMEngine would also take the first
            # update for the beginning of the average.
            self.ema_model.module.load_state_dict(self.src_model.state_dict())
            self.ema_model.steps += 1

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict[str, Any]] = None
    ) -> None:
        self.src_model.announce_teacher(self.ema_model.module, runner.iter / runner.max_iters)
