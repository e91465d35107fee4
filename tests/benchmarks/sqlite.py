"""What a replicated SQLite database costs: a round of one row as the database grows, and its service.

The floor of the service is the same server on the same SQLite, unreplicated: a file in WAL mode with
synchronous=NORMAL on disk, and every reply leaves at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import attrs

import colo_fsm
from colo_fsm import Options
from colo_fsm.replica import blocking
from colo_fsm.services.sqlite import SqliteGuest
from colo_fsm.services.sqlite_server import SqliteServer

MIB = 1 << 20
SIZES = 1 * MIB, 64 * MIB, 1024 * MIB
ROUNDS = 500
CLIENTS = 10
REPLIES = 10_000
SCHEMA = "CREATE TABLE t (a INTEGER PRIMARY KEY, b)"
INSERT = "INSERT INTO t (b) VALUES ('a row of some forty characters, as rows are')"
FILL = (
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 4096) "
    "INSERT INTO t (b) SELECT randomblob(1000) FROM n"
)
LONG = Options(hook_deadline=60.0)

MOST_MS, MOST_GROWTH, LEAST_SHARE = 3.0, 1.5, 0.5
"""The targets."""


@attrs.frozen
class Rounds:
    """Milliseconds from the beginning of a turn until it is committed, with a database of `size` bytes."""

    size: int
    p50: float
    p99: float


@attrs.frozen
class Service:
    """Replies a second to so many clients who wait for each, and the median wait in milliseconds."""

    replies: float
    p50: float


@contextlib.contextmanager
def _process(work: Callable[..., None], *arguments: object) -> Iterator[str]:
    """This work in a process of its own, and the address that it says."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=work, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def _follow(told: Connection, claim: str, capacity: int) -> None:
    guest = SqliteGuest(capacity, schema=SCHEMA)
    with blocking.secondary(guest, listen="tcp:127.0.0.1:0", arbiter=claim, options=LONG) as pair:
        told.send(str(pair.address))
        pair.wait()


def rounds(size: int) -> Rounds:
    """Commit one row at a time."""
    guest, waits = SqliteGuest(size + 32 * MIB, schema=SCHEMA), []
    while guest.connection.execute("PRAGMA page_count").fetchone()[0] * 4096 < size:
        guest.connection.execute(FILL if size > 16 * MIB else FILL.replace("4096", "256"))
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(guest):
        claim = f"sqlite:{Path(folder) / 'claim.db'}"
        with (
            _process(_follow, claim, size + 32 * MIB) as address,
            blocking.primary(guest, peer=address, arbiter=claim, options=LONG) as pair,
        ):
            for _ in range(ROUNDS):
                began = time.perf_counter()
                with pair.turn():
                    guest.connection.execute(INSERT)
                pair.committed()
                waits.append(1000 * (time.perf_counter() - began))
    return Rounds(size, statistics.median(waits), statistics.quantiles(waits, n=100)[98])


class _Alone:
    """Stands in for the pair of a server that is not replicated."""

    side, protected, token, checkpoint = colo_fsm.Side.PRIMARY, False, 0, 0

    def __init__(self) -> None:
        self.outbox = self

    def hold(self, deliver: Callable[[], object], drop: Callable[[], object]) -> None:
        deliver()

    async def running(self) -> None:
        """It always does."""

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        yield


@attrs.frozen
class _OnDisk:
    """What a server takes of a guest."""

    connection: sqlite3.Connection


def _serve_alone(told: Connection, folder: str) -> None:
    async def serve() -> None:
        connection = sqlite3.connect(Path(folder) / "alone.db", isolation_level=None, cached_statements=0)
        for sql in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", SCHEMA):
            connection.execute(sql)
        async with SqliteServer(_Alone(), _OnDisk(connection), "tcp:127.0.0.1:0") as server:  # type: ignore[arg-type]
            told.send(str(server.address))
            await asyncio.Event().wait()

    asyncio.run(serve())


def _serve_pair(told: Connection, claim: str, peer: str) -> None:
    async def serve() -> None:
        guest = SqliteGuest(64 * MIB, schema=SCHEMA)
        async with (
            colo_fsm.primary(guest, peer=peer, arbiter=claim) as pair,
            SqliteServer(pair, guest, "tcp:127.0.0.1:0") as server,
        ):
            told.send(str(server.address))
            await pair.wait()

    asyncio.run(serve())


async def _clients(address: str) -> Service:
    host, port = address.removeprefix("tcp:").rsplit(":", 1)
    request, waits = json.dumps({"sql": INSERT}).encode() + b"\n", list[float]()

    async def one() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(REPLIES // CLIENTS):
            began = time.perf_counter()
            writer.write(request)
            reply = await reader.readline()
            waits.append(time.perf_counter() - began)
            assert b'"changes": 1' in reply, reply
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return Service(len(waits) / (time.perf_counter() - began), 1000 * statistics.median(waits))


def alone() -> Service:
    """Unreplicated."""
    with tempfile.TemporaryDirectory() as folder, _process(_serve_alone, folder) as address:
        return asyncio.run(_clients(address))


def replicated() -> Service:
    """By a pair with the default options."""
    with tempfile.TemporaryDirectory() as folder:
        claim = f"sqlite:{Path(folder) / 'claim.db'}"
        with (
            _process(_follow, claim, 64 * MIB) as peer,
            _process(_serve_pair, claim, peer) as address,
        ):
            return asyncio.run(_clients(address))


def _met(target: bool) -> str:
    return "met" if target else "MISSED"


def main() -> None:
    """Print both."""
    logging.getLogger("colo_fsm").setLevel(logging.CRITICAL)  # a process that is killed is how each ends
    print("a round of one row, blocking driver, by the size of the database, in ms")
    found = [rounds(size) for size in SIZES]
    for each in found:
        growth = each.p50 / found[0].p50
        target = "" if each is found[0] else f"   at most {MOST_GROWTH}x: {_met(growth <= MOST_GROWTH)}"
        print(f"  {each.size // MIB:5} MiB   p50 {each.p50:.2f}   p99 {each.p99:.2f}   {growth:.2f}x{target}")
    print(f"  the largest in at most {MOST_MS} ms: {_met(found[-1].p50 <= MOST_MS)}")
    least, ours = alone(), replicated()
    print(f"replies a second to {CLIENTS} clients, and the median wait in ms")
    print(f"  unreplicated, on disk, synchronous=NORMAL   {least.replies:6.0f}   {least.p50:.2f}")
    share = ours.replies / least.replies
    print(f"  replicated                                  {ours.replies:6.0f}   {ours.p50:.2f}", end="")
    print(f"   {share:.2f}x, at least {LEAST_SHARE}: {_met(share >= LEAST_SHARE)}")
