"""Loading of MMEngine's checkpoints with PyTorch's safe unpickler."""

import pickle
from typing import Callable

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# What a HistoryBuffer pickles of itself: its statistics, as getattr(HistoryBuffer, name).
STATISTICS = ('min', 'max', 'current', 'mean')


def allow_checkpoint_globals() -> None:
    """Tell ``torch.load(weights_only=True)`` the harmless classes that MMEngine's checkpoints hold.

    Since PyTorch 2.6 that is the default, and MMEngine 0.10 cannot load its own checkpoints without:
    they hold the training log, ``HistoryBuffer`` objects of numpy arrays. ``weights_only`` stays on,
    so a checkpoint still cannot run code. In particular ``getattr``, which these objects name, is not
    allowed as such: a checkpoint's ``getattr`` is :func:`_statistics_method`.
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
