"""How many checkpoints a second the drivers make, against the floor: TCP ping-pong of two processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import colo_fsm
from colo_fsm import StateGuest
from colo_fsm import quick as returning_at_once
from colo_fsm.replica import blocking

from .table import Row

ROUNDS = 1000
ANSWERS = 3000


ROUND_TRIPS = 2
"""In the critical path of a checkpoint: request and reply; state and loaded."""


class Counter:
    """A small guest."""

    def __init__(self) -> None:
        self.value = 0

    def get_state(self) -> bytes:
        return b"%d" % self.value

    def set_state(self, state: bytes) -> None:
        self.value = int(state)


def _echo(told: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        told.send(server.getsockname()[1])
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with peer:
            while data := peer.recv(4):
                peer.sendall(data)


def floor(count: int = ROUNDS) -> float:
    """Round trips a second of 4 bytes over loopback TCP between two processes, no code in between."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_echo, args=(there,), daemon=True)
    process.start()
    with socket.create_connection(("127.0.0.1", here.recv())) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        for _ in range(20 * count):
            link.sendall(b"ping")
            link.recv(4)
        took = time.perf_counter() - began
    process.join()
    return 20 * count / took


def _echo_on_a_loop(told: Connection) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4):
            writer.write(data)
        over.set()

    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            told.send(server.sockets[0].getsockname()[1])
            await over.wait()

    over = asyncio.Event()
    asyncio.run(main())


async def asyncio_floor(count: int = ROUNDS) -> float:
    """The same through asyncio streams on both ends."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_echo_on_a_loop, args=(there,), daemon=True)
    process.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", here.recv())
    began = time.perf_counter()
    for _ in range(5 * count):
        writer.write(b"ping")
        await reader.read(4)
    took = time.perf_counter() - began
    writer.close()
    await writer.wait_closed()
    process.join()
    return 5 * count / took


class QuickCounter(Counter):
    """One that hands out its state at once, and takes it at once."""

    get_state = returning_at_once(Counter.get_state)
    set_state = returning_at_once(Counter.set_state)


def _blocking_secondary(told: Connection, claim: str, new: type[Counter]) -> None:
    with blocking.secondary(StateGuest(new(), 4096), listen="tcp:127.0.0.1:0", arbiter=claim) as pair:
        told.send(str(pair.address))
        pair.wait()


def _asyncio_secondary(told: Connection, claim: str, new: type[Counter]) -> None:
    async def main() -> None:
        async with colo_fsm.secondary(
            StateGuest(new(), 4096), listen="tcp:127.0.0.1:0", arbiter=claim
        ) as pair:
            told.send(str(pair.address))
            await pair.wait()

    asyncio.run(main())


def _with_secondary(
    claim: str, new: type[Counter] = Counter, secondary: Callable[..., None] = _blocking_secondary
) -> tuple[multiprocessing.Process, str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=secondary, args=(there, claim, new), daemon=True)
    process.start()
    return process, here.recv()


def blocking_rounds(claim: str, new: type[Counter] = Counter, count: int = ROUNDS) -> float:
    """Checkpoints a second of the blocking driver on both sides, two processes."""
    process, address = _with_secondary(claim, new)
    counter = new()
    with blocking.primary(StateGuest(counter, 4096), peer=address, arbiter=claim) as pair:
        began = time.perf_counter()
        for _ in range(count):
            with pair.turn():
                counter.value += 1
            pair.committed()
        took, rounds = time.perf_counter() - began, pair.checkpoint
        process.kill()
        process.join()
    return rounds / took


async def asyncio_rounds(claim: str, new: type[Counter] = Counter, count: int = ROUNDS) -> float:
    """The same with asyncio on both sides."""
    process, address = _with_secondary(claim, new, _asyncio_secondary)
    counter = new()
    async with colo_fsm.primary(StateGuest(counter, 4096), peer=address, arbiter=claim) as pair:
        began = time.perf_counter()
        for _ in range(count):
            async with pair.turn():
                counter.value += 1
            await pair.committed()
        took, rounds = time.perf_counter() - began, pair.checkpoint
        process.kill()
        process.join()
    return rounds / took


async def answers(claim: str, waiters: int, count: int = ANSWERS) -> tuple[float, float]:
    """Answers a second that so many give at a time, each when a checkpoint covers it, and the median wait.

    With the default options: an answer asks for its checkpoint, and those that come meanwhile share the next.
    """
    process, address = _with_secondary(claim)
    counter, waits = Counter(), list[float]()
    async with colo_fsm.primary(StateGuest(counter, 4096), peer=address, arbiter=claim) as pair:

        async def one() -> None:
            for _ in range(max(1, count // waiters)):
                began = time.perf_counter()
                async with pair.turn():
                    counter.value += 1
                await pair.committed()
                waits.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(waiters)))
        took = time.perf_counter() - began
        process.kill()
        process.join()
    return len(waits) / took, statistics.median(waits)


def rows(quick: bool) -> Iterator[Row]:
    """Rounds beside the floor of each driver, and the answers that they cover.

    A service that says that it is quick saves the switches of threads; many pairs are in `growth`.
    """
    count, waited = (20, (1,)) if quick else (ROUNDS, (1, 10, 100))
    trip, trip_on_loops = 1e6 / floor(count), 1e6 / asyncio.run(asyncio_floor(count))
    with tempfile.TemporaryDirectory() as folder:
        claim = f"sqlite:{Path(folder) / 'claim.db'}"
        for what, new in ((", quick hooks", QuickCounter), (", hooks on a thread", Counter)):
            took = 1e6 / blocking_rounds(claim, new, count)
            work = f"round of one page, blocking{what}"
            yield Row(work, took, "us", "two TCP round trips", ROUND_TRIPS * trip)
            took = 1e6 / asyncio.run(asyncio_rounds(claim, new, count))
            work = f"round of one page, asyncio{what}"
            yield Row(work, took, "us", "two of asyncio streams", ROUND_TRIPS * trip_on_loops)
        for waiters in waited:
            rate, wait = asyncio.run(answers(claim, waiters, ANSWERS * count // ROUNDS))
            work = f"answers, asyncio, {waiters} at a time"
            yield Row(work, rate, "answers/s")
            yield Row(f"{work}, p50", wait * 1e3, "ms", "a TCP round trip", trip / 1e3)
