"""A first copy goes a piece at a time: neither side holds it whole, and slow is not dead."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from documented import memory_guest
from replicas import READY, Bench, Broken, Counting, Visits, initial_bytes

import colo_fsm
from colo_fsm.colo import State
from colo_fsm.fsm import SIGN_OF_LIFE, GuestFailed, Side
from colo_fsm.replica import Checkpoint, MemoryStore, Saved
from colo_fsm.replica.primary_script import FIRST_PIECE
from colo_fsm.replica.secondary_script import LARGE
from colo_fsm.stream import PAGE_SIZE, Delta, InitialDecoder, Page

PAGES = 4 * FIRST_PIECE // PAGE_SIZE


def content(number: int) -> bytes:
    return number.to_bytes(8, "big") * (PAGE_SIZE // 8)


class Slow(Counting):
    """A guest of four pieces, whose pages are made when they are asked for; `asked` is how many were."""

    blocks = {"ram": PAGES * PAGE_SIZE}

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.closed = False
        self.at_page: Callable[[int], object] = lambda _: None

    def save(self, full: bool) -> Saved:
        return Saved(self._made(), b"0")

    def _made(self) -> Iterator[Page]:
        try:
            for number in range(PAGES):
                self.at_page(number)
                self.asked += 1
                yield Page("ram", number * PAGE_SIZE, content(number))
        finally:
            self.closed = True


def decoded(stream: bytes) -> tuple[Delta, InitialDecoder]:
    delta = Delta()
    decoder = InitialDecoder(lambda _: delta)
    decoder.feed(stream)
    return delta, decoder


class TestThePrimary:
    def test_asks_for_the_next_pages_once_the_link_has_taken_the_last(self) -> None:
        guest = Slow()
        made = Bench(Side.PRIMARY, guest)
        made.link.room = 1000
        made.start()
        asked = guest.asked
        assert 0 < asked <= PAGES // 2
        for _ in range(3):
            made.link.room = 1000
            made.wake()
            assert guest.asked == asked
        made.link.room = None
        made.wake()
        assert guest.asked == PAGES
        delta, decoder = decoded(b"".join(made.writes))
        assert [page.data for page in delta] == [content(number) for number in range(PAGES)]
        assert decoder.complete
        assert made.receive(READY).state is State.READY

    def test_holds_a_piece_or_two(self) -> None:
        guest = Slow()
        made = Bench(Side.PRIMARY, guest)
        made.link.sendmsg = lambda buffers: sum(map(len, buffers))  # type: ignore[method-assign]
        tracemalloc.start()
        try:
            made.start()
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert guest.asked == PAGES
        assert most < 3 * FIRST_PIECE

    def test_shows_life_while_its_guest_makes_the_next_pages(self) -> None:
        """Whenever that is, it stands where the other side looks for it."""
        guest = Slow()
        made = Bench(Side.PRIMARY, guest)
        guest.at_page = lambda number: made.replica._show_life() if number % 50 == 3 else None
        made.start()
        sent = b"".join(made.writes)
        delta, decoder = decoded(sent)
        assert decoder.complete
        assert len(delta) == PAGES
        assert sent.count(SIGN_OF_LIFE) == len(range(3, PAGES, 50))

    @pytest.mark.parametrize("how", ["link", "leave", "guest"])
    def test_lets_go_of_the_pages_when_it_is_broken_off(self, how: str) -> None:
        """A guest may hold something for who reads its pages."""
        guest = Slow()
        made = Bench(Side.PRIMARY, guest)

        def breaks(number: int) -> None:
            if number == PAGES // 2:
                if how == "guest":
                    raise Broken
                if how == "leave":
                    made.replica.leave_requested = True
                else:
                    made.link.room, made.link.before_write = None, fails

        def fails() -> None:
            raise ConnectionResetError

        guest.at_page = breaks
        made.start()
        assert guest.closed
        assert guest.asked < PAGES
        assert made.session.over
        assert not made.guest.running


def whole(device: bytes = b"0") -> bytes:
    pages = {number * PAGE_SIZE: content(number + 1) for number in range(PAGES)}
    return initial_bytes(device, pages, PAGES * PAGE_SIZE)


def secondary(store: Any = None) -> tuple[Bench, Visits]:
    guest = Counting(paged=False)
    guest.blocks = Slow.blocks
    made, visitors = Bench(Side.SECONDARY, guest, store=store), Visits()
    visitors.came = made.link
    made.replica.come_from(visitors)
    return made.start(), visitors


class Failing(MemoryStore):
    """A store whose sink fails at one page."""

    def begin(self, blocks: Any) -> Any:
        sink = super().begin(blocks)

        class Sink:
            def put(self, block: str, offset: int, data: Any) -> None:
                if offset == PAGES // 2 * PAGE_SIZE:
                    raise OSError(28, "No space left on device")
                sink.put(block, offset, data)

        return Sink()


class TestTheSecondary:
    @pytest.mark.parametrize(("step", "away"), [(LARGE - 1, False), (LARGE, True)])
    def test_decodes_large_pieces_where_hooks_are_called(self, step: int, away: bool) -> None:
        made, _ = secondary()
        made.receive(whole(), step)
        assert made.state is State.READY
        decoding = [call for call in made.calls if "_fed" in made._names(call)]
        assert bool(decoding) is away
        newest = made.store.newest
        assert newest is not None
        assert bytes(newest.blocks["ram"]) == b"".join(content(number + 1) for number in range(PAGES))

    @pytest.mark.parametrize("step", [LARGE - 1, LARGE])
    def test_a_store_that_fails_is_named(self, step: int) -> None:
        made, _ = secondary(Failing())
        stream = whole()
        while stream and not made.session.over:
            made.receive(stream[:step])
            stream = stream[step:]
        assert isinstance(made.session.error, GuestFailed)
        assert made.session.error.hook == "store"
        assert made.state is State.STOPPED

    def test_a_store_that_hangs_is_left_alone(self) -> None:
        """What it works on is let go when it returns, not before."""

        class Hanging(MemoryStore):
            def begin(self, blocks: Any) -> Any:
                super().begin(blocks)
                return self

            def put(self, *_: Any) -> None:
                made._go(made._script.throw, TimeoutError())  # as another thread does meanwhile
                raise Replaced

        made, _ = secondary(Hanging())
        with pytest.raises(Replaced):
            made.receive(whole()[: 2 * LARGE])
        assert isinstance(made.session.error, GuestFailed)
        assert made.session.error.hook == "store"
        assert "hook_deadline" in str(made.session.error)
        assert made.state is State.STOPPED

    def shown_life(self, most: int) -> tuple[Bench, Visits, bytes]:
        """The stream has begun; then so many signs of life come instead of pages. And the rest of it."""
        made, visitors = secondary()
        stream = whole()
        cut = stream.index(b"\x02\0\0\0\1")
        made.receive(stream[:cut])
        for _ in range(most):
            left = made.wait.timeout
            assert left is not None
            if left < PACE:
                made.lapse()
                break
            made.now += PACE
            made.receive(SIGN_OF_LIFE)
        return made, visitors, stream[cut:]

    def test_hears_that_the_guest_is_still_being_saved(self) -> None:
        """Ten deadlines pass without a page, again and again."""
        made, visitors, rest = self.shown_life(100)
        made.receive(rest)
        assert (made.state, visitors.dismissed) == (State.READY, [])

    def test_but_not_for_ever(self) -> None:
        _, visitors, _ = self.shown_life(1000)
        assert visitors.dismissed == ["Can't receive COLO message: Connection timed out"]


PACE = 4.0
"""Seconds from one sign of life to the next; ten must come in fifty."""


class Replaced(BaseException):
    """Nobody waits for this hook any more."""


class Awaited:
    """A guest of the documentation's as an `AsyncGuest`."""

    def __init__(self, guest: Any) -> None:
        self.guest = guest
        self.blocks = guest.blocks

    async def suspend(self) -> None:
        self.guest.suspend()

    async def resume(self) -> None:
        self.guest.resume()

    async def save(self, full: bool) -> Saved:
        return self.guest.save(full)  # type: ignore[no-any-return]

    async def load(self, checkpoint: Checkpoint) -> None:
        self.guest.load(checkpoint)


@pytest.mark.parametrize("kind", [Awaited, lambda guest: guest])
def test_many_pieces_over_a_link(tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    """Both sides on one event loop."""
    size = 8 * FIRST_PIECE
    ours, theirs = memory_guest(size), memory_guest(size)
    ours.write(0, os.urandom(size))
    claim = f"sqlite:{tmp_path / 'claim.db'}"

    async def copied() -> None:
        here, there = colo_fsm.link_pair()
        async with colo_fsm.secondary(kind(theirs), listen=there, arbiter=claim) as secondary:
            async with colo_fsm.primary(kind(ours), peer=here, arbiter=claim) as primary:
                async with primary.turn():
                    ours.write(PAGE_SIZE, b"changed")
                await primary.committed()
            await secondary.running()

    asyncio.run(copied())
    assert bytes(theirs.memory) == bytes(ours.memory)


class TestMemory:
    def test_an_image_takes_what_is_written_to_it(self) -> None:
        """Of 4 GiB, the first 16 MiB; a page of zeros takes nothing."""
        size = 4 << 30
        store = MemoryStore()
        before = resident()
        sink = store.begin({"ram": size})
        for at in range(0, size, 16 * PAGE_SIZE):
            sink.put("ram", at, bytes(PAGE_SIZE))
        for at in range(0, 16 << 20, PAGE_SIZE):
            sink.put("ram", at, b"\1" * PAGE_SIZE)
        store.complete(1, b"")
        newest = store.newest
        assert newest is not None
        assert newest.blocks["ram"][(16 << 20) - 1] == 1
        assert newest.blocks["ram"][16 << 20] == 0
        del newest
        assert resident() - before < 64 << 20
        store.close()

    @pytest.mark.parametrize("store", ["memory", "directory"])
    def test_a_pair_takes_an_image_a_side_and_the_stores(self, tmp_path: Path, store: str) -> None:
        """Two guests and a store in one process: three images, and little more at any time."""
        ran = subprocess.run(
            [sys.executable, "-c", PAIR, store, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        images = float(ran.stdout)
        assert 2.5 < images < 3.4


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


PAIR = """
import sys
from pathlib import Path
from documented import memory_guest
import colo_fsm

def most(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) << 10

SIZE = 128 << 20
store, folder = sys.argv[1:]
claim = f"sqlite:{folder}/claim.db"
before = most("VmRSS")
ours, theirs = memory_guest(SIZE), memory_guest(SIZE)
for at in range(0, SIZE, 1 << 20):
    ours.write(at, bytes([1 + at // (1 << 20) % 255]) * (1 << 20))
a, b = colo_fsm.link_pair()
where = None if store == "memory" else f"{folder}/store"
with colo_fsm.blocking.secondary(theirs, listen=b, arbiter=claim, store=where) as secondary:
    with colo_fsm.blocking.primary(ours, peer=a, arbiter=claim) as primary:
        with primary.turn():
            ours.write(5, b"five")
        primary.committed()
    secondary.running()
    for at in range(0, SIZE, 1 << 20):
        assert bytes(theirs.memory[at : at + 4096]) == bytes(ours.memory[at : at + 4096])
print((most("VmHWM") - before) / SIZE)
"""
