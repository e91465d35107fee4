"""Links: what a script needs of a socket, how it connects and accepts, and how a link ends.

Sockets here never block. A simulation hands in objects of its own with the methods of `Link`,
`Listener` and `Place`.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from colo_fsm.stream.memory import MOST_BUFFERS, Buffer

from .wish import Call, Script, Wait, pause

READ_SIZE = 1 << 20
SMALL_READ = 1 << 16
"""Below what malloc maps anew for each buffer, which costs more than to read a message."""

MOMENT = 0.05
"""Seconds between two tries to connect, and at least for one; also after a connection that failed."""

UNUSABLE = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP})
"""What accept(2) says when nothing will ever be accepted; all else is about one connection, or passes."""

_log = logging.getLogger(__name__)


class Link(Protocol):
    """A connected stream socket, as far as a script uses it. All of it may raise OSError."""

    @property
    def family(self) -> int: ...
    def setblocking(self, flag: bool, /) -> None: ...
    def connect(self, where: Any, /) -> None: ...
    def getpeername(self) -> Any: ...
    def getsockopt(self, level: int, option: int, /) -> int: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def sendmsg(self, buffers: Sequence[Buffer], /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Listener(Protocol):
    """Where connections arrive."""

    def setblocking(self, flag: bool, /) -> None: ...
    def getsockname(self) -> Any: ...
    def accept(self) -> tuple[Any, Any]: ...
    def close(self) -> None: ...


@runtime_checkable
class Place(Protocol):
    """Where one connects to, or listens. `str()` of it names it in errors."""

    def resolve(self) -> Sequence[tuple[int, Any]]:
        """The ways there, best first: address family and what `Link.connect` takes. May block."""

    def new_socket(self, family: int) -> Link:
        """A socket that is not connected yet."""

    def listen(self) -> Listener:
        """A listening socket. May block."""


def link_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a link inside this process: hand one to `primary(peer=...)`, one to
    `secondary(listen=...)`. Takes no port and no file.
    """
    return socket.socketpair()


# -- a forked child must not keep a link alive --------------------------------------------------

_ours: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def keep_from_children(sock: Any) -> None:
    """Close the copy of this socket that a forked child gets: else the peer never sees ours end."""
    if isinstance(sock, socket.socket):
        _ours.add(sock)


def _close_copies() -> None:
    for sock in list(_ours):
        sock.close()


os.register_at_fork(after_in_child=_close_copies)


def tuned(link: Any) -> Any:
    """A link as the drivers want it: not blocking, and small messages leave at once."""
    link.setblocking(False)
    if link.family in (socket.AF_INET, socket.AF_INET6):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_from_children(link)
    return link


def hang_up(link: Link) -> None:
    """End the link for the peer, whoever else holds its descriptor, and close it."""
    with suppress(OSError):  # it has ended already
        link.shutdown(socket.SHUT_RDWR)
    link.close()


# -- how a link comes about ---------------------------------------------------------------------


def connect(
    place: Place, timeout: float, clock: Callable[[], float], given_up: Callable[[], bool]
) -> Script[Link | None]:
    """A connected link; tries for `timeout` seconds while nobody listens there.

    None once somebody woke the script and `given_up`. Raises OSError.
    """
    end = clock() + timeout
    while not given_up():
        try:
            return (yield from _connect(place, max(end, clock() + MOMENT), clock, given_up))
        except TimeoutError as error:
            raise TimeoutError(f"{place} does not answer: is the other machine up?") from error
        except (ConnectionRefusedError, FileNotFoundError) as error:
            if clock() >= end:
                raise ConnectionRefusedError(
                    error.errno, f"nobody listens at {place}: start the Secondary first"
                ) from error
        yield from pause(MOMENT)
    return None


def _connect(
    place: Place, end: float, clock: Callable[[], float], given_up: Callable[[], bool]
) -> Script[Link | None]:
    """One try of every way there; each has its share of the time."""
    ways = yield Call(place.resolve, timeout=end - clock(), seldom=True)
    refused: OSError | None = None
    for left, (family, where) in zip(range(len(ways), 0, -1), ways, strict=True):
        link = place.new_socket(family)
        try:
            now = clock()
            if (yield from _reached(link, where, now + (end - now) / left, clock, given_up)):
                return link
        except OSError as error:
            refused = error
        except BaseException:
            link.close()
            raise
        link.close()
    if refused is not None:
        raise refused
    return None


def _reached(
    link: Link, where: Any, end: float, clock: Callable[[], float], given_up: Callable[[], bool]
) -> Script[bool]:
    while not given_up():
        try:
            link.connect(where)
        except BlockingIOError as error:
            if error.errno == errno.EINPROGRESS:
                break
            if clock() >= end:
                raise TimeoutError from error
            yield from pause(MOMENT)  # a Unix socket whose queue is full
        else:
            return True
    while not given_up():
        yield Wait(link, writing=True, timeout=max(0.0, end - clock()))
        if number := link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))
        with suppress(OSError):  # not connected yet: somebody woke us
            link.getpeername()
            return True
    return False


def accept(listener: Listener, given_up: Callable[[], bool]) -> Script[Link | None]:
    """The first connection, or None once somebody woke the script and `given_up`.

    One that fails is not the listener's end, nor is it that there is no descriptor left just now.
    """
    while not given_up():
        yield Wait(listener)
        try:
            link: Link = tuned(listener.accept()[0])
        except BlockingIOError:
            continue  # whoever knocked has gone again, or somebody woke us
        except OSError as error:
            if error.errno in UNUSABLE:
                raise
            _log.warning("Can't accept a connection, listening on: %s", error)
            yield from pause(MOMENT)
        else:
            return link
    return None


# -- bytes --------------------------------------------------------------------------------------


def receive(link: Link, most: int = SMALL_READ, *, ours: bool = False) -> bytes:
    """What has arrived, at most so many bytes, b"" at the end. Raises BlockingIOError, OSError.

    Acknowledged at once unless the peer is one of `ours`: QEMU sets no TCP_NODELAY, so its second small write
    in a row waits until the first one is acknowledged, which the kernel would put off for 40 ms. The option
    does not last.
    """
    data = link.recv(most)
    if not ours and link.family in (socket.AF_INET, socket.AF_INET6):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    return data


class Outgoing:
    """Buffers on their way out, many small ones in one write."""

    def __init__(self, buffers: list[Buffer]) -> None:
        self._size = sum(map(len, buffers))
        self.left = buffers if self._size else []

    def send_some(self, link: Link) -> bool:
        """Send what the socket takes now; whether it took anything. Raises OSError."""
        before = self.left
        while self.left:
            try:
                sent = link.sendmsg(self.left[:MOST_BUFFERS])
            except BlockingIOError:
                break
            self._size -= sent
            if self._size:
                self._advance(sent)
            else:
                self.left = []
        return self.left is not before

    def _advance(self, sent: int) -> None:
        whole = 0
        for view in self.left:
            if sent < len(view):
                break
            sent -= len(view)
            whole += 1
        self.left = self.left[whole:]
        if sent:
            self.left[0] = memoryview(self.left[0])[sent:]
