"""A ready guest: an SQLite database, and the way in which strangers' SQL runs in it.

    guest = SqliteGuest(16 << 20, schema="CREATE TABLE account (name PRIMARY KEY, balance)")

Both sides make the same one. `sqlite_server` serves it to clients; an embedder who wants no server
uses `guest.connection` in turns.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from colo_fsm.replica.guest import Saved, quick
from colo_fsm.replica.store import Checkpoint
from colo_fsm.stream.memory import PAGE_SIZE, Blocks

from .database import Database, OpenTransaction
from .kept import UnusableDatabase
from .limits import SIZES, Bounds
from .wal import BLOCK

__all__ = ["OpenTransaction", "SqliteGuest", "StatementError", "Statements", "UnusableDatabase"]

REPLY_LIMIT = 1 << 20
"""The longest outcome of one statement, in bytes of JSON."""

STATEMENT_TIME = 1.0
"""Seconds that one statement may take: a checkpoint waits for it, and the peer waits for both."""

REPLIES = "colo_fsm_replies"

_LOOKING = frozenset({
    "foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo",
    "integrity_check", "quick_check", "table_info", "table_list", "table_xinfo",
})  # fmt: skip
_WALKING = frozenset({"integrity_check", "quick_check"})
_LOOKING_ALONE = frozenset({"data_version", "foreign_keys", "page_count", "page_size", "user_version"})
"""Pragmas that change nothing unless they are given a value; R*Tree and FTS5 use some of them."""

_ON_REPLIES = frozenset({
    sqlite3.SQLITE_READ, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_ANALYZE, sqlite3.SQLITE_REINDEX
})  # fmt: skip
_REFUSED = {
    sqlite3.SQLITE_TRANSACTION: "BEGIN, COMMIT and ROLLBACK are refused: every statement is a transaction",
    sqlite3.SQLITE_SAVEPOINT: "savepoints are refused: every statement is a transaction",
    sqlite3.SQLITE_ATTACH: "ATTACH and VACUUM are refused: only the main database is replicated",
    sqlite3.SQLITE_DETACH: "DETACH is refused: only the main database is replicated",
}
_UNBOUNDED = {
    "fts3_tokenizer": "it takes addresses",
    "json_patch": "its time grows with the square of the keys; use json_set() and json_remove()",
    "jsonb_patch": "its time grows with the square of the keys; use jsonb_set() and jsonb_remove()",
    "snippet": "its time grows with the square of the hits; use highlight()",
    "rtreecheck": "it reads a whole table, and nothing can end it",
}

Params = Sequence[Any] | Mapping[str, Any]


class StatementError(ValueError):
    """A statement was refused or failed; nothing of it has happened. The text is for its client."""


class SqliteGuest:
    """A `Guest` that is an SQLite database of at most `capacity` bytes.

    `schema` is a script that both sides run when they are made. Its settings of the connection, such as
    `PRAGMA foreign_keys = ON`, hold wherever the database is opened; how it is written (journal_mode,
    locking_mode, page_size) is the guest's. Growth beyond the capacity fails in the statement that needs it
    ("database or disk is full"), and the pair goes on. Temporary tables and attached databases are not
    replicated.

    The database is a file in a directory of its own, in `directory`: by default in memory (/dev/shm) if that
    has room for the capacity, else where TMPDIR says. It takes as much room as it has pages, at times twice
    that. The directory is gone at `close` and at the end of the interpreter; what a killed process has left
    is removed when the next guest is made.

    `cached_statements` is that of `sqlite3.connect`: with some, statements that come again cost less. With
    `Statements`, and so with a server, none may be kept: an authorizer sees what is being prepared.

    A transaction must end within its turn: one that is open when a checkpoint is taken raises
    OpenTransaction, which breaks the pair. It is not rolled back, because somebody may count on it.
    Raises ValueError for a capacity that cannot be, CapacityExceeded if the schema does not fit.
    """

    BLOCK = BLOCK

    def __init__(
        self, capacity: int, *, schema: str = "", directory: str | os.PathLike[str] | None = None,
        cached_statements: int = 0,
    ) -> None:  # fmt: skip
        where = None if directory is None else Path(directory).absolute()
        self._database = Database(capacity, schema, where, cached_statements)
        self.cached_statements = cached_statements
        self.blocks: Blocks = {self.BLOCK: -(-capacity // PAGE_SIZE) * PAGE_SIZE}

    @property
    def connection(self) -> sqlite3.Connection:
        """The database, for use inside turns only. It commits after every statement unless told to BEGIN.

        Ask for it where the guest runs, and again when it runs again: a load closes it. Let no other
        connection write. Raises UnusableDatabase.
        """
        return self._database.connection

    @property
    def checked(self) -> Future[str] | None:
        """After a takeover: what SQLite's quick_check, beside the service, finds; "ok" if nothing."""
        return self._database.checked

    @quick
    def suspend(self) -> None:
        """Nothing to do: the database changes in turns only, and none is open."""

    @quick(when=lambda self: self._database.resumes_at_once())
    def resume(self) -> None:
        """Open the database, if it is not, and keep its log short."""
        self._database.resume()

    @quick(when=lambda self, full: self._database.saves_at_once(full))
    def save(self, full: bool) -> Saved:
        """See `Guest.save`: a cost of the pages that have changed. Raises OpenTransaction."""
        return self._database.save(full)

    def save_since(self, checkpoint: Checkpoint) -> Saved | None:
        """See `keeper.Remembers`."""
        return self._database.save_since(checkpoint)

    def stored(self, checkpoint: Checkpoint) -> None:
        """See `keeper.Remembers`."""
        self._database.stored(checkpoint)

    @quick(when=lambda self, checkpoint: self._database.loads_at_once(checkpoint))
    def load(self, checkpoint: Checkpoint) -> None:
        """See `Guest.load`: what has changed is written into the file, and nothing is opened.

        Raises DamagedState, UnusableDatabase, CapacityExceeded: then the guest is what it was.
        """
        self._database.load(checkpoint)

    def close(self) -> None:
        """Close the connection, and remove the database. Closing again does nothing."""
        self._database.close()


class Statements:
    """Runs the SQL of strangers on a guest's connection: one statement, one transaction, one outcome.

    Refused is what would not be replicated or would break replication: transaction control, ATTACH,
    VACUUM, temporary tables, and pragmas that are not known to only look. That protects a pair from its
    clients' mistakes; it is no defence against somebody who may run any SQL.

    Make it in a turn and use it in turns; it sets the connection's authorizer and progress handler.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {REPLIES} (key TEXT NOT NULL PRIMARY KEY, reply TEXT NOT NULL)"
        )
        self._bounds = Bounds(connection)
        self._dropping = False
        connection.set_authorizer(self._authorize)

    def run(self, sql: str, params: Params = (), key: str | None = None) -> str:
        """The outcome as JSON: `{"rows": [...], "changes": n}`, n with what triggers changed.

        With a key that was used before: the outcome of the first time, and nothing happens. A BLOB is
        `{"base64": "..."}`, in both directions. Raises StatementError; errors are not remembered, so the
        same key may be tried again.
        """
        self._connection.execute("BEGIN")
        try:
            outcome = self._remembered(key)
            if outcome is None:
                outcome = self._outcome(sql, _bound(params))
                self._remember(key, outcome)
            self._connection.execute("COMMIT")
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError, MemoryError) as error:
            raise StatementError(
                self._bounds.refusal or self._bounds.explained(error) or str(error)
            ) from error
        finally:
            self._bounds.refusal = ""
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        return outcome

    def _outcome(self, sql: str, params: Params) -> str:
        """What bounds it depends on what it is, which SQLite says when it prepares it: it begins anew."""
        until = time.monotonic() + STATEMENT_TIME
        sizes, pages = iter(SIZES), None
        size = next(sizes)
        while True:
            try:
                return self._run(sql, params, self._bounds.at_work(until, STATEMENT_TIME, size, pages))
            except (MemoryError, sqlite3.Error) as error:
                too_long = isinstance(error, MemoryError) or self._bounds.too_long
                if not self._bounds.uncounted and (not too_long or size is SIZES[-1]):
                    raise
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN")
            if self._bounds.uncounted:
                (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
            else:
                size = next(sizes)

    def _run(self, sql: str, params: Params, at_work: contextlib.AbstractContextManager[None]) -> str:
        before = self._connection.total_changes
        rows, size = [], 0
        self._dropping = False
        with at_work, contextlib.closing(self._connection.cursor()) as cursor:
            for row in cursor.execute(sql, params):
                rows.append(json.dumps(row, default=_base64, allow_nan=False))
                size += len(rows[-1])
                if size > REPLY_LIMIT:
                    raise ValueError(f"the rows are more than {REPLY_LIMIT} bytes: ask for fewer")
        return f'{{"rows": [{", ".join(rows)}], "changes": {self._connection.total_changes - before}}}'

    def _remembered(self, key: str | None) -> str | None:
        select = f"SELECT reply FROM {REPLIES} WHERE key = ?"  # noqa: S608 - a name of ours
        found = None if key is None else self._connection.execute(select, (key,)).fetchone()
        return found and str(found[0])

    def _remember(self, key: str | None, outcome: str) -> None:
        if key is not None:
            insert = f"INSERT INTO {REPLIES} VALUES (?, ?)"  # noqa: S608 - a name of ours
            self._connection.execute(insert, (key, outcome))

    def _authorize(
        self, action: int, first: str | None, second: str | None, database: str | None, _: str | None
    ) -> int:
        if not self._bounds.binding:
            return sqlite3.SQLITE_OK
        refusal = _refusal(action, first, second, database)
        if action == sqlite3.SQLITE_FUNCTION:
            refusal = refusal or self._bounds.called(str(second))
        if action == sqlite3.SQLITE_PRAGMA and str(first).lower() in _WALKING:
            refusal = refusal or self._bounds.walked(str(first).lower())
        self._bounds.refusal = self._bounds.refusal or refusal
        if self._bounds.refusal:
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_DELETE:
            return self._deleting(str(first))
        return sqlite3.SQLITE_OK

    def _deleting(self, table: str) -> int:
        """Let a DELETE of all rows go row by row, as SQLITE_IGNORE means: else it is one opcode.

        A DROP, which would do nothing then, is told by its beginning: it deletes a row of the schema.
        """
        self._dropping |= table in ("sqlite_master", "sqlite_schema")
        return sqlite3.SQLITE_OK if self._dropping else sqlite3.SQLITE_IGNORE


def _refusal(action: int, first: str | None, second: str | None, database: str | None) -> str:
    """Why a stranger's statement may not do this; empty if it may. The arguments are the authorizer's."""
    if action == sqlite3.SQLITE_PRAGMA and not _looks(str(first).lower(), second):
        return f"PRAGMA {first} is refused: it may change how this side works; put settings into the schema"
    if action == sqlite3.SQLITE_INSERT and database == "temp":
        return "temporary tables are refused: they are not replicated"
    if action == sqlite3.SQLITE_FUNCTION and (why := _UNBOUNDED.get(str(second))):
        return f"{second}() is refused: {why}"
    if REPLIES in (first, second) and action not in _ON_REPLIES:
        return f"{REPLIES} holds replies to keys: read it, delete what may be forgotten"
    return _REFUSED.get(action, "")


def _looks(pragma: str, value: str | None) -> bool:
    return pragma in _LOOKING or (value is None and pragma in _LOOKING_ALONE)


def _base64(value: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(value).decode()}


def _bound(params: Params) -> Params:
    if isinstance(params, Mapping):
        return {name: _value(value) for name, value in params.items()}
    return [_value(value) for value in params]


def _value(value: Any) -> Any:
    """A parameter as SQLite wants it."""
    if isinstance(value, dict) and value.keys() == {"base64"}:
        return base64.b64decode(str(value["base64"]), validate=True)
    return value
