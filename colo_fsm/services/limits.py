"""What bounds a stranger's statement, so that the side that runs it never stands still for long.

SQLite asks whether to go on (`Bounds.late`) between opcodes, and only where a loop turns: one opcode,
which may be a whole function, cannot be ended. So nothing is so large that an opcode takes over 0.1 s,
the functions whose time grows with the product of two lengths are guarded, and one pass through a
statement has only so much in it.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

VALUE_LIMIT = 512 << 10
"""The largest value, and the largest row, in a stranger's statement, in bytes."""

PATTERN_LIMIT = 48
"""The longest LIKE pattern, in bytes; GLOB has the guard of `_GUARDED` in its place."""

ARGUMENTS = 50
"""A JSON function walks the whole text for each path that it is given."""

OPCODES = 25_000
"""Of one prepared statement, which may go by without a look at the clock. SQLite stops at 21,504."""

CHECK_EVERY = 100
"""Opcodes from one look at the clock to the next."""

MOST_WORK = 4.0
"""Seconds that the calls in a statement's text may take in one pass, each at its largest."""

_SLOW_CALLS = {"like": 0.08, "format": 0.04, "printf": 0.04, "strftime": 0.04}
_JSON_CALL, _CALL = 0.04, 0.005

_TOO_MANY = "too many calls of functions in the text of one statement: split it"

_BYTES, _CHARACTERS = 1 << 27, 1 << 23
"""Comparisons, at most; of one that compares bytes by the run, and of one that goes by the character."""

_GUARDED = [
    ("instr", 2, _BYTES), ("replace", 3, _BYTES),
    ("unhex", 2, _CHARACTERS),
    ("trim", 2, _CHARACTERS), ("ltrim", 2, _CHARACTERS), ("rtrim", 2, _CHARACTERS), ("glob", 2, _CHARACTERS),
]  # fmt: skip

_TIGHT = {
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_LIMIT,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: PATTERN_LIMIT,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: ARGUMENTS,
    sqlite3.SQLITE_LIMIT_VDBE_OP: OPCODES,
}


class Refused(ValueError):
    """Raised inside a function of SQL; SQLite does not pass it on, `Bounds.refusal` says why."""


class Bounds:
    """Sets a connection's progress handler and guards functions of it; what they do stays the same.

    They bind only `at_work`: the embedder's own statements are nobody's concern.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._until: float | None = None
        self._work = 0.0
        self.refusal = ""
        """Why the statement at work must end, for its client; empty if it may go on."""
        # SQLite's own functions, as they are without the guards
        self._plain = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._plain.close)
        # weakly: the connection holds its functions, and nothing would ever close the two
        guard = weakref.WeakMethod(self._guarded)
        for name, arguments, most in _GUARDED:
            sql = f"SELECT {name}({', '.join('?' * arguments)})"
            try:
                self._plain.execute(sql, [None] * arguments)
            except sqlite3.OperationalError:  # of a later SQLite
                continue
            function = functools.partial(_call, guard, name, sql, most)
            connection.create_function(name, arguments, function, deterministic=True)
        connection.set_progress_handler(self.late, CHECK_EVERY)

    @property
    def binding(self) -> bool:
        """Whether a stranger's statement is at work."""
        return self._until is not None

    @contextlib.contextmanager
    def at_work(self, seconds: float) -> Iterator[None]:
        """A stranger's statement is at work, which may take so long."""
        connections = (self._connection, self._plain)
        before = [
            (each, limit, each.setlimit(limit, _TIGHT[limit])) for each in connections for limit in _TIGHT
        ]
        self._plain.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, VALUE_LIMIT)
        self._until, self._work, self.refusal = time.monotonic() + seconds, 0.0, ""
        self._late = f"the statement took longer than {seconds} s: split it"
        try:
            yield
        finally:
            self._until = None
            for each, limit, value in before:
                each.setlimit(limit, value)

    def late(self) -> bool:
        """Whether the statement at work must end now."""
        if self._until is None or time.monotonic() <= self._until:
            return False
        self.refusal = self.refusal or self._late
        return True

    def called(self, function: str) -> str:
        """Count one more call of this function, by SQLite's name; says why that is too much, if it is."""
        self._work += _JSON_CALL if function.startswith("json") else _SLOW_CALLS.get(function, _CALL)
        return _TOO_MANY if self._work > MOST_WORK else ""

    def _guarded(self, name: str, sql: str, most: int, arguments: tuple[Any, ...]) -> Any:
        if self.binding:
            if self.late():
                raise Refused
            first, second = (len(each) if isinstance(each, str | bytes) else 32 for each in arguments[:2])
            if first * second > most:
                self.refusal = (
                    f"{name}() of {first} and {second} characters takes too long: give it shorter ones"
                )
                raise Refused
        try:
            return self._plain.execute(sql, arguments).fetchone()[0]
        except sqlite3.Error as error:
            if self.binding:
                self.refusal = explained(error) or str(error)
            raise


def _call(
    guard: weakref.WeakMethod[Callable[..., Any]], name: str, sql: str, most: int, *arguments: Any
) -> Any:
    method = guard()
    assert method is not None, "the Statements that set this connection up are gone"
    return method(name, sql, most, arguments)


def explained(error: Exception) -> str:
    """What to do about an error that comes from a limit; empty if it comes from something else."""
    if isinstance(error, MemoryError):
        return "the statement is too large for SQLite: split it, fewer rows at a time"
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_TOOBIG or "too big" in str(error):
        return f"string or blob too big: a value or a row is more than {VALUE_LIMIT} bytes, store it in parts"
    if "pattern too complex" in str(error):
        return f"the LIKE pattern is longer than {PATTERN_LIMIT} bytes: look with instr()"
    if "too many arguments on function" in str(error):
        return f"{error}: at most {ARGUMENTS}"
    if "user-defined function raised" in str(error):
        return f"{error}: was it given text that is no UTF-8?"
    return ""
