"""The arbiter for two sides on one machine: a table in an SQLite database.

Rules that the code below keeps:

- A claim is one write transaction (BEGIN IMMEDIATE), and is on disk (WAL, synchronous FULL) before
  it is answered. A process killed in the middle has claimed nothing.
- A connection per call: no answer comes from a deleted file that somebody still holds open. Its descriptors
  are kept back (`spare`), so that a claim does not depend on who has taken the others.
- Only `open` creates the file. A claim that created an empty one would let both sides win.
- Generations are never numbered from 1 again when the file is lost, so a side that was frozen
  meanwhile cannot claim its old number in the new file.

A process frozen (not killed) within its transaction, about a millisecond, keeps the lock until it
goes on: others are refused meanwhile, safely. Never put back an older copy of the file while a
generation runs: it would have forgotten the claim.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import attrs

from colo_fsm.fsm import Side

from . import spare
from .base import (
    ArbiterUnreachable,
    Claim,
    GenerationClaimed,
    UnknownGeneration,
    a_time,
    fresh_number,
    wall_clock,
)

# `opened` and `claimed` are for people who read the file; nothing is decided by them.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS colo_generations (
    generation INTEGER PRIMARY KEY,
    opened     TEXT NOT NULL,
    winner     TEXT CHECK (winner IN ('primary', 'secondary')),
    token      INTEGER UNIQUE,
    claimed    TEXT,
    CHECK ((winner IS NULL) = (token IS NULL))
)
"""
_MAX_INTEGER = 2**63 - 1


def _absolute(path: str | Path) -> Path:
    return Path(path).absolute()


@attrs.frozen
class SqliteArbiter:
    """Claims in the database file `path`; a locked one is waited for up to about `timeout` seconds.

    Both sides name the same file. It must be on a local disk: WAL needs memory shared between the
    processes, which network file systems do not give. A missing file is made by `open`. `clock`, in
    microseconds, only helps numbers to stay new; see `fresh_number`.

    Raises:
        ValueError: the path cannot hold a claim database, so no retry would help. What goes wrong
            later (file gone, locked, unreadable) is `ArbiterUnreachable`.
    """

    local_only: ClassVar[bool] = True

    path: Path = attrs.field(converter=_absolute)
    timeout: float = attrs.field(default=5.0, validator=a_time)
    clock: Callable[[], int] = attrs.field(default=wall_clock, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.path.is_dir() or not self.path.parent.is_dir():
            raise ValueError(f"{self}: name a file in an existing directory")
        if self.path.exists() and self._holds_something_else():
            raise ValueError(f"{self}: this file is no claim database, name another one")
        spare.keep()

    def __str__(self) -> str:
        return f"sqlite:{self.path}"

    def open(self) -> int:
        with self._transaction(create=True) as db:
            db.execute(_SCHEMA)
            generation = self._fresh(db, "generation")
            db.execute(
                "INSERT INTO colo_generations (generation, opened) VALUES (?, ?)",
                (generation, _now()),
            )
        return generation

    def check(self, generation: int) -> None:
        if not self.path.exists():  # nobody has opened any yet: that is an answer
            raise UnknownGeneration(str(self), generation)
        with self._transaction() as db:
            claim = self._lookup(db, generation)
        if claim is not None:
            raise GenerationClaimed(generation, claim.winner)

    def claim(self, generation: int, side: Side) -> Claim:
        with self._transaction() as db:
            claim = self._lookup(db, generation)
            if claim is None:
                claim = Claim(side, self._fresh(db, "token"))
                db.execute(
                    "UPDATE colo_generations SET (winner, token, claimed) = (?, ?, ?) WHERE generation = ?",
                    (claim.winner, claim.token, _now(), generation),
                )
        return claim  # only now: the transaction is on disk

    def _lookup(self, db: sqlite3.Connection, generation: int) -> Claim | None:
        """The claim on an open generation, None if nobody has claimed it."""
        row = None
        if generation <= _MAX_INTEGER:  # the wire can carry more than SQLite can hold
            row = db.execute(
                "SELECT winner, token FROM colo_generations WHERE generation = ?", (generation,)
            ).fetchone()
        if row is None:
            raise UnknownGeneration(str(self), generation)
        winner, token = row
        return None if winner is None else Claim(Side(winner), token)

    def _fresh(self, db: sqlite3.Connection, column: str) -> int:
        """A number above all those of `column`."""
        select = f"SELECT COALESCE(MAX({column}), 0) FROM colo_generations"  # noqa: S608 - a name of ours
        (newest,) = db.execute(select).fetchone()
        return fresh_number(newest, self.clock)

    @contextmanager
    def _transaction(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed at the end, rolled back (by closing) if anything raises."""
        try:
            with spare.lent(), closing(self._connect("rwc" if create else "rw")) as db:
                if create:
                    self._switch_to_wal(db)
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
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
        return bool(names) and "colo_generations" not in names


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
