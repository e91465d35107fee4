"""Who may come in: connections are looked at side by side, and only one that begins a stream is let in.

A stranger costs a descriptor and a few bytes for as long as `greeting_deadline`, whatever it sends: nothing
is read from a connection here, what it shows stays in the kernel for whoever takes it. When more than
`MOST_VISITORS` wait, the one that has shown least for longest has to go. Who comes while somebody is inside
is told that we are busy: in words if it speaks our own wire (see `fsm.wire`), else its link just ends.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import attrs

from colo_fsm.fsm import SIGN_OF_LIFE, encode_refusal
from colo_fsm.stream import Greeting, StreamError
from colo_fsm.stream.format import MACHINE, MULTIFD_MAGIC, U32

from .link import MOMENT, UNUSABLE, Link, Listener, accept, hang_up, tuned
from .wish import LONGEST, Script, Wait

MOST_VISITORS = 64
"""Connections that may wait at the door."""

PARTING = 1.0
"""Seconds for one who is refused to read why."""

QUIET = 1.0
"""Seconds between two reports: a scan of a thousand is a handful of lines."""

BUSY = "busy: this side has a Primary already"
NO_STREAM = "it said nothing that begins a migration stream"

LET_RUN = bytes(4)
"""Checkpoint-ready, for a QEMU that is refused. Up to 10.0 one that has sent its whole stream stands still
until it has read that; then it runs on, and meets the end of the link at its next round. While it sends, and
from 11 on, its migration fails, and it runs on as well."""

_CHANNEL = U32.pack(MULTIFD_MAGIC)
_HUNG_UP = "it has hung up before it sent anything of its memory"
_NOTHING = (NO_STREAM, f"{NO_STREAM}: {os.strerror(errno.ECONNRESET)}", _HUNG_UP)
_MULTIFD = "a connection of multifd's is not read here: switch multifd off at the Primary"
_READ = 1 << 18
_SHOWN = 4096
"""Bytes to look at: a greeting, and a few hundred signs of life."""
_SHOWS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_log = logging.getLogger(__name__)

Report = Callable[[str, int], object]
"""Told why somebody was refused, the last of so many."""


@runtime_checkable
class Visitors(Protocol):
    """Where a Secondary's link comes from, and where it goes when it was the wrong one."""

    def next(self, given_up: Callable[[], bool]) -> Script[Link | None]:
        """The next one, None once somebody woke the script and `given_up`. Raises OSError."""

    def dismiss(self, link: Link, why: str) -> None:
        """It was the wrong one."""

    def engaged(self) -> None:
        """It was the right one: nobody else is wanted."""

    def parted(self) -> None:
        """It has gone."""

    def close(self) -> None:
        """Nobody is wanted any more."""


class OneByOne:
    """Visitors of any kind of listener, each let in as it comes."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def next(self, given_up: Callable[[], bool]) -> Script[Link | None]:
        return accept(self._listener, given_up)

    def dismiss(self, link: Link, why: str) -> None:
        hang_up(link)

    def engaged(self) -> None:
        self._listener.close()

    def parted(self) -> None:
        """Nobody can come."""

    def close(self) -> None:
        self._listener.close()


@attrs.define(eq=False)
class _Visitor:
    """One who waits, until `due`.

    `shown`: it has begun a stream, `own`: one of our own, `vm`: one of QEMU's; `channel`: it is a further
    connection of multifd's; `leaving`: it was told why not.
    """

    link: socket.socket
    due: float
    own: bool = False
    vm: bool = False
    channel: bool = False
    shown: bool = False
    leaving: bool = False


class Door:
    """Visitors of a socket, looked at by a thread of its own; `close` ends it and closes the listener.

    `wanted` says of a machine's name why its stream is not, or None; `own`: those are our own. `knock` is
    called when `next` may have an answer. `patience`: seconds between the first bytes of a stream and what
    follows. `once`: when the one inside has gone nobody else may come. `channels`: multifd's further
    connections may come behind their Primary.
    """

    def __init__(
        self,
        listener: socket.socket,
        wanted: Callable[[str], str | None],
        *,
        own: bool,
        greeting_deadline: float,
        patience: float,
        knock: Callable[[], object] = lambda: None,
        report: Report = lambda why, count: None,
        once: bool = True,
        channels: bool = False,
    ) -> None:
        self.knock = knock
        self.report = report
        self._listener = listener
        self._wanted = wanted
        self._own = own
        self._greeting = greeting_deadline
        self._patience = patience
        self._once = once
        self._channels = channels
        self._lock = threading.RLock()
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._visitors: dict[int, _Visitor] = {}
        self._shown: list[_Visitor] = []
        """Those that may come in, in the order of showing it."""
        self._busy = self._closed = False
        self._error: OSError | None = None
        self._accept_at = self._report_at = 0.0
        self._unreported, self._why = 0, ""
        self._multifd_until = 0.0
        listener.setblocking(False)
        self._poll.register(self._wake, select.EPOLLIN)
        self._poll.register(listener, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="colo-fsm door", daemon=True)
        self._thread.start()

    # -- for the script -------------------------------------------------------------------------

    def next(self, given_up: Callable[[], bool]) -> Script[Link | None]:
        """See `Visitors.next`."""
        while not given_up():
            if (link := self.take()) is not None:
                return link
            yield Wait()
        return None

    def take(self) -> socket.socket | None:
        """Who may come in now, if there is one. Raises OSError if the listener is of no use."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._shown or self._closed:
                return None
            visitor = self._shown.pop(0)
            self._forget(visitor)
            return visitor.link

    def dismiss(self, link: Link, why: str) -> None:
        """It was the wrong one. It is told why, if it was one of ours, and has a moment to read it."""
        assert isinstance(link, socket.socket)
        self._part_from(link, why, words=self._own)

    def engaged(self) -> None:
        """See `Visitors.engaged`."""
        with self._lock:
            self._busy = True
            for visitor in list(self._visitors.values()):
                if visitor.channel:
                    self._welcome(visitor, more=True)
                elif visitor.shown:
                    self._refuse(visitor, BUSY)

    def parted(self) -> None:
        """See `Visitors.parted`."""
        if self._once:
            self.close()
        self._busy = False

    def close(self) -> None:
        """See `Visitors.close`. Those who wait are hung up on, and no descriptor is left."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            hang_up(self._listener)
            for visitor in list(self._visitors.values()):
                self._drop(visitor)
            os.eventfd_write(self._wake, 1)
        if threading.current_thread() is not self._thread:
            self._thread.join(PARTING)  # at once: it waits for nothing but us

    @property
    def multifd(self) -> bool:
        """Whether a Primary with multifd was refused just now: what else becomes of it needs no words."""
        return time.monotonic() < self._multifd_until

    # -- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            events = self._poll.poll(self._timeout())
            with self._lock:
                if self._closed:
                    break
                for fd, event in events:
                    if fd == self._wake:
                        os.eventfd_read(self._wake)
                    elif (visitor := self._visitors.get(fd)) is not None:
                        self._look(visitor, event)
                    elif fd == self._listener.fileno():
                        self._accept()
                self._look_at_the_clock()
        os.close(self._wake)
        self._poll.close()

    def _timeout(self) -> float:
        with self._lock:
            due = [v.due for v in self._visitors.values()]
            due += [self._accept_at] if self._accept_at else []
            due += [self._report_at] if self._unreported else []
            return max(0.0, min(LONGEST, min(due) - time.monotonic())) if due else -1.0

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        for visitor in [v for v in self._visitors.values() if v.due <= now]:
            self._refuse(visitor, NO_STREAM)
        if self._accept_at and self._accept_at <= now:
            self._accept_at = 0.0
            self._poll.register(self._listener, select.EPOLLIN)
        if self._unreported and self._report_at <= now:
            self._report()

    def _accept(self) -> None:
        try:
            link: socket.socket = tuned(self._listener.accept()[0])
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in UNUSABLE:
                self._poll.unregister(self._listener)
                self._error = error
                self.knock()
            elif error.errno in (errno.EMFILE, errno.ENFILE) and self._visitors:
                self._make_room()
            else:
                _log.warning("Can't accept a connection, listening on: %s", error)
                self._poll.unregister(self._listener)
                self._accept_at = time.monotonic() + MOMENT
            return
        if len(self._visitors) >= MOST_VISITORS:
            self._make_room()
        self._visitors[link.fileno()] = _Visitor(link, time.monotonic() + self._greeting)
        self._poll.register(link, _SHOWS)

    def _make_room(self) -> None:
        """Whoever has shown least goes, and of those the one who came first."""
        least = min(self._visitors.values(), key=lambda v: (v in self._shown, v.shown))
        self._noted("too many waited at once")
        self._drop(least)

    def _look(self, visitor: _Visitor, event: int) -> None:
        if visitor.leaving:
            self._read_on(visitor)
            return
        greeting = Greeting()
        try:
            head = visitor.link.recv(_SHOWN, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError as error:
            self._refuse(visitor, f"{NO_STREAM}: {error.strerror}")
            return
        if self._channels and head.startswith(_CHANNEL):
            visitor.channel = True  # QEMU makes them before its stream has begun
            if self._busy:
                self._welcome(visitor, more=True)
            return
        try:
            size = greeting.feed(head)
        except StreamError as error:
            self._refuse(visitor, _MULTIFD if head.startswith(_CHANNEL) else f"{NO_STREAM}: {error}")
            return
        visitor.own = greeting.machine == MACHINE
        visitor.vm = greeting.complete and not visitor.own
        while head.startswith(SIGN_OF_LIFE, size):  # it is still saving its guest
            size += len(SIGN_OF_LIFE)
        if greeting.complete and (why := BUSY if self._busy else self._wanted(greeting.machine)):
            self._refuse(visitor, why)
        elif event & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR) and len(head) <= size:
            self._refuse(visitor, _HUNG_UP)
        elif greeting.complete:
            self._welcome(visitor, more=len(head) > size or len(head) == _SHOWN)

    def _welcome(self, visitor: _Visitor, more: bool) -> None:
        if not visitor.shown:
            visitor.shown = True
            visitor.due = time.monotonic() + self._patience
        if more and visitor not in self._shown:
            visitor.due = float("inf")
            self._shown.append(visitor)
            self.knock()

    # -- who is refused -------------------------------------------------------------------------

    def _refuse(self, visitor: _Visitor, why: str) -> None:
        if visitor.leaving:
            self._drop(visitor)
            return
        self._noted(why)
        if visitor.vm:
            self._drop(visitor)
            return
        self._forget(visitor)
        self._part_from(visitor.link, why, words=visitor.own)

    def _part_from(self, link: socket.socket, why: str, words: bool) -> None:
        """Words for one of ours, which has a moment to read them; any other link just ends."""
        with self._lock:
            if not words or self._closed or len(self._visitors) >= MOST_VISITORS:
                hang_up(link)
                return
            try:
                link.send(encode_refusal(why))
                link.shutdown(socket.SHUT_WR)
            except OSError:
                hang_up(link)
                return
            self._visitors[link.fileno()] = _Visitor(link, time.monotonic() + PARTING, leaving=True)
            self._poll.register(link, select.EPOLLIN | select.EPOLLRDHUP)
            os.eventfd_write(self._wake, 1)

    def _read_on(self, visitor: _Visitor) -> None:
        """What it still sends is thrown away: closed with bytes unread, a link loses what we have said."""
        try:
            if visitor.link.recv(_READ):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(visitor)

    def _forget(self, visitor: _Visitor) -> None:
        """It is not the door's any more."""
        del self._visitors[visitor.link.fileno()]
        self._poll.unregister(visitor.link)
        if visitor in self._shown:
            self._shown.remove(visitor)

    def _drop(self, visitor: _Visitor) -> None:
        self._forget(visitor)
        if visitor.vm:
            let_run(visitor.link, LET_RUN)
        hang_up(visitor.link)

    def _noted(self, why: str) -> None:
        """To be reported; but all connections of a Primary with multifd at once, by its name."""
        if why == _MULTIFD or (self.multifd and why in _NOTHING):
            known, self._multifd_until = self.multifd, time.monotonic() + self._greeting
            if known:
                return
        self._why = why
        self._unreported += 1
        if time.monotonic() >= self._report_at:
            self._report()

    def _report(self) -> None:
        count, self._unreported = self._unreported, 0
        self._report_at = time.monotonic() + QUIET
        try:
            self.report(self._why, count)
        except Exception:  # noqa: BLE001 - whoever is told must not keep the others out
            _log.exception("whoever is told of those refused has failed at %s", self._why)


def let_run(link: Link, words: bytes) -> None:
    """Say this to a QEMU that is refused, if it goes out at once: hang up then."""
    with contextlib.suppress(OSError):
        link.sendmsg([words])


def ours(machine: str) -> str | None:
    """Why a stream of this machine is not one for a guest of our own."""
    if machine == MACHINE:
        return None
    return f"this is a VM of QEMU's ({machine!r}): colo-fsm standby holds those"
