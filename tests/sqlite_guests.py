"""SQLite guests for tests: fixtures of a module that names their capacity.

guest, other, statements = fixtures(CAPACITY)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from colo_fsm.services.sqlite import SqliteGuest, Statements

SCHEMA = "CREATE TABLE t (a INTEGER PRIMARY KEY, b)"


class Bytes:
    """The state of somebody else's guest."""

    def __init__(self, state: bytes) -> None:
        self._state = state

    def get_state(self) -> bytes:
        return self._state

    def set_state(self, state: bytes) -> None:
        self._state = state


def fixtures(
    capacity: int,
) -> tuple[
    Callable[[], Iterator[SqliteGuest]],
    Callable[[], Iterator[SqliteGuest]],
    Callable[[SqliteGuest], Statements],
]:
    """`guest` and `other`, the two sides, each with SCHEMA, and the `statements` of the first."""

    def side() -> Iterator[SqliteGuest]:
        with closing(SqliteGuest(capacity, schema=SCHEMA)) as guest:
            yield guest

    def statements(guest: SqliteGuest) -> Statements:
        return Statements(guest.connection)

    return pytest.fixture(side, name="guest"), pytest.fixture(side, name="other"), pytest.fixture(statements)
