"""What training and testing show on the terminal: no long dumps, and last of all a short error."""

import difflib
import logging
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Optional

from mmengine.logging import MMLogger
from mmengine.registry import Registry

from .config_types import short_name
from .engine.config_check import arguments_of
from .files import UserError, short

# Lines of a message of MMEngine while it builds a runner; longer ones go to the log file alone.
LONG = 8
# Lines of an error; what is left out is in the log file.
MOST = 12
PACKAGE = str(Path(__file__).parent)
# What our own code raises with a sentence for the user.
DELIBERATE = (ValueError, TypeError, KeyError, OSError, ImportError, RuntimeError, ArithmeticError)


class Terminal:
    """Around the runner's making and its training: see :meth:`building` and :meth:`short_error`."""

    def __init__(self, cfg: Mapping[str, Any], config: str) -> None:
        self.cfg = dict(cfg.items())
        self.config = config
        self.log_file: Optional[str] = None

    @contextmanager
    def building(self) -> Iterator[None]:
        """While a runner is made: the machine, the whole config and the list of hooks go to its log file alone.

        The terminal is told of each in one line. Other messages, and warnings, are shown as they are.
        """
        original = MMLogger.callHandlers

        def call_handlers(logger: MMLogger, record: logging.LogRecord) -> None:
            self.log_file = logger.log_file or self.log_file
            lines = str(record.msg).strip('\n-').split('\n')
            if record.levelno > logging.INFO or len(lines) <= LONG or not logger.log_file:
                original(logger, record)
                return
            told = logging.makeLogRecord(vars(record))
            title = lines[0].strip().rstrip(':')
            told.msg = f'{title}: {len(lines)} lines in {short(Path(logger.log_file))}'
            told.args = ()
            for handler in logger.handlers:
                if record.levelno >= handler.level:
                    handler.handle(record if isinstance(handler, logging.FileHandler) else told)

        MMLogger.callHandlers = call_handlers
        try:
            yield
        finally:
            MMLogger.callHandlers = original

    @contextmanager
    def short_error(self) -> Iterator[None]:
        """What is wrong with a configuration or its data is told in a few lines, with where in the config it is.

        The traceback goes to the log file. An error of a step of training itself keeps it, unless it is one that
        this package raises on purpose.

        Raises:
            UserError: in place of the error.
        """
        try:
            yield
        except Exception as error:
            if not self._write(error) or not _is_the_users(error):
                raise
            message = '\n'.join(['', *self._lines(error)])
            raise UserError(message) from error

    def _write(self, error: Exception) -> bool:
        """Append the traceback to the log file; False if there is none."""
        if self.log_file is None:
            return False
        try:
            with open(self.log_file, 'a') as stream:
                traceback.print_exception(type(error), error, error.__traceback__, file=stream)
        except OSError:
            return False
        return True

    def _lines(self, error: Exception) -> list[str]:
        frame, built = _built(error)
        where = _where(self.cfg, built) if built else ''
        said = _said(error, frame).splitlines() or ['no message']
        if len(said) > MOST:
            said = [*said[: MOST // 2], '...', *said[-MOST // 2 :]]
        stage = re.match(r'\w+_dataloader', where)
        if isinstance(error, OSError) and stage:
            said.append(
                'Write where the data are on this machine, for instance '
                f'--cfg-options {stage[0]}.dataset.data_root=FOLDER'
            )
        return [
            f'{self.config}{where and ", "}{where}:',
            *(f'  {line}' for line in said),
            f'({type(error).__name__}; the traceback is in {short(Path(self.log_file or ""))})',
        ]


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _is_the_users(error: Exception) -> bool:
    """Whether it came before the first step, or was raised by this package."""
    frames = _frames(error)
    if all(frame.f_code.co_name != 'run_iter' for frame in frames):
        return True
    ours = frames[-1].f_code.co_filename.startswith(PACKAGE)
    return ours and isinstance(error, DELIBERATE)


def _built(error: Exception) -> tuple[Optional[FrameType], Optional[Mapping[str, Any]]]:
    """The innermost call by which MMEngine builds something from a part of the config, and that part."""
    for frame in reversed(_frames(error)):
        code = frame.f_code
        part = None
        if code.co_filename.endswith('build_functions.py'):
            part = frame.f_locals.get('cfg')
        elif code.co_name == 'build_dataloader':
            part = frame.f_locals.get('dataloader')
        if isinstance(part, Mapping):
            return frame, part
    return None, None


def _where(cfg: Mapping[str, Any], built: Mapping[str, Any]) -> str:
    """The place in a config, as ``--cfg-options`` writes it, and the type of what was built there."""
    places = [place for place, part in _parts(cfg) if place and _is_of(part, built)]
    kind = short_name(built) if isinstance(built.get('type'), (str, type)) else ''
    if len(places) == 1:
        return f'{places[0]}{kind and f" ({kind})"}'
    return kind


def _is_of(part: Mapping[str, Any], built: Mapping[str, Any]) -> bool:
    """Whether something was built of this: what builds may have added arguments to it."""
    if part.get('type') != built.get('type'):
        return False
    return bool(part) and all(key in built and built[key] == part[key] for key in part)


def _parts(part: Any, place: str = '') -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All dicts of a config, with where they are."""
    items: Any = ()
    if isinstance(part, Mapping):
        yield place, part
        items = part.items()
    elif isinstance(part, Sequence) and not isinstance(part, str):
        items = enumerate(part)
    for key, value in items:
        yield from _parts(value, f'{place}.{key}' if place else str(key))


def _said(error: Exception, frame: Optional[FrameType]) -> str:
    """An error's message in plain words."""
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.strerror}: {error.filename}'
    if isinstance(error, KeyError):
        message = str(error.args[0]) if error.args else ''
        unknown = re.match(r'(\S+) is not in the .+? registry', message)
        if unknown and frame is not None:
            name, registry = unknown[1], frame.f_locals.get('registry')
            near = difflib.get_close_matches(name.split('.')[-1], _names(registry), n=1)
            hint = f'do you mean {near[0]}?' if near else 'custom_imports has to name its module'
            return f'{unknown[0]}: {hint}'
        return message if ' ' in message else f'there is no {message!r} where it was looked for'
    misspelt = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    built = frame.f_locals.get('obj_cls') if frame is not None else None
    if isinstance(error, TypeError) and misspelt and isinstance(built, type):
        near = difflib.get_close_matches(misspelt[1], arguments_of(built), n=1)
        return f'{error}{near and f": do you mean {near[0]}?" or ""}'
    # A worker's error holds its whole traceback.
    _, marker, theirs = str(error).partition('Original Traceback (most recent call last):')
    return theirs.strip().splitlines()[-1] if marker else str(error)


def _names(registry: Any) -> list[str]:
    """What a registry, and the one that it falls back to, knows."""
    names: list[str] = []
    while isinstance(registry, Registry):
        names += [*registry.module_dict]
        for child in registry.children.values():
            names += [*child.module_dict]
        registry = registry.parent
    return names
