"""What a guest's size costs: the pause of a round, the first copy, and the memory of each side.

Each side is a process of its own. `Memory` is the guest of docs/embedding.md, which knows its dirty pages.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs
from documented import memory_guest

import colo_fsm
from colo_fsm import Options, StateGuest
from colo_fsm.replica import CheckpointTaken, blocking
from colo_fsm.stream import PAGE_SIZE

from .table import Row

MIB, GIB = 1 << 20, 1 << 30
DIRTY = 10
"""Pages that change from one round to the next."""

_process = multiprocessing.get_context("spawn").Process


class Bytes:
    """A service whose state is taken whole. Its `write` is the `Memory`'s."""

    def __init__(self) -> None:
        self.state: bytes | bytearray = bytearray()

    def write(self, at: int, data: bytes) -> None:
        assert isinstance(self.state, bytearray)
        self.state[at : at + len(data)] = data

    def get_state(self) -> bytes:
        return bytes(self.state)

    def set_state(self, state: bytes) -> None:
        self.state = state


def _guest(kind: str, size: int) -> tuple[Any, Any]:
    """A guest and what to write to."""
    if kind == "Memory":
        guest = memory_guest(size)
        return guest, guest
    service = Bytes()
    return StateGuest(service, size), service


def _resident(what: str, process: int | str = "self") -> int:
    """Bytes of a process that are in memory: VmRSS now, VmHWM at the most."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def _secondary(told: Connection, kind: str, size: int, claim: str) -> None:
    logging.disable()
    told.send(_resident("VmRSS"))
    with blocking.secondary(_guest(kind, size)[0], listen="tcp:127.0.0.1:0", arbiter=claim) as pair:
        told.send(str(pair.address))
        pair.wait()


def _primary(told: Connection, kind: str, size: int, claim: str, peer: str, rounds: int) -> None:
    logging.disable()
    told.send(_resident("VmRSS"))
    guest, written = _guest(kind, size)
    some = os.urandom(MIB)
    for at in range(0, size, MIB):
        written.write(at, some)
    began = time.perf_counter()
    pair = blocking.primary(guest, peer=peer, arbiter=claim, options=Options(interval=3600))
    with pair:
        copied = time.perf_counter() - began
        events, taken = pair.events(), list[CheckpointTaken]()
        for number in range(rounds):
            with pair.turn():
                for page in range(DIRTY):
                    written.write((page * 97 + number) * PAGE_SIZE % size, b"%d" % number)
            pair.committed()
            taken.append(next(event for event in events if isinstance(event, CheckpointTaken)))
        told.send((copied, [one.pause for one in taken], [one.total for one in taken]))
        told.recv()


@attrs.frozen
class Cost:
    """Of a guest of one size: seconds, and images over the guest's own memory."""

    copied: float
    pause: float
    longest: float
    """The 99th of a hundred pauses."""
    total: float
    """A round, median."""
    primary: float
    secondary: float


def cost(kind: str, size: int, rounds: int) -> Cost:
    """A pair of such guests, each side a process."""
    with tempfile.TemporaryDirectory() as folder:
        claim = f"sqlite:{Path(folder) / 'claim.db'}"
        here, there = multiprocessing.Pipe()
        ours, theirs = multiprocessing.Pipe()
        secondary = _process(target=_secondary, args=(there, kind, size, claim), daemon=True)
        secondary.start()
        before, peer = here.recv(), here.recv()
        primary = _process(target=_primary, args=(theirs, kind, size, claim, peer, rounds), daemon=True)
        primary.start()
        try:
            primarys = ours.recv()
            copied, pauses, totals = ours.recv()
            over = [
                (_resident("VmHWM", process.pid or 0) - base - size) / size
                for process, base in ((primary, primarys), (secondary, before))
            ]
        finally:
            for process in (primary, secondary):
                process.kill()
                process.join()
    percent = statistics.quantiles(pauses, n=100, method="inclusive")
    return Cost(copied, percent[49], percent[98], statistics.median(totals), *over)


Held = tuple[float, float]
"""For how many seconds a callback of a loop held it at the longest, and of its own processor time."""


def _timed_loop() -> Callable[[], Held]:
    """Note it from now on."""
    held, run = (0.0, 0.0), asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        nonlocal held
        began, busy = time.perf_counter(), time.thread_time()
        run(handle)
        held = max(held[0], time.perf_counter() - began), max(held[1], time.thread_time() - busy)

    asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]
    return lambda: held


async def _told(told: Connection, pair: colo_fsm.Pair, longest: Callable[[], Held]) -> None:
    async with pair:
        told.send(str(pair.address))
        await asyncio.to_thread(told.recv)
        told.send(longest())
        await asyncio.to_thread(told.recv)


def _looping(told: Connection, size: int, claim: str, peer: str, store: str) -> None:
    """A side on an event loop: the Primary if it has a peer."""
    logging.disable()
    guest = memory_guest(size)
    if peer:
        some = os.urandom(MIB)
        for at in range(0, size, MIB):
            guest.write(at, some)
        pair = colo_fsm.primary(guest, peer=peer, arbiter=claim)
    else:
        pair = colo_fsm.secondary(guest, listen="tcp:127.0.0.1:0", arbiter=claim, store=store or None)
    asyncio.run(_told(told, pair, _timed_loop()))


def held(size: int, *, on_disk: bool) -> tuple[Held, Held]:
    """How a first copy holds the loop: the Primary's, the Secondary's."""
    with tempfile.TemporaryDirectory() as folder:
        claim, store = f"sqlite:{Path(folder) / 'claim.db'}", str(Path(folder) / "store") if on_disk else ""
        here, there = multiprocessing.Pipe()
        ours, theirs = multiprocessing.Pipe()
        secondary = _process(target=_looping, args=(there, size, claim, "", store), daemon=True)
        secondary.start()
        primary = _process(target=_looping, args=(theirs, size, claim, here.recv(), ""), daemon=True)
        primary.start()
        try:
            ours.recv()
            for pipe in (ours, here):
                pipe.send(None)
            return ours.recv(), here.recv()
        finally:
            for process in (primary, secondary):
                process.kill()
                process.join()


def rows(quick: bool) -> Iterator[Row]:
    """By how much a round and the memory of each side grow with the guest."""
    size, rounds, name = (64 * MIB, 5, "64 MiB") if quick else (GIB, 300, "1 GiB")
    small, large = cost("Memory", size // 64, rounds), cost("Memory", size, rounds)
    what = f"pause, {name} Guest, {DIRTY} dirty pages"
    yield Row(f"{what}, p50", large.pause * 1e3, "ms")
    yield Row(f"{what}, p99", large.longest * 1e3, "ms")
    other = f"{size // 64 / MIB:g} MiB"
    yield Row(f"pause, {name} Guest beside one of {other}", large.pause * 1e3, "ms", other, small.pause * 1e3)
    yield Row(f"first copy, {name} Guest", large.copied, "s")
    for side, images in (("Primary", large.primary), ("Secondary", large.secondary)):
        yield Row(f"memory of the {side}, {name} Guest", max(0.0, images), "images")
    for each in (size,) if quick else (64 * MIB, GIB):
        one, of = cost("StateGuest", each, 5), f"StateGuest of {each // MIB} MiB"
        yield Row(f"{of}, pause p50", one.pause * 1e3, "ms")
        yield Row(f"{of}, memory of the Primary", max(0.0, one.primary), "images")
        yield Row(f"{of}, memory of the Secondary", max(0.0, one.secondary), "images")
    for where in ("memory", "a directory"):
        both = held(size, on_disk=where != "memory")
        for side, (seconds, busy) in zip(("Primary", "Secondary"), both, strict=True):
            what = f"event loop held in a first copy, {side}, store in {where}"
            yield Row(what, seconds * 1e3, "ms")
            yield Row(f"{what}, of it at work", busy * 1e3, "ms")
