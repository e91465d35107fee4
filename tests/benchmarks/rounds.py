"""How many checkpoints a second the drivers make, against the floor: TCP ping-pong of two processes."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import colo_fsm
from colo_fsm import StateGuest, link_pair, quick
from colo_fsm.replica import blocking

ROUNDS = 1000
PAIRS = 1000
EACH = 10
"""Rounds of each of so many pairs in one process."""
ANSWERS = 3000


def met(ratio: float, target: float) -> str:
    """Whether the target is met."""
    return f"at most {target}: {'met' if ratio <= target else 'MISSED'}"


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


def floor() -> float:
    """Round trips a second of 4 bytes over loopback TCP between two processes, no code in between."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_echo, args=(there,), daemon=True)
    process.start()
    with socket.create_connection(("127.0.0.1", here.recv())) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        for _ in range(20 * ROUNDS):
            link.sendall(b"ping")
            link.recv(4)
        took = time.perf_counter() - began
    process.join()
    return 20 * ROUNDS / took


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


async def asyncio_floor() -> float:
    """The same through asyncio streams on both ends."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_echo_on_a_loop, args=(there,), daemon=True)
    process.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", here.recv())
    began = time.perf_counter()
    for _ in range(5 * ROUNDS):
        writer.write(b"ping")
        await reader.read(4)
    took = time.perf_counter() - began
    writer.close()
    process.join()
    return 5 * ROUNDS / took


class QuickGuest(StateGuest):
    """One whose service hands out its state at once, and takes it at once."""

    save = quick(StateGuest.save)
    load = quick(StateGuest.load)


NewGuest = Callable[[Counter, int], StateGuest]


def _blocking_secondary(told: Connection, claim: str, guest: NewGuest) -> None:
    with blocking.secondary(guest(Counter(), 4096), listen="tcp:127.0.0.1:0", arbiter=claim) as pair:
        told.send(str(pair.address))
        pair.wait()


def _asyncio_secondary(told: Connection, claim: str, guest: NewGuest) -> None:
    async def main() -> None:
        async with colo_fsm.secondary(
            guest(Counter(), 4096), listen="tcp:127.0.0.1:0", arbiter=claim
        ) as pair:
            told.send(str(pair.address))
            await pair.wait()

    asyncio.run(main())


def _with_secondary(
    claim: str, guest: NewGuest = StateGuest, secondary: Callable[..., None] = _blocking_secondary
) -> tuple[multiprocessing.Process, str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=secondary, args=(there, claim, guest), daemon=True)
    process.start()
    return process, here.recv()


def blocking_rounds(claim: str, guest: NewGuest = StateGuest) -> float:
    """Checkpoints a second of the blocking driver on both sides, two processes."""
    process, address = _with_secondary(claim, guest)
    counter = Counter()
    with blocking.primary(guest(counter, 4096), peer=address, arbiter=claim) as pair:
        began = time.perf_counter()
        for _ in range(ROUNDS):
            with pair.turn():
                counter.value += 1
            pair.committed()
        took, rounds = time.perf_counter() - began, pair.checkpoint
        process.kill()
        process.join()
    return rounds / took


async def asyncio_rounds(claim: str, guest: NewGuest = StateGuest) -> float:
    """The same with asyncio on both sides."""
    process, address = _with_secondary(claim, guest, _asyncio_secondary)
    counter = Counter()
    async with colo_fsm.primary(guest(counter, 4096), peer=address, arbiter=claim) as pair:
        began = time.perf_counter()
        for _ in range(ROUNDS):
            async with pair.turn():
                counter.value += 1
            await pair.committed()
        took, rounds = time.perf_counter() - began, pair.checkpoint
        process.kill()
        process.join()
    return rounds / took


async def answers(claim: str, waiters: int) -> tuple[float, float]:
    """Answers a second that so many give at a time, each when a checkpoint covers it, and the median wait.

    With the default options: an answer asks for its checkpoint, and those that come meanwhile share the next.
    """
    process, address = _with_secondary(claim)
    counter, waits = Counter(), list[float]()
    async with colo_fsm.primary(StateGuest(counter, 4096), peer=address, arbiter=claim) as pair:

        async def one() -> None:
            for _ in range(ANSWERS // waiters):
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


async def in_one_process(folder: Path, pairs: int, guest: NewGuest) -> tuple[float, int]:
    """Seconds a round where so many pairs, both sides, share a loop; and how many threads there are besides."""
    async with AsyncExitStack() as stack:
        ours = []
        for number in range(pairs):
            here, there = link_pair()
            claim = f"sqlite:{folder / str(number % 10)}.db"
            counter = Counter()
            secondary = colo_fsm.secondary(guest(Counter(), 4096), listen=there, arbiter=claim)
            await stack.enter_async_context(secondary)
            primary = colo_fsm.primary(guest(counter, 4096), peer=here, arbiter=claim)
            ours.append((await stack.enter_async_context(primary), counter))
        threads = threading.active_count() - 1

        async def rounds(pair: colo_fsm.Pair, counter: Counter, count: int) -> None:
            for _ in range(count):
                async with pair.turn():
                    counter.value += 1
                await pair.committed()

        count = EACH * PAIRS // pairs
        began = time.perf_counter()
        await asyncio.gather(*(rounds(pair, counter, count) for pair, counter in ours))
        return (time.perf_counter() - began) / (pairs * count), threads


def main() -> None:
    """Print the rounds, and the answers that they cover."""
    logging.getLogger("colo_fsm").setLevel(logging.CRITICAL)  # killing the Secondary is how each ends
    most, most_asyncio = floor() / ROUND_TRIPS, asyncio.run(asyncio_floor()) / ROUND_TRIPS
    print("checkpoints a second, a guest of one page, every one changed, waited for; two processes")
    with tempfile.TemporaryDirectory() as folder:
        claim = f"sqlite:{Path(folder) / 'claim.db'}"
        for driver, least, rounds in (
            ("blocking", most, blocking_rounds),
            ("asyncio", most_asyncio, lambda *given: asyncio.run(asyncio_rounds(*given))),
        ):
            print(f"  {driver}: two round trips over TCP   {least:8.0f}")
            for name, guest in (("hooks on a thread", StateGuest), ("quick hooks", QuickGuest)):
                rate = rounds(claim, guest)
                print(f"    {name:<30} {rate:8.0f}   {least / rate:.1f} of them, {met(least / rate, 1.5)}")
        print(f"{PAIRS} pairs in one process, {EACH} rounds each, against one pair and as many rounds")
        for name, guest in (("hooks on a thread", StateGuest), ("quick hooks", QuickGuest)):
            (one, _), (all_, threads) = (
                asyncio.run(in_one_process(Path(folder), pairs, guest)) for pairs in (1, PAIRS)
            )
            print(
                f"    {name:<30} {all_ * 1e6:8.0f} us a round, {all_ / one:.2f} of one pair's,"
                f" {met(all_ / one, 1.3)}; {threads} threads"
            )
        print("answers a second, asyncio, default options; the median wait in round trips")
        for waiters in (1, 10, 100):
            rate, wait = asyncio.run(answers(claim, waiters))
            trips = wait * most * ROUND_TRIPS
            print(f"  {waiters:3} at a time {rate:26.0f}   {wait * 1000:.2f} ms, {trips:.0f} round trips")
