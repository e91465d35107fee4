"""A row a request into SQLite over TCP, closed-loop clients: ours, PySyncObj, and unreplicated."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from colo_fsm.services.sqlite import SqliteGuest

from . import served
from .served import Apply, Service, compared
from .table import Row

CLIENTS = (1, 10, 100)
SECONDS, QUICK = 6.0, 0.2
CAPACITY = 16 << 20
SCHEMA = "CREATE TABLE ledger (number INTEGER PRIMARY KEY, value TEXT NOT NULL)"
INSERT = "INSERT INTO ledger (value) VALUES (?)"
MOST = 10_000
"""Rows; with that many the oldest makes room for a new one."""
OLDEST = "DELETE FROM ledger WHERE number = ?"


def _apply(connection: sqlite3.Connection) -> Apply:
    """One transaction a request; the reply is the row's number."""
    connection.isolation_level = None

    def apply(request: bytes) -> bytes:
        connection.execute("BEGIN")
        number = connection.execute(INSERT, (request[:-1].decode(),)).lastrowid or 0
        connection.execute(OLDEST, (number - MOST,))
        connection.execute("COMMIT")
        return b"%d\n" % number

    return apply


def _alone(folder: Path) -> Apply:
    """In a file, as one does who keeps it without a second machine."""
    connection = sqlite3.connect(folder / "ledger.db")
    connection.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; {SCHEMA}")
    return _apply(connection)


def _guest() -> tuple[SqliteGuest, Callable[[], Apply]]:
    guest = SqliteGuest(CAPACITY, schema=SCHEMA, cached_statements=128)  # as sqlite3.connect has
    return guest, lambda: _apply(guest.connection)


def _member() -> Apply:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.executescript(SCHEMA)
    return _apply(connection)


SERVICE = Service("SQLite", [b"entry %d\n" % n for n in range(1000)], _alone, _guest, _member)


def rows(quick: bool) -> Iterator[Row]:
    """All of it for 1, 10 and 100 clients."""
    tunings = list(served.TUNINGS)[: 1 if quick else None]
    for clients in CLIENTS[: 1 if quick else None]:
        yield from compared(SERVICE, clients, QUICK if quick else SECONDS, tunings)
