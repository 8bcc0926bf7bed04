"""Messages to the user, and files that are written whole or not at all. Imports the standard library alone."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Optional, Union


class UserError(SystemExit):
    """What the user has to know. Uncaught, Python shows the message alone and exits with 1."""


def write_whole(file: Path, content: Union[str, bytes]) -> None:
    """Write a file in one move: whoever stops the program leaves the old content or the new.

    Args:
        file: its folder is made if it is missing.
        content: text is written as UTF-8.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f'.{file.name}.')
    try:
        with os.fdopen(handle, 'wb') as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
        # mkstemp makes files that nobody else may read.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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


def short(path: Path, start: Optional[Path] = None) -> str:
    """A path as seen from a folder (by default the current one) if it lies below, else as it is."""
    relative = os.path.relpath(path, start)
    return str(path) if relative.startswith(os.pardir) else relative
