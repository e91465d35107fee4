"""Taking connections for as long as somebody wants them, whatever happens to a single one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from colo_fsm.replica.link import accept
from colo_fsm.replica.wish import serve_here


def next_link(listener: socket.socket, over: Callable[[], bool]) -> socket.socket | None:
    """The next connection, as `accept` has it, or None: it is over, and `listener` was shut down for that.

    Raises OSError if the listener is of no use.
    """
    listener.setblocking(False)
    try:
        return serve_here(accept(listener, over))  # type: ignore[return-value]
    except OSError:
        if over():
            return None
        raise


def shut_down(link: socket.socket) -> None:
    """End this connection, or this listening, for whoever waits on it, too; close it later."""
    with contextlib.suppress(OSError):  # it is not connected any more
        link.shutdown(socket.SHUT_RDWR)
