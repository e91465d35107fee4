"""Takes one Primary after the other until one of them was ready; then its end is the end."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from enum import StrEnum
from functools import partial

import attrs

from colo_fsm.arbiter import Arbiter
from colo_fsm.colo import SecondarySession, State
from colo_fsm.fsm import ProtocolError
from colo_fsm.replica import Event
from colo_fsm.replica.blocking import Pair

from .standby import StandbyReplica


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

    `make` makes a `StandbyReplica` with everything but its session and its driver. `tell` is called on
    the thread that runs this with every event of every connection.
    """

    def __init__(
        self,
        listener: socket.socket,
        arbiter: Arbiter,
        make: Callable[..., StandbyReplica],
        tell: Callable[[Event | Refused], object],
    ) -> None:
        self._listener = listener
        self._arbiter = arbiter
        self._make = make
        self._tell = tell
        self._pair: Pair | None = None
        self._ending = False

    def run(self) -> Outcome:
        """Until the end, in order or not. Run the checkpoint elsewhere only if it says `alone`."""
        while not self._ending:
            try:
                link, _ = self._listener.accept()
            except OSError:
                if not self._ending:
                    raise
            else:
                outcome = self._hold(link)
                if outcome is not None:
                    return outcome
        return Outcome(State.ENDED, None, 0)

    def end(self) -> None:
        """End in order, between two rounds. From any thread, and from a signal handler."""
        self._ending = True
        if self._pair is not None:
            self._pair.request_leave()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)

    def _hold(self, link: socket.socket) -> Outcome | None:
        """Hold one Primary's VM; None if it never came to a checkpoint, so that another may come."""
        pair = Pair(link, self._arbiter, partial(self._make, SecondarySession()))
        reached: set[StrEnum] = set()
        pair.on_transition(lambda moved: reached.add(moved.dest))
        pair.on_transition(lambda _: pair.request_leave(), State.ALONE)
        events = pair.events()
        self._pair = pair
        if self._ending:  # since accept
            pair.request_leave()
        with pair:
            for event in events:
                self._tell(event)
            self._pair = None
        if State.READY in reached:
            state = State.ALONE if State.ALONE in reached else pair.state
            return Outcome(state, pair.session.error, pair.token)
        if not self._ending:
            self._tell(Refused())
        return None
