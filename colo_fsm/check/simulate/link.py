"""A link between two sides: two byte streams with latency, limited room, and every way to break.

Bytes arrive in order, in pieces that have nothing to do with how they were written. Each end answers
like a non-blocking socket: what is there now, an error, or nothing yet.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

from colo_fsm.stream.memory import Buffer

from .kernel import Kernel

Tamper = Callable[[list[Buffer]], list[Buffer]]


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class End:
    """One end of a link: where one side writes, and reads what the other one wrote."""

    def __init__(self, link: Link, name: str) -> None:
        self.link = link
        self.name = name
        self.peer: End
        self.poke: Callable[[], object] = lambda: None
        """Called when a read or a write may have an answer now."""
        self.tamper: Tamper | None = None
        """Changes what a write hands over, before anything else sees it."""
        self.open = True
        self.silent = False
        """Whether what is written here from now on arrives nowhere."""
        self.held_until = 0.0
        """What is written here arrives no earlier than this."""
        self.most: int | None = None
        """Take no more than so many bytes until this is None again."""
        self.limited: Callable[[], object] = lambda: None
        """Called when `most` has cut a write short."""
        self._incoming = bytearray()
        self._cut = False
        self._flying: deque[bytes] = deque()
        self._in_flight = 0
        self._blocked = False
        self._ended = False
        self._failed: int | None = None
        self._last_arrival = 0.0

    @property
    def usable(self) -> bool:
        """Whether the link under it was there when somebody looked last."""
        return self.open and not self._cut and self._failed is None

    def read(self) -> bytes | None:
        """What has arrived, b"" at the end, None while nothing has. Raises OSError."""
        if self._incoming:
            data = bytes(self._incoming)
            self._incoming.clear()
            if self.peer._blocked:
                self.link.kernel.after(0.0, self.peer.poke)
            return data
        if self._failed is not None:
            failed, self._failed, self._ended = self._failed, None, True
            raise _error(failed)
        return b"" if self._ended else None

    def write(self, buffers: Sequence[Buffer]) -> list[Buffer]:
        """Take what there is room for; what is left. Raises OSError."""
        if self._cut or self._failed is not None:
            self._failed, self._ended = None, True
            raise _error(errno.EPIPE)
        data = b"".join(buffers)
        room = max(0, self.link.capacity - self._in_flight - len(self.peer._incoming))
        if self.most is not None and self.most < len(data):
            self.limited()  # which may lift it
        if self.most is not None:
            room = min(room, self.most)
            self.most -= min(len(data), room)
        if room:
            self._send(data[:room])
        self._blocked = len(data) > room
        return [memoryview(data)[room:]] if self._blocked else []

    def inject(self, data: bytes) -> None:
        """Bytes that nobody at this end has written."""
        self._send(data)

    def _send(self, data: bytes) -> None:
        self._in_flight += len(data)
        link = self.link
        for piece in link.pieces(data):
            self._flying.append(piece)
            self._last_arrival = max(self._last_arrival, self.held_until, link.kernel.now + link.latency())
            link.kernel.after(self._last_arrival - link.kernel.now, self._arrive)

    def _arrive(self) -> None:
        if not self._flying:
            return  # lost meanwhile
        if self.held_until > self.link.kernel.now:  # held after it was sent
            self.link.kernel.after(self.held_until - self.link.kernel.now, self._arrive)
            return
        piece = self._flying.popleft()
        if self.silent:
            return  # no room comes back: the writer's buffer fills, as it does on a dead link
        self._in_flight -= len(piece)
        peer = self.peer
        if piece == b"":
            peer._ended = True
        elif peer.open:
            peer._incoming += piece
        else:  # nobody is there any more: a reset comes back
            self.link.kernel.after(self.link.latency(), self._reset)
        peer.poke()

    def _reset(self) -> None:
        if self.open and not self.peer.silent:
            self._failed = errno.ECONNRESET
            self.poke()

    def close(self) -> None:
        """Close it as the kernel does: unread bytes make a reset of it, else the end follows the data."""
        if not self.open:
            return
        self.open = False
        if self._incoming:
            self._incoming.clear()
            self.link.kernel.after(self.link.latency(), self.peer._reset)
        else:
            self._send_end()

    def _send_end(self) -> None:
        self._flying.append(b"")
        now = self.link.kernel.now
        self._last_arrival = max(self._last_arrival, self.held_until, now + self.link.latency())
        self.link.kernel.after(self._last_arrival - now, self._arrive)

    def vanish(self) -> None:
        """The machine at this end is gone, and nobody says so: nothing arrives any more, either way."""
        self.open = False
        self.silent = self.peer.silent = True

    def break_off(self, *, keep_tail: bool, reset: bool) -> None:
        """The link under both ends is gone: this end reads its end, or an error; nothing more is sent."""
        self._cut = True
        if not keep_tail:
            self.peer._flying.clear()
            self.peer._in_flight = 0
        if reset:
            self._incoming.clear()
            self._failed = errno.ECONNRESET
        elif keep_tail:
            self.peer._send_end()
        else:
            self._ended = True
        self.poke()


class Link:
    """Both ends. `capacity` in bytes for each direction, `delay` in seconds, `chop`: how often cut."""

    def __init__(self, kernel: Kernel, random: Random, *, capacity: int, delay: float, chop: float) -> None:
        self.kernel = kernel
        self.capacity = capacity
        self._random = random
        self._delay = delay
        self._chop = chop
        self.primary = End(self, "primary")
        self.secondary = End(self, "secondary")
        self.primary.peer, self.secondary.peer = self.secondary, self.primary

    @property
    def ends(self) -> tuple[End, End]:
        """The Primary's and the Secondary's."""
        return self.primary, self.secondary

    @property
    def whole(self) -> bool:
        """Whether both sides have it, and nothing has broken it."""
        return self.primary.usable and self.secondary.usable

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
