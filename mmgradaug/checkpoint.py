"""Loading of MMEngine's checkpoints with PyTorch's safe unpickler."""

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def allow_checkpoint_globals() -> None:
    """Tell ``torch.load(weights_only=True)`` the harmless classes that MMEngine's checkpoints hold.

    Since PyTorch 2.6 that is the default, and MMEngine 0.10 cannot load its own checkpoints without:
    they hold the training log, ``HistoryBuffer`` objects of numpy arrays. ``weights_only`` stays on,
    so a checkpoint still cannot run code.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):  # before PyTorch 2.4
        return
    reconstruct = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', '?')}
    torch.serialization.add_safe_globals(
        [HistoryBuffer, np.ndarray, np.dtype, reconstruct, scalar, *dtypes]
    )
