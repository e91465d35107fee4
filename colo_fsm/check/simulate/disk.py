"""A disk in memory under the real `DirectoryStore`: slow, full, failing, killed or without power.

A `Platter` is what outlives the process: files, and which of their bytes and names were synced. A
`SimulatedDisk` is one process's way to it; when that process dies, in the middle of a call perhaps,
every later call of it dies too, so that no clean-up code of the dead changes anything.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import attrs

from colo_fsm.stream.memory import PAGE_SIZE, ZERO_PAGE, Buffer

SECTOR = 512
"""Bytes that a power failure keeps or loses together."""


class Killed(BaseException):
    """The process has died in the middle of a call. No `except Exception` may catch it."""


@attrs.define(eq=False)
class File:
    """Content as programs see it, content that is safe, and what was written since, in order."""

    content: bytearray = attrs.field(factory=bytearray)
    safe: bytes = b""
    unsafe: list[tuple[int, bytes]] = attrs.field(factory=list)

    def write(self, data: Buffer, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.content):
            self.content.extend(bytes(end - len(self.content)))
        self.content[offset:end] = data
        self.unsafe.append((offset, bytes(data)))

    def sync(self) -> None:
        self.safe = bytes(self.content)
        self.unsafe.clear()

    def lose_power(self, random: Random) -> None:
        """Every sector that was not synced is there or not, as it comes."""
        kept = bytearray(self.safe)
        for offset, data in self.unsafe:
            for at in range(0, len(data), SECTOR):
                if random.random() < 0.5:
                    piece = data[at : at + SECTOR]
                    start = offset + at
                    kept.extend(bytes(max(0, start + len(piece) - len(kept))))
                    kept[start : start + len(piece)] = piece
        # a new one: a mapping of the old one may still be held
        self.content, self.unsafe = kept, []
        self.safe = bytes(kept)


class Platter:
    """One directory on one disk."""

    def __init__(self) -> None:
        self.names: dict[str, File] = {}
        self._safe_names: dict[str, File] = {}
        self._changes: list[dict[str, File]] = []
        self.locked_by: object = None
        self.on_call: Callable[[], float] = lambda: 0.0
        """Asked at every call how many seconds it takes. It may raise OSError, or Killed."""

    def renamed(self) -> None:
        """The names have changed; the disk may learn of it by itself, in order, or at a sync."""
        self._changes.append(dict(self.names))

    def sync_names(self) -> None:
        self._safe_names = dict(self.names)
        self._changes.clear()

    def lose_power(self, random: Random) -> None:
        """What is left: what was synced, and of the rest what the disk had got to."""
        states = [self._safe_names, *self._changes]
        self.names = dict(random.choice(states))
        for file in self.names.values():
            file.lose_power(random)
        self.sync_names()


class _Raw(io.RawIOBase):
    """The unbuffered file below a `BufferedWriter`."""

    def __init__(self, disk: SimulatedDisk, fd: int) -> None:
        super().__init__()
        self._disk, self._fd, self._offset = disk, fd, 0

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        written = self._disk.write(self._fd, [bytes(data)], self._offset)
        self._offset += written
        return written

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._disk.close(self._fd)


_DIRECTORY = File()


class SimulatedDisk:
    """See `colo_fsm.replica.disk.Disk`."""

    def __init__(self, platter: Platter, random: Random, killed: Callable[[], object] = lambda: None) -> None:
        """`killed` is called when the process dies in the middle of a call, before anything else."""
        self.platter = platter
        self._killed = killed
        self.dead = False
        self.owed = 0.0
        """Seconds that the calls have taken and nobody has waited for yet."""
        self._random = random
        self._files: dict[int, File] = {}
        self._next_fd = 3

    def _call(self, part: Callable[[], object] = lambda: None) -> None:
        """It takes its time, and may fail; `part` is done of it where the process dies in it."""
        if self.dead:
            raise Killed
        try:
            self.owed += self.platter.on_call()
        except Killed:
            self.dead = True  # at once: the code that dies must not clean up
            part()
            self._killed()
            raise

    @property
    def in_use(self) -> bool:
        """Whether the process has something open on it."""
        return bool(self._files)

    def time_taken(self) -> float:
        """The seconds owed; they are paid with this."""
        owed, self.owed = self.owed, 0.0
        return owed

    def kill(self) -> None:
        """The process is gone: it holds no lock, and changes nothing any more."""
        self.dead = True
        if self.platter.locked_by is self:
            self.platter.locked_by = None

    def _new_fd(self, file: File) -> int:
        self._next_fd += 1
        self._files[self._next_fd] = file
        return self._next_fd

    # -- the primitives -----------------------------------------------------------------------

    def make_directory(self, path: Path) -> None:
        self._call()

    def open_directory(self, path: Path) -> int:
        self._call()
        return self._new_fd(_DIRECTORY)

    def lock(self, fd: int) -> None:
        self._call()
        if self.platter.locked_by not in (None, self):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.platter.locked_by = self

    def names(self, path: Path) -> list[str]:
        self._call()
        return list(self.platter.names)

    def read(self, path: Path) -> bytes | None:
        self._call()
        file = self.platter.names.get(path.name)
        return None if file is None else bytes(file.content)

    def size(self, path: Path) -> int | None:
        self._call()
        file = self.platter.names.get(path.name)
        return None if file is None else len(file.content)

    def create(self, path: Path) -> BinaryIO:
        self._call()
        # a new inode also where the name was taken: O_TRUNC would be this, seen from the disk
        file = self.platter.names[path.name] = File()
        self.platter.renamed()
        return io.BufferedWriter(_Raw(self, self._new_fd(file)))

    def open(self, path: Path) -> int:
        self._call()
        return self._new_fd(self.platter.names[path.name])

    def resize(self, fd: int, size: int) -> None:
        self._call()
        self._files[fd].write(bytes(size), 0)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        self._call()

    def punch(self, fd: int, offset: int, size: int) -> None:
        self.write(fd, [bytes(size)], offset)

    def filled(self, fd: int, size: int) -> list[tuple[int, int]]:
        self._call()
        content = self._files[fd].content
        pages = range(0, size, PAGE_SIZE)
        return [(at, PAGE_SIZE) for at in pages if content[at : at + PAGE_SIZE] != ZERO_PAGE]

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        data = b"".join(buffers)
        self._call(lambda: self._files[fd].write(data[: self._random.randint(0, len(data))], offset))
        self._files[fd].write(data, offset)
        return len(data)

    def map(self, fd: int) -> memoryview:
        self._call()
        return memoryview(self._files[fd].content).toreadonly()

    def unmap(self, view: memoryview) -> None:
        """Memory is the collector's."""

    def sync(self, fd: int) -> None:
        self._call()
        if self._files[fd] is _DIRECTORY:
            self.platter.sync_names()
        else:
            self._files[fd].sync()

    def close(self, fd: int) -> None:
        try:
            self._call()
        finally:  # the descriptor is gone whatever it says
            del self._files[fd]
            if _DIRECTORY not in self._files.values() and self.platter.locked_by is self:
                self.platter.locked_by = None

    def replace(self, source: Path, target: Path) -> None:
        self._call()
        self.platter.names[target.name] = self.platter.names.pop(source.name)
        self.platter.renamed()

    def unlink(self, path: Path) -> None:
        self._call()
        if path.name not in self.platter.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        del self.platter.names[path.name]
        self.platter.renamed()
