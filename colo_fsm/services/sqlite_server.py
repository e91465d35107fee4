"""Serves an `SqliteGuest` to clients; a reply leaves when a checkpoint covers it.

    colo-fsm primary --guest colo_fsm.services.sqlite_server:guest ...

Newline-delimited JSON over TCP or a Unix socket, UTF-8, no line longer than 1 MiB. A request:

    {"id": 7, "sql": "INSERT INTO t VALUES (?)", "params": [1], "key": "order-4711"}

`id` (any JSON) comes back; `params` (list, or object for named ones) and `key` may be left out. Its reply:

    {"id": 7, "rows": [], "changes": 1, "side": "primary", "token": 0, "checkpoint": 3, "released": 81623}

or the same with `"error"` in place of rows and changes. `token` is the fencing token of the side that
answers, `checkpoint` the newest that it counts on, `released` when the reply was let out (its
time.monotonic_ns()). Replies come in the order of the requests, which need not wait for each other.

A connection that ends without a reply leaves open whether the request has happened: send it again, to
whichever side answers, with the same `key`; it happens once, and the first reply is given again. Keys
are kept in the table colo_fsm_replies until a client deletes them there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import re
import socket
import sqlite3
import time
from types import TracebackType
from typing import Any, Self

from colo_fsm.fsm import ProtocolError, Side
from colo_fsm.replica.address import Address, AddressError, address_of
from colo_fsm.replica.aio import Pair
from colo_fsm.replica.gate import NotRunning
from colo_fsm.replica.guest import CapacityExceeded

from .sqlite import MOST_CAPACITY, OpenTransaction, SqliteGuest, StatementError, Statements

LINE_LIMIT = 1 << 20
MOST_WAITING = 256
"""Replies of one connection that may wait for a checkpoint; after that its requests are not read."""

SCHEMA_LIMIT = 1 << 20
BIND_RETRY = 0.2
CLOSING_TIME = 1.0

_FIELDS = frozenset({"id", "sql", "params", "key"})
_log = logging.getLogger(__name__)


class SqliteServer:
    """`async with SqliteServer(pair, guest, "tcp:127.0.0.1:5433")`, inside the pair's own; then await
    `pair.wait()`, or whatever comes first, and leave. `serve` is that in one call.

    Entering waits until the guest runs on this side, which on a Secondary is after a failover: only then
    does it listen. Raises what `Pair.running` raises, OSError, sqlite3.Error. An address in use is tried
    again on a Secondary: on one machine, its Primary may not have let go of it yet.
    """

    def __init__(self, pair: Pair, guest: SqliteGuest, listen: str) -> None:
        self.pair = pair
        self._guest = guest
        self._listen = Address.parse(listen)
        self._clients: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.pair.running()
        async with self.pair.turn():
            self._statements = Statements(self._guest.connection)
        listener = await self._bind()
        self.address = address_of(listener)
        """Where it listens (the real port, if 0 was asked for)."""
        self._server = await asyncio.start_server(self._connected, sock=listener, limit=LINE_LIMIT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the listener and every connection; what is still held back is never answered."""
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _bind(self) -> socket.socket:
        while True:
            try:
                return self._listen.listen()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or self.pair.side is Side.PRIMARY:
                    raise
            _log.warning("%s is in use, by the former Primary perhaps: trying again", self._listen)
            await asyncio.sleep(BIND_RETRY)
            await self.pair.running()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.create_task(_Client(self, reader, writer).serve())
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def answer(self, client: _Client, line: bytes) -> None:
        """Run one request and hold its reply. Raises NotRunning."""
        async with self._one_at_a_time:
            async with self.pair.turn():
                client.hold(_reply(self._statements, line))
            await asyncio.sleep(0)  # between any two statements the pair gets its chance


class _Client:
    """One connection. Its replies leave in order because the outbox keeps it."""

    def __init__(
        self, server: SqliteServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._waiting = 0
        self._settled = asyncio.Event()

    async def serve(self) -> None:
        """Until the client hangs up and has its replies, or the pair stops."""
        try:
            with contextlib.suppress(ConnectionError, NotRunning):
                while line := await self._line():
                    await self._server.answer(self, line)
                    await self._until_waiting(MOST_WAITING - 1)
                    await self._writer.drain()
                await self._until_waiting(0)
        finally:
            await self._close()

    async def _line(self) -> bytes:
        """The next line; empty after the last, which is also the one after a line that is too long."""
        try:
            return await self._reader.readline()
        except ValueError:
            self.hold(_failed("null", f"a line is longer than {LINE_LIMIT} bytes: send less at a time"))
            return b""

    async def _until_waiting(self, most: int) -> None:
        while self._waiting > most:
            self._settled.clear()
            await self._settled.wait()

    def hold(self, reply: str) -> None:
        """Send this reply when a checkpoint covers what is true now."""
        self._waiting += 1
        self._server.pair.outbox.hold(lambda: self._deliver(reply), self._drop)

    def _deliver(self, reply: str) -> None:
        self._settle()
        if not self._writer.is_closing():
            self._writer.write(_stamped(reply, self._server.pair))

    def _drop(self) -> None:
        """This side stops: whether the request has happened is for the other side to say."""
        self._settle()
        self._writer.close()

    def _settle(self) -> None:
        self._waiting -= 1
        self._settled.set()

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSING_TIME):
                await self._writer.wait_closed()
        except OSError:  # a TimeoutError too: this client does not read
            self._writer.transport.abort()


def _reply(statements: Statements, line: bytes) -> str:
    """The reply to one request, without its stamps: a JSON object that is still open."""
    identity = "null"
    try:
        request = _parsed(line)
        identity = json.dumps(request.get("id"), allow_nan=False)
        outcome = statements.run(*_arguments(request))
    except (ValueError, RecursionError) as error:
        return _failed(identity, str(error))
    return f'{{"id": {identity}, {outcome[1:-1]}'


def _failed(identity: str, error: str) -> str:
    return f'{{"id": {identity}, "error": {json.dumps(error)}'


def _stamped(reply: str, pair: Pair) -> bytes:
    stamps = {
        "side": pair.side, "token": pair.token, "checkpoint": pair.checkpoint, "released": time.monotonic_ns()
    }  # fmt: skip
    return f"{reply}, {json.dumps(stamps)[1:]}\n".encode()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise StatementError(f"a line is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise StatementError('a line is no JSON object: write {"id": 1, "sql": "SELECT 1"}')
    return request


def _arguments(request: dict[str, Any]) -> tuple[str, Any, str | None]:
    """What `Statements.run` takes."""
    if unknown := sorted(request.keys() - _FIELDS):
        raise StatementError(f"unknown field '{unknown[0]}': there are {', '.join(sorted(_FIELDS))}")
    sql, params, key = request.get("sql"), request.get("params", []), request.get("key")
    if not isinstance(sql, str):
        raise StatementError("'sql' must be a string")
    if not isinstance(params, list | dict):
        raise StatementError("'params' must be a list, or an object of named parameters")
    if not isinstance(key, str | None):
        raise StatementError("'key' must be a string")
    return sql, params, key


async def serve(pair: Pair, guest: SqliteGuest, listen: str) -> None:
    """Serve while the guest runs on this side; returns when this side is over.

    What ended it is the pair's to tell. Raises AddressError and OSError when it cannot listen.
    """
    with contextlib.suppress(NotRunning, ProtocolError):
        async with SqliteServer(pair, guest, listen) as server:
            pair.announce(str(server.address))
            await pair.wait()


class ServedSqlite(SqliteGuest):
    """An `SqliteGuest` that knows where its clients find it, for drivers that start `serve`."""

    def __init__(self, capacity: int, *, schema: str = "", listen: str) -> None:
        super().__init__(capacity, schema=schema)
        self.listen = listen

    async def serve(self, pair: Pair) -> None:
        """See `serve`."""
        await serve(pair, self, self.listen)


def guest() -> ServedSqlite:
    """The guest that the environment describes; all of it may be left out.

    COLO_FSM_SQLITE_LISTEN: tcp:HOST:PORT or unix:PATH, else tcp:127.0.0.1:5433.
    COLO_FSM_SQLITE_CAPACITY: in bytes, else 16 MiB; the same on both sides.
    COLO_FSM_SQLITE_SCHEMA: a file of SQL that makes the tables (at most 1 MiB), else none are made.

    Raises ValueError, which names the variable.
    """
    listen = os.environ.get("COLO_FSM_SQLITE_LISTEN", "tcp:127.0.0.1:5433")
    capacity = os.environ.get("COLO_FSM_SQLITE_CAPACITY", str(16 << 20))
    schema = os.environ.get("COLO_FSM_SQLITE_SCHEMA")
    try:
        Address.parse(listen)  # now: a Secondary listens only when it has taken over
    except AddressError as error:
        raise ValueError(f"COLO_FSM_SQLITE_LISTEN: {error}") from None
    if re.fullmatch("[0-9]{1,12}", capacity) is None:
        raise ValueError(f"COLO_FSM_SQLITE_CAPACITY must be a number of bytes, not '{capacity}'")
    if int(capacity) > MOST_CAPACITY:
        raise ValueError(f"COLO_FSM_SQLITE_CAPACITY must be at most {MOST_CAPACITY}, not {capacity}")
    try:
        return ServedSqlite(int(capacity), schema=_script(schema) if schema else "", listen=listen)
    except CapacityExceeded as error:
        raise ValueError(f"COLO_FSM_SQLITE_CAPACITY={capacity}: {error}") from None
    except (OSError, OpenTransaction, ValueError, sqlite3.Error, sqlite3.Warning) as error:
        raise ValueError(f"COLO_FSM_SQLITE_SCHEMA={schema}: {error}") from None


def _script(path: str) -> str:
    """What is in this file. Raises OSError, ValueError."""
    with open(path, encoding="utf-8") as file:
        script = file.read(SCHEMA_LIMIT + 1)
    if len(script) > SCHEMA_LIMIT:
        raise ValueError(f"more than {SCHEMA_LIMIT} characters: is it SQL?")
    return script
