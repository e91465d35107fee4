"""Takes one Primary after the other until one of them was ready; then its end is the end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from enum import StrEnum

import attrs

from colo_fsm.colo import SecondarySession, State
from colo_fsm.fsm import ProtocolError, Transition
from colo_fsm.replica import Event
from colo_fsm.replica.blocking import Pair

from ..listening import next_link, shut_down
from .replica import StandbyReplica

_log = logging.getLogger(__name__)


@attrs.frozen
class Refused:
    """A connection has failed before its initial state was complete; the store is what it was before."""


@attrs.frozen
class Outcome:
    """How it ended: `alone` if the claim was won, `ended` if somebody asked for it, else `stopped`.

    `error` is what ended the replication, `token` the fencing token of a claim that was won, else 0.
    """

    state: StrEnum
    error: ProtocolError | None
    token: int


class Standby:
    """Holds the VM of whoever migrates to `listener`, which stays the caller's to close.

    `make` makes a `StandbyReplica` of a session. `tell` is called with every event of every connection, on
    the thread that runs this; what it raises is logged, and changes nothing.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[SecondarySession], StandbyReplica],
        tell: Callable[[Event | Refused], object],
    ) -> None:
        self._listener = listener
        self._make = make
        self._tell = tell
        self._pair: Pair | None = None
        self._ending = False

    def run(self) -> Outcome:
        """Until the end, in order or not. Run the checkpoint elsewhere only if it says `alone`.

        Raises OSError if the listener is of no use any more.
        """
        while (link := next_link(self._listener, lambda: self._ending)) is not None:
            if (outcome := self._hold(link)) is not None:
                return outcome
        return Outcome(State.ENDED, None, 0)

    def end(self) -> None:
        """End in order, between two rounds. From any thread, at any time; again it does nothing."""
        self._ending = True  # before a look at the pair: whoever makes one looks here then
        pair = self._pair
        if pair is not None:
            pair.request_leave()
        shut_down(self._listener)

    def _hold(self, link: socket.socket) -> Outcome | None:
        """Hold one Primary's VM; None if it never came to a checkpoint, so that another may come."""
        pair = Pair(self._make(SecondarySession()), link)
        table = pair.session.table
        reached: set[StrEnum] = set()

        def note(moved: Transition) -> None:
            reached.add(moved.dest)
            if moved.dest in table.alone:
                pair.request_leave()

        pair.on_transition(note)
        events = pair.events()
        self._pair = pair
        if self._ending:  # since accept
            pair.request_leave()
        with pair:
            for event in events:
                self._say(event)
        if reached & table.idle:
            state = next(iter(reached & table.alone), pair.state)
            return Outcome(state, pair.session.error, pair.token)
        if not self._ending:
            self._say(Refused())
        return None

    def _say(self, event: Event | Refused) -> None:
        try:
            self._tell(event)
        except Exception:  # noqa: BLE001 - whatever it is, the checkpoint is to be kept, and claimed
            _log.exception("whoever is told of events has failed at %s", event)
