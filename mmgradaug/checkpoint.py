"""Loading of MMEngine's checkpoints: by PyTorch's safe unpickler, and without running what is in them."""

import functools
import importlib.abc
import importlib.util
import logging
import pickle
import sys
from types import ModuleType
from typing import Any, Callable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

# What a HistoryBuffer pickles of itself: its statistics, as getattr(HistoryBuffer, name).
STATISTICS = ('min', 'max', 'current', 'mean')


def allow_checkpoint_globals() -> None:
    """Tell ``torch.load(weights_only=True)`` the harmless classes that MMEngine's checkpoints hold.

    Since PyTorch 2.6 that is the default, and MMEngine 0.10 cannot load its own checkpoints without:
    they hold the training log, ``HistoryBuffer`` objects of numpy arrays. ``weights_only`` stays on,
    so reading a checkpoint still cannot run code. In particular ``getattr``, which these objects name,
    is not allowed as such: a checkpoint's ``getattr`` is :func:`_statistics_method`. What MMEngine does
    with a checkpoint once it is read is the matter of :func:`never_run_config_text`.
    """
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    if version < (2, 6):
        return
    reconstruct = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', '?')}
    torch.serialization.add_safe_globals([HistoryBuffer, np.ndarray, np.dtype, *dtypes])
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # of numpy 1 and 2
        torch.serialization.add_safe_globals(
            [(reconstruct, f'{module}._reconstruct'), (scalar, f'{module}.scalar')]
        )
    torch.serialization.add_safe_globals([(_statistics_method, 'builtins.getattr')])


def _statistics_method(owner: type, name: str) -> Callable:
    """``getattr`` for the statistics of a HistoryBuffer, and for nothing else.

    Raises:
        pickle.UnpicklingError: something else was asked for.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        raise pickle.UnpicklingError(f'a checkpoint may not ask for {name!r} of {owner!r}')
    return getattr(owner, name)


def never_run_config_text() -> None:
    """Drop the config text of every checkpoint that MMEngine loads, since resuming would execute it.

    ``Runner.resume`` hands ``checkpoint['meta']['config']`` to ``Config.fromstring``, which runs it as
    Python: a stranger's file, or a work dir that somebody else prepared, could do anything by
    ``--resume``. MMEngine itself never writes this key (it saves ``meta['cfg']``, which nothing executes),
    so nothing is lost. The text is dropped where all of MMEngine's loading passes through, so that stock
    tools (``mim train mmdet ... --resume``) are covered once mmgradaug is imported. MMEngine's runner takes
    a second to import, so if it is not imported yet, this is done when it is. Calling this again changes
    nothing.
    """
    if _RUNNER in sys.modules:
        _drop_config_text(sys.modules[_RUNNER])
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


_RUNNER = 'mmengine.runner.checkpoint'


class _AfterImport(importlib.abc.MetaPathFinder):
    """Changes MMEngine's loading as soon as that is imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != _RUNNER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _drop_config_text(module)

        spec.loader.exec_module = exec_module
        return spec


def _drop_config_text(checkpoint_module: ModuleType) -> None:
    loader = checkpoint_module.CheckpointLoader
    load = loader.load_checkpoint.__func__
    if getattr(load, 'drops_config_text', False):
        return

    @functools.wraps(load)
    def load_checkpoint(cls: type, *args: Any, **kwargs: Any) -> Any:
        checkpoint = load(cls, *args, **kwargs)
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        if isinstance(meta, dict) and 'config' in meta:
            del meta['config']
            print_log(
                "The checkpoint holds a config as text under meta['config'], which resuming would have "
                'executed as Python. It is ignored; MMEngine does not write it.',
                logger='current',
                level=logging.WARNING,
            )
        return checkpoint

    load_checkpoint.drops_config_text = True
    loader.load_checkpoint = classmethod(load_checkpoint)
