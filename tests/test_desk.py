"""Short requests and replies on an event loop: whole in any pieces, and nobody there is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from replicas import PATIENCE, descriptors, unix

from colo_fsm.cli import desk
from colo_fsm.cli.desk import LARGEST, MOST, Answer, Desk
from colo_fsm.replica import Address

Visit = tuple[asyncio.StreamReader, asyncio.StreamWriter]


Visits = Callable[[], Awaitable[Visit]]


def shout(heard: bytes) -> bytes | None:
    line, end, _ = heard.partition(b"\n")
    return line.upper() + end if end else None


def served(folder: Path, answer: Answer, story: Callable[[Visits], Awaitable[None]]) -> None:
    """Tell this story, which is handed the way to a desk that answers like this; nothing is left open."""

    async def run() -> None:
        address = Address.parse(unix(folder))
        visits: list[Visit] = []

        async def visit() -> Visit:
            visits.append(await asyncio.open_unix_connection(address.path))
            return visits[-1]

        async with Desk(address, answer):
            async with asyncio.timeout(PATIENCE):
                await story(visit)
        for _, writer in visits:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        assert not Path(address.path).exists()

    before = descriptors()
    asyncio.run(run())
    assert descriptors() == before


async def said(visit: Visit, *pieces: bytes) -> bytes:
    """The whole reply to what is said in these pieces."""
    reader, writer = visit
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    return await reader.read()


@pytest.mark.parametrize("pieces", [[b"hello\n"], [b"hel", b"lo\n"], [bytes([b]) for b in b"hello\n"]])
def test_a_request_in_any_pieces_has_one_reply(tmp_path: Path, pieces: list[bytes]) -> None:
    async def story(visit: Visits) -> None:
        assert await said(await visit(), *pieces) == b"HELLO\n"

    served(tmp_path, shout, story)


def test_what_comes_behind_a_request_loses_no_reply(tmp_path: Path) -> None:
    async def story(visit: Visits) -> None:
        assert (await said(await visit(), b"hello\n", b"x" * LARGEST)).startswith(b"HELLO\n")

    served(tmp_path, shout, story)


def test_a_reply_may_take_its_time_and_others_are_answered_meanwhile(tmp_path: Path) -> None:
    now = asyncio.Event()

    async def later(heard: bytes) -> bytes:
        await now.wait()
        return b"late\n"

    def answer(heard: bytes) -> bytes | Awaitable[bytes] | None:
        return later(heard) if heard == b"wait\n" else shout(heard)

    async def story(visit: Visits) -> None:
        waiting = asyncio.create_task(said(await visit(), b"wait\n"))
        for _ in range(2 * MOST):
            assert await said(await visit(), b"hello\n") == b"HELLO\n"
        now.set()
        assert await waiting == b"late\n"

    served(tmp_path, answer, story)


def test_what_was_asked_for_goes_on_when_the_visitor_has_gone(tmp_path: Path) -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def work(heard: bytes) -> bytes:
        begun.set()
        await asyncio.sleep(0.05)
        done.set()
        return b"done\n"

    async def story(visit: Visits) -> None:
        _, writer = await visit()
        writer.write(b"work\n")
        await begun.wait()
        writer.transport.abort()
        await done.wait()

    served(tmp_path, work, story)


def test_one_too_many_takes_the_place_of_whoever_is_there_the_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PATIENCE", 1000)

    async def story(visit: Visits) -> None:
        silent = [await visit() for _ in range(MOST)]
        assert await said(await visit(), b"hello\n") == b"HELLO\n"
        assert await silent[0][0].read() == b""
        assert await said(silent[-1], b"still here\n") == b"STILL HERE\n"

    served(tmp_path, shout, story)


def test_who_says_nothing_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "PATIENCE", 0.05)

    async def story(visit: Visits) -> None:
        assert await (await visit())[0].read() == b""
        assert await said(await visit(), b"hel") == b""

    served(tmp_path, shout, story)


@pytest.mark.parametrize(("parting", "more"), [(0.05, b"x"), (1000, bytes(LARGEST))])
def test_who_has_been_answered_and_goes_on_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parting: float, more: bytes
) -> None:
    """After a moment, or after so many bytes."""
    monkeypatch.setattr(desk, "PARTING", parting)
    monkeypatch.setattr(desk, "PATIENCE", 1000)

    async def story(visit: Visits) -> None:
        reader, writer = await visit()
        assert await said((reader, writer), b"hello\n") == b"HELLO\n"
        while not writer.transport.is_closing():
            writer.write(more)
            await asyncio.sleep(0.01)

    served(tmp_path, shout, story)


@pytest.mark.parametrize("size", [2 * LARGEST, 1 << 20])
def test_a_request_without_an_end_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(desk, "PATIENCE", 1000)

    async def story(visit: Visits) -> None:
        with contextlib.suppress(OSError):
            assert await said(await visit(), b"x" * size) == b""

    served(tmp_path, shout, story)


def test_who_does_not_read_is_cut_off(tmp_path: Path) -> None:
    """A reply that has no room waits for nobody."""

    async def story(visit: Visits) -> None:
        assert len(await said(await visit(), b"hello\n")) < 64 << 20

    served(tmp_path, lambda _: bytes(64 << 20), story)


def test_without_descriptors_it_waits_for_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the loop does not go round for nothing meanwhile."""
    accept, full, tried = socket.socket.accept, True, asyncio.Event()
    tries = 0

    def accepted(self: socket.socket) -> tuple[socket.socket, object]:
        nonlocal tries
        tries += 1
        tried.set()
        if full:
            raise OSError(24, "Too many open files")
        return accept(self)

    async def story(visit: Visits) -> None:
        nonlocal full
        visitor = await visit()
        await tried.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert tries == 1
        full = False
        assert await said(visitor, b"hello\n") == b"HELLO\n"

    monkeypatch.setattr(socket.socket, "accept", accepted)
    served(tmp_path, shout, story)
