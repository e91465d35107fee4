"""When a Primary takes a checkpoint, and what of it is done before that.

A request and its reply are a round trip that carries nothing. So while answers come one by one, the next
checkpoint is asked for as soon as the last one is over, and its reply lies here until the checkpoint is due.
To the session it is a reply that took its time; what is saved, and when, stays as it was.
"""

from __future__ import annotations

from typing import Final

from colo_fsm.fsm import Send
from colo_fsm.fsm.complete import CompleteTable
from colo_fsm.fsm.table import begin
from colo_fsm.fsm.wire import MESSAGE_SIZE

from .options import Options
from .outbox import Outbox

LONGEST_AHEAD: Final = 0.1
"""Seconds that one which was asked for waits at most. A peer that has replied counts the time against its own
deadline, and leaves only once the checkpoint is over."""


class Pace:
    """When the next checkpoint is due, by the clock. `patience`: as LONGEST_AHEAD, where that is less."""

    def __init__(self, table: CompleteTable, options: Options, outbox: Outbox, patience: float) -> None:
        rows = [r for r in table.written if r.trigger is begin.checkpoint]
        self._idle = {r.source for r in rows}
        self._asked = {r.dest for r in rows}
        only_asks = all(isinstance(effect, Send) for r in rows for effect in r.effects)
        self._may_ask_ahead = not options.min_interval and only_asks
        self._options = options
        self._outbox = outbox
        self._patience = min(patience, options.interval, LONGEST_AHEAD)
        self._since: float | None = None
        self.let_out = 0
        """How many waited for the last one. More than one join the next, too, while it is asked for."""
        self._ahead = False
        self._reply = b""
        self.requested = False
        """Whether somebody wants one now. From any thread."""

    def ask_ahead(self, state: object) -> bool:
        """Whether to ask for the next one already: then it is asked for."""
        if self.let_out != 1 or not self._may_ask_ahead or state not in self._idle or self._outbox.wants:
            return False
        self._ahead = True
        return True

    def is_ahead(self, state: object) -> bool:
        """Whether a checkpoint is asked for and not due yet."""
        return self._ahead and state in self._asked

    def due(self, state: object, resumed: float | None, now: float) -> float | None:
        """When the next one is to be taken; None: not from this state. `resumed`: when the guest ran on."""
        ahead = self.is_ahead(state)
        if not (ahead or state in self._idle):
            return None
        if self._since is None:
            self._since = now if resumed is None else resumed
        if self.requested:
            return now
        if self._outbox.wants:
            return self._since + self._options.min_interval
        return self._since + (self._patience if ahead else self._options.interval)

    def take(self) -> bytes:
        """It is taken now. What has come of its reply."""
        self.requested = self._ahead = False
        self._since = None
        reply, self._reply = self._reply, b""
        return reply

    def keep(self, state: object, data: bytes) -> bool:
        """Let this lie, if it may be the reply and no more, nor the link's end."""
        if not data or not self.is_ahead(state) or len(self._reply) + len(data) > MESSAGE_SIZE:
            return False
        self._reply += data
        return True

    @property
    def replied(self) -> bool:
        """Whether a reply lies here."""
        return bool(self._reply)
