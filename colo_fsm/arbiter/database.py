"""The claim database: one SQLite file, in which claims and registers keep their tables.

Rules that the code below keeps:

- A connection per call: no answer comes from a deleted file that somebody still holds open. Its descriptors
  are kept back (`spare`), so that a call does not depend on who has taken the others.
- What is written is one transaction (BEGIN IMMEDIATE), and is on disk (WAL, synchronous FULL) before anybody
  is answered or sees it. A process killed in the middle has written nothing.
- Only who asks for it creates the file.

A process frozen (not killed) within its transaction, about a millisecond, keeps the lock until it
goes on: others that write are refused meanwhile, safely. Never put back an older copy of the file while
anybody stands on it: it would have forgotten what was written since.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs

from . import spare
from .base import ArbiterUnreachable

OUR_TABLES = "colo_"
"""How the names of our tables begin."""


@attrs.frozen
class Database:
    """The file `path`, on a local disk; a locked one is waited for up to about `timeout` seconds.

    Raises:
        ValueError: the path cannot hold a claim database, so no retry would help.
    """

    path: Path
    timeout: float

    def __attrs_post_init__(self) -> None:
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise ValueError(f"{self}: name a file in an existing directory")
        if self.path.exists() and self._holds_something_else():
            raise ValueError(f"{self}: this file is no claim database, name another one")
        spare.keep()

    def __str__(self) -> str:
        return f"sqlite:{self.path}"

    @property
    def missing(self) -> bool:
        """Whether there is no such file, in a directory that is there."""
        return self.path.parent.is_dir() and not self.path.exists()

    @contextmanager
    def writing(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction: committed at the end, rolled back (by closing) if anything raises.

        Raises ArbiterUnreachable; what was written may be there or not if that was at the end.
        """
        with self._connected("rwc" if create else "rw") as db:
            if create:
                self._switch_to_wal(db)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """What was committed before now, whoever may be writing. Raises ArbiterUnreachable."""
        with self._connected("rw") as db:
            db.execute("BEGIN")
            yield db

    @contextmanager
    def _connected(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            with spare.lent(), closing(self._connect(mode)) as db:
                yield db
        except sqlite3.Error as error:
            reason = str(error) if self.path.exists() else "the database file is gone"
            raise ArbiterUnreachable(str(self), reason) from error

    def _switch_to_wal(self, db: sqlite3.Connection) -> None:
        """The file remembers it. SQLite does not wait for others here, so two first starts collide."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
            time.sleep(0.005)

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.as_uri()}?mode={mode}",
            uri=True,
            timeout=self.timeout,
            isolation_level=None,
        )

    def _holds_something_else(self) -> bool:
        try:
            # Never by reading the file: closing it would drop the locks of our other threads.
            with closing(self._connect("rw")) as db:
                names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        except sqlite3.OperationalError:
            return False  # busy or out of reach for now; the call that needs it will tell
        except sqlite3.DatabaseError:
            return True
        return bool(names) and not any(name.startswith(OUR_TABLES) for name in names)


def absolute(path: str | Path) -> Path:
    """The path, whatever the working directory becomes."""
    return Path(path).absolute()


def now() -> str:
    """The time, for people who read the file; nothing is decided by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
