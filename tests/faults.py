"""What goes wrong with disks and files, for tests/soak.py and tests/test_engine/test_whole_checkpoint_hook.py.

The refusals are the kernel's own.
"""

import contextlib
import errno
import os
import resource
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from mmgradaug.files import beside_its_place

NOBODY = 65534


@contextmanager
def full_disk(folder: Path, name: str) -> Iterator[None]:
    """ENOSPC for the file of that name, whether it is written beside its place or straight onto it."""
    paths = [folder / name, beside_its_place(folder / name)]
    for path in paths:
        path.symlink_to('/dev/full')
    yield
    for path in paths:
        path.unlink(missing_ok=True)


@contextmanager
def file_too_large(folder: Path, name: str) -> Iterator[None]:
    """EFBIG, by the limit that a shell's `ulimit -f` sets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only_folder(folder: Path, name: str) -> Iterator[None]:
    """EACCES; for root, whom no folder refuses, by being nobody for as long."""
    is_root = os.geteuid() == 0
    folder.chmod(0o555)
    if is_root:
        os.seteuid(NOBODY)
    yield
    if is_root:
        os.seteuid(0)
    folder.chmod(0o755)


@contextmanager
def removed_folder(folder: Path, name: str) -> Iterator[None]:
    """Removed once, with all that was in it."""
    shutil.rmtree(folder)
    yield


# What a warning says of it.
ERRNO = {full_disk: errno.ENOSPC, file_too_large: errno.EFBIG, read_only_folder: errno.EACCES}


class HarmsTheDisk(Hook):
    """A disk that refuses the saves of some iterations, and is well again afterwards.

    Args:
        harm: one of the above.
        first: the number of the first checkpoint that is refused.
        saves: how many are.
    """

    # After the hook that saves, before the one that stops.
    priority = 95

    def __init__(self, harm: Any, first: int, saves: int = 1) -> None:
        self.harm, self.refused = harm, range(first, first + saves)
        self.now = contextlib.ExitStack()

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter + 1 in self.refused:
            folder, name = Path(runner.work_dir), f'iter_{runner.iter + 1}.pth'
            self.now.enter_context(self.harm(folder, name))

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.now.close()


def zero(path: Path, share: float = 0.5, length: int = 4096) -> None:
    """Zeros over a part of a file, as a torn page leaves them."""
    with open(path, 'r+b') as file:
        file.seek(int(share * os.path.getsize(path)))
        file.write(bytes(min(length, os.path.getsize(path) - file.tell())))


def zero_a_tensor(path: Path) -> None:
    """Zeros over the whole of the largest one, and nothing else: PyTorch loads it without a word."""
    with zipfile.ZipFile(path) as archive:
        tensors = [info for info in archive.infolist() if '/data/' in info.filename]
    largest = max(tensors, key=lambda info: info.file_size)
    with open(path, 'r+b') as file:
        file.seek(largest.header_offset)
        name, extra = struct.unpack('<26x2H', file.read(30))
        file.seek(name + extra, os.SEEK_CUR)
        file.write(bytes(largest.file_size))


def halve(path: Path) -> None:
    os.truncate(path, os.path.getsize(path) // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


# What is done to ``last_checkpoint`` or to the newest checkpoint, and whether that one is lost by it.
TO_FILES = {
    'last_checkpoint is missing': (lambda last, newest: last.unlink(), False),
    'last_checkpoint is empty': (lambda last, newest: empty(last), False),
    'last_checkpoint is torn': (lambda last, newest: halve(last), False),
    'last_checkpoint names a deleted file': (lambda last, newest: newest.unlink(), True),
    'work dir renamed': (
        lambda last, newest: last.parent.rename(last.parent.with_name('renamed')),
        False,
    ),
    'zeros inside the newest': (lambda last, newest: zero_a_tensor(newest), True),
    'the newest is cut off': (lambda last, newest: halve(newest), True),
    'the newest is empty': (lambda last, newest: empty(newest), True),
}
# What is done while checkpoints are written.
TO_THE_DISK = {
    'full disk': full_disk,
    'file too large': file_too_large,
    'read-only folder': read_only_folder,
    'work dir removed': removed_folder,
}
