"""What carries bytes between the tester and a side under test, and what starts such a side."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from colo_fsm.fsm import CompleteTable
from colo_fsm.replica.link import hang_up, receive
from colo_fsm.stream import Buffer

from .voice import Voice

TAKEN, TCP_TAKEN = 0.25, 0.001
"""Seconds: for how long a piece that was written is waited for, and by how much the next follows over TCP."""


class CannotTest(Exception):
    """The side under test cannot be reached or started: nothing can be said of it. The text says why."""


class Link(Protocol):
    """The way to a side that was started afresh."""

    def send(self, data: Iterable[Buffer]) -> None:
        """Write all of it; what a side that has ended does not take is dropped."""

    def apart(self) -> None:
        """What is sent next is to be read apart from what was sent, as far as that is in our hands."""
        return

    def receive(self, timeout: float) -> bytes | None:
        """What has come, b"" once the side has given the pair up; None: nothing in `timeout` seconds."""

    def end(self) -> None:
        """End our half: the side reads the end of its link."""

    def evidence(self) -> str:
        """What else there is to say of the side, for a report: its last words, say."""

    def crash(self, quiet: float = 0.0) -> str | None:
        """The signal that has ended the side, if one has: that fails a case whatever else it did.

        `quiet`: how many seconds a side that has closed its link may take to end.
        """
        return None


class Target(Protocol):
    """A side under test, any number of times: each case has one of its own."""

    @property
    def name(self) -> str:
        """As reports name it."""

    @property
    def table(self) -> CompleteTable:
        """The declared machine that it is held against, of the side that it is."""

    def fresh(self) -> AbstractContextManager[tuple[Link, Voice]]:
        """A side that has just been started and is connected to. Raises CannotTest."""


class SocketLink(Link):
    """A connected stream socket as a link; `patience` is how long a write may stand still."""

    def __init__(self, sock: socket.socket, patience: float) -> None:
        self._socket, self._patience = sock, patience
        self._ended = False
        sock.settimeout(patience)

    def send(self, data: Iterable[Buffer]) -> None:
        """See `Link`. A side that reads no more without ending the link is waited for, once."""
        with suppress(OSError):
            for buffer in data:
                if self._ended:
                    break
                self._socket.sendall(buffer)

    def apart(self) -> None:
        """Wait until the side has read it all, or for a moment: it may want more than that.

        Over TCP nobody can tell what a peer has read, only what its kernel has.
        """
        if self._socket.family != socket.AF_UNIX:
            time.sleep(TCP_TAKEN)
        until = moment() + TAKEN
        with suppress(OSError):
            while _unread(self._socket) and moment() < until:
                time.sleep(TCP_TAKEN / 10)

    def receive(self, timeout: float) -> bytes | None:
        if self._ended:
            return b""
        if not select.select([self._socket], [], [], max(0.0, timeout))[0]:
            return None
        try:
            data = receive(self._socket)
        except OSError:  # a reset ends a link too
            data = b""
        self._ended = not data
        return data

    def end(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def evidence(self) -> str:
        return ""

    def close(self) -> None:
        """The tester's end; the side sees it end."""
        hang_up(self._socket)


def moment() -> float:
    """Seconds of the clock that exchanges are noted by."""
    return time.monotonic()


def _unread(sock: socket.socket) -> int:
    """How much of what was written waits on the way; 0: nothing does."""
    (left,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))
    return int(left)
