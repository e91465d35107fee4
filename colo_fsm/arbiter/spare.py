"""Descriptors kept back for a claim.

A side that has no descriptor left, because its clients have taken them all, could not open the claim
database, nor start a command, and would stay suspended. So a few are kept open on /dev/null from the moment
that there is an arbiter, and are let go for as long as it is asked.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

COUNT = 8
"""A claim database is three files and its directory, a command two files and the ends of two pipes."""

_lock = threading.Lock()
_kept: list[int] = []


def keep() -> None:
    """Keep them back; as many as there are, if there are fewer."""
    with _lock, contextlib.suppress(OSError):
        while len(_kept) < COUNT:
            _kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


@contextlib.contextmanager
def lent() -> Iterator[None]:
    """Let them go meanwhile."""
    with _lock:
        while _kept:
            os.close(_kept.pop())
    try:
        yield
    finally:
        keep()
