"""Of a schema, what holds for a connection and is not in the database: it is said again to each new one."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

_STAY = frozenset({
    "application_id", "auto_vacuum", "encoding", "incremental_vacuum", "journal_mode", "locking_mode",
    "max_page_count", "optimize", "page_size", "schema_version", "synchronous", "user_version",
    "wal_autocheckpoint", "wal_checkpoint",
})  # fmt: skip
"""Pragmas that are in the database, do something to it, or are the guest's own."""

_PRAGMA = re.compile(
    r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*PRAGMA\s+(?:main\s*\.\s*)?(\w+)", re.IGNORECASE | re.DOTALL
)


def settings(schema: str) -> list[str]:
    """Its pragmas that a connection forgets when it is closed, such as `PRAGMA foreign_keys = ON`."""
    found = ((statement, _PRAGMA.match(statement)) for statement in _statements(schema))
    return [statement for statement, pragma in found if pragma and pragma[1].lower() not in _STAY]


def _statements(script: str) -> Iterator[str]:
    """One after the other; a semicolon inside of one, as triggers have them, ends none."""
    start = 0
    for semicolon in re.finditer(";", script):
        if sqlite3.complete_statement(script[start : semicolon.end()]):
            yield script[start : semicolon.end()]
            start = semicolon.end()
    yield script[start:]
