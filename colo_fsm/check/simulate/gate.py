"""Turns of one replica on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .clients import Answered
from .service import Request

if TYPE_CHECKING:
    from .process import Process


class Gate:
    """Turns of one replica; see `colo_fsm.replica.script.Gate`. A close that must wait says so."""

    def __init__(self, process: Process) -> None:
        self.turns = 0
        self.emptied: Callable[[], object] | None = None
        self._process = process
        self._open = self._shut = self._ever = False
        self._waiting: list[tuple[Request, Answered]] = []

    def open(self) -> None:
        self._open = self._ever = True
        waiting, self._waiting = self._waiting, []
        for request, answered in waiting:
            self._process.turn(self, request, answered)

    def close(self) -> Gate | None:
        """Itself, when turns are open: it calls `emptied` when none is."""
        self._open = False
        return self if self.turns else None

    def shut(self) -> None:
        """No turn will begin any more."""
        self._open, self._shut = False, True
        for _, answered in self._waiting:
            answered(None)

    def arrived(self, request: Request, answered: Answered) -> None:
        """A request: let in, kept waiting, or refused where the guest has never run or will not."""
        if self._open:
            self._process.turn(self, request, answered)
        elif self._shut or not self._ever:
            answered(None)
        else:
            self._waiting.append((request, answered))

    def left(self) -> None:
        """A turn is over."""
        self.turns -= 1
        if not self.turns and self.emptied is not None:
            emptied, self.emptied = self.emptied, None
            emptied()
