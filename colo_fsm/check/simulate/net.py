"""A network on virtual time: listening, connecting, byte streams, and every way for them to break.

A `Socket` and a `Listener` answer like non-blocking ones: what is there now, an error, or
`BlockingIOError`. Bytes arrive in order, in pieces that have nothing to do with how they were written.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import NoReturn

from colo_fsm.stream.memory import Buffer

from .kernel import Kernel

Tamper = Callable[[list[Buffer]], list[Buffer]]


def fail(number: int) -> NoReturn:
    """Raise what the kernel answers."""
    raise OSError(number, os.strerror(number))


class Network:
    """Who listens where. `delay` in seconds, `capacity` in bytes for each direction of a connection.

    `chop`: how often a write arrives in pieces, 0 to 1.
    """

    def __init__(self, kernel: Kernel, random: Random, *, capacity: int, delay: float, chop: float) -> None:
        self.kernel = kernel
        self.capacity = capacity
        self.listeners: dict[str, Listener] = {}
        self.unreachable: set[str] = set()
        """Where the machine is without power: nothing comes back from there."""
        self.refuses: Callable[[], bool] = lambda: False
        """Asked when somebody has tried to connect: whether nobody listens, whatever `listeners` says."""
        self._random = random
        self._delay = delay
        self._chop = chop

    def latency(self) -> float:
        """How long the next piece is under way."""
        return self._delay * (0.5 + self._random.random())

    def pieces(self, data: bytes) -> list[bytes]:
        """Cut as the wire pleases: often within a message, at the start or the end."""
        if len(data) < 2 or self._random.random() >= self._chop:
            return [data]
        cuts = {self._cut(len(data)) for _ in range(self._random.randint(1, 3))}
        edges = [0, *sorted(cuts), len(data)]
        return [data[a:b] for a, b in pairwise(edges) if a < b]

    def _cut(self, size: int) -> int:
        near = self._random.randint(1, min(16, size - 1))
        return self._random.choice((near, size - near, self._random.randint(1, size - 1)))


class Endpoint:
    """What a listener and a connection have in common."""

    family: int = socket.AF_UNIX

    def __init__(self, network: Network) -> None:
        self.network = network
        self.open = True
        self.poke: Callable[[], object] = lambda: None
        """Called when it may be ready now."""

    def after(self, delay: float, action: Callable[[], object]) -> None:
        self.network.kernel.after(delay, action)

    def setblocking(self, blocking: bool) -> None:
        """It never blocks."""

    def setsockopt(self, *_: object) -> None:
        """Nothing of this network can be tuned."""

    def close(self) -> None:
        """Nobody uses it any more."""
        raise NotImplementedError

    def vanish(self) -> None:
        """The machine that it is on is gone, and nobody says so."""
        raise NotImplementedError


class Listener(Endpoint):
    """Where one may connect to. Connections wait in it until they are accepted."""

    def __init__(self, network: Network, where: str, opened: list[Endpoint]) -> None:
        super().__init__(network)
        self._opened = opened
        if where in network.listeners:
            fail(errno.EADDRINUSE)
        self.where = where
        self.accepting: Callable[[], object] = lambda: None
        """Called before a connection is handed out. May raise OSError."""
        self._waiting: deque[Socket] = deque()
        network.listeners[where] = self

    def getsockname(self) -> str:
        return self.where

    def ready(self, writing: bool) -> bool:
        """Whether `accept` has an answer."""
        return bool(self._waiting)

    def arrived(self, connection: Socket) -> None:
        """Somebody has connected."""
        self._waiting.append(connection)
        self.poke()

    def accept(self) -> tuple[Socket, str]:
        if not self._waiting:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.accepting()
        self._opened.append(accepted := self._waiting.popleft())
        return accepted, ""

    def close(self) -> None:
        """Nobody listens here any more, and whoever waits is turned away."""
        if self.open:
            self.open = False
            del self.network.listeners[self.where]
            while self._waiting:
                self._waiting.popleft().close()

    def vanish(self) -> None:
        """The machine is gone: nobody there answers any more, or says so."""
        self.network.unreachable.add(self.where)
        while self._waiting:
            self._waiting.popleft().vanish()
        self.close()


class Socket(Endpoint):
    """One end of a connection: where one side writes, and reads what the other one wrote."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.peer: Socket | None = None
        self.tamper: Tamper | None = None
        """Changes what a write hands over, before anything else sees it."""
        self.silent = False
        """Whether what is written here arrives nowhere."""
        self.most: int | None = None
        """Take no more than so many bytes until this is None again."""
        self.limited: Callable[[], object] = lambda: None
        """Called when `most` has cut a write short."""
        self._held_until = 0.0
        self._incoming = bytearray()
        self._cut = False
        self._flying: deque[bytes] = deque()
        self._in_flight = 0
        self._blocked = False
        self._shut = False
        self._ended = False
        self._failed: int | None = None
        self._last_arrival = 0.0

    # -- connecting ---------------------------------------------------------------------------

    def connect(self, where: str) -> None:
        """Begin to connect. Raises BlockingIOError: when it can be written, `getsockopt` says how it went."""
        self.after(self.network.latency(), lambda: self._reach(where))
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    def _reach(self, where: str) -> None:
        if not self.open or where in self.network.unreachable:
            return
        listener = self.network.listeners.get(where)
        if self.network.refuses() or listener is None:
            self._failed = errno.ECONNREFUSED
        else:
            self.join(there := Socket(self.network))
            listener.arrived(there)
        self.poke()

    def join(self, peer: Socket) -> None:
        """Both are the ends of one connection now."""
        self.peer, peer.peer = peer, self

    def getsockopt(self, *_: object) -> int:
        """SO_ERROR: what has failed since it was asked last, or 0."""
        failed, self._failed = self._failed or 0, None
        return failed

    def getpeername(self) -> str:
        if self.peer is None or self._failed is not None:
            fail(errno.ENOTCONN)
        return ""

    @property
    def usable(self) -> bool:
        """Whether the link under it was there when somebody looked last."""
        return self.peer is not None and self.open and not self._cut and self._failed is None

    @property
    def whole(self) -> bool:
        """Whether both sides have it, and nothing has broken it."""
        return self.usable and self.peer is not None and self.peer.usable

    @property
    def ends(self) -> tuple[Socket, Socket]:
        """Itself, and its peer."""
        assert self.peer is not None
        return self, self.peer

    # -- reading and writing ------------------------------------------------------------------

    def ready(self, writing: bool) -> bool:
        """Whether a read or a write has an answer now."""
        if self._failed is not None:
            return True
        if self.peer is None:
            return False
        if writing:
            self._blocked = not (self._cut or self._shut or self._room())
            return not self._blocked
        return bool(self._incoming) or self._ended

    def recv(self, size: int) -> bytes:
        """What has arrived, b"" at the end. Raises BlockingIOError, OSError."""
        if self._incoming:
            data = bytes(self._incoming[:size])
            del self._incoming[:size]
            if self.peer is not None and self.peer._blocked:
                self.after(0.0, self.peer.poke)
            return data
        if self._failed is not None:
            failed, self._failed, self._ended = self._failed, None, True
            fail(failed)
        if self._ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _room(self) -> int:
        assert self.peer is not None
        room = max(0, self.network.capacity - self._in_flight - len(self.peer._incoming))
        return room if self.most is None else min(room, self.most)

    def sendmsg(self, buffers: Sequence[Buffer]) -> int:
        """How many bytes there was room for. Raises BlockingIOError, OSError."""
        if self._cut or self._shut or self._failed is not None:
            self._failed, self._ended = None, True
            fail(errno.EPIPE)
        size = sum(map(len, buffers))
        if self.tamper is not None and (changed := self.tamper(list(buffers))) != buffers:
            self._send(b"".join(changed))  # all of it: the writer knows nothing of the change
            return size
        if self.most is not None and self.most < size:
            self.limited()  # which may lift it
        sent = min(size, self._room())
        if size and not sent:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if self.most is not None:
            self.most -= sent
        self._send(b"".join(buffers)[:sent])
        return sent

    def inject(self, data: bytes) -> None:
        """Bytes that nobody at this end has written."""
        self._send(data)

    def _send(self, data: bytes) -> None:
        self._in_flight += len(data)
        for piece in self.network.pieces(data):
            self._fly(piece)

    def _fly(self, piece: bytes) -> None:
        now = self.network.kernel.now
        self._flying.append(piece)
        self._last_arrival = max(self._last_arrival, self._held_until, now + self.network.latency())
        self.after(self._last_arrival - now, self._arrive)

    def _arrive(self) -> None:
        if not self._flying:
            return  # lost meanwhile
        now = self.network.kernel.now
        if self._held_until > now:  # held after it was sent
            self.after(self._held_until - now, self._arrive)
            return
        piece = self._flying.popleft()
        if self.silent:
            return  # no room comes back: the writer's buffer fills, as it does on a dead link
        self._in_flight -= len(piece)
        peer = self.peer
        assert peer is not None
        if piece == b"":
            peer._ended = True
        elif peer.open:
            peer._incoming += piece
        else:  # nobody is there any more: a reset comes back
            self.after(self.network.latency(), self._reset)
        peer.poke()

    # -- ending -------------------------------------------------------------------------------

    def _reset(self) -> None:
        if self.open and self.peer is not None and not self.peer.silent:
            self._failed = errno.ECONNRESET
            self.poke()

    def shutdown(self, how: int) -> None:
        """Say that nothing more will be written. Raises OSError where nobody is connected."""
        if self.peer is None:
            fail(errno.ENOTCONN)
        if not self._shut:
            self._shut = True
            self._fly(b"")

    def close(self) -> None:
        """As the kernel does it: unread bytes make a reset of it, else the end follows the data."""
        if not self.open:
            return
        self.open = False
        if self.peer is None:
            return
        if self._incoming:
            self._incoming.clear()
            self.after(self.network.latency(), self.peer._reset)
        elif not self._shut:
            self._fly(b"")

    def vanish(self) -> None:
        """The machine at this end is gone, and nobody says so: nothing arrives any more, either way."""
        self.open = False
        self.fall_silent()
        if self.peer is not None:
            self.peer.fall_silent()

    def fall_silent(self) -> None:
        """What is written here, or under way, arrives nowhere."""
        self.silent = True

    def hold(self, seconds: float) -> None:
        """What is written here, or under way, arrives no earlier than in so many seconds."""
        self._held_until = self.network.kernel.now + seconds

    def break_off(self, *, keep_tail: bool, reset: bool) -> None:
        """The link under both ends is gone: this end reads its end, or an error; nothing more is sent."""
        assert self.peer is not None
        self._cut = True
        if not keep_tail:
            self.peer._flying.clear()
            self.peer._in_flight = 0
        if reset:
            self._incoming.clear()
            self._failed = errno.ECONNRESET
        elif keep_tail:
            self.peer._fly(b"")
        else:
            self._ended = True
        self.poke()


class Place:
    """Where one process connects to, or listens: a `colo_fsm.replica.link.Place`.

    `opened` keeps what is made there, so that it ends with the process.
    """

    def __init__(self, network: Network, where: str, opened: list[Endpoint]) -> None:
        self._network = network
        self._where = where
        self._opened = opened

    def __str__(self) -> str:
        return self._where

    def resolve(self) -> Sequence[tuple[int, str]]:
        return ((Endpoint.family, self._where),)

    def new_socket(self, family: int) -> Socket:
        self._opened.append(made := Socket(self._network))
        return made

    def listen(self) -> Listener:
        self._opened.append(made := Listener(self._network, self._where, self._opened))
        return made


def connected(network: Network) -> tuple[Socket, Socket]:
    """Both ends of a connection."""
    first, second = Socket(network), Socket(network)
    first.join(second)
    return first, second
