"""Where a peer is: `tcp:HOST:PORT` or `unix:PATH`, as QEMU writes them."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from typing import Any

import attrs

from . import link
from .wish import serve_here

_TCP = re.compile(r"tcp:(\[(?P<v6>[^][]*:[^][]*)\]|(?P<host>[^][:]+)):(?P<port>[0-9]{1,5})")


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
        if scheme == "unix" and rest and _is_path(rest):
            return cls(path=rest)
        match = _TCP.fullmatch(text)
        if match and int(match["port"]) < 1 << 16 and _is_host(host := match["v6"] or match["host"]):
            return cls(host=host, port=int(match["port"]))
        raise AddressError(f"'{text}' is no address: write tcp:HOST:PORT or unix:PATH")

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"

    @property
    def on_this_machine(self) -> bool:
        """Whether only this machine can be meant: a Unix socket or a loopback address."""
        return bool(self.path) or all(
            ipaddress.ip_address(where[0]).is_loopback for _, where in self.resolve()
        )

    def connect(self, timeout: float = 0.0) -> socket.socket:
        """A connected link; blocks, for `timeout` seconds while nobody listens there. Raises OSError."""
        made: Any = serve_here(link.connect(self, timeout, time.monotonic, lambda: False))
        return made  # type: ignore[no-any-return]

    def resolve(self) -> list[tuple[int, Any]]:
        """See `Place.resolve`. Raises OSError."""
        if self.path:
            return [(socket.AF_UNIX, self.path)]
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise OSError(f"the host of {self} is not known: {error.strerror}") from error
        return [(family, where) for family, _, _, _, where in found]

    def new_socket(self, family: int) -> socket.socket:
        """See `Place.new_socket`."""
        return link.tuned(socket.socket(family, socket.SOCK_STREAM))  # type: ignore[no-any-return]

    def listen(self, mode: int | None = None) -> socket.socket:
        """A listening socket; its `address_of` tells the port when 0 was asked for. Raises OSError.

        A Unix socket that a killed process has left behind is taken over, one in use never; closed, this
        one takes its file along. `mode`: the permissions of that file, 0o600 for its owner alone.
        """
        listener: socket.socket
        if self.path:
            try:
                _remove_stale(self.path)
                listener = UnixListener(self.path, mode)
            except OSError as error:  # which of several it is, nobody would see
                raise OSError(error.errno, error.strerror or str(error), str(self)) from error
        else:
            family, where = self.resolve()[0]
            listener = socket.create_server(where[:2], family=family)
        link.keep_from_children(listener)
        return listener


def address_of(listener: link.Listener) -> Address:
    """Where a listening socket really is."""
    where = listener.getsockname()
    return Address(path=where) if isinstance(where, str) else Address(host=where[0], port=where[1])


def _is_host(name: str) -> bool:
    """Whether a resolver can be asked for it: else it raises an error that is no OSError."""
    with contextlib.suppress(UnicodeError):
        return name.isprintable() and bool(name.encode("idna"))
    return False


def _is_path(text: str) -> bool:
    with contextlib.suppress(UnicodeError):
        return b"\0" not in os.fsencode(text)
    return False


class UnixListener(socket.socket):
    """Listens at a Unix path, whose file goes when this is closed, unless it is another's by then."""

    def __init__(self, path: str, mode: int | None = None) -> None:
        super().__init__(socket.AF_UNIX)
        self._bound: tuple[int, str, os.stat_result] | None = None
        try:
            if mode is not None:
                os.fchmod(self.fileno(), mode)  # bind() makes the file with it: it is never open to others
            self.bind(path)
            self._bound = os.getpid(), os.path.abspath(path), os.stat(path)
            self.listen()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Also of the copy that a forked child has: there, the file stays."""
        bound, self._bound = self._bound, None
        if bound is not None and bound[0] == os.getpid():
            _, path, ours = bound
            with contextlib.suppress(OSError):
                if os.path.samestat(os.lstat(path), ours):
                    os.unlink(path)
        super().close()


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens at any more: a killed process leaves it behind."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with (
            _alone_in(os.path.dirname(path) or "."),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe,
        ):
            # of another type, so that one who listens there does not take us for a Primary
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            except OSError:
                return  # somebody listens: bind() will say so


@contextlib.contextmanager
def _alone_in(folder: str) -> Iterator[None]:
    """One after the other: else who looks at a stale socket removes the one that took its place meanwhile."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a folder that cannot be locked: then without
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
