"""How long a checkpoint of one page takes, beside the floor: TCP ping-pong of two processes."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import colo_fsm
from colo_fsm import Options, StateGuest
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


def _secondary(told: Connection, claim: str) -> None:
    with blocking.secondary(StateGuest(Counter(), 4096), listen="tcp:127.0.0.1:0", arbiter=claim) as pair:
        told.send(str(pair.address))
        pair.wait()


def _with_secondary(claim: str) -> tuple[multiprocessing.Process, str]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_secondary, args=(there, claim), daemon=True)
    process.start()
    return process, here.recv()


def blocking_rounds(claim: str, count: int = ROUNDS) -> float:
    """Checkpoints a second of the blocking driver, two processes."""
    process, address = _with_secondary(claim)
    counter = Counter()
    with blocking.primary(
        StateGuest(counter, 4096), peer=address, arbiter=claim, options=Options(interval=0)
    ) as pair:
        began = time.perf_counter()
        for _ in range(count):
            with pair.turn():
                counter.value += 1
            pair.committed()
        took, rounds = time.perf_counter() - began, pair.checkpoint
        process.kill()
        process.join()
    return rounds / took


async def asyncio_rounds(claim: str, count: int = ROUNDS) -> float:
    """The same with asyncio on the Primary's side."""
    process, address = _with_secondary(claim)
    counter = Counter()
    async with colo_fsm.primary(
        StateGuest(counter, 4096), peer=address, arbiter=claim, options=Options(interval=0)
    ) as pair:
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
    """Rounds beside the floor, and the answers that they cover."""
    logging.getLogger("colo_fsm").setLevel(logging.CRITICAL)  # killing the Secondary is how each ends
    count, waited = (20, (1,)) if quick else (ROUNDS, (1, 10, 100))
    least = ROUND_TRIPS / floor(count) * 1e6
    with tempfile.TemporaryDirectory() as folder:
        claim = f"sqlite:{Path(folder) / 'claim.db'}"
        for name, rate in (
            ("blocking", blocking_rounds(claim, count)),
            ("asyncio", asyncio.run(asyncio_rounds(claim, count))),
        ):
            yield Row(f"round of one page, {name}", 1e6 / rate, "us", "two TCP round trips", least)
        for waiters in waited:
            rate, wait = asyncio.run(answers(claim, waiters, ANSWERS * count // ROUNDS))
            what = f"answers, asyncio, {waiters} at a time"
            yield Row(what, rate, "answers/s")
            yield Row(f"{what}, p50", wait * 1e3, "ms", "a TCP round trip", least / ROUND_TRIPS / 1e3)
