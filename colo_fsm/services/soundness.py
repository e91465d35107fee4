"""Whether SQLite finds a database sound: asked of it once before a pair counts, and once after a takeover.

What it finds is said in the log, and ends nothing: the database is as its Primary had it, which a checksum
knows (`Database.load`), and a side that runs with a bad index is better than none. Constraints that clients
wrote are not asked: an expression may have another answer here than there.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path

from .kept import UnusableDatabase, check, in_file

MOST_WAITED_FOR = 1 << 30
"""Bytes of a database of which the first copy waits for integrity_check: some seconds."""

_log = logging.getLogger(__name__)


def first_check(path: Path, whole: bool) -> None:
    """This database has just arrived. Raises UnusableDatabase if SQLite cannot read its schema.

    `whole`: ask for integrity_check too, unless it would take long.
    """
    with in_file(path) as connection:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if whole and path.stat().st_size <= MOST_WAITED_FOR:
            _said(connection, "integrity_check", "the first copy")


def later_check(path: Path) -> Future[str]:
    """Begin a quick_check of this open database, in a thread; what it finds, "ok" if nothing."""
    found: Future[str] = Future()

    def look() -> None:
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
                found.set_result(_said(connection, "quick_check", "taken over"))
        except Exception as error:  # noqa: BLE001 - whoever waits hears it
            found.set_exception(error)

    threading.Thread(target=look, name="colo-fsm-quick-check", daemon=True).start()
    return found


def _said(connection: sqlite3.Connection, pragma: str, what: str) -> str:
    connection.execute("PRAGMA ignore_check_constraints = ON")
    try:
        check(connection, pragma)
    except UnusableDatabase as error:
        _log.warning("%s: %s", what, error)
        return str(error)
    _log.info("%s: the database passes %s", what, pragma)
    return "ok"
