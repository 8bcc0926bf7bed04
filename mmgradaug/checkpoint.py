"""Loading of MMEngine's checkpoints: whole ones only, by PyTorch's safe unpickler, running nothing in them."""

import functools
import importlib.abc
import importlib.util
import logging
import pickle
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Optional, Union
from urllib.error import URLError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

# What a HistoryBuffer pickles of itself: its statistics, as getattr(HistoryBuffer, name).
STATISTICS = ('min', 'max', 'current', 'mean')

# Before, PyTorch's safe unpickler cannot be told of classes that are harmless.
CAN_BE_SAFE = tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6)

# How a zip archive begins, as which torch.save writes since PyTorch 1.6.
ZIP = b'PK\x03\x04'


def allow_checkpoint_globals() -> None:
    """Tell ``torch.load(weights_only=True)`` the harmless classes that MMEngine's checkpoints hold.

    Since PyTorch 2.6 that is the default, and MMEngine 0.10 cannot load its own checkpoints without:
    they hold the training log, ``HistoryBuffer`` objects of numpy arrays. ``weights_only`` stays on,
    so reading a checkpoint still cannot run code. In particular ``getattr``, which these objects name,
    is not allowed as such: a checkpoint's ``getattr`` is :func:`_statistics_method`. What MMEngine does
    with a checkpoint once it is read is the matter of :func:`never_run_config_text`.
    """
    if not CAN_BE_SAFE:
        return
    reconstruct: Any = np.zeros(1).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(kind)) for kind in ('f8', 'f4', 'f2', 'i8', 'i4', 'u1', '?')}
    torch.serialization.add_safe_globals([HistoryBuffer, np.ndarray, np.dtype, *dtypes])
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # of numpy 1 and 2
        torch.serialization.add_safe_globals(
            [(reconstruct, f'{module}._reconstruct'), (scalar, f'{module}.scalar')]
        )
    torch.serialization.add_safe_globals([(_statistics_method, 'builtins.getattr')])


def _statistics_method(owner: type, name: str) -> Callable[..., Any]:
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
    nothing. Files are read by :func:`load_from_local` from then on.
    """
    if _RUNNER in sys.modules:
        _change_loading(sys.modules[_RUNNER])
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
        if spec is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _change_loading(module)

        loader.exec_module = exec_module
        return spec


def _change_loading(checkpoint_module: ModuleType) -> None:
    loader = checkpoint_module.CheckpointLoader
    load = loader.load_checkpoint.__func__
    if getattr(load, 'drops_config_text', False):
        return

    @functools.wraps(load)
    def load_checkpoint(cls: type, *args: Any, **kwargs: Any) -> Any:
        try:
            checkpoint = load(cls, *args, **kwargs)
        except URLError as error:
            name = kwargs.get('filename', args[0] if args else 'the checkpoint')
            raise ConnectionError(
                f'{name} cannot be downloaded: {error.reason}. Get the file elsewhere, and write its path where the '
                'config has that name: model.backbone.init_cfg.checkpoint=PATH for a pretrained backbone, '
                'load_from=PATH for a whole model'
            ) from error
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

    vars(load_checkpoint).update(drops_config_text=True)
    loader.load_checkpoint = classmethod(load_checkpoint)
    # In place of MMEngine's loader of local files, so that every tool, stock ones too, refuses damaged ones.
    loader.register_scheme(prefixes='', loader=load_from_local, force=True)


def damage_of(path: Union[str, Path]) -> Optional[str]:
    """What keeps a file from being a whole checkpoint; None if nothing does.

    ``torch.save`` writes a zip archive in which every record has a checksum (CRC-32), which ``torch.load``
    does not compare: it loads a file with zeros in its middle without complaint. Here every record is
    read and compared, which takes about a second per gigabyte. A checkpoint of before PyTorch 1.6 is one
    pickle, without checksums; of it nothing can be said.
    """
    path = Path(path)
    absence = absence_of(path)
    if absence is not None:
        return absence
    start = start_of(path)
    if not start:
        return 'is empty'
    if start != ZIP:
        # 0x80 begins a pickle.
        return None if start[0] == 0x80 else 'is not a file that torch.save writes'
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except zipfile.BadZipFile:
        return 'is cut off, or its table of contents is damaged'
    except Exception as error:  # a damaged table of contents can make zipfile say anything
        return f'has a damaged table of contents ({type(error).__name__}: {error})'
    return None if record is None else f'is damaged: {record} does not match its checksum'


def absence_of(path: Union[str, Path]) -> Optional[str]:
    """Why there is no file of that name, which may begin with ``~``; None if there is, or it is a URL's."""
    if '://' in str(path) or Path(path).expanduser().is_file():
        return None
    return 'is a folder' if Path(path).expanduser().is_dir() else 'is not there'


def start_of(path: Path) -> bytes:
    """The first four bytes of a file."""
    with path.open('rb') as file:
        return file.read(4)


class DamagedCheckpointError(RuntimeError):
    """A file is not, or no longer, a whole checkpoint."""


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """What is in a local checkpoint, which has been found whole.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedCheckpointError: it is a folder, empty, cut off, damaged, or no checkpoint.
        pickle.UnpicklingError: it holds a whole model, or other objects beside weights.
    """
    path = Path(filename).expanduser()
    damage = damage_of(path)
    if damage == 'is not there':
        raise FileNotFoundError(f'there is no checkpoint {path}: write the path of one')
    if damage is None:
        try:
            # Said, not left to the default, which an environment variable can turn off.
            return torch.load(path, map_location=map_location, weights_only=CAN_BE_SAFE)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            refused = re.search(r'GLOBAL (\S+)', str(error))
            if refused:
                raise pickle.UnpicklingError(_not_weights_alone(path, refused[1])) from error
            if 'PytorchStreamReader' not in str(error) and start_of(path) == ZIP:
                raise  # a whole file that holds what is not allowed, or does not fit the device
            damage = f'is not a checkpoint that PyTorch can read ({error})'
    raise DamagedCheckpointError(f'the checkpoint {path} {damage}. Take another one')


def _not_weights_alone(path: Path, name: str) -> str:
    """What to do about a file with an object in it whose making could run code."""
    with path.open('rb') as file:
        # A model's pickle names its layers' modules; in both of PyTorch's formats the pickle comes first.
        if b'torch.nn.modules' in file.read(2**20):
            return (
                f'{path} holds a pickled model ({name}), not weights: save model.state_dict() by torch.save, where '
                'the model is'
            )
    return (
        f'{path} holds {name} beside its weights, and loading that could run code. If the file is to be trusted, '
        'make one of its weights alone, here those under the key model:\n'
        f'{_save_alone(str(path), "model", weights_only=False)}'
    )


def _save_alone(path: str, key: str, weights_only: bool) -> str:
    return (
        f"  weights = torch.load({path!r}, map_location='cpu', weights_only={weights_only})[{key!r}]\n"
        "  torch.save(weights, 'weights.pth')"
    )


def weights_elsewhere(loaded: Mapping[str, Any], path: str = 'FILE') -> Optional[str]:
    """What to do about a file whose weights are where MMEngine does not look; None if they are not."""
    for key, value in loaded.items():
        if isinstance(value, dict) and _are_weights(value):
            return (
                f'It has the keys {", ".join(map(repr, [*loaded][:6]))}, and MMEngine looks for weights under '
                f"'state_dict' or else at the top. Make a file of those under {key!r}:\n"
                f'{_save_alone(path, key, weights_only=True)}'
            )
    return None


def _are_weights(values: Mapping[str, Any]) -> bool:
    return bool(values) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in values.items()
    )


def weights_of(loaded: Any) -> dict[str, torch.Tensor]:
    """The weights in what a checkpoint file holds: a training's checkpoint, or a bare state_dict.

    Named as MMEngine loads them: without DDP's ``module.``.

    Raises:
        ValueError: there are none; the message goes on after the file's name.
    """
    weights = loaded.get('state_dict', loaded) if isinstance(loaded, dict) else None
    if not isinstance(weights, dict):
        raise ValueError(f'holds a {type(loaded).__name__}, not the weights of a network by name')
    if not _are_weights(weights):
        advice = weights_elsewhere(loaded)
        raise ValueError(
            f'holds no weights of a network, but {sorted(map(str, loaded))[:5]}{advice and f". {advice}" or ""}'
        )
    return {name.removeprefix('module.'): value for name, value in weights.items()}


def newest_whole_checkpoint(
    folders: Iterable[Union[str, Path]],
) -> tuple[Optional[Path], list[str]]:
    """The checkpoint from which training should go on.

    Not what ``last_checkpoint`` names, since that file can be missing, or out of date after a kill. Which
    is the newest is said by the checkpoints themselves (time, then iteration), so copied folders do as well.
    Checkpoints without an optimizer's state, such as MMEngine's ``best_*.pth``, are not for resuming and
    are passed over.

    Args:
        folders: where to look, not in folders below.

    Returns:
        The path, or None if there is no whole one; and what was skipped and why, a sentence each.
    """
    dated, skipped = [], []
    for path in sorted({path for folder in folders for path in Path(folder).glob('*.pth')}):
        try:
            # Mapped, not read: only the table of contents and the pickle.
            contents = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
            meta = contents['meta']
            if 'optimizer' in contents:
                dated.append((meta['time'], meta['iter'], path))
        except Exception as error:  # whatever a damaged file, or one of another kind, brings about
            why = damage_of(path) or f'is no checkpoint of a training ({type(error).__name__})'
            skipped.append(f'{path} {why}')
    for _, _, path in sorted(dated, reverse=True):
        damage = damage_of(path)
        if damage is None:
            return path, skipped
        skipped.append(f'{path} {damage}')
    return None, skipped
