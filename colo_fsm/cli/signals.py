"""What ^C and SIGTERM do to a command that must end in order."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

from .output import INTERRUPTED

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def ended_by_signals(end: Callable[[], object]) -> Iterator[None]:
    """While inside, SIGTERM and ^C call `end`, from a thread of its own; a second ^C waits for nothing.

    A handler in Python runs when the main thread comes to it: one that has just begun to wait for
    something else does not. What the kernel writes to the wakeup descriptor is heard at once.
    """
    hear, tell = socket.socketpair()
    thread = threading.Thread(target=_listen, args=(hear, end), name="signals", daemon=True)
    with hear:
        thread.start()
        try:
            with tell:
                tell.setblocking(False)
                fd = signal.set_wakeup_fd(tell.fileno())
                before = [signal.signal(number, lambda *_: None) for number in NUMBERS]
                try:
                    yield
                finally:
                    for number, handler in zip(NUMBERS, before, strict=True):
                        signal.signal(number, handler)
                    signal.set_wakeup_fd(fd)
        finally:
            thread.join()  # also behind an error: what it listens to is closed then


def _listen(hear: socket.socket, end: Callable[[], object]) -> None:
    interrupted = False
    while number := hear.recv(1):
        if number[0] in NUMBERS:
            if interrupted and number[0] == signal.SIGINT:
                os._exit(INTERRUPTED)  # as safe as SIGKILL, which a side must survive at any moment
            interrupted |= number[0] == signal.SIGINT
            end()
