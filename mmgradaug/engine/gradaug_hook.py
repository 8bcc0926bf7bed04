"""GradAug's schedule, and its refusal to train something else."""

import re
from typing import Any, Optional

import torch
from mmengine.dist import broadcast, broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmgradaug.registry import HOOKS
from mmgradaug.subnets import Schedule, SubnetSampler

from .gradaug_distributed import GradAugDistributedDataParallel
from .gradaug_model import GradAugMixin
from .smallest_images import problem_of_smallest_images


@HOOKS.register_module()
class GradAugHook(Hook):
    """Tells a GradAug model seed and iteration, when to train sub-networks, and checks the set-up.

    Every GradAug config needs it: ``custom_hooks = [dict(type='mmgradaug.GradAugHook')]``.

    Args:
        begin: first epoch (counted from 0) with sub-networks.
        end: epoch from which on there are none again; None for the end of training.
        by_epoch: False counts ``begin`` and ``end`` in iterations.

    Raises:
        ValueError: the schedule is empty, or not of whole numbers; or, before training, the network cannot
            take the smallest images, or the smallest batch of them, that a sub-network may be given.
        TypeError, RuntimeError: before the first iteration, if the run would not be GradAug training
            as configured. The message says what to write.
    """

    priority = 'NORMAL'

    def __init__(self, begin: int = 0, end: Optional[int] = None, by_epoch: bool = True) -> None:
        if not isinstance(by_epoch, bool):
            raise TypeError(f'GradAugHook: by_epoch is True or False, got {by_epoch!r}')
        self._schedule = Schedule(begin, end, 'GradAugHook')
        self.begin = begin
        self.end = end
        self.by_epoch = by_epoch
        self._seed = 0
        self._model: Optional[GradAugMixin] = None

    def before_train(self, runner: Runner) -> None:
        model = runner.model
        if is_model_wrapper(model):
            if isinstance(model.module, GradAugMixin) and not isinstance(
                model, GradAugDistributedDataParallel
            ):
                raise TypeError(
                    f'{type(model).__name__} would train {type(model.module).__name__} without '
                    'sub-networks, as it does not call its train_step. Write model_wrapper_cfg = '
                    "dict(type='mmgradaug.GradAugDistributedDataParallel') in the config"
                )
            if runner.cfg.get('find_unused_parameters') and not model.find_unused_parameters:
                raise ValueError(
                    'find_unused_parameters at the top of the config is not read where there is a '
                    "model_wrapper_cfg: write model_wrapper_cfg = dict(type='mmgradaug."
                    "GradAugDistributedDataParallel', find_unused_parameters=True)"
                )
            model = model.module
        if not isinstance(model, GradAugMixin):
            raise TypeError(
                f'the config has a GradAugHook but its model, {type(model).__name__}, is not a GradAug '
                "model and would train plainly. Write model = dict(type='mmgradaug.GradAugClassifier', "
                'gradaug=dict(...), ...), for a detector GradAugMaskRCNN or GradAugDetector, or remove '
                'the hook'
            )
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise TypeError(
                'GradAug updates with one OptimWrapper; an OptimWrapperDict (several optimizers) is '
                "not supported. Write optim_wrapper = dict(type='OptimWrapper', optimizer=...), with "
                'paramwise_cfg where parts need other settings'
            )
        self._check_schedule(runner)
        # With diff_rank_seed each rank has its own seed, but all must draw the same sub-networks.
        seed = torch.tensor(runner.seed, dtype=torch.int64)
        broadcast(seed)
        self._seed = int(seed)
        self._model = model
        sampler = model.subnet_sampler
        if sampler.num_subnets:
            self._check_smallest_images(runner, model, sampler)
        runner.logger.info(f'GradAug: {sampler.describe()}, draws from seed {self._seed}')
        if torch.backends.cudnn.benchmark and sampler.num_subnets:
            runner.logger.warning(
                'cudnn_benchmark tunes anew for every shape, and sub-networks have new ones each '
                'iteration: expect it to be slow and to grow in memory. Write '
                'env_cfg = dict(cudnn_benchmark=False)'
            )

    def _check_smallest_images(
        self, runner: Runner, model: nn.Module, sampler: SubnetSampler
    ) -> None:
        found: list[Optional[str]] = [None]
        if is_main_process():
            found = [problem_of_smallest_images(runner, model, sampler, self._seed)]
        broadcast_object_list(found)
        if found[0] is not None:
            raise ValueError(found[0])

    def _check_schedule(self, runner: Runner) -> None:
        whole_training = self.begin == 0 and self.end is None
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        if self.by_epoch and by_iteration and not whole_training:
            raise ValueError(
                'this training counts iterations: give GradAugHook begin and end in iterations, with '
                'by_epoch=False'
            )
        if whole_training:
            return
        length = runner.max_epochs if self.by_epoch else runner.max_iters
        unit = 'epochs' if self.by_epoch else 'iterations'
        if self.begin >= length:
            raise ValueError(
                f'GradAugHook begins after {self.begin} {unit}, but training ends after {length}: no '
                'sub-network would ever be trained'
            )
        if self.end is not None and self.end > length:
            raise ValueError(
                f'GradAugHook ends after {self.end} {unit}, but training ends after {length}: write '
                'end=None for the end of training'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict[str, Any]] = None
    ) -> None:
        now = runner.epoch if self.by_epoch else runner.iter
        active = now in self._schedule
        assert self._model is not None  # before_train() has found it
        self._model.announce_iteration(self._seed, runner.iter, active)
        if not active:
            # MMEngine's log goes on showing the last value of whatever was ever logged.
            scalars = runner.message_hub.log_scalars
            for key in [key for key in scalars if re.fullmatch(r'train/\w+_subnet\d+', key)]:
                del scalars[key]
