"""Taking connections for as long as somebody wants them, whatever happens to a single one."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import time
from collections.abc import Callable

PAUSE = 0.1
"""Seconds to wait where there is no room for another connection."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH)
_log = logging.getLogger(__name__)


def next_link(listener: socket.socket, over: Callable[[], bool]) -> socket.socket | None:
    """The next connection, or None: it is over, and `listener` was shut down for that.

    A connection that fails before it was taken is not the last one, nor is one for which there is no
    room now. Raises OSError if the listener itself is of no use.
    """
    while not over():
        try:
            return listener.accept()[0]
        except OSError as error:
            if over():
                break
            if error.errno not in _NO_ROOM + _GONE:
                raise
            _log.warning("cannot take a connection: %s", error)
            if error.errno in _NO_ROOM:
                time.sleep(PAUSE)
    return None


def hang_up(link: socket.socket) -> None:
    """End this connection, or this listening, for whoever waits on it, too; close it later."""
    with contextlib.suppress(OSError):  # it is not connected any more
        link.shutdown(socket.SHUT_RDWR)
