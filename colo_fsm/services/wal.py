"""Which pages of an SQLite database have changed: those with new frames in its write-ahead log.

Read as documented: https://www.sqlite.org/fileformat2.html section 4; and https://www.sqlite.org/walformat.html
section 2 for the header of the wal-index, which says how many frames count. Those behind them are of
statements that failed or were rolled back, even where the last one says that it commits.

A log that is begun anew has another salt: then what was not looked at before is not known.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from colo_fsm.replica.guest import StateGuest
from colo_fsm.stream.memory import PAGE_SIZE, Page

from .kept import MODE_AT, ROLLBACK_MODE

BLOCK = StateGuest.BLOCK

_INDEX = struct.Struct("=16xII8x8s")
"""Of the header of the wal-index, in this machine's order: frames, pages; the salts are as in the log."""
_HEADER_SIZE = 32
_FRAME = struct.Struct(">I4x8s8x")
_FRAME_SIZE = _FRAME.size + PAGE_SIZE

_AHEAD = 64 * PAGE_SIZE
"""Bytes of the database file that are read at a time."""


class LogLost(ValueError):
    """There is no log to read the changes from."""


class Ends(NamedTuple):
    """Where a log ends: `frames` count, with which the database has `pages`."""

    frames: int
    pages: int
    salts: bytes


class Log:
    """The log of the database in `path`, which an open connection has read. Use it while nothing is written.

    Close it behind the connection: to close a file takes away all locks that this process has on it.
    """

    def __init__(self, path: Path) -> None:
        self.fd = os.open(f"{path}-wal", os.O_RDONLY)
        self._index = os.open(f"{path}-shm", os.O_RDONLY)
        self._seen = self.ends()
        self.close = weakref.finalize(self, _close, self.fd, self._index)

    def ends(self) -> Ends:
        """Now. Raises LogLost."""
        if not os.fstat(self.fd).st_nlink:
            raise LogLost("the database is not in WAL mode any more: leave its journal_mode as it is")
        return Ends(*_INDEX.unpack(os.pread(self._index, _INDEX.size, 0)))

    def since(self, now: Ends) -> dict[int, int] | None:
        """Pages that have changed since what was `seen`, and where in the log each is as it is now.

        None: it cannot be told, because the log was begun anew before they were seen.
        """
        return self.frames(now, self._seen.frames) if now.salts == self._seen.salts else None

    def frames(self, now: Ends, first: int = 0) -> dict[int, int]:
        """The pages of these frames, and where in the log the newest of each is."""
        found = {}
        for frame in range(first, now.frames):
            at = _HEADER_SIZE + frame * _FRAME_SIZE
            page, salts = _FRAME.unpack(os.pread(self.fd, _FRAME.size, at))
            if salts != now.salts:
                raise LogLost(f"frame {frame} of the write-ahead log is not of this log")
            if page <= now.pages:
                found[page] = at + _FRAME.size
        return found

    def saw(self, now: Ends) -> None:
        """All up to here is known."""
        self._seen = now

    def grown(self, frames: int) -> bool:
        """Whether so many frames are there that were not seen, or it cannot be told."""
        now = self.ends()
        return now.salts != self._seen.salts or now.frames - self._seen.frames >= frames

    def long(self, frames: int) -> bool:
        """Whether so many frames are there, all seen."""
        return self._seen.frames >= frames and self.ends() == self._seen


def _close(*descriptors: int) -> None:
    for fd in descriptors:
        os.close(fd)


class Pages:
    """These pages of the database in `file`, counted from 1: read when they are iterated over, each time.

    `frames` says which of them are in the log, and where; the others are in the file.
    """

    def __init__(self, file: int, log: Log, numbers: Sequence[int], frames: Mapping[int, int]) -> None:
        self._file = file
        self._log = log.fd
        self._numbers = numbers
        self._frames = frames

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Page]:
        ahead, first = memoryview(b""), 0
        for number in self._numbers:
            offset, data = (number - 1) * PAGE_SIZE, memoryview(b"")
            if (at := self._frames.get(number)) is not None:
                data = memoryview(os.pread(self._log, PAGE_SIZE, at))
            else:
                if not first <= offset < first + len(ahead):
                    ahead, first = memoryview(os.pread(self._file, _AHEAD, offset)), offset
                data = ahead[offset - first :][:PAGE_SIZE]
            yield Page(
                BLOCK, offset, data if offset and len(data) == PAGE_SIZE else _filled(offset, bytes(data))
            )


def _filled(offset: int, page: bytes) -> bytes:
    """A whole page, also where the file ends in it; the first one says that there is no log."""
    page = page.ljust(PAGE_SIZE, b"\0")
    return page if offset else page[:MODE_AT] + ROLLBACK_MODE + page[MODE_AT + len(ROLLBACK_MODE) :]
