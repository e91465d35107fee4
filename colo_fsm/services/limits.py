"""What bounds a stranger's statement, so that the side that runs it never stands still for long.

SQLite asks whether to go on (`Bounds.late`) between opcodes, and only where a loop turns: one opcode,
which may be a whole function, cannot be ended, nor can a row of opcodes without a loop. So no value is so
large that an opcode takes over 0.1 s, the functions whose time grows with the product of two lengths are
guarded, and the more there is in a statement the smaller are its values (`SIZES`), so that one pass through
it takes about a second at the most. What walks the whole database in one opcode is for small ones, or is
done row by row.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import attrs


@attrs.frozen
class Size:
    """What a statement of at most so many opcodes may have in it.

    `value` is its largest value, and its largest row, in bytes. SQLite counts opcodes as it makes room for
    them: it stops at 672, 2,688 and 21,504 of these. A pass takes longest when all it does is to sort long
    texts COLLATE NOCASE into an IN list (1.1 s), or to make numbers of them (0.5 s).
    """

    opcodes: int
    value: int


SIZES = Size(700, 512 << 10), Size(2700, 128 << 10), Size(25_000, 16 << 10)
"""A statement has the first that it fits into."""

VALUE_LIMIT = SIZES[0].value

PATTERN_LIMIT = 48
"""The longest LIKE pattern, in bytes; GLOB has the guard of `_GUARDED` in its place."""

CHECKED_PAGES = 4096
"""Pages of a database whose soundness a stranger may ask for: 16 MiB, 30 ms in one opcode at the most."""

ARGUMENTS = 50
"""A JSON function walks the whole text for each path that it is given."""

CHECK_EVERY = 100
"""Opcodes from one look at the clock to the next."""

MOST_WORK = 1.0
"""Seconds that the calls in a statement's text may take in one pass, each at its largest."""

_SLOW_CALLS = {"like": 0.08, "format": 0.04, "printf": 0.04, "strftime": 0.04}
_JSON_CALL, _CALL = 0.04, 0.005

_TOO_MANY = "too many calls of functions in the text of one statement: split it"

_BYTES, _CHARACTERS = 1 << 27, 1 << 23
"""Comparisons, at most; of one that compares bytes by the run, and of one that goes by the character."""


def _instr(text: Any, part: Any) -> Any:
    """Python's own search takes time as the sum of the lengths, and no call of SQLite."""
    if type(text) is type(part) and isinstance(text, str | bytes):
        return text.find(part) + 1
    return NotImplemented


def _replace(text: Any, old: Any, new: Any) -> Any:
    if not (isinstance(text, str) and isinstance(old, str) and isinstance(new, str)):
        return NotImplemented
    if old[:1] in ("", "\0") or len(text) + text.count(old) * (len(new) - len(old)) > VALUE_LIMIT:
        return NotImplemented
    return text.replace(old, new)


def _not_here(*_: Any) -> Any:
    return NotImplemented


_GUARDED: list[tuple[str, int, int, Callable[..., Any]]] = [
    ("instr", 2, _BYTES, _instr), ("replace", 3, _BYTES, _replace),
    *((name, 2, _CHARACTERS, _not_here) for name in ("unhex", "trim", "ltrim", "rtrim", "glob")),
]  # fmt: skip
"""Functions with their number of arguments, the most that SQLite may do for one call, and what does most
calls in its place. That returns NotImplemented for the others."""

_TIGHT = {
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: PATTERN_LIMIT,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: ARGUMENTS,
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
        self._size, self._work = SIZES[0], 0.0
        self.refusal = ""
        """Why the statement at work must end, for its client; empty if it may go on."""
        self.too_long = False
        """Whether it has too many calls for values of its size, of which it might have fewer."""
        self.uncounted = False
        """Whether it may go on or not, according to how many pages the database has."""
        self._pages: int | None = None
        # SQLite's own functions, as they are without the guards
        self._plain = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._plain.close)
        # weakly: the connection holds its functions, and nothing would ever close the two
        guard = weakref.WeakMethod(self._guarded)
        for name, arguments, most, here in _GUARDED:
            sql = f"SELECT {name}({', '.join('?' * arguments)})"
            try:
                self._plain.execute(sql, [None] * arguments)
            except sqlite3.OperationalError:  # of a later SQLite
                continue
            function = functools.partial(_call, guard, name, sql, most, here)
            connection.create_function(name, arguments, function, deterministic=True)
        connection.set_progress_handler(self.late, CHECK_EVERY)

    @property
    def binding(self) -> bool:
        """Whether a stranger's statement is at work."""
        return self._until is not None

    @contextlib.contextmanager
    def at_work(self, until: float, seconds: float, size: Size, pages: int | None) -> Iterator[None]:
        """A stranger's statement of this size is at work until then (time.monotonic()), `seconds` in all.

        `pages` of the database, or None if they were not counted, which is a statement more.
        """
        tight = _TIGHT | {sqlite3.SQLITE_LIMIT_LENGTH: size.value, sqlite3.SQLITE_LIMIT_VDBE_OP: size.opcodes}
        connections = (self._connection, self._plain)
        before = [
            (each, limit, each.setlimit(limit, tight[limit])) for each in connections for limit in tight
        ]
        self._plain.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, VALUE_LIMIT)
        self._until, self._size, self._work = until, size, 0.0
        self._pages = pages
        self.refusal, self.too_long, self.uncounted = "", False, False
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
        seconds = _JSON_CALL if function.startswith("json") else _SLOW_CALLS.get(function, _CALL)
        self._work += seconds * self._size.value / VALUE_LIMIT
        self.too_long = self._work > MOST_WORK
        return _TOO_MANY if self.too_long else ""

    def walked(self, pragma: str) -> str:
        """This walks the whole database in one opcode; says why that is too much, if it is."""
        self.uncounted = self._pages is None
        if self._pages is not None and self._pages <= CHECKED_PAGES:
            return ""
        return (
            f"{pragma} (ALTER TABLE ... ADD COLUMN with a CHECK or NOT NULL asks for it, too) reads the "
            f"whole database in one step, and {self._pages} pages are more than {CHECKED_PAGES}: ask it of a "
            "copy, or make a new table with the constraint"
        )

    def explained(self, error: Exception) -> str:
        """What to do about an error that comes from a limit; empty if it comes from something else."""
        if isinstance(error, MemoryError):
            return "the statement is too large for SQLite: split it, fewer rows at a time"
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_TOOBIG or "too big" in str(error):
            most = self._size.value
            return f"string or blob too big: a value or a row is more than {most} bytes, {self._why_so}"
        if "pattern too complex" in str(error):
            return f"the LIKE pattern is longer than {PATTERN_LIMIT} bytes: look with instr()"
        if "too many arguments on function" in str(error):
            return f"{error}: at most {ARGUMENTS}"
        if "user-defined function raised" in str(error):
            return f"{error}: was it given text that is no UTF-8?"
        return ""

    @property
    def _why_so(self) -> str:
        if self._size.value == VALUE_LIMIT:
            return "store it in parts"
        return f"the most in a statement as long as this one ({VALUE_LIMIT} in a shorter one): split it"

    def _guarded(
        self, name: str, sql: str, most: int, here: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        if self.late():
            raise Refused
        found = here(*arguments)
        if found is not NotImplemented:
            return found
        first, second = (len(each) if isinstance(each, str | bytes) else 32 for each in arguments[:2])
        if self.binding and first * second > most:
            self.refusal = f"{name}() of {first} and {second} characters takes too long: give it shorter ones"
            raise Refused
        try:
            return self._plain.execute(sql, arguments).fetchone()[0]
        except sqlite3.Error as error:
            if self.binding:
                self.refusal = self.explained(error) or str(error)
            raise


def _call(
    guard: weakref.WeakMethod[Callable[..., Any]],
    name: str,
    sql: str,
    most: int,
    here: Callable[..., Any],
    *arguments: Any,
) -> Any:
    method = guard()
    assert method is not None, "the Statements that set this connection up are gone"
    return method(name, sql, most, here, arguments)
