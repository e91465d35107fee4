"""One service over TCP, alone, replicated by us, and by PySyncObj; and closed-loop clients that time it.

A request and a reply are a line each. All three servers are asyncio streams in a process of their own and
call the same `apply`; what differs is what they wait for between that and the reply.
"""

from __future__ import annotations

import asyncio
import select
import socket
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs
from pysyncobj import SyncObj, SyncObjConf, replicated

import colo_fsm
from colo_fsm.replica import Guest

from .processes import PATIENCE, on_core, processes, told
from .table import Row

HOST = "127.0.0.1"
TUNINGS: dict[str, dict[str, Any]] = {
    "each at once": {"appendEntriesUseBatch": False},
    "each at once, 4 ms": {"appendEntriesUseBatch": False, "appendEntriesPeriod": 0.004},
    "batches, 0.25 ms": {"autoTickPeriod": 0.00025, "appendEntriesPeriod": 0.00025},
    "batches, 1 ms": {"autoTickPeriod": 0.001, "appendEntriesPeriod": 0.001},
}
"""The settings of PySyncObj, of a dozen, that were the best somewhere: a row has the best figure of them."""
FIRST, LATER = (0.2, 0.4), (20.0, 30.0)
"""Seconds of silence before an election: the first process is to win, and to lead while it is measured."""

ALONE, OURS = "unreplicated", "ours"
TURNS = 2

Apply = Callable[[bytes], bytes]


@attrs.frozen
class Service:
    """How to make what is served.

    `alone(folder)` gives the unreplicated one, `guest()` ours with its apply; `member()` that of a process of
    PySyncObj, which has no folder since our guest is in memory, too. `requests` are sent round and round.
    """

    name: str
    requests: Sequence[bytes]
    alone: Callable[[Path], Apply]
    guest: Callable[[], tuple[Guest, Callable[[], Apply]]]
    member: Callable[[], Apply]


@attrs.frozen
class Load:
    """What the clients saw: replies a second, and how long they waited, in ms."""

    rate: float
    p50: float
    p99: float

    def best_of(self, other: Load) -> Load:
        """The better figures of two."""
        return Load(max(self.rate, other.rate), min(self.p50, other.p50), min(self.p99, other.p99))


# -- the clients ---------------------------------------------------------------------------------


def drive(port: int, clients: int, requests: Sequence[bytes], seconds: float) -> Load:
    """So many clients, each with one request under way; the first fifth of the time does not count."""
    links = [socket.create_connection((HOST, port), PATIENCE) for _ in range(clients)]
    try:
        for link in links:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _closed_loop({link.fileno(): link for link in links}, requests, seconds)
    finally:
        for link in links:
            link.close()


def _closed_loop(links: dict[int, socket.socket], requests: Sequence[bytes], seconds: float) -> Load:
    poll, asked, waits, number = select.epoll(), dict[int, float](), list[float](), 0
    began = time.perf_counter()
    counted, end, total = began + seconds / 5, began + seconds, len(requests)
    with poll:
        for at, link in links.items():
            poll.register(at, select.EPOLLIN)
            asked[at] = time.perf_counter()
            link.sendall(requests[number % total])
            number += 1
        while (now := time.perf_counter()) < end or not waits:
            ready = poll.poll(PATIENCE)
            assert ready, f"no reply for {PATIENCE:g} s"
            for at, _ in ready:
                link = links[at]
                reply = link.recv(256)
                now = time.perf_counter()
                assert reply.endswith(b"\n"), reply
                if asked[at] >= counted:
                    waits.append(now - asked[at])
                asked[at] = now
                link.sendall(requests[number % total])
                number += 1
    p99 = sorted(waits)[len(waits) * 99 // 100]
    return Load(len(waits) / (now - counted), statistics.median(waits) * 1e3, p99 * 1e3)


# -- the servers ---------------------------------------------------------------------------------


async def _serve(told: Connection, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):  # a client that goes while its request is under way
            while line := await reader.readline():
                writer.write(await answer(line))
        writer.close()

    server = await asyncio.start_server(connected, HOST, 0)
    told.send(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


def _alone(told: Connection, service: Service, folder: Path) -> None:
    apply = service.alone(folder)

    async def answer(line: bytes) -> bytes:
        return apply(line)

    asyncio.run(_serve(told, answer))


def _secondary(told: Connection, service: Service, claim: str) -> None:
    async def follow() -> None:
        guest, _ = service.guest()
        async with colo_fsm.secondary(guest, listen=f"tcp:{HOST}:0", arbiter=claim) as pair:
            told.send(str(pair.address))
            await pair.wait()

    asyncio.run(follow())


def _primary(told: Connection, service: Service, claim: str, peer: str) -> None:
    async def lead() -> None:
        guest, ready = service.guest()
        async with colo_fsm.primary(guest, peer=peer, arbiter=claim) as pair:
            async with pair.turn():
                apply = ready()

            async def answer(line: bytes) -> bytes:
                async with pair.turn():
                    reply = apply(line)
                await pair.committed()
                return reply

            await _serve(told, answer)

    asyncio.run(lead())


class _Member(SyncObj):  # type: ignore[misc]  # it has no types
    def __init__(self, ports: Sequence[int], number: int, apply: Apply, tuning: dict[str, Any]) -> None:
        self._apply_it = apply
        least, most = FIRST if number == 0 else LATER
        others = [f"{HOST}:{port}" for port in ports if port != ports[number]]
        conf = SyncObjConf(
            raftMinTimeout=max(least, 4 * tuning.get("appendEntriesPeriod", 0.05)),
            raftMaxTimeout=most,
            connectionTimeout=LATER[1],
            connectionRetryTime=0.1,
            **{"appendEntriesPeriod": 0.05, **tuning},
        )
        super().__init__(f"{HOST}:{ports[number]}", others, conf)

    @replicated  # type: ignore[untyped-decorator]
    def apply(self, line: bytes) -> bytes:
        return self._apply_it(line)


def _member(
    told: Connection, service: Service, ports: Sequence[int], number: int, tuning: dict[str, Any]
) -> None:
    member = _Member(ports, number, service.member(), tuning)
    if number:
        threading.Event().wait()
    while not (member.isReady() and member._isLeader()):
        time.sleep(0.01)

    async def lead() -> None:
        loop = asyncio.get_running_loop()

        async def answer(line: bytes) -> bytes:
            waiting: asyncio.Future[bytes] = loop.create_future()

            def applied(reply: bytes, error: int) -> None:
                assert not error, f"PySyncObj: {error}"
                loop.call_soon_threadsafe(waiting.set_result, reply)

            member.apply(line, callback=applied)
            return await waiting

        await _serve(told, answer)

    asyncio.run(lead())


def _echo(told: Connection) -> None:
    with socket.create_server((HOST, 0)) as server:
        told.send(server.getsockname()[1])
        peer, _ = server.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with peer, suppress(ConnectionError):
            while data := peer.recv(256):
                peer.sendall(data)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    taken = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


@contextmanager
def unreplicated(service: Service) -> Iterator[int]:
    """Its port, as long as it is served by one process."""
    with processes() as running:
        yield told(running.start(_alone, service, running.folder))


@contextmanager
def ours(service: Service) -> Iterator[int]:
    """Its port, as long as a pair serves it, with the default options, asyncio on both sides."""
    with processes() as running:
        peer = told(running.start(_secondary, service, running.claim))
        yield told(running.start(_primary, service, running.claim, peer))


@contextmanager
def pysyncobj(service: Service, tuning: dict[str, Any]) -> Iterator[int]:
    """Its port, as long as three processes of PySyncObj serve it."""
    with processes() as running:
        ports = free_ports(3)
        waiting = [running.start(_member, service, ports, number, tuning) for number in (2, 1, 0)]
        yield told(waiting[-1])


@contextmanager
def raw() -> Iterator[int]:
    """The port of a process that sends back what comes, to one client, in no code but a loop."""
    with processes() as running:
        with on_core(-1):
            port = told(running.start(_echo))
        with on_core(0):
            yield port


# -- what they make together ---------------------------------------------------------------------


def compared(service: Service, clients: int, seconds: float, tunings: Sequence[str]) -> Iterator[Row]:
    """Replies a second and waits: ours with the default options, PySyncObj's, and without replication.

    All of them take turns, and each has its best: what else the machine does strikes some turns only.
    """
    what = f"{service.name}, {clients} client{'s' * (clients != 1)}"
    systems = {
        ALONE: partial(unreplicated, service),
        OURS: partial(ours, service),
        **{f"PySyncObj, {name}": partial(pysyncobj, service, TUNINGS[name]) for name in tunings},
    }
    found = dict[str, Load]()
    for name in [*systems] * TURNS:
        with systems[name]() as port:
            load = drive(port, clients, service.requests, seconds / TURNS)
        found[name] = load.best_of(found.get(name, load))
    plain, own = found.pop(ALONE), found.pop(OURS)
    fastest = max(found, key=lambda name: found[name].rate)
    soonest = min(found, key=lambda name: found[name].p50)
    yield Row(what, own.rate, "replies/s", fastest, found[fastest].rate)
    yield Row(f"{what}, p50", own.p50, "ms", soonest, found[soonest].p50)
    yield Row(f"{what}, p99", own.p99, "ms", soonest, found[soonest].p99)
    yield Row(f"{what}, beside no replication", own.rate, "replies/s", ALONE, plain.rate)
