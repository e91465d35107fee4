"""How cost grows: with the state, with what changed of it, with clients, and with pairs in one process."""

from __future__ import annotations

import asyncio
import mmap
import os
import random
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import attrs
from replicas import OneShot

import colo_fsm
from colo_fsm import StateGuest
from colo_fsm.replica import Checkpoint, CheckpointTaken, Saved, blocking
from colo_fsm.stream import PAGE_SIZE, Page

from . import served
from .orderbook import SERVICE, OrderBook
from .processes import processes, told
from .table import Row

MIB = 1 << 20
BLOCK = "memory"
STATES = tuple(MIB << shift for shift in (0, 2, 4, 6, 8, 10, 12))
CHANGES = (1, 10, 100, 1_000, 10_000, 100_000)
SIZE, FEW = 1024 * MIB, 10
"""The state of which more and more changes, and the pages that change of one that grows."""
CLIENTS = (1, 5, 20, 100, 500)
PAIRS = (1, 5, 20, 100, 500, 1_000)
SECONDS = 3.0
"""Of rounds at each point, once its first copy is made; the last round is waited for."""
LEAST, MOST = 3, 500
"""Rounds at a point."""
ON_DEMAND = colo_fsm.Options(interval=3600, deadline=600, hook_deadline=600)
"""Only rounds that somebody waits for, however long they take."""
COPIES = 3.5
"""Images of a state that must fit in the memory that is free: two guests, a store, and what passes."""


class Pages:
    """A guest that knows which of its pages it has written."""

    def __init__(self, size: int) -> None:
        self.blocks = {BLOCK: size}
        self._memory = mmap.mmap(-1, size)
        self._view = memoryview(self._memory)
        self._dirty: set[int] = set()

    def fill(self) -> None:
        """All of it in use, and no two pages near each other the same."""
        noise = random.Random(1).randbytes(MIB)
        for at in range(0, len(self._memory), MIB):
            self._view[at : at + MIB] = noise

    def write(self, pages: Iterable[int]) -> None:
        """Eight bytes in each of these; in a turn."""
        stamp = time.perf_counter_ns().to_bytes(8)
        for number in pages:
            self._view[number * PAGE_SIZE : number * PAGE_SIZE + 8] = stamp
            self._dirty.add(number)

    def suspend(self) -> None:
        """No turn is open."""

    def resume(self) -> None:
        """Nothing to do."""

    def save(self, full: bool) -> Saved:
        """Pages as they lie in memory: nothing is written before they have been sent."""
        count = len(self._memory) // PAGE_SIZE
        numbers: Iterable[int] = range(count) if full else sorted(self._dirty)
        self._dirty = set()
        return Saved((Page(BLOCK, n * PAGE_SIZE, self._page(n)) for n in numbers), b"")

    def load(self, checkpoint: Checkpoint) -> None:
        """Only what has changed."""
        new = checkpoint.blocks[BLOCK]
        changed = [(0, len(new))] if checkpoint.changed is None else checkpoint.changed.get(BLOCK, ())
        for at, length in changed:
            self._view[at : at + length] = new[at : at + length]

    def _page(self, number: int) -> memoryview:
        return self._view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]


@attrs.frozen
class Rounds:
    """Medians over some rounds, in seconds: how long the guest stood still, and the whole of it."""

    pause: float
    total: float


def _secondary(told: Connection, size: int, claim: str) -> None:
    with blocking.secondary(Pages(size), listen="tcp:127.0.0.1:0", arbiter=claim) as pair:
        told.send(str(pair.address))
        pair.wait()


def rounds(size: int, changes: Iterable[int], seconds: float) -> Iterator[Rounds]:
    """A guest of `size` bytes, all in use, of which so many pages are written each round; two processes."""
    guest = Pages(size)
    guest.fill()
    with processes() as running:
        peer = told(running.start(_secondary, size, running.claim))
        with blocking.primary(guest, peer=peer, arbiter=running.claim, options=ON_DEMAND) as pair:
            for count in changes:
                yield _rounds(pair, guest, size // PAGE_SIZE, count, seconds)
            running.kill()


def _rounds(pair: blocking.Pair, guest: Pages, pages: int, changes: int, seconds: float) -> Rounds:
    events, chance = pair.events(), random.Random(1)
    took = list[CheckpointTaken]()
    end = time.perf_counter() + seconds
    while len(took) < LEAST or (time.perf_counter() < end and len(took) < MOST):
        with pair.turn():
            guest.write(chance.sample(range(pages), min(changes, pages)))
        pair.committed()
        took.append(next(event for event in events if isinstance(event, CheckpointTaken)))
    return Rounds(statistics.median(t.pause for t in took), statistics.median(t.total for t in took))


def fits(size: int) -> bool:
    """Whether there is memory for a pair of this size on this machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    return COPIES * size < free


async def pairs(count: int, each: int) -> tuple[float, float]:
    """Microseconds a round of so many pairs in one process, with both sides of each; and threads a side."""
    before = _threads()
    async with AsyncExitStack() as stack:
        books, primaries = [OrderBook() for _ in range(count)], []
        for book in books:
            ours, theirs = colo_fsm.link_pair()
            follower, leader = StateGuest(OrderBook(), 4096), StateGuest(book, 4096)
            claim = OneShot()
            await stack.enter_async_context(
                colo_fsm.secondary(follower, listen=theirs, arbiter=claim, options=ON_DEMAND)
            )
            primary = colo_fsm.primary(leader, peer=ours, arbiter=claim, options=ON_DEMAND)
            primaries.append(await stack.enter_async_context(primary))

        async def one(book: OrderBook, primary: colo_fsm.Pair) -> None:
            for request in SERVICE.requests[:each]:
                async with primary.turn():
                    book.apply(request)
                await primary.committed()

        began = time.perf_counter()
        await asyncio.gather(*map(one, books, primaries))
        took = time.perf_counter() - began
        return took / count / each * 1e6, (_threads() - before) / count / 2


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _pairs_alone(told: Connection, count: int, each: int) -> None:
    told.send(asyncio.run(pairs(count, each)))


def rows(quick: bool) -> Iterator[Row]:
    """Each curve in turn; beside each point the first of its curve."""
    seconds = 0.05 if quick else SECONDS
    states = STATES[:2] if quick else STATES
    size, changes = (4 * MIB, CHANGES[:2]) if quick else (SIZE, CHANGES)
    yield from _beside_first(_states(states, seconds))
    yield from _beside_first(_changes(size, changes, seconds))
    yield from _beside_first(_clients(CLIENTS[:2] if quick else CLIENTS, 4 * seconds if quick else seconds))
    yield from _beside_first(_pairs(PAIRS[:2], 2, 2) if quick else _pairs(PAIRS, 10, 1_000))


def _beside_first(found: Iterable[Row]) -> Iterator[Row]:
    first: dict[str, Row] = {}
    for row in found:
        least = first.setdefault(row.curve, row)
        yield row if row is least else attrs.evolve(row, peer=least.work, theirs=least.figure)


def _states(sizes: Iterable[int], seconds: float) -> Iterator[Row]:
    for size in filter(fits, sizes):
        (found,) = rounds(size, [FEW], seconds)
        what = f"{size // MIB:,} MiB, {FEW} pages changed"
        yield from _took(what, found, "state", size / MIB)


def _changes(size: int, counts: Iterable[int], seconds: float) -> Iterator[Row]:
    if fits(size):
        for count, found in zip(counts, rounds(size, counts, seconds), strict=True):
            what = f"{count:,} page{'s' * (count != 1)} changed of {size // MIB:,} MiB"
            yield from _took(what, found, "changed", count)


def _took(what: str, found: Rounds, curve: str, at: float) -> Iterator[Row]:
    yield Row(f"pause, {what}", found.pause * 1e3, "ms", curve=f"{curve}/pause", at=at)
    yield Row(f"round, {what}", found.total * 1e3, "ms", curve=f"{curve}/round", at=at)


def _clients(counts: Iterable[int], seconds: float) -> Iterator[Row]:
    for count in counts:
        with served.ours(SERVICE) as port:
            found = served.drive(port, count, SERVICE.requests, seconds)
        what = f"{count} client{'s' * (count != 1)} at the order book"
        yield Row(what, found.rate, "replies/s", curve="clients/replies", at=count)
        yield Row(f"{what}, p50", found.p50, "ms", curve="clients/p50", at=count)


def _pairs(counts: Iterable[int], each: int, least: int) -> Iterator[Row]:
    """So many rounds each, and at least so many in all."""
    for count in counts:
        with processes() as running:
            took, threads = told(running.start(_pairs_alone, count, max(each, least // count)))
        what = f"{count:,} pair{'s' * (count != 1)} in one process"
        yield Row(f"{what}, a round", took, "us", curve="pairs/round", at=count)
        yield Row(f"{what}, threads", threads, "a side", curve="pairs/threads", at=count)
