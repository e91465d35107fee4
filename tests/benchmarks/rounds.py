"""How many checkpoints a second the drivers make, against the floor: TCP ping-pong of two processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import colo_fsm
from colo_fsm import StateGuest
from colo_fsm import quick as returning_at_once
from colo_fsm.fsm import SIZE_SIZE, encode_size
from colo_fsm.fsm.wire import MESSAGE_SIZE
from colo_fsm.replica import MemoryStore, blocking
from colo_fsm.stream import Delta, LiveDecoder, Ram, decode_device_state, device_state, live

from .processes import on_core
from .table import Row

ROUNDS = 1000
TURNS = 3
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


def _started(target: Callable[..., None], *arguments: Any) -> tuple[multiprocessing.Process, Any]:
    """A process, and what it tells first."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=target, args=(there, *arguments), daemon=True)
    process.start()
    return process, here.recv()


def _elsewhere(target: Callable[..., None]) -> tuple[multiprocessing.Process, Any]:
    """The same on the last core."""
    with on_core(-1):
        return _started(target)


def floor(count: int = ROUNDS) -> float:
    """Round trips a second of 4 bytes over loopback TCP between two processes, no code in between."""
    process, port = _elsewhere(_echo)
    with on_core(0), socket.create_connection(("127.0.0.1", port)) as link:
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
    process, port = _elsewhere(_echo_on_a_loop)
    with on_core(0):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
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


def _bare_secondary(told: Connection) -> None:
    guest, store = StateGuest(QuickCounter(), 4096), MemoryStore()
    store.begin(guest.blocks)
    store.complete(1, b"")
    with socket.create_server(("127.0.0.1", 0)) as server:
        told.send(server.getsockname()[1])
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with peer:
            while peer.recv(MESSAGE_SIZE):
                peer.sendall(bytes(MESSAGE_SIZE))
                data = memoryview(peer.recv(1 << 16))[MESSAGE_SIZE:]
                decoder = LiveDecoder(Ram(guest.blocks), delta := Delta())
                state = data[decoder.feed(data) + MESSAGE_SIZE + SIZE_SIZE :]
                store.commit(delta, decode_device_state(state))
                assert store.newest is not None
                guest.load(store.newest)
                peer.sendall(bytes(2 * MESSAGE_SIZE))


def bare_rounds(count: int = ROUNDS) -> float:
    """Rounds a second of what none can do without, in the order of the messages and no more.

    Two round trips; save, encode and send here; decode, store and load there. Nothing is checked, and there
    is no session, script, deadline, outbox or thread.
    """
    process, port = _elsewhere(_bare_secondary)
    counter = QuickCounter()
    guest = StateGuest(counter, 4096)
    guest.save(True)
    with on_core(0), socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        for _ in range(count):
            counter.value += 1
            link.sendall(bytes(MESSAGE_SIZE))
            link.recv(MESSAGE_SIZE)
            saved = guest.save(False)
            state = device_state(saved.device)
            head, size = bytes(MESSAGE_SIZE), bytes(MESSAGE_SIZE) + encode_size(len(state))
            link.sendall(b"".join((head, *live(guest.blocks, list(saved.pages)), size, state)))
            link.recv(2 * MESSAGE_SIZE)
        took = time.perf_counter() - began
    process.join()
    return count / took


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


def blocking_rounds(claim: str, new: type[Counter] = Counter, count: int = ROUNDS) -> float:
    """Checkpoints a second of the blocking driver on both sides, two processes."""
    process, address = _started(_blocking_secondary, claim, new)
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
    process, address = _started(_asyncio_secondary, claim, new)
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
    process, address = _started(_blocking_secondary, claim, Counter)
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


def _best(measures: dict[str, Callable[[], float]], turns: int) -> dict[str, float]:
    """The shortest time of each, in us. They take turns: what else the machine does strikes some only."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for name in [*measures] * turns:
        taken[name].append(1e6 / measures[name]())
    return {name: min(times) for name, times in taken.items()}


def rows(quick: bool) -> Iterator[Row]:
    """Rounds beside the floor of each driver, and the answers that they cover.

    A service that says that it is quick saves the switches of threads; many pairs are in `growth`.
    """
    count, turns, waited = (20, 1, (1,)) if quick else (ROUNDS, TURNS, (1, 10, 100))
    with tempfile.TemporaryDirectory() as folder:
        claim = f"sqlite:{Path(folder) / 'claim.db'}"
        measures: dict[str, Callable[[], float]] = {
            "trip": lambda: floor(count),
            "on loops": lambda: asyncio.run(asyncio_floor(count)),
            "its work alone": lambda: bare_rounds(count),
        }
        for what, new in (("quick hooks", QuickCounter), ("hooks on a thread", Counter)):
            measures[f"blocking, {what}"] = partial(blocking_rounds, claim, new, count)
            measures[f"asyncio, {what}"] = lambda new=new: asyncio.run(asyncio_rounds(claim, new, count))  # type: ignore[misc]
        took = _best(measures, turns)
        trip, on_loops = took.pop("trip"), took.pop("on loops")
        for name, time_of_it in took.items():
            peer = (
                ("two of asyncio streams", on_loops) if "asyncio" in name else ("two TCP round trips", trip)
            )
            yield Row(f"round of one page, {name}", time_of_it, "us", peer[0], ROUND_TRIPS * peer[1])
        for waiters in waited:
            rate, wait = asyncio.run(answers(claim, waiters, ANSWERS * count // ROUNDS))
            work = f"answers, asyncio, {waiters} at a time"
            yield Row(work, rate, "answers/s")
            yield Row(f"{work}, p50", wait * 1e3, "ms", "a TCP round trip", trip / 1e3)
