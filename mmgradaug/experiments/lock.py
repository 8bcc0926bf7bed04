"""One sweep at a time in a work dir."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmgradaug.files import UserError, short

# Seconds: workers of a training that was killed hold the lock until they see that it has gone.
PATIENCE = 10.0


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Two sweeps in one work dir would empty each other's runs.

    Yields:
        The lock's file descriptor. Trainings hold it too: those of a killed sweep go on, and write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / '.lock').open('w')
    except OSError as error:
        raise UserError(
            f'--work-dir {short(folder)} cannot be written to: {error.strerror}'
        ) from error
    with opened as file:
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError) as error:
                if time.monotonic() > give_up:
                    raise UserError(
                        f'another sweep, or a training of one that was killed, is at work in {short(folder)}: wait '
                        'for it, end it, or use another --work-dir'
                    ) from error
            except OSError as error:
                # Some network file systems have no locks.
                print(
                    f'{short(folder)}: no locks there ({error.strerror}). Start one sweep at a time.'
                )
                break
            time.sleep(0.2)
        yield file.fileno()
