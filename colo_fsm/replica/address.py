"""Where a peer is: `tcp:HOST:PORT` or `unix:PATH`, as QEMU writes them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import stat
import time
from collections.abc import Iterator

import attrs

_TCP = re.compile(r"tcp:(\[(?P<v6>[^][]*:[^][]*)\]|(?P<host>[^][:]+)):(?P<port>[0-9]{1,5})")


MOMENT = 0.05
"""Seconds between two tries, and at least for one."""


class AddressError(ValueError):
    """A text names no address."""


@attrs.frozen
class Address:
    """A place to connect to or to listen at. `host` and `port` are for TCP, `path` for Unix."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `tcp:HOST:PORT` (an IPv6 host in brackets) or `unix:PATH`. Raises AddressError."""
        scheme, _, rest = text.partition(":")
        if scheme == "unix" and rest:
            return cls(path=rest)
        match = _TCP.fullmatch(text)
        if match and int(match["port"]) < 1 << 16:
            return cls(host=match["v6"] or match["host"], port=int(match["port"]))
        raise AddressError(f"'{text}' is no address: write tcp:HOST:PORT or unix:PATH")

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"

    @property
    def on_this_machine(self) -> bool:
        """Whether only this machine can be meant: a Unix socket or a loopback address."""
        if self.path:
            return True
        return all(ipaddress.ip_address(a[4][0]).is_loopback for a in self._resolve())

    def connect(self, timeout: float = 0.0) -> socket.socket:
        """A connected link; tries for `timeout` seconds while nobody listens there. Raises OSError."""
        end = time.monotonic() + timeout
        while True:
            try:
                return self._connect(max(MOMENT, end - time.monotonic()))
            except TimeoutError as error:
                raise TimeoutError(f"{self} does not answer: is the other machine up?") from error
            except (ConnectionRefusedError, FileNotFoundError) as error:
                if time.monotonic() >= end:
                    raise ConnectionRefusedError(
                        error.errno, f"nobody listens at {self}: start the Secondary first"
                    ) from error
            time.sleep(MOMENT)

    def _connect(self, timeout: float) -> socket.socket:
        if self.path:
            link = socket.socket(socket.AF_UNIX)
            link.settimeout(timeout)
            with _closed_on_error(link):
                link.connect(self.path)
        else:
            self._resolve()
            link = socket.create_connection((self.host, self.port), timeout)
        return tuned(link)

    def listen(self) -> socket.socket:
        """A listening socket; its `address_of` tells the port when 0 was asked for. Raises OSError."""
        if self.path:
            _remove_stale(self.path)
            listener = socket.socket(socket.AF_UNIX)
            with _closed_on_error(listener):
                listener.bind(self.path)
                listener.listen()
            return listener
        family, _, _, _, where = self._resolve()[0]
        return socket.create_server(where[:2], family=family)

    def _resolve(self) -> list[tuple[socket.AddressFamily, int, int, str, tuple[str, int]]]:
        try:
            return socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)  # type: ignore[return-value]
        except OSError as error:
            raise OSError(f"the host of {self} is not known: {error.strerror}") from error


def address_of(listener: socket.socket) -> Address:
    """Where a listening socket really is."""
    where = listener.getsockname()
    return Address(path=where) if isinstance(where, str) else Address(host=where[0], port=where[1])


def tuned(link: socket.socket) -> socket.socket:
    """A link as the drivers want it: not blocking, and small messages leave at once."""
    link.setblocking(False)
    if link.family in (socket.AF_INET, socket.AF_INET6):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens at any more: a killed process leaves it behind."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        # of another type, so that one who listens there does not take us for a Primary
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except OSError:
                return  # somebody listens: bind() will say so
