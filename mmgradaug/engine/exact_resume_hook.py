"""A training that was stopped goes on as if it had not been."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Optional

import torch
from mmengine.dist import gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn

from mmgradaug.loading import unwrapped
from mmgradaug.registry import HOOKS

from .placed_batches import EPOCH, ITERATION, EndlessBatches, placed_loader, seed_everything
from .whole_checkpoint_hook import WholeCheckpointHook

RECORD = 'exact_resume'
OTHERWISE = (
    'or, to go on as MMEngine does, not exactly, leave the hook out: '
    '--cfg-options default_hooks.exact_resume=None'
)


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run equal to one that was left alone; for any config, with or without GradAug.

    In a config: ``default_hooks = dict(exact_resume=dict(type='mmgradaug.ExactResumeHook'), ...)``. Then

    - what is drawn in an iteration (dropout, DropPath, Mixup, ...) is a function of (seed, iteration),
    - what is drawn in augmenting a batch is a function of (seed, rank, epoch, place of the batch),
      whichever worker process does it,
    - so nothing random has to be saved, and a checkpoint in the middle of an epoch is gone on from in the
      middle, without loading what came before,
    - gradients that are accumulated, but not yet used when a checkpoint is written, are in it.

    As in MMEngine all ranks draw the same in an iteration unless ``randomness.diff_rank_seed`` is set;
    in augmenting they draw differently. Without a seed in the config the checkpoint's is used throughout.

    Not covered: random generators of a model's or a transform's own, and transforms that remember images
    (MMDetection's ``CachedMosaic``). With accumulation on several ranks checkpoints have to be written by
    :class:`WholeCheckpointHook`.

    Raises:
        TypeError, ValueError: before the first iteration, if the run is set up so that it could not be
            resumed exactly, or resumes a checkpoint of another set-up. The message says what to write.
    """

    # Before whatever draws.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._loaded: Optional[dict[str, Any]] = None
        self._gradients: Optional[list[dict[str, Tensor]]] = None
        self._collected = False
        self._position = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume:
            self._loaded = checkpoint.get(RECORD, {})

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        self._check_set_up(runner)
        loaded = self._loaded or {}
        if loaded:
            self._check_same(runner, loaded)
        loop.dataloader = placed_loader(runner)
        if isinstance(loop, IterBasedTrainLoop):
            self._check_recorded(runner, needed=runner.iter > 0)
            loop.dataloader_iterator = EndlessBatches(
                loop.dataloader,
                runner.seed,
                epoch=loaded.get('epoch', 0),
                position=loaded.get('position', 0),
                # OneDL's loop may be told not to go to the middle; this is there already.
                skip=0 if getattr(loop, 'fast_forward_on_resume', False) else runner.iter,
            )
        else:
            self._begin_in_the_middle(runner, runner.iter - runner.epoch * len(loop.dataloader))
        gradients = loaded.get('gradients')
        if gradients:
            _put_back(unwrapped(runner.model), gradients[runner.rank])
            runner.logger.info('gradients of the unfinished accumulation are back: none are lost')
        self._loaded = None

    def _check_set_up(self, runner: Runner) -> None:
        loop = runner.train_loop
        if not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
            raise TypeError(
                f'ExactResumeHook knows the training loops of MMEngine, not {type(loop).__name__}: '
                f'write train_cfg=dict(by_epoch=...), {OTHERWISE}'
            )
        accumulates = getattr(runner.optim_wrapper, '_accumulative_counts', 1) > 1
        whole = any(isinstance(hook, WholeCheckpointHook) for hook in runner.hooks)
        if accumulates and get_world_size() > 1 and not whole:
            raise TypeError(
                "with accumulation on several ranks every rank has gradients to save, which MMEngine's "
                'CheckpointHook does not ask for: write default_hooks=dict(checkpoint=dict(type='
                f"'mmgradaug.WholeCheckpointHook', ...)), {OTHERWISE}"
            )

    def _check_recorded(self, runner: Runner, needed: bool) -> None:
        if needed and not self._loaded:
            raise ValueError(
                'the checkpoint does not say where in the data it was made, as it is of a run without '
                f'ExactResumeHook: resume another one, {OTHERWISE}'
            )

    def _check_same(self, runner: Runner, loaded: dict[str, Any]) -> None:
        now = self._set_up(runner)
        for key, what in (
            ('loop', 'train_cfg (the kind of loop)'),
            ('images', 'train_dataloader.dataset (the number of images)'),
            ('accumulate', 'optim_wrapper.accumulative_counts'),
        ):
            if loaded[key] != now[key]:
                raise ValueError(
                    f'the checkpoint was made with another {what}: {loaded[key]} there, {now[key]} '
                    f'here. Write what it was, {OTHERWISE}'
                )
        if loaded['ranks'] == now['ranks'] and loaded['batch_size'] == now['batch_size']:
            return
        total = loaded['ranks'] * loaded['batch_size']
        if total != now['ranks'] * now['batch_size'] or loaded.get('gradients'):
            fitting = max(1, total // now['ranks'])
            raise ValueError(
                f'the checkpoint was made by {loaded["ranks"]} processes with batches of '
                f'{loaded["batch_size"]}, here are {now["ranks"]} with batches of {now["batch_size"]}: '
                'images would be left out or repeated, or half of the accumulated gradients lost. Take '
                f'as many processes, or (between updates, for a total of {total}) '
                f'train_dataloader.batch_size={fitting}, {OTHERWISE}'
            )
        runner.logger.warning(
            f'{loaded["ranks"]} processes made the checkpoint, {now["ranks"]} go on: with the same images '
            'in each iteration, but other random numbers for them, and other images in each batch norm'
        )

    def _set_up(self, runner: Runner) -> dict[str, Any]:
        loader = runner.train_loop.dataloader
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        return dict(
            loop='by iterations' if by_iteration else 'by epochs',
            images=len(loader.dataset),
            accumulate=getattr(runner.optim_wrapper, '_accumulative_counts', 1),
            ranks=get_world_size(),
            batch_size=loader.batch_sampler.batch_size,
        )

    def _begin_in_the_middle(self, runner: Runner, position: int) -> None:
        """Have the first epoch begin with the batch at ``position``."""
        loop = runner.train_loop
        if not 0 <= position <= len(loop.dataloader):
            raise ValueError(
                f'the checkpoint is of epoch {runner.epoch} and iteration {runner.iter}, which does not go '
                f'together with the {len(loop.dataloader)} iterations an epoch that there are here: '
                f'resume with the batch size, data and processes that it was made with, {OTHERWISE}'
            )
        if position == 0:
            return
        if type(loop).run_epoch is not EpochBasedTrainLoop.run_epoch:
            raise TypeError(
                f'{type(loop).__name__} has a run_epoch of its own, which cannot begin in the middle of '
                f'an epoch: resume a checkpoint of the end of an epoch, {OTHERWISE}'
            )
        self._check_recorded(runner, needed=True)
        loop.dataloader.batch_sampler.skip = position
        loop.run_epoch = partial(_rest_of_epoch, loop, position)

    def before_train_epoch(self, runner: Runner) -> None:
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.train_loop.dataloader.batch_sampler.epoch = runner.epoch
            seed_everything(runner.seed, EPOCH, runner.epoch)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None
    ) -> None:
        seed_everything(runner.seed, ITERATION, runner.iter)

    def before_save_on_all_ranks(self, runner: Runner) -> None:
        """WholeCheckpointHook's call before it saves."""
        mine = _accumulated(runner)
        self._gradients = None if mine is None else gather_object(mine, dst=0)
        self._collected = True

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if not is_main_process():
            return
        if not self._collected:  # MMEngine's CheckpointHook, one rank
            mine = _accumulated(runner)
            self._gradients = None if mine is None else [mine]
        record = self._set_up(runner)
        if self._gradients is not None:
            record['gradients'] = self._gradients
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            batches = runner.train_loop.dataloader_iterator
            record.update(epoch=batches.epoch, position=batches.position)
        checkpoint[RECORD] = record
        self._gradients, self._collected = None, False


def _rest_of_epoch(loop: EpochBasedTrainLoop, position: int) -> None:
    """``EpochBasedTrainLoop.run_epoch``, from the batch at ``position`` on; once."""
    del loop.run_epoch
    loop.runner.call_hook('before_train_epoch')
    loop.runner.model.train()
    for index, batch in enumerate(loop.dataloader, position):
        loop.run_iter(index, batch)
    loop.runner.call_hook('after_train_epoch')
    loop._epoch += 1


def _accumulated(runner: Runner) -> Optional[dict[str, Tensor]]:
    """This rank's gradients that no update has used yet; None between updates."""
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return None
    return {name: grad.cpu() for name, grad in _gradients_of(unwrapped(runner.model))}


def _gradients_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            yield name, parameter.grad.detach()


def _put_back(model: nn.Module, gradients: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in gradients:
            parameter.grad = torch.empty_like(parameter).copy_(gradients[name])
