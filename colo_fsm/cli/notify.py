"""Tells systemd what sd_notify(3) does, as datagrams to $NOTIFY_SOCKET; without one, nobody."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from .shown import shown

LONGEST = 500
"""Characters of a status, at most."""


class Notifier:
    """Never waits: what the supervisor's queue has no room for is not told."""

    @staticmethod
    def called_for(environment: Mapping[str, str] = os.environ) -> bool:
        """Whether there is somebody to tell."""
        return bool(environment.get("NOTIFY_SOCKET"))

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._where = "\0" + path[1:] if path.startswith("@") else path
        self.wanted = self.called_for(environment)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        every = environment.get("WATCHDOG_USEC", "")
        self.every = int(every) / 2e6 if self._where and mine and every.isdecimal() and int(every) else None
        """Seconds from one sign of life to the next; None: nobody looks for any."""

    def status(self, line: str, ready: bool, stopping: bool) -> bool:
        """What it is, and whether it has found that out, or is about to end; whether this was told."""
        facts = "READY=1\n" * (ready and not stopping) + "STOPPING=1\n" * stopping
        return self._tell(f"{facts}STATUS={shown(line)[:LONGEST]}")

    def alive(self) -> None:
        """The event loop goes round."""
        self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Nothing more is told."""
        self._socket.close()

    def _tell(self, text: str) -> bool:
        if not self._where:
            return True
        try:
            self._socket.sendto(text.encode(), self._where)
        except OSError:
            return False
        return True
