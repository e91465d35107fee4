"""The file of an SQLite guest: a database of which a checkpoint costs the pages that have changed.

Where the guest runs it is open, in WAL mode, and the new frames of its log are what has changed (`wal`). A
Secondary opens nothing: what arrives is written over what is there. Neither syncs anything, since what
outlives the process is the store's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import struct
import weakref
import zlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import attrs

from colo_fsm.replica.guest import CapacityExceeded, DamagedState, Saved
from colo_fsm.replica.store import Checkpoint
from colo_fsm.replica.store.disk import Range
from colo_fsm.stream.memory import PAGE_SIZE, Buffer

from .kept import MAGIC, MODE_AT, WAL_MODE, UnusableDatabase
from .settings import settings
from .soundness import first_check, later_check
from .wal import BLOCK, Log, Pages
from .workspace import NoRoom, Workspace

_DEVICE = struct.Struct(">QQ")
"""Length and checksum, as a `StateGuest` has them: a store does not tell which of the two wrote it."""

FOLD = 128
"""Frames in the log from which on they go into the database file, between two rounds: 0.2 ms."""

FEW = 128
"""Pages that are read or written in no time where all is in memory: in a millisecond."""

LEAST_LOG = 16384
"""Frames to which the log may grow where there are no rounds, or as many as there are pages."""

LEAST_REMEMBERED = 1024
"""Pages that are remembered to differ from what a store has; a quarter of all, if that is more."""

_PIECE = 1 << 20

_log = logging.getLogger(__name__)


class OpenTransaction(RuntimeError):
    """A transaction was left open at the end of a turn, so there is no state that can be saved."""


class Database:
    """In a directory of its own. See `SqliteGuest` for what this raises."""

    def __init__(
        self, capacity: int, schema: str, directory: Path | None, cached_statements: int = 0
    ) -> None:
        self._capacity = capacity
        self._cached_statements = cached_statements
        self._settings = settings(schema)
        self._workspace = Workspace(capacity, directory)
        self._fd: int | None = None
        self._close_file: Callable[[], object] | None = None
        self._number = 0
        self._connection: sqlite3.Connection | None = None
        self._wal: Log | None = None
        self._longest = 0
        self._sums: _Sums | None = None
        """Of the pages as they were saved or loaded last; None: unknown."""
        self._base: tuple[int, int] | None = None
        self._changed: set[int] = set()
        """Pages, counted from 1, that may differ from the checkpoint `_base`."""
        self._torn = self._came = False
        """Whether it was written in part; whether it came from another side."""
        self.checked: Future[str] | None = None
        try:
            self._new_file()
            self._create(schema)
        except BaseException:
            self.close()
            raise
        _log.info("the database is in %s, of %d bytes at most", self._workspace.path, capacity)

    # ---- the file ---------------------------------------------------------------------------------

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._opened()
        return self._connection

    def close(self) -> None:
        self._close_files()
        self._workspace.close()

    def _new_file(self) -> None:
        """An empty one, in place of the one before; a name of its own, so that no log of that is found."""
        self._close_files()
        for path in self._workspace.path.iterdir():
            path.unlink()
        self._number += 1
        self._path = self._workspace.path / f"{self._number}.db"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._close_file = weakref.finalize(self, os.close, self._fd)

    def _close_files(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._wal is not None:
            self._wal.close()
        if self._close_file is not None:
            self._close_file()
        self._wal = self._fd = self._close_file = None

    def _create(self, schema: str) -> None:
        with contextlib.closing(self._connected()) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.executescript(schema)
            if connection.in_transaction:
                raise OpenTransaction(
                    "a transaction is open at the end of the schema: commit it or roll it back"
                )
            if not self._length:
                connection.execute("PRAGMA user_version = 0")  # writes the first page
            for pragma, wanted in (("journal_mode = MEMORY", "memory"), ("page_size", PAGE_SIZE)):
                if connection.execute(f"PRAGMA {pragma}").fetchone() != (wanted,):
                    raise ValueError(f"the schema sets the {pragma.split()[0]}: leave that to the guest")
            self._limit(connection)

    @property
    def _length(self) -> int:
        """Of the file, in bytes."""
        assert self._fd is not None
        return os.fstat(self._fd).st_size

    def _connected(self) -> sqlite3.Connection:
        # The guest's hooks have a thread of their own; the pair's gate keeps them apart from turns.
        connection = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, check_same_thread=False,
            cached_statements=self._cached_statements,
        )  # fmt: skip
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def _limit(self, connection: sqlite3.Connection) -> None:
        """Raises CapacityExceeded, NoRoom."""
        most = self._capacity // PAGE_SIZE
        (granted,) = connection.execute(f"PRAGMA max_page_count = {most}").fetchone()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if pages > most:
            raise self._exceeded()
        if granted != most:
            raise NoRoom(f"SQLite has room for {granted * PAGE_SIZE} bytes at most, not {self._capacity}")

    def _opened(self) -> sqlite3.Connection:
        """Raises UnusableDatabase."""
        if self._fd is None or self._torn:
            raise UnusableDatabase("the database is closed, or has not arrived whole")
        os.pwrite(self._fd, WAL_MODE, MODE_AT)
        connection = self._connected()
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            self._limit(connection)
            for setting in self._settings:
                connection.execute(setting)
            self._wal, self._longest = Log(self._path), 0
            self._fold(connection, self._wal)  # or the first commit would begin it
            self._bound_log(connection, self._length // PAGE_SIZE)
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error):
                raise UnusableDatabase(f"the database cannot be used: {error}") from error
            raise
        if self._came:
            self.checked = later_check(self._path)
        return connection

    # ---- the log ----------------------------------------------------------------------------------

    def _bound_log(self, connection: sqlite3.Connection, pages: int) -> None:
        """Where there are no rounds, SQLite itself puts the log into the file from some length on.

        After that nobody knows what has not been saved; to send all pages is then no more than to send those.
        """
        if pages > self._longest:
            self._longest = max(LEAST_LOG, pages + pages // 4)
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._longest}")

    def resume(self) -> None:
        """See `Guest.resume`."""
        connection = self.connection
        if self._wal is not None and self._wal.long(FOLD):
            self._fold(connection, self._wal)

    def _fold(self, connection: sqlite3.Connection, wal: Log) -> None:
        """Put all of the log into the database file, and begin it anew."""
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:  # a statement is open, or there is no room: another time
            _log.debug("the log of %s stays: %s", self._path, error)
        wal.saw(wal.ends())

    # ---- what returns at once -----------------------------------------------------------------------

    @property
    def _at_hand(self) -> Log | None:
        """Its log, if it is open, and in memory."""
        return self._wal if self._workspace.in_memory and self._connection is not None else None

    def resumes_at_once(self) -> bool:
        log = self._at_hand
        return log is not None and not log.long(FOLD + FEW)

    def saves_at_once(self, full: bool) -> bool:
        log = None if full or self._sums is None else self._at_hand
        return log is not None and not log.grown(FEW)

    def loads_at_once(self, checkpoint: Checkpoint) -> bool:
        if checkpoint.changed is None or self._connection is not None or not self._workspace.in_memory:
            return False
        return sum(size for _, size in checkpoint.changed.get(BLOCK, ())) <= FEW * PAGE_SIZE

    # ---- checkpoints ------------------------------------------------------------------------------

    def save(self, full: bool) -> Saved:
        """See `Guest.save`."""
        connection = self.connection
        if connection.in_transaction:
            raise OpenTransaction("a transaction is open: commit it or roll it back inside its turn")
        assert self._wal is not None
        wal, now = self._wal, self._wal.ends()
        count = now.pages if now.frames else self._length // PAGE_SIZE
        numbers: Sequence[int] = range(1, count + 1)
        sums, frames = self._sums, wal.since(now)
        if sums is None or frames is None:
            sums, frames, self._base = _Sums(), wal.frames(now), None
        else:  # a new page without a frame is that of SQLite's locks, at 1 GiB
            changed = sorted(frames.keys() | range(len(sums) + 1, count + 1))
            self._remember(changed, count)
            if full:
                sums, frames = _Sums(), wal.frames(now)
            else:
                numbers = changed
        pages = self._pages(numbers, frames)
        sums.cut(count)
        for page in pages:
            sums.put(page.offset // PAGE_SIZE, page.data)
        self._sums = sums
        wal.saw(now)
        self._bound_log(connection, count)
        return Saved(pages, _DEVICE.pack(count * PAGE_SIZE, sums.total), count * PAGE_SIZE)

    def save_since(self, checkpoint: Checkpoint) -> Saved | None:
        """What differs from this one, which was loaded or `stored`; None: it is not known."""
        if self._base != (checkpoint.generation, checkpoint.number):
            return None
        saved = self.save(False)
        if self._base is None or self._wal is None:
            return None
        assert saved.used is not None
        count = saved.used // PAGE_SIZE
        numbers = sorted(number for number in self._changed if number <= count)
        return attrs.evolve(saved, pages=self._pages(numbers, self._wal.frames(self._wal.ends())))

    def stored(self, checkpoint: Checkpoint) -> None:
        """What was saved last is this one, in a store that may be asked about."""
        self._base, self._changed = (checkpoint.generation, checkpoint.number), set()

    def _remember(self, changed: Sequence[int], count: int) -> None:
        if self._base is not None:
            self._changed.update(changed)
            if len(self._changed) > max(LEAST_REMEMBERED, count // 4):
                self._base, self._changed = None, set()

    def _pages(self, numbers: Sequence[int], frames: Mapping[int, int]) -> Pages:
        assert self._fd is not None
        assert self._wal is not None
        return Pages(self._fd, self._wal, numbers, frames)

    def load(self, checkpoint: Checkpoint) -> None:
        """See `Guest.load`."""
        block = checkpoint.blocks[BLOCK]
        length, total = self._measured(checkpoint, block)
        sums, changed = self._sums, checkpoint.changed
        if whole := sums is None or changed is None or self._connection is not None:
            sums, changed = _Sums(), {BLOCK: [(0, length)]}
        ranges = [(at, min(at + size, length)) for at, size in changed.get(BLOCK, ()) if at < length]
        self._sums = self._base = None
        sums.cut(length // PAGE_SIZE)
        for start, end in ranges:
            for at in range(start, end, PAGE_SIZE):
                sums.put(at // PAGE_SIZE, block[at : at + PAGE_SIZE])
        if sums.total != total or len(sums) * PAGE_SIZE != length:
            raise DamagedState(
                "the database that arrived is not the one that was saved: start both sides again"
            )
        if whole:
            self._new_file()
        self._write(block, ranges, length)
        if whole:
            first_check(self._path, whole=checkpoint.number == 0)
        self._sums, self._came, self._torn = sums, True, False
        self.stored(checkpoint)

    def _measured(self, checkpoint: Checkpoint, block: memoryview) -> tuple[int, int]:
        """Length and checksum. Raises UnusableDatabase, CapacityExceeded."""
        if len(checkpoint.device) != _DEVICE.size or bytes(block[: len(MAGIC)]) != MAGIC:
            raise UnusableDatabase("this is no SQLite database: start both sides with the same guest")
        length, total = _DEVICE.unpack(checkpoint.device)
        if length > self._capacity:
            raise self._exceeded()
        return length, total

    def _exceeded(self) -> CapacityExceeded:
        return CapacityExceeded(
            f"the database does not fit in {self._capacity} bytes: start both sides with more capacity"
        )

    def _write(self, block: memoryview, ranges: Iterable[Range], length: int) -> None:
        """Raises OSError, and then there is no database until a whole one is loaded."""
        assert self._fd is not None
        self._torn = True
        for at, end in ranges:
            while at < end:
                at += os.pwrite(self._fd, block[at : min(end, at + _PIECE)], at)
        os.truncate(self._fd, length)


class _Sums:
    """A checksum of each page, counted from 0, and of all, as a `StateGuest` has it."""

    def __init__(self) -> None:
        self._each = array("I")
        self.total = 0

    def __len__(self) -> int:
        return len(self._each)

    def put(self, number: int, page: Buffer) -> None:
        if number >= len(self._each):
            self._each.extend([0] * (number + 1 - len(self._each)))
        fresh = zlib.crc32(page, number)
        self.total += fresh - self._each[number]
        self._each[number] = fresh

    def cut(self, count: int) -> None:
        """There are no more pages than these."""
        self.total -= sum(self._each[count:])
        del self._each[count:]
