"""Networks that are no network of QEMU's own: frames by hand, and a tap with the kernel's TCP behind it."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from packet_filter import packet
from qemu import free_port
from qemu_lines import PATIENCE

GUEST = bytes.fromhex("525400123450")
US = bytes.fromhex("020000000001")


def request(number: int) -> bytes:
    """A frame that asks the guest over UDP."""
    body = struct.pack(">HHHHQ", 4000, 7, 16, 0, number)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0)
    return GUEST + US + b"\x08\0" + head + bytes((10, 0, 2, 99, 10, 0, 2, 15)) + body


def answered(frame: bytes) -> tuple[int, int]:
    """The number of the request, and the count."""
    number, count = struct.unpack_from(">QI", frame, 42)
    return number, count


class Wire:
    """The other end of a netdev: `options` are QEMU's. Kinds: those of streams, and `dgram`."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._path, self._ours = str(folder / "net"), str(folder / "us")
        self._port = free_port()
        self.options = {
            "stream": f"stream,id=n0,server=on,addr.type=unix,addr.path={self._path}",
            "socket": f"socket,id=n0,listen=127.0.0.1:{self._port}",
            "dgram": "dgram,id=n0,local.type=unix,remote.type=unix,"
            f"local.path={self._path},remote.path={self._ours}",
        }[kind]

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """To a QEMU that is there."""
        self._link = {
            "stream": lambda: socket.socket(socket.AF_UNIX),
            "socket": lambda: socket.socket(socket.AF_INET),
            "dgram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        }[self._kind]()
        with self._link:
            if self._kind == "dgram":
                self._link.bind(self._ours)
            self._link.connect(("127.0.0.1", self._port) if self._kind == "socket" else self._path)
            yield

    def send(self, frame: bytes) -> None:
        self._link.sendall(frame if self._kind == "dgram" else packet(frame))

    def hears(self, patience: float = PATIENCE) -> bytes | None:
        """The next frame; None: there is none in time."""
        self._link.settimeout(patience)
        try:
            if self._kind == "dgram":
                return self._link.recv(2048)
            (size,) = struct.unpack(">I", self._link.recv(4, socket.MSG_WAITALL))
            return self._link.recv(size, socket.MSG_WAITALL)
        except TimeoutError:
            return None


_NEW_NETWORK = 0x40000000
_SET_ADDRESS, _SET_MASK, _SET_FLAGS, _MAKE_TAP = 0x8916, 0x891C, 0x8914, 0x400454CA
_UP_AND_RUNNING, _TAP_WITHOUT_HEAD = 0x41, 0x1002


@contextlib.contextmanager
def tap() -> Iterator[int]:
    """A tap at 10.0.2.2/24 in a network of this thread's own, for ever: call it in a thread that ends.

    Skips where that is not allowed.
    """
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "no network of one's own")
        made = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no tap here: {error}")
    try:
        fcntl.ioctl(made, _MAKE_TAP, struct.pack("16sH22x", b"tap0", _TAP_WITHOUT_HEAD))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            for what, address in ((_SET_ADDRESS, "10.0.2.2"), (_SET_MASK, "255.255.255.0")):
                where = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
                fcntl.ioctl(asked, what, struct.pack("16s16s8x", b"tap0", where))
            fcntl.ioctl(asked, _SET_FLAGS, struct.pack("16sH22x", b"tap0", _UP_AND_RUNNING))
        yield made
    finally:
        os.close(made)
