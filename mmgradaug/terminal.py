"""What training and testing show on the terminal: no long dumps, and last of all a short error."""

import logging
import os
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Optional

from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MMLogger
from mmengine.registry import Registry
from torch import Tensor, nn

from .arguments import nearest
from .config_types import settings_in, short_name
from .engine.config_check import arguments_of
from .files import UserError, short
from .slimming.planning import misfit_of

# Lines of a message of MMEngine while it builds a runner; longer ones go to the log file alone.
LONG = 8
# Lines of an error; what is left out is in the log file.
MOST = 12
PACKAGE = str(Path(__file__).parent) + os.sep
# Files that are not the user's: ours with the tools of a checkout, Python's, what is installed, and code of no file.
LIBRARIES = (
    PACKAGE, str(Path(__file__).parents[1] / 'tools') + os.sep, '<',
    *(sysconfig.get_path(name) + os.sep for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')),
)  # fmt: skip
# What our own code raises with a sentence for the user.
DELIBERATE = (ValueError, TypeError, KeyError, OSError, ImportError, RuntimeError, ArithmeticError)


class Terminal:
    """Around the runner's making and its training: see :meth:`building` and :meth:`short_error`."""

    def __init__(self, cfg: Mapping[str, Any], config: str) -> None:
        self.cfg = dict(cfg.items())
        self.config = config
        self.log_file: Optional[str] = None
        self._earlier = MMLogger.get_current_instance()

    @contextmanager
    def building(self) -> Iterator[None]:
        """While a runner is made: the machine, the whole config and the list of hooks go to its log file alone.

        The terminal is told of each in one line. Other messages, and warnings, are shown as they are. From then on
        single parameters' settings go to the log file alone.
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
        for handler in MMLogger.get_current_instance().handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_for_the_terminal)

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
            message = self._message(error)
            if message is None:
                raise
            raise UserError(message) from error

    def _message(self, error: Exception) -> Optional[str]:
        """None where the traceback says more."""
        try:
            # A folder that cannot be made, of which there is no log file then.
            unwritable = isinstance(error, OSError) and error.filename is not None
            if not (self._write(error) or unwritable) or not _is_the_users(error):
                return None
            return '\n'.join(['', *self._lines(error)])
        except Exception:  # what describes an error must not take its place
            return None

    def _write(self, error: Exception) -> bool:
        """Append the traceback to the log file; False if there is none."""
        logger = MMLogger.get_current_instance()
        # Of a runner that logs warnings alone, which building() has not heard.
        if self.log_file is None and logger is not self._earlier:
            self.log_file = logger.log_file
        if self.log_file is None:
            return False
        try:
            with open(self.log_file, 'a', encoding='utf-8', errors='backslashreplace') as stream:
                if get_world_size() > 1:
                    print(f'Rank {get_rank()}:', file=stream)
                traceback.print_exception(type(error), error, error.__traceback__, file=stream)
        except OSError:
            return False
        return True

    def _lines(self, error: Exception) -> list[str]:
        frame, built = _built(error)
        where = _where(self.cfg, built) if built else ''
        own, own_failed = _own_code(error)
        if own_failed and not _is_deliberate(error):
            text = _in_its_words(error, f'{type(error).__name__}: {error}')
        else:
            text = _said(error, frame)
        said = text.splitlines() or ['no message']
        if len(said) > MOST:
            said = [*said[: MOST // 2], '...', *said[-MOST // 2 :]]
        stage = re.match(r'\w+_dataloader', where)
        if isinstance(error, OSError) and stage:
            said.append(
                'Write where the data are on this machine, for instance '
                f'--cfg-options {stage[0]}.dataset.data_root=FOLDER'
            )
        if own:
            said.append(own)
        log = f'; the traceback is in {short(Path(self.log_file))}' if self.log_file else ''
        return [
            f'{self.config}{where and ", "}{where}:',
            *(f'  {line}' for line in said),
            f'({type(error).__name__}{log})',
        ]


def _is_for_the_terminal(record: logging.LogRecord) -> bool:
    """MMEngine lists every parameter that has a learning rate or weight decay of its own."""
    return not str(record.msg).startswith('paramwise_options -- ')


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _is_the_users(error: Exception) -> bool:
    """Whether it came before the first step, or was raised by this package."""
    frames = _frames(error)
    if all(frame.f_code.co_name != 'run_iter' for frame in frames):
        return True
    return _is_deliberate(error) or _misfit(error) is not None


def _misfit(error: Exception) -> Optional[str]:
    """Which linear layer was given features that it does not take; of that PyTorch says the shapes alone."""
    places = [frame.f_locals for frame in _frames(error)] or [{}]
    layer, given = places[-1].get('self'), places[-1].get('input')
    if not isinstance(layer, nn.Linear) or not isinstance(given, Tensor) or not given.dim():
        return None
    if given.shape[-1] == layer.in_features:
        return None
    models = [place['self'] for place in places if isinstance(place.get('self'), nn.Module)]
    names = (name for name, module in models[0].named_modules() if module is layer)
    name = next(names, type(layer).__name__)  # a layer may be called that is no part of the model
    return f"the model's {misfit_of(name, layer.in_features, given.shape[-1])}"


def _is_deliberate(error: Exception) -> bool:
    """Whether this package raised it, with a sentence for the user."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = last.filename.startswith(PACKAGE) and (last.line or '').startswith('raise ')
    return ours and isinstance(error, DELIBERATE)


def _own_code(error: BaseException) -> tuple[str, bool]:
    """Where the user's own code, outside of all libraries, has part in an error, and whether it is what failed."""
    found, failed = '', False
    each: Optional[BaseException] = error
    while each is not None:
        places = [
            (p.filename, p.lineno, p.name, p.line) for p in traceback.extract_tb(each.__traceback__)
        ]
        # A worker's error holds its traceback as text.
        places += re.findall(r'File "(.+?)", line (\d+), in (\S+)\n\s+(.+)', str(each))
        for place, (file, line, function, code) in enumerate(places):
            if file and not file.startswith(LIBRARIES):
                found = f'at {short(Path(file))}, line {line}, in {function}: {code}'
                failed = place == len(places) - 1
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return found, failed


def _in_its_words(error: BaseException, text: str) -> str:
    """The last line of a worker's error, which holds its whole traceback; of any other the text."""
    _, marker, theirs = str(error).partition('Original Traceback (most recent call last):')
    return theirs.strip().splitlines()[-1] if marker else text


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
    places = [place for place, _, part in settings_in(cfg) if _is_of(part, built)]
    kind = short_name(built) if isinstance(built.get('type'), (str, type)) else ''
    if len(places) == 1:
        return f'{places[0]}{kind and f" ({kind})"}'
    return kind


def _is_of(part: Any, built: Mapping[str, Any]) -> bool:
    """Whether something was built of this: what builds may have added arguments to it."""
    if not isinstance(part, Mapping) or part.get('type') != built.get('type'):
        return False
    return bool(part) and all(key in built and _are_equal(built[key], part[key]) for key in part)


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # of arrays there is no one answer
        return False


def _said(error: Exception, frame: Optional[FrameType]) -> str:
    """An error's message in plain words."""
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.strerror}: {error.filename}'
    if isinstance(error, KeyError):
        message = str(error.args[0]) if error.args else ''
        unknown = re.match(r'(\S+) is not in the .+? registry', message)
        if unknown and frame is not None:
            name, registry = unknown[1], frame.f_locals.get('registry')
            near = nearest(name.split('.')[-1], _names(registry))
            hint = f'do you mean {near}?' if near else 'custom_imports has to name its module'
            return f'{unknown[0]}: {hint}'
        return message if ' ' in message else f'there is no {message!r} where it was looked for'
    misspelt = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    built = frame.f_locals.get('obj_cls') if frame is not None else None
    if isinstance(error, TypeError) and misspelt and isinstance(built, type):
        near = nearest(misspelt[1], arguments_of(built))
        return f'{error}: do you mean {near}?' if near else str(error)
    return _misfit(error) or _in_its_words(error, str(error))


def _names(registry: Any) -> list[str]:
    """What a registry, and the one that it falls back to, knows."""
    names: list[str] = []
    while isinstance(registry, Registry):
        names += [*registry.module_dict]
        for child in registry.children.values():
            names += [*child.module_dict]
        registry = registry.parent
    return names
