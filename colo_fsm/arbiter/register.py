"""What is known of a data set, in one record that both members read and change: who holds its newest point.

A claim is made once a generation; this is read when a member starts, and changed when its data set moves on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final, Protocol

import attrs

from .base import a_time, fresh_number, wall_clock
from .cluster import FORM as ETCD_FORM
from .database import Database, absolute, now

VALUE_LIMIT: Final = 1 << 16
"""Bytes of UTF-8 that a value stays below."""


@attrs.frozen
class Entry:
    """What a record holds: `value`, which only its writers understand, and the `version` it has had since."""

    value: str
    version: int


class Register(Protocol):
    """One record a data set, changed by compare-and-swap: whoever has read it may replace it, once.

    Every call blocks, for a bounded time, and asks afresh: nothing is cached. An instance holds no
    connection, needs no closing and may be used from any thread.
    """

    @property
    def local_only(self) -> bool:
        """True if all who use it must be on one machine."""
        ...

    def read(self) -> Entry | None:
        """The record as it is now: every swap that was answered before is in it. None: there is none.

        Raises:
            ArbiterUnreachable: nothing is known of it; never a reason to take it for None.
        """
        ...

    def swap(self, version: int | None, value: str) -> bool:
        """Replace the record, if it still has the version that was read; None: make it, if there is none.

        Afterwards its version is above all that it ever had. False: somebody was faster, read again.

        Raises:
            ArbiterUnreachable: it may be replaced or not: read again.
            ValueError: `value` is not below 64 KiB.
        """
        ...


def a_name(instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    """Validates what a record is called. Raises ValueError."""
    if not (value.isprintable() and 0 < len(value.encode()) < 256):
        raise ValueError(f"'{value}' names no data set: write 1 to 255 bytes of printable text")


def checked(value: str) -> str:
    """The value, if it is one. Raises ValueError."""
    if (size := len(value.encode())) >= VALUE_LIMIT:
        raise ValueError(f"the record would have {size} bytes, and a register takes fewer than {VALUE_LIMIT}")
    return value


# AUTOINCREMENT: SQLite remembers the newest version of all, also when the record is removed by hand.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS colo_register (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    name    TEXT NOT NULL UNIQUE,
    value   TEXT NOT NULL,
    changed TEXT NOT NULL
)
"""
_NEWEST = "SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'colo_register'"


@attrs.frozen
class SqliteRegister:
    """The record `name` in the claim database `path`, as `SqliteArbiter` has it (its rules hold here, too).

    There is no record where the file, the table or the row is missing; a missing directory, and a file that
    cannot be read, are ArbiterUnreachable. So after a claim file was deleted nobody knows of the data set but
    those who have it. The first `swap(None, …)` makes the file. Versions rise, whatever the clock does, while
    the file lives.

    Raises:
        ValueError: no such path can hold a claim database, or no data set is called so.
    """

    local_only: ClassVar[bool] = True

    path: Path = attrs.field(converter=absolute)
    name: str = attrs.field(validator=a_name)
    timeout: float = attrs.field(default=5.0, validator=a_time)
    clock: Callable[[], int] = attrs.field(default=wall_clock, repr=False)
    _database: Database = attrs.field(init=False, repr=False, eq=False)

    @_database.default
    def _find(self) -> Database:
        return Database(self.path, self.timeout)

    def __str__(self) -> str:
        return str(self._database)

    def read(self) -> Entry | None:
        if self._database.missing:
            return None
        with self._database.reading() as db:
            return self._entry(db)

    def swap(self, version: int | None, value: str) -> bool:
        value = checked(value)
        with self._database.writing(create=version is None) as db:
            entry = self._entry(db)
            if (None if entry is None else entry.version) != version:
                return False
            db.execute(_SCHEMA)
            (newest,) = db.execute(_NEWEST).fetchone()
            db.execute(
                "INSERT OR REPLACE INTO colo_register (version, name, value, changed) VALUES (?, ?, ?, ?)",
                (fresh_number(newest, self.clock), self.name, value, now()),
            )
        return True  # only now: the transaction is on disk

    def _entry(self, db: sqlite3.Connection) -> Entry | None:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'colo_register'").fetchone():
            return None
        row = db.execute("SELECT value, version FROM colo_register WHERE name = ?", (self.name,)).fetchone()
        return None if row is None else Entry(*row)


def open_register(url: str, name: str) -> Register:
    """The record `name` at the arbiter that `url` names: `sqlite:PATH` (one machine) or
    `etcd://HOST,HOST,HOST/PREFIX`.

    Raises:
        ValueError: the URL has another form, or names what keeps no record; or no data set is called so.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        return SqliteRegister(rest, name)
    if scheme == "etcd" and rest.startswith("//"):
        from .etcd import EtcdRegister

        return EtcdRegister(rest[2:], name)
    if scheme == "exec":
        raise ValueError(f"'{url}': a command keeps no record: name sqlite:PATH or {ETCD_FORM}")
    raise ValueError(f"'{url}' names no register: write sqlite:PATH or {ETCD_FORM}")
