"""A socket pair with a process at its other end, read line by line: how `qemu` talks QMP and qtest."""

from __future__ import annotations

import contextlib
import select
import socket
import struct

PATIENCE = 60.0
"""Seconds that anything may take on a busy machine before it counts as hung."""


class Lines:
    """Our end of a socket pair whose other end QEMU inherits: whole lines in, whole lines out."""

    def __init__(self) -> None:
        self.socket, self.theirs = socket.socketpair()
        self.ended = False
        self._rest = bytearray()
        patience = struct.pack("ll", int(PATIENCE), 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)

    def arrived(self) -> list[bytes]:
        """The lines that are there, without waiting."""
        lines: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while not self.ended:
                data = self._receive()
                self.ended = not data
                *whole, rest = data.split(b"\n")
                for line in whole:
                    lines.append(bytes(self._rest) + line)
                    self._rest.clear()
                self._rest += rest
        return lines

    def _receive(self) -> bytes:
        try:
            return self.socket.recv(1 << 20, socket.MSG_DONTWAIT)
        except ConnectionResetError:  # it was killed with a line of ours unread
            return b""

    def wait(self, seconds: float | None = None) -> None:
        """Until something arrives or it ended, or that long."""
        select.select([self.socket], [], [], seconds)

    def close(self) -> None:
        self.socket.close()
        self.theirs.close()
