"""Messages to the user, and files that are written whole or not at all. Imports the standard library alone."""

import json
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional, Union

PARTIAL = '.partial'
# Processes on several machines, or in several containers, may have one number.
TOKEN = secrets.token_hex(4)


class UserError(SystemExit):
    """What the user has to know. Uncaught, Python shows the message alone and exits with 1."""


def write_whole(file: Path, content: Union[str, bytes, memoryview]) -> None:
    """Write a file in one move: whoever stops the program, or the power, leaves the old content or the new.

    It is written beside its place, flushed to the disk, then moved.

    Args:
        file: its folder is made if it is missing.
        content: text is written as UTF-8.

    Raises:
        OSError: what the disk says; a file that was there before is still there, as it was.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_its_place(file)
    try:
        with beside.open('wb') as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, file)
    except BaseException:
        beside.unlink(missing_ok=True)  # a full disk needs the room
        raise
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # or a power failure could undo the move
    finally:
        os.close(folder)


def beside_its_place(file: Path) -> Path:
    """Where :func:`write_whole` of this process writes a file before it is moved."""
    return file.with_name(f'{file.name}.{os.getpid()}-{TOKEN}{PARTIAL}')


def write_json(file: Path, data: Any) -> None:
    """Write JSON, as :func:`write_whole` does."""
    write_whole(file, json.dumps(data, indent=1) + '\n')


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(file).read_text())
    except OSError as error:
        raise UserError(f'{file}: {error.strerror}') from error
    except ValueError as error:
        raise UserError(f'{file} is not JSON') from error


def require_folder(folder: Path) -> None:
    """See that files can be written to a folder before there is anything to write; one that is made for it is removed.

    Raises:
        UserError: they cannot; the message goes with an option ``--out``.
    """
    made: list[Path] = []
    try:
        made += [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f'{folder} cannot be written to ({error.strerror}): write another folder, --out DIR'
        ) from error
    finally:
        for each in made:
            with suppress(OSError):  # it was not made, or somebody else uses it by now
                each.rmdir()


def short(path: Path, start: Optional[Path] = None) -> str:
    """A path as seen from a folder (by default the current one) if it lies below, else as it is."""
    relative = os.path.relpath(path, start)
    return str(path) if relative.startswith(os.pardir) else relative
