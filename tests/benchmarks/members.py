"""Two members over SQLite: a SIGKILL with 90% of the capacity in use, and a planned switchover."""

from __future__ import annotations

import multiprocessing
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path

import members
from members import Members, Writer

from .table import Row

MIB = 1 << 20
KILLS = ((16 * MIB, 5, True), (1024 * MIB, 1, True), (1024 * MIB, 1, False))
"""Capacity, how often the Primary is killed with it, and whether a client works meanwhile."""
IDLE = ("--alone-interval-ms", "3000")
"""For a survivor whom nobody asks: the copy for its new Secondary has the process for itself."""
SWITCHOVERS = 10
ROWS = 50
VALUE = 500_000
"""Bytes of a value: nearly the most that the service takes."""
PIECE = 32 * MIB
"""Bytes that one statement writes at most; half of that where the service says that it takes too long."""
FILL = (
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT ?) "
    "INSERT INTO filling SELECT randomblob(?) FROM n"
)
PART = 0.9
"""How much of its capacity a database has in it."""


def _receive(told: Connection, path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        told.send(server.getsockname()[1])
        peer, _ = server.accept()
        with peer, path.open("wb", buffering=0) as file:
            buffer = memoryview(bytearray(MIB))
            while count := peer.recv_into(buffer):
                file.write(buffer[:count])
            peer.sendall(b"!")


def floor(folder: Path, size: int) -> float:
    """Seconds for as many bytes over loopback TCP, and until another process has written them to a file."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_receive, args=(there, folder / "copy"), daemon=True)
    process.start()
    data = memoryview(random.Random(1).randbytes(min(size, MIB)))
    with socket.create_connection(("127.0.0.1", here.recv())) as link:
        began = time.perf_counter()
        for _ in range(0, size, len(data)):
            link.sendall(data)
        link.shutdown(socket.SHUT_WR)
        assert link.recv(1) == b"!"
        took = time.perf_counter() - began
    process.join()
    (folder / "copy").unlink()
    return took


@contextmanager
def filled(folder: Path, capacity: int, *more: str) -> Iterator[Members]:
    """Both members, protected, over a database of this capacity with random bytes in it."""
    with members.members(folder, "--capacity", str(capacity), *more) as data_set:
        data_set.until_protected()
        data_set.ask("CREATE TABLE filling (value)")
        value = min(VALUE, capacity // 8)
        left, most = int(PART * capacity) // value, PIECE // value
        while left:
            reply = data_set.ask(FILL, params=[count := min(left, most), value])
            if "longer than" in (error := reply.get("error", "")):
                most = max(1, most // 2)
                continue
            assert not error, error
            left -= count
        yield data_set


def kills(folder: Path, capacity: int, times: int, busy: bool) -> list[tuple[float, float]]:
    """Seconds without an answer when the Primary is killed, and until its restart is a whole Secondary."""
    found = []
    with filled(folder, capacity, *(() if busy else IDLE)) as data_set:
        for _ in range(times):
            primary = data_set.until_protected()
            survivor = data_set.other(primary)
            with Writer(data_set) if busy else nullcontext() as writer:
                if writer is not None:
                    writer.until(5)
                since, began = len(survivor.events), time.monotonic()
                primary.kill()
                data_set.start(primary.name)
                data_set.ask("SELECT 1")
                answered = time.monotonic() - began
                survivor.until("member", since=since, state="primary")
                found.append((answered, time.monotonic() - began))
            assert writer is None or not members.lost(data_set, writer)
    return found


def switchovers(folder: Path) -> tuple[float, list[float]]:
    """Seconds of an ordinary row, and of those with a switchover under way."""
    pauses = []
    with filled(folder, 16 * MIB) as data_set, Writer(data_set) as writer:
        writer.until(5)
        began = time.monotonic()
        writer.until(ROWS)
        ordinary = (time.monotonic() - began) / ROWS
        for _ in range(SWITCHOVERS):
            primary = data_set.until_protected()
            writer.until(5)
            writer.longest, since = 0.0, len(data_set.other(primary).events)
            done = primary.ctl("switchover")
            assert done.returncode == 0, done
            data_set.other(primary).until("member", since=since, state="primary")
            writer.until(5)
            pauses.append(writer.longest)
        assert not members.lost(data_set, writer)
    return ordinary, pauses


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def rows(quick: bool) -> Iterator[Row]:
    """Both; the floor of a kill is a copy of as many bytes through a socket and into a file."""
    members.PATIENCE = 3600.0  # how long it takes is what is asked here
    for capacity, times, busy in ((MIB, 1, True),) if quick else KILLS:
        with _folder() as folder:
            least = floor(folder, capacity)
        with _folder() as folder:
            found = kills(folder, capacity, times, busy)
        what = f"{capacity // MIB} MiB, {'a client at work' if busy else 'nobody asks'}"
        for name, times_ in zip(("answers again", "protected again"), zip(*found, strict=True), strict=True):
            yield Row(f"member killed, {what}: {name}", statistics.median(times_), "s", "copy", least)
    if not quick:
        with _folder() as folder:
            ordinary, pauses = switchovers(folder)
        for name, pause in (("p50", statistics.median(pauses)), ("longest", max(pauses))):
            yield Row(f"planned switchover, 16 MiB, {name}", pause, "s", "an ordinary row", ordinary)
