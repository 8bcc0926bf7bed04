"""Checkpoints that are whole or not there, and resuming from the newest of them."""

import inspect
import os
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Callable, Union

from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import LocalVisBackend

from mmgradaug.arguments import refuse_unknown_keys
from mmgradaug.checkpoint import newest_whole_checkpoint
from mmgradaug.files import PARTIAL, write_whole
from mmgradaug.registry import HOOKS

INTERRUPTED = 'interrupted.pth'


class WholeFileBackend(LocalBackend):
    """MMEngine's backend of local files, except that a file is whole or not there, whenever it is looked at."""

    def put(self, obj: Union[bytes, memoryview], filepath: Union[str, Path]) -> None:
        write_whole(Path(filepath), obj)


register_backend('mmgradaug.whole', WholeFileBackend, force=True)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook for machines that fail; for any config, with or without GradAug.

    In a config: ``default_hooks = dict(checkpoint=dict(type='mmgradaug.WholeCheckpointHook', ...))``. What
    is different from MMEngine's:

    - A checkpoint is written beside its place, flushed, then moved there. Older ones are deleted when the
      new one is in its place, not before.
    - ``last_checkpoint`` is relative to the work dir, so that this can be moved, and is written last.
    - ``resume=True`` without a file takes the newest whole checkpoint and says which it skipped and why.
      If files lie there and none is whole, it raises instead of starting afresh.
    - A disk that refuses costs one warning; the next interval tries again. The run fails only if its last
      state could not be saved. The log of scalars goes without what could not be written.
    - Before a save it calls the hooks' ``before_save_on_all_ranks(runner)``, on every rank.

    What is saved is the same, key by key. Remote folders are written as MMEngine writes them.

    Args:
        *args, **kwargs: CheckpointHook's.

    Raises:
        TypeError: an argument is none of CheckpointHook's.
        FileNotFoundError: before training, if there is something to resume from but nothing whole.
        RuntimeError: after training, if its result could not be saved.
    """

    # CheckpointHook's, which has no types.
    backend_args: Any
    file_backend: Any
    last_ckpt: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What CheckpointHook does not know it hands on to the first save, which fails of it, hours later.
        known = inspect.signature(CheckpointHook).parameters
        refuse_unknown_keys('WholeCheckpointHook', self.args, [*known][:-1])
        self._failed = False

    def before_run(self, runner: Runner) -> None:
        if not isinstance(runner._train_loop, BaseLoop) or runner._has_loaded:
            return
        if not runner._resume:
            lying = sorted(path.name for path in Path(runner.work_dir).glob('*.pth'))
            if lying:
                runner.logger.warning(
                    f'{runner.work_dir} holds {", ".join(lying)} of an earlier run. This one begins afresh; '
                    '--resume (resume=True in a config) would have gone on'
                )
            return
        if runner._load_from is not None:
            return
        found: list[Any] = [None, None]
        if is_main_process():
            found = list(newest_whole_checkpoint(self._folders(runner)))
        broadcast_object_list(found)
        path, skipped = found
        for sentence in skipped:
            runner.logger.warning(f'not resumed from: {sentence}')
        if path is not None:
            runner._load_from = str(path)
        elif skipped:
            raise FileNotFoundError(
                f'no checkpoint in {runner.work_dir} is whole: {"; ".join(skipped)}. Resume from '
                'another file by --resume FILE, or begin again by --from-scratch (resume=False in a config)'
            )
        else:
            runner.logger.info(f'{runner.work_dir} holds nothing to resume from: a fresh start')
            runner._resume = False

    def _folders(self, runner: Runner) -> list[str]:
        folders = [runner.work_dir]
        if self.out_dir is not None and self.out_dir != runner.work_dir:
            folders.append(os.path.join(self.out_dir, os.path.basename(runner.work_dir)))
        return folders

    def before_train(self, runner: Runner) -> None:
        if self.backend_args is None and self.file_client_args is None:
            if isinstance(get_file_backend(self.out_dir or runner.work_dir), LocalBackend):
                self.backend_args = dict(backend='mmgradaug.whole')
        super().before_train(runner)
        for backend in runner.visualizer._vis_backends.values():
            if isinstance(backend, LocalVisBackend):
                for name in ('add_scalar', 'add_scalars'):
                    setattr(backend, name, _OutlivesDisk(getattr(backend, name), runner.logger))
        if is_main_process() and isinstance(self.file_backend, LocalBackend):
            for left_over in Path(self.out_dir).glob(f'*.pth.*{PARTIAL}'):
                left_over.unlink()  # a run was killed while it wrote

    def after_train(self, runner: Runner) -> None:
        if self._failed:
            counted = runner.epoch if self.by_epoch else runner.iter
            self._save_checkpoint_with_step(
                runner, counted, dict(epoch=runner.epoch, iter=runner.iter)
            )
            if self._failed:
                raise RuntimeError(
                    f'the training is done, but its result could not be saved in {self.out_dir}: make '
                    'room there, and go on from the last checkpoint by --resume'
                )
        super().after_train(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        kept: list[int] = []
        hub = runner.message_hub
        if self.max_keep_ckpts > 0:
            kept = [*(other for other in self.keep_ckpt_ids if other != step), step]
            # With the outdated ones: a run that is killed before it deletes them does so on resuming.
            hub.update_info('keep_ckpt_ids', kept)
        before = self.last_ckpt
        self.last_ckpt = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
        hub.update_info('last_ckpt', self.last_ckpt)
        runner.call_hook('before_save_on_all_ranks')

        def save() -> None:
            runner.save_checkpoint(
                self.out_dir,
                self.filename_tmpl.format(step),
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            self._point_to_last(runner)

        self._failed = not self._saved(runner, self.filename_tmpl.format(step), save)
        if self._failed:
            self.last_ckpt = before
            if kept:
                hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            return
        self._remove(self.file_backend.join_path(self.out_dir, INTERRUPTED))
        if kept:
            for outdated in kept[: -self.max_keep_ckpts]:
                self._remove(
                    self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated))
                )
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept[-self.max_keep_ckpts :])
            hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def save_interrupted(self, runner: Runner) -> bool:
        """Save at the end of an iteration, whatever the interval; on all ranks.

        The file is ``interrupted.pth``, from which ``--resume`` goes on; the next save removes it.

        Returns:
            Whether the disk let it be done.
        """
        runner.call_hook('before_save_on_all_ranks')
        self.last_ckpt = self.file_backend.join_path(self.out_dir, INTERRUPTED)

        def save() -> None:
            runner.save_checkpoint(
                self.out_dir,
                INTERRUPTED,
                self.file_client_args,
                save_param_scheduler=self.save_param_scheduler,
                meta=dict(epoch=runner.epoch, iter=runner.iter + 1),
                backend_args=self.backend_args,
            )
            self._point_to_last(runner)

        return self._saved(runner, INTERRUPTED, save)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """MMEngine's, except that the previous best is deleted when the new one is in its place."""
        info = runner.message_hub.runtime_info
        before = {key: value for key, value in info.items() if key.startswith('best_')}
        paths = {
            key: copy(value) for key, value in vars(self).items() if key.startswith('best_ckpt')
        }
        backend = self.file_backend
        self.file_backend = later = _RemovesLater(backend)
        try:
            saved = self._saved(
                runner,
                'the best checkpoint',
                partial(super()._save_best_checkpoint, runner, metrics),
            )
        finally:
            self.file_backend = backend
        if not saved:
            # Otherwise what was not saved would count as the best.
            for key in [key for key in info if key.startswith('best_')]:
                del info[key]
            info.update(before)
            self.__dict__.update(paths)
            return
        best = {value for key, value in info.items() if key.startswith('best_ckpt')}
        for path in later.outdated:
            if path not in best:
                self._remove(path)

    def _saved(self, runner: Runner, name: str, save: Callable[[], None]) -> bool:
        """Whether the disk let it be done; the same on all ranks, of which the first one writes."""
        done = [True]
        try:
            save()
        except OSError as error:
            done = [False]
            runner.logger.warning(
                f'{name} could not be saved ({type(error).__name__}: {error}). The last good one stays; '
                'the next is tried at the next interval'
            )
        broadcast_object_list(done)
        return done[0]

    @master_only
    def _point_to_last(self, runner: Runner) -> None:
        """Write ``last_checkpoint``, for people and for MMEngine's own tools run inside the work dir."""
        name = self.last_ckpt
        if isinstance(self.file_backend, LocalBackend):
            name = os.path.relpath(self.last_ckpt, runner.work_dir)
        write_whole(Path(runner.work_dir) / 'last_checkpoint', name)

    @master_only
    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed's
            self.file_backend.rmtree(path)


class _OutlivesDisk:
    """A function that writes; where the disk refuses, that is said, once for each time in a row."""

    def __init__(self, write: Callable[..., None], logger: MMLogger) -> None:
        self.write, self.logger = write, logger
        self.failed = False

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        try:
            self.write(*args, **kwargs)
            self.failed = False
        except OSError as error:
            if not self.failed:
                self.logger.warning(f'scalars are not logged while the disk refuses them ({error})')
            self.failed = True


class _RemovesLater:
    """A file backend that notes what it should remove."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.outdated: list[str] = []

    def remove(self, path: str) -> None:
        self.outdated.append(path)

    rmtree = remove

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)
