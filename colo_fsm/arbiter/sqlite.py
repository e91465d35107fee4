"""The arbiter for two sides on one machine: a table in an SQLite database.

`database.py` says how it is read and written. Beyond that:

- Only `open` creates the file. A claim that created an empty one would let both sides win.
- Generations and tokens rise over all that the file holds, whatever the clock does. When the file is lost,
  they go on from the time, never from 1, so that a side that was frozen meanwhile cannot claim its old
  number in the new file. Only where the clock was set back as well may a new file repeat or undercut them:
  it knows nothing of the old.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import attrs

from colo_fsm.fsm import Side

from .base import (
    Claim,
    GenerationClaimed,
    UnknownGeneration,
    a_time,
    fresh_number,
    wall_clock,
)
from .database import Database, absolute, now

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

    path: Path = attrs.field(converter=absolute)
    timeout: float = attrs.field(default=5.0, validator=a_time)
    clock: Callable[[], int] = attrs.field(default=wall_clock, repr=False)
    _database: Database = attrs.field(init=False, repr=False, eq=False)

    @_database.default
    def _find(self) -> Database:
        return Database(self.path, self.timeout)

    def __str__(self) -> str:
        return str(self._database)

    def open(self) -> int:
        with self._database.writing(create=True) as db:
            db.execute(_SCHEMA)
            generation = self._fresh(db, "generation")
            db.execute(
                "INSERT INTO colo_generations (generation, opened) VALUES (?, ?)",
                (generation, now()),
            )
        return generation

    def check(self, generation: int) -> None:
        if not self.path.exists():  # nobody has opened any yet: that is an answer
            raise UnknownGeneration(str(self), generation)
        with self._database.writing() as db:
            claim = self._lookup(db, generation)
        if claim is not None:
            raise GenerationClaimed(generation, claim.winner)

    def claim(self, generation: int, side: Side) -> Claim:
        with self._database.writing() as db:
            claim = self._lookup(db, generation)
            if claim is None:
                claim = Claim(side, self._fresh(db, "token"))
                db.execute(
                    "UPDATE colo_generations SET (winner, token, claimed) = (?, ?, ?) WHERE generation = ?",
                    (claim.winner, claim.token, now(), generation),
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
