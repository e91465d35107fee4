"""One connection of a client of the SQLite service, and the memory that all of them may take.

What a connection keeps in memory is requests that have arrived and replies that have not left: held for a
checkpoint, or not read by the client. Three bounds keep that small:

- Of one client no request is run while `CLIENT_WAITING` bytes or `MOST_WAITING` replies of its wait, nor
  while it does not read. It is not read from then either, so TCP stops it.
- Over all clients no request is run while `WAITING` bytes wait. A checkpoint ends that.
- It does not where clients do not read, or do not end their requests. Then the connection that keeps most
  and has not moved for `STUCK` seconds is closed: whether its requests have happened is open, as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Protocol

from colo_fsm.replica.gate import NotRunning

from .wire import LINE_LIMIT, Host, failed, stamped

MOST_WAITING = 256
"""Replies of one connection that may wait for a checkpoint; after that its requests are not read."""

CLIENT_WAITING = 256 << 10
"""Bytes of one connection's replies that may wait, and one reply more."""

WAITING = 32 << 20
"""Bytes that may wait over all connections, and one request with its reply more."""

STUCK = 1.0
CLOSING_TIME = 1.0

CHUNK = 1 << 14
"""Bytes that are read at a time, and that a client need not have read before its next request is run."""

_RECOUNT = 0.05


class Service(Protocol):
    """What a connection is one of."""

    pair: Host
    memory: Memory

    async def answer(self, client: Connection, line: bytes) -> None:
        """Run one request and hold its reply. Raises NotRunning."""


class Memory:
    """What all connections keep; see the module."""

    def __init__(self) -> None:
        self.clients: set[Connection] = set()
        self._counted = self._added = 0
        self._counting = asyncio.Lock()

    def add(self, size: int) -> None:
        """So much more is kept; what is kept no more is found when it matters."""
        self._added += size

    async def room(self) -> None:
        """Until one more request may be run."""
        if self._counted + self._added > WAITING:
            async with self._counting:
                while self._counted + self._added > WAITING:
                    await self._make_room()

    async def _make_room(self) -> None:
        self._counted, self._added = sum(client.kept for client in self.clients), 0
        if self._counted > WAITING:
            worst = max(self.clients, key=lambda client: client.stuck)
            if worst.stuck:
                worst.cut()
            else:
                await asyncio.sleep(_RECOUNT)


class Connection:
    """One connection. Its replies leave in order because the outbox keeps it."""

    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._service = service
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=CHUNK)
        self._unread = bytearray()
        self._waiting = self._held = self._working = 0
        self._moved = time.monotonic()
        self._settled = asyncio.Event()

    @property
    def kept(self) -> int:
        """Bytes in memory for this client."""
        return self._held + self._working + self._idle

    @property
    def _idle(self) -> int:
        """Bytes that only the client can move: what it has not read, and a request that it has not ended."""
        return len(self._unread) + self._writer.transport.get_write_buffer_size()

    @property
    def stuck(self) -> int:
        """The same, 0 if they have moved a moment ago."""
        return self._idle if time.monotonic() > self._moved + STUCK else 0

    def cut(self) -> None:
        """Close without a word, because others need the room."""
        self._unread.clear()
        self._writer.transport.abort()

    async def serve(self) -> None:
        """Until the client hangs up and has its replies, or the pair stops."""
        memory = self._service.memory
        memory.clients.add(self)
        try:
            with contextlib.suppress(ConnectionError, NotRunning):
                while line := await self._line():
                    self._working = len(line)
                    await memory.room()
                    await self._service.answer(self, line)
                    self._working = 0
                    await self._until_waiting(MOST_WAITING - 1, CLIENT_WAITING)
                    await self._writer.drain()
                await self._until_waiting(0)
        finally:
            memory.clients.discard(self)
            await self._close()

    async def _line(self) -> bytes:
        """The next line; empty after the last, which is also the one after a line that is too long."""
        unread, looked = self._unread, 0
        while (end := unread.find(b"\n", looked) + 1) == 0 and len(unread) <= LINE_LIMIT:
            looked = len(unread)
            data = await self._reader.read(CHUNK)
            self._moved = time.monotonic()
            self._service.memory.add(len(data))
            if not data:
                end = len(unread)
                break
            unread += data
        else:
            if not 0 < end <= LINE_LIMIT + 1:
                unread.clear()
                self.hold(failed("null", f"a line is longer than {LINE_LIMIT} bytes: send less at a time"))
                return b""
        line = bytes(unread[:end])
        del unread[:end]
        return line

    async def _until_waiting(self, most: int, size: int = 0) -> None:
        while self._waiting > most or self._held > size:
            self._settled.clear()
            await self._settled.wait()

    def hold(self, reply: str) -> None:
        """Send this reply when a checkpoint covers what is true now."""
        size = len(reply)
        self._waiting += 1
        self._held += size
        self._service.memory.add(size)
        self._service.pair.outbox.hold(lambda: self._deliver(reply), lambda: self._drop(size))

    def _deliver(self, reply: str) -> None:
        self._settle(len(reply))
        if not self._writer.is_closing():
            if not self._writer.transport.get_write_buffer_size():
                self._moved = time.monotonic()
            line = stamped(reply, self._service.pair)
            self._writer.write(line)

    def _drop(self, size: int) -> None:
        """This side stops: whether the request has happened is for the other side to say."""
        self._settle(size)
        self._writer.close()

    def _settle(self, size: int) -> None:
        self._waiting -= 1
        self._held -= size
        self._settled.set()

    async def _close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSING_TIME):
                await self._writer.wait_closed()
        except OSError:  # a TimeoutError too: this client does not read
            self._writer.transport.abort()
