"""The lines that the SQLite service reads and writes; `sqlite_server` says what they are."""

from __future__ import annotations

import json
import time
from typing import Any

from colo_fsm.membership.active import Active
from colo_fsm.replica.aio import Pair

from .sqlite import StatementError, Statements

LINE_LIMIT = 1 << 20
"""The longest request, in bytes."""

_FIELDS = frozenset({"id", "sql", "params", "key"})


def reply_to(statements: Statements, line: bytes) -> str:
    """The reply to one request, without its stamps: a JSON object that is still open."""
    identity = "null"
    try:
        request = _parsed(line)
        identity = json.dumps(request.get("id"), allow_nan=False)
        outcome = statements.run(*_arguments(request))
    except (ValueError, RecursionError) as error:
        return failed(identity, str(error))
    return f'{{"id": {identity}, {outcome[1:-1]}'


def failed(identity: str, error: str) -> str:
    """A reply that says what was wrong, without its stamps."""
    return f'{{"id": {identity}, "error": {json.dumps(error)}'


Host = Pair | Active
"""What a service runs on."""


def stamped(reply: str, pair: Host) -> bytes:
    """A reply as it leaves, with what it says of the side that gives it."""
    stamps = {
        "side": pair.side, "protected": pair.protected, "token": pair.token, "checkpoint": pair.checkpoint,
        "released": time.monotonic_ns(),
    }  # fmt: skip
    return f"{reply}, {json.dumps(stamps)[1:]}\n".encode()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise StatementError(f"a line is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise StatementError('a line is no JSON object: write {"id": 1, "sql": "SELECT 1"}')
    return request


def _arguments(request: dict[str, Any]) -> tuple[str, Any, str | None]:
    """What `Statements.run` takes."""
    if unknown := sorted(request.keys() - _FIELDS):
        raise StatementError(f"unknown field '{unknown[0]}': there are {', '.join(sorted(_FIELDS))}")
    sql, params, key = request.get("sql"), request.get("params", []), request.get("key")
    if not isinstance(sql, str):
        raise StatementError("'sql' must be a string")
    if not isinstance(params, list | dict):
        raise StatementError("'params' must be a list, or an object of named parameters")
    if not isinstance(key, str | None):
        raise StatementError("'key' must be a string")
    return sql, params, key
