"""Answers short requests at a socket, on the event loop that runs the pair.

There, and not on threads: a loop that stands still answers nobody, so nobody is told that all is well. And so
that nobody there keeps the pair waiting, nothing is ever waited for: a visitor has `PATIENCE` for one request
of `LARGEST` bytes, a reply is one write into the empty buffer of its socket, and `MOST` may be there at once;
one more takes the place of whoever has been there the longest and has not asked yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import attrs

from colo_fsm.replica import Address
from colo_fsm.replica.link import hang_up

MOST = 32
"""Visitors at a time."""

PATIENCE = 5.0
"""Seconds that a visitor has to ask."""

PARTING = 1.0
"""Seconds in which it may read what it was told."""

LARGEST = 8192
"""Bytes of a request, at most. And about what a reply may have: less than any socket's buffer."""

MOST_HEARD = 8 * LARGEST
"""Bytes that are taken from a visitor, and thrown away once it was told."""

ACCEPTED = 4
"""Visitors let in between two looks of the loop at all else."""

Answer = Callable[[bytes], bytes | Awaitable[bytes] | None]
"""What to reply to all that has arrived, None while that is no whole request."""


@attrs.define(eq=False)
class _Visitor:
    link: socket.socket
    heard: bytes = b""
    size: int = 0
    told: bool = False
    due: asyncio.TimerHandle | None = None


class Desk:
    """`async with Desk(address, answer)`: replies to whoever comes, until its end. Raises OSError."""

    def __init__(self, address: Address, answer: Answer, mode: int | None = None) -> None:
        self._listener = address.listen(mode)
        self._listener.setblocking(False)
        self._answer = answer
        self._visitors: dict[_Visitor, None] = {}
        """Those who may have to make room, in the order in which they came."""
        self._at_work: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._listen()

    async def __aexit__(self, *_: object) -> None:
        self._loop.remove_reader(self._listener)
        if self._again is not None:
            self._again.cancel()
        self._listener.close()
        if self._at_work:  # what they asked for is decided by now: they are told
            await asyncio.wait(self._at_work, timeout=PARTING)
        for task in self._at_work:
            task.cancel()
        for visitor in list(self._visitors):
            self._part(visitor)

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED):
            try:
                link, _where = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # no descriptor is left, say: later
                self._loop.remove_reader(self._listener)
                self._again = self._loop.call_later(1.0, self._listen)
                return
            self._welcome(link)

    def _welcome(self, link: socket.socket) -> None:
        link.setblocking(False)
        if len(self._visitors) >= MOST:
            self._part(next(iter(self._visitors)))
        visitor = _Visitor(link)
        self._gets(visitor, PATIENCE)
        self._visitors[visitor] = None
        self._loop.add_reader(link, self._read, visitor)
        self._read(visitor)  # most have asked by now, and need no place

    def _read(self, visitor: _Visitor) -> None:
        try:
            data = visitor.link.recv(LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._part(visitor)
            return
        visitor.size += len(data)
        if not visitor.told:  # else it is thrown away: closed with bytes unread, a link loses our reply
            visitor.heard += data
            self._heard(visitor)
        elif visitor.size > MOST_HEARD:
            self._part(visitor)

    def _heard(self, visitor: _Visitor) -> None:
        reply = self._answer(visitor.heard)
        if isinstance(reply, bytes):
            self._reply(visitor, reply)
        elif reply is not None:
            self._leave_place(visitor)
            task = asyncio.ensure_future(self._work(visitor, reply))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)
        elif len(visitor.heard) >= LARGEST:
            self._part(visitor)

    async def _work(self, visitor: _Visitor, reply: Awaitable[bytes]) -> None:
        """What takes its time goes on, whether or not the visitor waits for it."""
        try:
            data = await reply
        except BaseException:
            visitor.link.close()
            raise
        self._visitors[visitor] = None
        self._loop.add_reader(visitor.link, self._read, visitor)
        self._reply(visitor, data)

    def _reply(self, visitor: _Visitor, data: bytes) -> None:
        visitor.told = True
        self._gets(visitor, PARTING)
        try:
            visitor.link.send(data)  # all of it, or what there is room for
            visitor.link.shutdown(socket.SHUT_WR)
        except OSError:
            self._part(visitor)

    def _gets(self, visitor: _Visitor, seconds: float) -> None:
        """It has so long from now."""
        if visitor.due is not None:
            visitor.due.cancel()
        visitor.due = self._loop.call_later(seconds, self._part, visitor)

    def _leave_place(self, visitor: _Visitor) -> None:
        """It is not asked to make room, and not listened to."""
        if visitor.due is not None:
            visitor.due.cancel()
        self._visitors.pop(visitor, None)
        self._loop.remove_reader(visitor.link)

    def _part(self, visitor: _Visitor) -> None:
        if visitor.link.fileno() < 0:
            return
        self._leave_place(visitor)
        with contextlib.suppress(OSError):
            hang_up(visitor.link)
