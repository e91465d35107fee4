"""A byte relay between a Primary and a Secondary: records the link, makes it fast, cuts it where asked."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

Direction = Literal["p2s", "s2p"]


class Relay:
    """Listens, takes one connection inside its `with` block, and passes it on to `target`.

    Addresses are migration URIs, `tcp:HOST:PORT` or `unix:PATH`; port 0 picks a free one, and `uri` is where
    to connect. `chunks` has what came, (time.monotonic(), bytes) for either direction; each is recorded just
    before it is passed on. The end of one side's sending is passed on as well.
    """

    def __init__(self, target: str, listen: str = "tcp:127.0.0.1:0") -> None:
        self.target = target
        self.chunks: dict[Direction, list[tuple[float, bytes]]] = {"p2s": [], "s2p": []}
        self.over = threading.Event()
        """Set when the link was cut or one side has ended."""
        self._listen = listen
        self._limits: dict[Direction, int] = {}
        self._passed = {"p2s": 0, "s2p": 0}
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        family, address = parse(self._listen)
        server = socket.socket(family)
        self._sockets.append(server)
        server.bind(address)
        server.listen(1)
        tcp = family == socket.AF_INET
        self.uri = "tcp:{}:{}".format(*server.getsockname()) if tcp else self._listen
        self._begin(self._accept, server)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def recorded(self, direction: Direction) -> bytes:
        return b"".join(data for _, data in self.chunks[direction])

    def passed(self, direction: Direction) -> int:
        """How many bytes went that way so far."""
        return self._passed[direction]

    def cut(self, after_bytes: int = 0, direction: Direction = "p2s") -> None:
        """End the link, both ways, once `after_bytes` in all have gone that way: now, if they have already.

        Both sides see an end of file; what was passed on before still arrives. `over` says when it is done.
        """
        with self._lock:
            self._limits[direction] = after_bytes
            if self._passed[direction] >= after_bytes:
                self._hang_up()

    def stop(self) -> None:
        """Cut, and wait for the threads."""
        self._hang_up()
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="relay")
        self._threads.append(thread)
        thread.start()

    def _hang_up(self) -> None:
        self.over.set()
        for end in self._sockets:
            with contextlib.suppress(OSError):  # it is not connected any more
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, server: socket.socket) -> None:
        try:
            primary = self._keep(server.accept()[0])
            family, address = parse(self.target)
            secondary = self._keep(socket.socket(family))
            secondary.connect(address)
        except OSError:  # stopped before anybody came, or the target is not there
            self._hang_up()
            return
        self._begin(self._pass_on, "s2p", secondary, primary)
        self._pass_on("p2s", primary, secondary)

    def _keep(self, end: socket.socket) -> socket.socket:
        self._sockets.append(end)
        if self.over.is_set():
            raise ConnectionAbortedError
        return end

    def _pass_on(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        tcp = source.family == socket.AF_INET
        if sink.family == socket.AF_INET:
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := source.recv(1 << 18):
                if tcp:  # each time anew: the kernel falls back to delayed ones, 40 ms that QEMU waits for
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                data, last = self._record(direction, data)
                sink.sendall(data)
                if last:
                    self._hang_up()
                    return
            self.over.set()
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # cut, or a side was killed
            self._hang_up()

    def _record(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """What of it may pass, and whether that was the last."""
        with self._lock:
            passed = self._passed[direction]
            limit = self._limits.get(direction, passed + len(data) + 1)
            data = data[: max(limit - passed, 0)]
            self.chunks[direction].append((time.monotonic(), data))
            self._passed[direction] = passed + len(data)
            return data, self._passed[direction] >= limit


def parse(uri: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    """A migration URI as Python's sockets want it."""
    kind, _, rest = uri.partition(":")
    if kind == "unix":
        return socket.AF_UNIX, rest
    host, _, port = rest.rpartition(":")
    return socket.AF_INET, (host, int(port))
