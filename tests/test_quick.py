"""Hooks that say that they return at once: where they are called, and where those that do not are."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import colo_fsm
from colo_fsm.replica.guest import QUICK_STATE, StateGuest, is_quick
from colo_fsm.services.database import FEW
from colo_fsm.services.sqlite import SqliteGuest
from colo_fsm.services.sqlite_server import SqliteServer
from colo_fsm.stream import PAGE_SIZE


class Hook:
    """Of a guest: `at` has the arguments that were asked about."""

    def __init__(self, said: bool) -> None:
        self.said = said
        self.asked: list[object] = []

    def _says(self, full: bool) -> bool:
        self.asked.append(full)
        return self.said

    @colo_fsm.quick
    def suspend(self) -> None:
        """Always."""

    @colo_fsm.quick(when=_says)
    def save(self, full: bool) -> bool:
        """Perhaps."""
        return full

    def load(self) -> None:
        """Never."""


@pytest.mark.parametrize("said", [True, False])
def test_what_a_hook_says(said: bool) -> None:
    guest = Hook(said)
    assert is_quick(guest.suspend)
    assert is_quick(guest.save, 7) is said
    assert guest.asked == [7]
    assert not is_quick(guest.load)
    assert guest.save(True) is True


def test_a_coroutine_is_on_the_loop_as_it_is() -> None:
    async def save() -> None: ...

    with pytest.raises(TypeError, match="save is a coroutine function"):
        colo_fsm.quick(save)
    with pytest.raises(TypeError, match="save is a coroutine function"):
        colo_fsm.quick(when=lambda: True)(save)


class Service:
    """Its state is handed out at once, taken when it suits."""

    @colo_fsm.quick
    def get_state(self) -> bytes:
        return b""

    def set_state(self, state: bytes) -> None: ...


@pytest.mark.parametrize(("capacity", "saves"), [(1, True), (QUICK_STATE, True), (QUICK_STATE + 1, False)])
def test_a_small_state_is_as_quick_as_its_service(capacity: int, saves: bool) -> None:
    guest = StateGuest(Service(), capacity)
    assert is_quick(guest.save, True) is is_quick(guest.save, False) is saves
    assert not is_quick(guest.load, None)


def noting(guest: SqliteGuest, who: str, called: dict[str, bool]) -> None:
    """Note whether its hooks are at work on this thread, the first time."""
    here = threading.get_ident()

    def noted(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
        def at_work(*args: Any) -> Any:
            called.setdefault(f"{who}.{name}", threading.get_ident() == here)
            return hook(*args)

        return at_work

    for name in ("resume", "save", "load"):
        setattr(guest._database, name, noted(name, getattr(guest._database, name)))


def called_in_a_round(folder: Path, pages: int | None) -> dict[str, bool]:
    """Which hooks were called on the loop in a round of so many pages, or (None) in the first copy."""
    schema = "CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)"
    guest, copy = (SqliteGuest(16 << 20, schema=schema) for _ in range(2))
    claim, options = f"sqlite:{folder}/claim", colo_fsm.Options(interval=60.0)
    called: dict[str, bool] = {}

    def note() -> None:
        noting(guest, "guest", called)
        noting(copy, "copy", called)

    async def main() -> None:
        one, other = colo_fsm.link_pair()
        if pages is None:
            note()
        async with (
            colo_fsm.secondary(copy, listen=other, arbiter=claim),
            colo_fsm.primary(guest, peer=one, arbiter=claim, options=options) as pair,
        ):
            if pages is None:
                return
            for value in (1, bytes(pages * PAGE_SIZE)):
                async with pair.turn():
                    guest.connection.execute("INSERT INTO t (b) VALUES (?)", (value,))
                await pair.committed()
                note()

    with contextlib.closing(guest), contextlib.closing(copy):
        asyncio.run(main())
    return called


@pytest.mark.parametrize(("pages", "on_the_loop"), [(1, True), (2 * FEW, False)])
def test_a_database_is_quick_where_few_pages_have_changed(
    tmp_path: Path, pages: int, on_the_loop: bool
) -> None:
    called = called_in_a_round(tmp_path, pages)
    assert called["guest.save"] is called["copy.load"] is on_the_loop
    assert called["guest.resume"] is on_the_loop, "what was written is put into the file there"


def test_a_first_copy_is_none_of_the_loops(tmp_path: Path) -> None:
    called = called_in_a_round(tmp_path, None)
    assert (called["guest.save"], called["copy.load"]) == (False, False)


def test_a_server_wants_a_guest_that_keeps_no_statements() -> None:
    """An authorizer sees a statement when it is prepared: one that is kept would be asked about once."""
    guest = SqliteGuest(1 << 20, cached_statements=5)
    with pytest.raises(ValueError, match="make it without cached_statements"):
        SqliteServer(None, guest, "tcp:127.0.0.1:0")  # type: ignore[arg-type]
    guest.close()
