"""Serves an `SqliteGuest` to clients; a reply leaves when a checkpoint covers it.

    colo-fsm primary --guest sqlite --serve tcp:127.0.0.1:5433 ...

Newline-delimited JSON over TCP or a Unix socket, UTF-8, no line longer than 1 MiB. A request:

    {"id": 7, "sql": "INSERT INTO t VALUES (?)", "params": [1], "key": "order-4711"}

`id` (any JSON) comes back; `params` (list, or object for named ones) and `key` may be left out. Its reply:

    {"id": 7, "rows": [], "changes": 1, "side": "primary", "protected": true, "token": 0, "checkpoint": 3,
    "released": 81623}

or the same with `"error"` in place of rows and changes. `token` is the fencing token of the side that
answers, `protected` whether another machine has what is acknowledged, `checkpoint` the newest that it counts
on, `released` when the reply was let out (its time.monotonic_ns()). Replies come in the order of the
requests, which need not wait for each other.

A connection that ends without a reply leaves open whether the request has happened: send it again, to
whichever side answers, with the same `key`; it happens once, and the first reply is given again. Keys
are kept in the table colo_fsm_replies until a client deletes them there.

A side serves `max_clients` connections at a time, by default as many as its descriptors allow and at most
1,000. One more hears an error without having asked (`"id": null`), and the end of the connection. A
connection that does not read its replies is closed when the memory of the others is at stake (`connection`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import sqlite3
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from colo_fsm.fsm import ProtocolError, Side
from colo_fsm.replica.address import Address, AddressError, address_of
from colo_fsm.replica.aio import Pair
from colo_fsm.replica.gate import NotRunning
from colo_fsm.replica.guest import CapacityExceeded

from .connection import CHUNK, Connection, Memory
from .sqlite import OpenTransaction, SqliteGuest, Statements
from .wire import Host, failed, reply_to, stamped
from .workspace import NoRoom

BIND_RETRY, MOST_BIND_RETRY = 0.2, 1.0
"""Seconds from one try to listen to the next: at first, and as it grows."""

TURN = 0.005
"""Seconds of statements that share a turn; a checkpoint waits for the last of them."""

SCHEMA_LIMIT = 1 << 20
CAPACITY = 16 << 20
MOST_CLIENTS = 1000
OWN_DESCRIPTORS = 64
"""Of the process's descriptors, those that are not for clients: the link, the store, the claim, the log."""

MOST_REFUSED = 16
"""Connections over `max_clients` that are seen off at a time; one more is closed when it has been told."""

REFUSING_TIME = 1.0

_log = logging.getLogger(__name__)


class SqliteServer:
    """`async with SqliteServer(pair, guest, "tcp:127.0.0.1:5433")`, inside the pair's own; then await
    `pair.wait()`, or whatever comes first, and leave. `serve` is that in one call.

    Entering waits until the guest runs on this side, which on a Secondary is after a failover: only then
    does it listen. Raises what `Pair.running` raises, OSError, sqlite3.Error. A Secondary that cannot
    listen, because its Primary has not let go of the address yet perhaps, says so (`NotServing`) and tries
    again for ever: nobody else would serve. Raises ValueError for `max_clients` that cannot be, and for
    a guest with `cached_statements`.
    """

    def __init__(self, pair: Host, guest: SqliteGuest, listen: str, max_clients: int | None = None) -> None:
        if guest.cached_statements:
            raise ValueError("a server's guest keeps no statements: make it without cached_statements")
        self.pair = pair
        self.memory = Memory()
        self.max_clients = checked_clients(max_clients)
        self._guest = guest
        self._listen = Address.parse(listen)
        self._clients: set[asyncio.Task[None]] = set()
        self._refused: set[asyncio.Task[None]] = set()
        self._asked: dict[Connection, bytes] = {}
        """Requests that wait for a turn, one of a client at most, in the order in which they came."""
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.pair.running()
        async with self.pair.turn():
            self._statements = Statements(self._guest.connection)
        listener = await self._bind()
        self.address = address_of(listener)
        """Where it listens (the real port, if 0 was asked for)."""
        # accepted a few at a time, so that those who are refused do not need many descriptors; more may queue
        self._server = await asyncio.start_server(
            self._connected, sock=listener, limit=CHUNK, backlog=MOST_REFUSED
        )
        listener.listen(socket.SOMAXCONN)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the listener and every connection; what is still held back is never answered."""
        self._server.close()
        tasks = self._clients | self._refused
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _bind(self) -> socket.socket:
        retry = BIND_RETRY
        while True:
            try:
                return self._listen.listen()
            except OSError as error:
                if isinstance(self.pair, Pair) and self.pair.side is Side.PRIMARY:
                    raise
                self.pair.announce_trouble(str(self._listen), error, retry)
                _log.warning("cannot serve at %s: %s; trying again in %g s", self._listen, error, retry)
            await asyncio.sleep(retry)
            retry = min(2 * retry, MOST_BIND_RETRY)
            await self.pair.running()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) < self.max_clients:
            tasks, task = self._clients, asyncio.create_task(Connection(self, reader, writer).serve())
        else:
            why = f"this side serves {self.max_clients} clients, and no more at a time: try again later"
            writer.write(stamped(failed("null", why), self.pair))
            if len(self._refused) == MOST_REFUSED:
                writer.close()
                return
            tasks, task = self._refused, asyncio.create_task(self._see_off(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _see_off(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Wait for the end of one who is refused: closed before, what it sent would take our line along."""
        try:
            async with asyncio.timeout(REFUSING_TIME):
                writer.write_eof()
                while await reader.read(CHUNK):
                    pass
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def answer(self, client: Connection, line: bytes) -> None:
        """Run one request and hold its reply. Raises NotRunning."""
        self._asked[client] = line
        try:
            async with self._one_at_a_time:
                if client in self._asked:
                    async with self.pair.turn():
                        self._answer_all()
                    await asyncio.sleep(0)  # between any two turns the pair gets its chance
        finally:
            self._asked.pop(client, None)

    def _answer_all(self) -> None:
        """All that wait share one turn, and so one checkpoint: for `TURN`, and one statement more."""
        until = time.monotonic() + TURN
        for client in list(self._asked):
            try:
                client.hold(reply_to(self._statements, self._asked.pop(client)))
            except Exception:  # noqa: BLE001 - the others want their answers all the same
                _log.exception("a request has failed, and its connection is closed")
                client.cut()
            if time.monotonic() > until:
                break


def checked_clients(wanted: int | None) -> int:
    """How many clients this process may serve at a time. Raises ValueError when it is less than wanted."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = limit - OWN_DESCRIPTORS
    if wanted is None:
        return max(1, min(MOST_CLIENTS, room))
    if not 1 <= wanted <= room:
        raise ValueError(
            f"{wanted} clients at a time cannot be: this process may have {limit} files open, and keeps "
            f"{OWN_DESCRIPTORS} for itself; name 1 to {room}, or raise `ulimit -n`"
        )
    return wanted


async def serve(pair: Host, guest: SqliteGuest, listen: str, max_clients: int | None = None) -> None:
    """Serve while the guest runs on this side; returns when this side is over.

    What ended it is the pair's to tell. Raises AddressError and OSError when it cannot listen.
    """
    with contextlib.suppress(NotRunning, ProtocolError):
        async with SqliteServer(pair, guest, listen, max_clients) as server:
            pair.announce(str(server.address))
            await pair.wait()


class ServedSqlite(SqliteGuest):
    """An `SqliteGuest` that knows where its clients find it, for drivers that start `serve`."""

    def __init__(self, capacity: int, *, schema: str = "", listen: str) -> None:
        super().__init__(capacity, schema=schema)
        self.listen = listen
        self._max_clients: int | None = None

    @property
    def max_clients(self) -> int | None:
        """Set it before it serves. Raises ValueError for what cannot be."""
        return self._max_clients

    @max_clients.setter
    def max_clients(self, wanted: int | None) -> None:
        self._max_clients = checked_clients(wanted)

    async def serve(self, pair: Host) -> None:
        """See `serve`."""
        await serve(pair, self, self.listen, self.max_clients)


def described(listen: str, capacity: int = CAPACITY, schema: str | Path | None = None) -> ServedSqlite:
    """The guest that serves at `listen`; `schema`: a file of SQL. Raises ValueError that names the option."""
    try:
        Address.parse(listen)  # now: a Secondary listens only when it has taken over
    except AddressError as error:
        raise ValueError(f"--serve: {error}") from None
    try:
        return ServedSqlite(capacity, schema=_script(schema) if schema else "", listen=listen)
    except (CapacityExceeded, NoRoom) as error:
        raise ValueError(f"--capacity={capacity}: {error}") from None
    except (OSError, OpenTransaction, ValueError, sqlite3.Error, sqlite3.Warning) as error:
        raise ValueError(f"--schema={schema}: {error}") from None


def _script(path: str | Path) -> str:
    """What is in this file. Raises OSError, ValueError."""
    with open(path, encoding="utf-8") as file:
        script = file.read(SCHEMA_LIMIT + 1)
    if len(script) > SCHEMA_LIMIT:
        raise ValueError(f"more than {SCHEMA_LIMIT} characters: is it SQL?")
    return script
