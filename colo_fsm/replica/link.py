"""Non-blocking I/O on a socket that both drivers share."""

from __future__ import annotations

import socket

from colo_fsm.stream.memory import Buffer

READ_SIZE = 1 << 18
MOST_BUFFERS = 1000
"""Below the kernel's IOV_MAX."""


def link_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a link inside this process: hand one to `primary(peer=...)`, one to
    `secondary(listen=...)`. Takes no port and no file.
    """
    return socket.socketpair()


def receive(link: socket.socket) -> bytes:
    """What has arrived, b"" at the end. Raises BlockingIOError, OSError.

    Acknowledged at once: QEMU sets no TCP_NODELAY, so its second small write in a row waits until the
    first one is acknowledged, which the kernel would put off for 40 ms. The option does not last.
    """
    data = link.recv(READ_SIZE)
    if link.family in (socket.AF_INET, socket.AF_INET6):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    return data


class Outgoing:
    """Buffers on their way out, many small ones in one write."""

    def __init__(self, buffers: list[Buffer]) -> None:
        self.left: list[Buffer] = [memoryview(b) for b in buffers if len(b)]

    def send_some(self, link: socket.socket) -> bool:
        """Send what the socket takes now; True when nothing is left. Raises OSError."""
        while self.left:
            try:
                sent = link.sendmsg(self.left[:MOST_BUFFERS])
            except BlockingIOError:
                return False
            self._advance(sent)
        return True

    def _advance(self, sent: int) -> None:
        whole = 0
        for view in self.left:
            if sent < len(view):
                break
            sent -= len(view)
            whole += 1
        del self.left[:whole]
        if sent:
            self.left[0] = self.left[0][sent:]
