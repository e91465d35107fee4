"""What a side's session does with an input: asked of the production session itself, once, and remembered.

So the explorer knows no order of messages, no error rule and no claim rule of its own: each answer here is
a `PrimarySession` or a `SecondarySession` that was put into a state and fed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from colo_fsm.protocol import CompleteTable, PrimarySession, SecondarySession, Session, Side, State
from colo_fsm.protocol.machine import ColoMachine
from colo_fsm.protocol.session import Effects
from colo_fsm.protocol.table import Trigger, begin, done, fault, lost, recv, won
from colo_fsm.protocol.vocabulary import COLOMessage, Do, Fault

from .world import INVALID

SESSIONS: dict[Side, type[Session]] = {Side.PRIMARY: PrimarySession, Side.SECONDARY: SecondarySession}


@attrs.frozen(cache_hash=True)
class Reaction:
    """The transition that an input has caused."""

    source: State
    trigger: Trigger
    dest: State
    effects: Effects


class Control:
    """One side's sessions over `table`; every answer is worked out once."""

    def __init__(self, side: Side, table: CompleteTable) -> None:
        self.side = side
        self.table = table
        self._machine = ColoMachine(table)
        self._known: dict[tuple[State, object], Reaction | None] = {}

    def session(self, state: State) -> Session:
        """A session that stands in this state."""
        session = SESSIONS[self.side](self.table.variant)
        session.machine = self._machine
        session.state = state
        return session

    def read(self, state: State, value: int) -> Reaction | None:
        """The next message is `value`, INVALID for one that is none; None: its turn has not come."""
        trigger = fault(Fault.INVALID) if value >= INVALID else recv(COLOMessage(value))
        data = value.to_bytes(4, "big")
        return self._ask(state, value, trigger, lambda session: self._taken(session, data))

    def end_of_link(self, state: State) -> Reaction | None:
        """The link has ended; None: it is not looked at here."""
        trigger = fault(Fault.EOF)
        return self._ask(state, b"", trigger, lambda session: self._taken(session, b""))

    def _taken(self, session: Session, data: bytes) -> Effects | None:
        """What these bytes lead to, None if they were left where they are."""
        if not session.wants_data:
            return None
        effects = session.receive_data(data)
        waits = bool(data) and session.unread() != b""
        return None if waits else effects

    def done(self, state: State, effect: Do) -> Reaction:
        """An effect has completed."""
        return self._certain(state, done(effect), lambda session: session.done(effect))

    def fault(self, state: State, kind: Fault) -> Reaction:
        """The handshake is broken."""
        return self._certain(state, fault(kind), lambda session: session.fault(kind))

    def claimed(self, state: State, granted: bool) -> Reaction:
        """The arbiter has answered."""
        if granted:
            return self._certain(state, won, lambda session: session.won())
        return self._certain(state, lost, lambda session: session.lost())

    def begin_checkpoint(self, state: State) -> Reaction | None:
        """Start a checkpoint, where that is in order."""
        return self._if_in_order(state, begin.checkpoint, lambda session: session.begin_checkpoint())

    def leave(self, state: State) -> Reaction | None:
        """End in order, where that is in order."""
        return self._if_in_order(state, begin.leave, lambda session: session.leave())

    def awaits_message(self, state: State) -> bool:
        """Whether a message is what comes next here."""
        return self.session(state).awaits_message

    def _if_in_order(
        self, state: State, trigger: Trigger, feed: Callable[[Session], Effects]
    ) -> Reaction | None:
        return self._ask(state, trigger, trigger, lambda s: feed(s) if s.may(trigger) else None)

    def _certain(self, state: State, trigger: Trigger, feed: Callable[[Session], Effects]) -> Reaction:
        reaction = self._ask(state, trigger, trigger, feed)
        assert reaction is not None
        return reaction

    def _ask(
        self, state: State, key: object, trigger: Trigger, feed: Callable[[Session], Effects | None]
    ) -> Reaction | None:
        if (state, key) not in self._known:
            session = self.session(state)
            with _quietly():
                effects = feed(session)
            moved = None if effects is None else Reaction(state, trigger, session.state, effects)
            self._known[state, key] = moved
        return self._known[state, key]


@contextmanager
def _quietly() -> Iterator[None]:
    """A session logs what is wrong as an error; here it is a question, not an event."""
    logger = logging.getLogger("colo_fsm.protocol")

    def nothing(_: logging.LogRecord) -> bool:
        return False

    loggers = [logger, *(logging.getLogger(f"colo_fsm.protocol.{name}") for name in ("session", "wire"))]
    for each in loggers:
        each.addFilter(nothing)
    try:
        yield
    finally:
        for each in loggers:
            each.removeFilter(nothing)
