"""The targets `tcp:HOST:PORT` and `unix:PATH`: a side that somebody else has started.

It has to take a new link for every case, and begin afresh on each: a Secondary goes on listening, a
Primary connects again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from colo_fsm.fsm import CompleteTable
from colo_fsm.replica.address import Address

from ..link import CannotTest, Link, SocketLink
from ..voice import Voice

VoiceMaker = Callable[[], Voice]
"""Makes the voice of one conversation."""


@attrs.frozen
class Connecting:
    """A side that listens at `address`; `patience`, in seconds, is how long it may take to be there."""

    address: Address
    table: CompleteTable
    voice: VoiceMaker
    patience: float

    @property
    def name(self) -> str:
        return f"{self.address}, {self.table.side}"

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        """See `Target`."""
        link = SocketLink(connected(self.address, self.patience), self.patience)
        try:
            yield link, self.voice()
        finally:
            link.close()


@attrs.frozen
class Listening:
    """A side that connects to `listener`; `patience`, in seconds, is how long it may let us wait."""

    address: Address
    table: CompleteTable
    voice: VoiceMaker
    patience: float
    listener: socket.socket

    @property
    def name(self) -> str:
        return f"{self.address}, {self.table.side}"

    @contextmanager
    def fresh(self) -> Iterator[tuple[Link, Voice]]:
        """See `Target`."""
        link = SocketLink(accepted(self.listener, self.address, self.patience), self.patience)
        try:
            yield link, self.voice()
        finally:
            link.close()


def connected(address: Address, patience: float) -> socket.socket:
    """A link to whoever listens there. Raises CannotTest."""
    try:
        return address.connect(patience)
    except OSError as error:
        raise CannotTest(f"no side to test at {address}: {error.strerror or error}") from error


def accepted(listener: socket.socket, address: Address, patience: float) -> socket.socket:
    """The link of whoever connects. Raises CannotTest."""
    listener.settimeout(patience)
    try:
        link, _ = listener.accept()
    except (TimeoutError, BlockingIOError):
        raise CannotTest(f"no side has connected to {address} in {patience:g} s") from None
    if link.family in (socket.AF_INET, socket.AF_INET6):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link
