"""An SQLite database as a checkpoint has it: looked at, never changed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import attrs

MAGIC = b"SQLite format 3\0"

MODE_AT = 18
ROLLBACK_MODE, WAL_MODE = b"\1\1", b"\2\2"
"""How a database is written, as its header says it."""

_TABLES = r"""
    SELECT name FROM sqlite_schema
    WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name
"""


class UnusableDatabase(ValueError):
    """A checkpoint holds no SQLite database, or one that this SQLite cannot open: it must not be run."""


@attrs.frozen
class Rows:
    """A table, and how many rows it has; None where this SQLite cannot tell."""

    name: str
    rows: int | None


@attrs.frozen
class Database:
    """What is in it. `page_size` in bytes."""

    pages: int
    page_size: int
    tables: tuple[Rows, ...]


def is_database(state: bytes) -> bool:
    """Whether a guest's state is one."""
    return state.startswith(MAGIC)


def look(state: bytes) -> Database:
    """What is in this database. Raises UnusableDatabase."""
    with in_memory(state) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        names = connection.execute(_TABLES).fetchall()
        return Database(pages, page_size, tuple(Rows(name, _count(connection, name)) for (name,) in names))


def _count(connection: sqlite3.Connection, table: str) -> int | None:
    quoted = table.replace('"', '""')
    try:
        (count,) = connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()  # noqa: S608 - a name
    except sqlite3.Error:
        return None
    return int(count)


def check(connection: sqlite3.Connection, pragma: str = "integrity_check") -> None:
    """Ask SQLite whether it is whole, by this pragma. Raises UnusableDatabase."""
    try:
        found = [str(said) for (said,) in connection.execute(f"PRAGMA {pragma}(1)")]
    except sqlite3.Error as error:
        found = [str(error)]
    if found != ["ok"]:
        raise UnusableDatabase(f"the database does not pass {pragma}: {'; '.join(found)}")


@contextlib.contextmanager
def in_memory(state: bytes) -> Iterator[sqlite3.Connection]:
    """A copy of it, to read. Raises UnusableDatabase."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.deserialize(_not_in_wal(state))
            _to_read(connection)
            yield connection
        except sqlite3.Error as error:
            raise UnusableDatabase(f"the database cannot be used: {error}") from error


def _not_in_wal(state: bytes) -> bytes:
    """The same database, as one that needs no log beside it: SQLite opens no other in memory."""
    if state[MODE_AT : MODE_AT + 2] != WAL_MODE:
        return state
    return state[:MODE_AT] + ROLLBACK_MODE + state[MODE_AT + 2 :]


@contextlib.contextmanager
def in_file(path: Path) -> Iterator[sqlite3.Connection]:
    """The one in this file, to read, as anybody's sqlite3 opens it. Raises UnusableDatabase."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as connection:
            _to_read(connection)
            yield connection
    except sqlite3.Error as error:
        raise UnusableDatabase(f"the database cannot be used: {error}") from error


def _to_read(connection: sqlite3.Connection) -> None:
    """Nothing that clients have written into the schema is trusted."""
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
