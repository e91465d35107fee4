"""The file system under a `DirectoryStore`, as an argument: what it uses of one, and no more.

`LocalDisk` is the real one. A simulation hands over another, which fails, waits, dies with its process
or loses power at any of these calls; see `colo_fsm.check.simulate`.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from colo_fsm.stream.memory import ZERO_PAGE, Buffer

Range = tuple[int, int]
"""Offset and length in bytes."""


class Disk(Protocol):
    """Files and one directory. Every call may raise OSError; a descriptor is an int until `close`."""

    def make_directory(self, path: Path) -> None:
        """Make it for its owner alone, with its parents, unless it is there. FileExistsError: a file is."""

    def open_directory(self, path: Path) -> int:
        """A descriptor to `lock` and `sync`."""

    def lock(self, fd: int) -> None:
        """Nobody else may, until `fd` is closed or this process ends. BlockingIOError: somebody has."""

    def names(self, path: Path) -> list[str]:
        """What is in the directory, in any order."""

    def read(self, path: Path) -> bytes | None:
        """The whole file; None if there is none."""

    def size(self, path: Path) -> int | None:
        """The file's length in bytes; None if there is none."""

    def create(self, path: Path) -> BinaryIO:
        """An empty file, buffered, in place of what had this name; only its owner may read it."""

    def open(self, path: Path) -> int:
        """A file that is there, to read and write."""

    def resize(self, fd: int, size: int) -> None:
        """Make the file `size` bytes long; what is added is zeros, and takes no room yet."""

    def allocate(self, fd: int, offset: int, size: int) -> None:
        """Take room for `size` bytes of the file from `offset` on: no later write there can lack any."""

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write one buffer behind the other from `offset` on, at most MOST_BUFFERS; the bytes it took."""

    def punch(self, fd: int, offset: int, size: int) -> None:
        """Make zeros of this part of the file, whole pages; the room that it took may be free then."""

    def filled(self, fd: int, size: int) -> list[Range]:
        """Where in its first `size` bytes there may be more than zeros that take no room, in rising order."""

    def map(self, fd: int) -> memoryview:
        """The file as it is, and as later writes change it; to read. It outlives `close`."""

    def unmap(self, view: memoryview) -> None:
        """What was mapped is not looked at any more: room that it holds is free now. Never fails."""

    def sync(self, fd: int) -> None:
        """Return when the file's content, or the directory's names, would survive a power failure."""

    def close(self, fd: int) -> None:
        """Give the descriptor back."""

    def replace(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, in one step."""

    def unlink(self, path: Path) -> None:
        """Remove a name. FileNotFoundError."""


_locked: set[int] = set()
"""The descriptors that hold locks: a forked child that keeps a copy would hold the lock on."""


def _close_copies() -> None:
    while _locked:
        os.close(_locked.pop())


os.register_at_fork(after_in_child=_close_copies)


class LocalDisk:
    """The operating system's."""

    def make_directory(self, path: Path) -> None:
        os.makedirs(path, mode=0o700, exist_ok=True)

    def open_directory(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def lock(self, fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _locked.add(fd)

    def names(self, path: Path) -> list[str]:
        return os.listdir(path)

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def size(self, path: Path) -> int | None:
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None

    def create(self, path: Path) -> BinaryIO:
        return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR)

    def resize(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        os.posix_fallocate(fd, offset, size)

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        return os.pwritev(fd, buffers, offset)

    def punch(self, fd: int, offset: int, size: int) -> None:
        try:
            with mmap.mmap(fd, size, offset=offset) as window:
                window.madvise(mmap.MADV_REMOVE)
        except (OSError, ValueError):  # not every file system can
            for at in range(offset, offset + size, len(ZERO_PAGE)):
                os.pwrite(fd, ZERO_PAGE, at)

    def filled(self, fd: int, size: int) -> list[Range]:
        found: list[Range] = []
        end = 0
        while end < size:
            try:
                start = os.lseek(fd, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing more
                    break
                raise
            end = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, end - start))
        return found

    def map(self, fd: int) -> memoryview:
        return memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))

    def unmap(self, view: memoryview) -> None:
        mapping = view.obj
        view.release()
        if isinstance(mapping, mmap.mmap):
            with suppress(BufferError):  # somebody still looks: it goes with the last of them
                mapping.close()

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        _locked.discard(fd)
        os.close(fd)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        path.unlink()


LOCAL_DISK = LocalDisk()
