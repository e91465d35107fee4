"""What a round of one row costs as an SQLite database grows.

The service is in `sqlite_service`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import attrs

from colo_fsm import Options
from colo_fsm.replica import blocking
from colo_fsm.services.sqlite import SqliteGuest

from .table import Row

MIB = 1 << 20
SIZES = 1 * MIB, 64 * MIB, 1024 * MIB
ROUNDS = 500
SCHEMA = "CREATE TABLE t (a INTEGER PRIMARY KEY, b)"
INSERT = "INSERT INTO t (b) VALUES ('a row of some forty characters, as rows are')"
FILL = (
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 4096) "
    "INSERT INTO t (b) SELECT randomblob(1000) FROM n"
)
LONG = Options(hook_deadline=60.0)


@attrs.frozen
class Rounds:
    """Milliseconds from the beginning of a turn until it is committed, with a database of `size` bytes."""

    size: int
    p50: float
    p99: float


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


def rounds(size: int, count: int = ROUNDS) -> Rounds:
    """Commit so many rows, one at a time."""
    guest, waits = SqliteGuest(size + 32 * MIB, schema=SCHEMA), []
    while guest.connection.execute("PRAGMA page_count").fetchone()[0] * 4096 < size:
        guest.connection.execute(FILL if size > 16 * MIB else FILL.replace("4096", "256"))
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(guest):
        claim = f"sqlite:{Path(folder) / 'claim.db'}"
        with (
            _process(_follow, claim, size + 32 * MIB) as address,
            blocking.primary(guest, peer=address, arbiter=claim, options=LONG) as pair,
        ):
            for _ in range(count):
                began = time.perf_counter()
                with pair.turn():
                    guest.connection.execute(INSERT)
                pair.committed()
                waits.append(1000 * (time.perf_counter() - began))
    return Rounds(size, statistics.median(waits), statistics.quantiles(waits, n=100)[98])


def rows(quick: bool) -> Iterator[Row]:
    """The same round as the database grows."""
    sizes, count = ((MIB,), 10) if quick else (SIZES, ROUNDS)
    found = [rounds(size, count) for size in sizes]
    what = "SQLite, a row a commit, round at"
    for each in found:
        size = "1 GiB" if each.size == SIZES[-1] else f"{each.size // MIB} MiB"
        yield Row(f"{what} {size}", each.p50, "ms")
        yield Row(f"{what} {size}, p99", each.p99, "ms")
    if not quick:
        yield Row(f"{what} 1 GiB beside 1 MiB", found[-1].p50, "ms", "1 MiB", found[0].p50)
