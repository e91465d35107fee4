"""Takes one Primary after the other until one of them was protected; then its end is the end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from enum import StrEnum
from functools import partial

import attrs

from colo_fsm.colo import ReleaseOn, SecondarySession, State, Variant
from colo_fsm.fsm import ProtocolError, Transition
from colo_fsm.replica import Event, Refused
from colo_fsm.replica.blocking import Pair
from colo_fsm.replica.door import Door
from colo_fsm.replica.outside import FIRST_COPY

from ..listening import vms
from .gate import PacketGate
from .replica import StandbyReplica

_log = logging.getLogger(__name__)


@attrs.frozen
class Outcome:
    """How it ended: `alone` if the claim was won, `ended` if somebody asked for it, else `stopped`.

    `error` is what ended the replication, `token` the fencing token of a claim that was won, else 0.
    """

    state: StrEnum
    error: ProtocolError | None
    token: int


class Standby:
    """Holds the VM of whoever migrates to `listener`, which is closed when this is over.

    `make` makes a `StandbyReplica` of a session. `tell` is called with every event of every connection, on
    the thread that runs this; what it raises is logged, and changes nothing. `gate`: where `make` lets the
    VM's packets wait; without one they are none of ours.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[SecondarySession], StandbyReplica],
        tell: Callable[[Event], object],
        gate: PacketGate | None = None,
    ) -> None:
        self._listener = listener
        self.gate = gate
        self._make = make
        self._tell = tell
        self._pair: Pair | None = None
        self._replica: StandbyReplica | None = None
        self._ending = False

    def run(self) -> Outcome:
        """Until the end, in order or not. Run the checkpoint elsewhere only if it says `alone`.

        Raises OSError if the listener is of no use any more.
        """
        door: Door | None = None
        try:
            while True:
                replica = self._make(SecondarySession(self._variant))
                door = door or self._door(replica)
                door.knock = partial(_wake, replica)
                if (outcome := self._hold(replica, door)) is not None:
                    return outcome
        finally:
            if door is not None:
                door.close()

    @property
    def _variant(self) -> Variant:
        return Variant() if self.gate is None else Variant(release_on=ReleaseOn.GATE)

    def _door(self, replica: StandbyReplica) -> Door:
        options = replica.options
        patience = FIRST_COPY * options.deadline
        return Door(
            self._listener, vms, own=False, once=False,
            greeting_deadline=options.greeting_deadline, patience=patience,
            report=lambda why, count: self._say(Refused(why, count)),
        )  # fmt: skip

    @property
    def pair(self) -> Pair | None:
        """What holds the Primary of now, or held the last one; None before the first."""
        return self._pair

    @property
    def protects(self) -> bool:
        """Whether its VM is one to claim for: its first round, or what counts as that, is in the store."""
        return self._replica is not None and self._replica.protected

    def end(self) -> None:
        """End in order, between two rounds. From any thread, at any time; again it does nothing."""
        self._ending = True  # before a look at the pair: whoever makes one looks here then
        pair = self._pair
        if pair is not None:
            pair.request_leave()

    def _hold(self, replica: StandbyReplica, door: Door) -> Outcome | None:
        """Hold one Primary's VM; None if it was never protected, so that another may come."""
        if self.gate is not None:
            self.gate.let_pass()
        pair = Pair(replica, door)
        table = pair.session.table
        reached: set[StrEnum] = set()

        def note(moved: Transition) -> None:
            reached.add(moved.dest)
            if moved.dest in table.alone:
                pair.request_leave()

        pair.on_transition(note)
        events = pair.events()
        self._pair, self._replica = pair, replica
        if self._ending:
            pair.request_leave()
        with pair:
            for event in events:
                self._say(event)
        if replica.unprotected is not None:
            self._say(Refused(replica.unprotected))
            return None
        if reached & table.idle or pair.state is State.ENDED:
            state = next(iter(reached & table.alone), pair.state)
            return Outcome(state, pair.session.error, pair.token)
        error = pair.session.error
        if error is not None and replica.fails_here(error):
            return Outcome(pair.state, error, pair.token)
        self._say(Refused(str(error)))
        return None

    def _say(self, event: Event) -> None:
        try:
            self._tell(event)
        except Exception:  # noqa: BLE001 - whatever it is, the checkpoint is to be kept, and claimed
            _log.exception("whoever is told of events has failed at %s", event)


def _wake(replica: StandbyReplica) -> None:
    """Whatever serves it by then."""
    replica.wake()
