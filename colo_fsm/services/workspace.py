"""A private directory for files that need not outlive their process: in memory, where that has room."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
PREFIX = "colo-fsm-sqlite-"
"""What is swept is recognised by it: others make directories of a like name, and lock none."""


class NoRoom(ValueError):
    """A capacity that cannot be had here."""


class Workspace:
    """A new directory at `path`, removed by `close`, or when the interpreter ends.

    A killed process leaves its own behind: the next one that makes a workspace beside it removes it. Whoever
    lives has locked its directory.

    It lies in `parent`; by default in /dev/shm if that has room for `size` bytes, else where TMPDIR says.
    Raises NoRoom, OSError.
    """

    def __init__(self, size: int, parent: Path | None = None) -> None:
        parent = _with_room(size, _candidates() if parent is None else [parent])
        sweep(parent)
        self.path, lock = _made(parent)
        self.in_memory = parent == SHARED_MEMORY
        """Whether nothing of it waits for a disk."""
        self._remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def close(self) -> None:
        """Remove it with all that is in it. Closing again does nothing."""
        self._remove()


def sweep(parent: Path) -> None:
    """Remove what processes of this user have left in `parent` when they were killed."""
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.getuid() and (lock := _locked(path)) is not None:
                _remove(path, lock, os.getpid())


def _candidates() -> list[Path]:
    memory = [SHARED_MEMORY] if SHARED_MEMORY.is_mount() and os.access(SHARED_MEMORY, os.W_OK) else []
    return [*memory, Path(tempfile.gettempdir())]


def _with_room(size: int, parents: list[Path]) -> Path:
    free = {parent: _free(parent) for parent in parents}
    for parent, room in free.items():
        if room >= size:
            return parent
    found = " and ".join(f"{room} bytes free in {parent}" for parent, room in free.items())
    raise NoRoom(f"no room for a capacity of {size} bytes, with {found}: declare less, or name another")


def _free(parent: Path) -> int:
    """Bytes that there is room for."""
    return shutil.disk_usage(parent).free


def _made(parent: Path) -> tuple[Path, int]:
    """A new directory and its lock; a sweeper may be quicker, in the moment before it is locked."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        with suppress(FileNotFoundError):
            lock = _locked(path)
            if lock is not None and os.fstat(lock).st_nlink:
                return path, lock
            if lock is not None:
                os.close(lock)


def _locked(path: Path) -> int | None:
    """A descriptor of this directory that locks it; None: it is somebody's. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _remove(path: Path, lock: int, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
