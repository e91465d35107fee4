"""What a side's session does with an input: asked of the production session itself, once, and remembered.

So the explorer knows no order of messages, no error rule and no claim rule of its own: each answer here is
a `Session` over the table, which was put into a state and fed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import attrs

from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Effects,
    Fault,
    Session,
    Side,
    TableMachine,
    Trigger,
    begin,
    done,
    fault,
    lost,
    won,
)


@attrs.frozen(cache_hash=True)
class Reaction:
    """The transition that an input has caused."""

    source: StrEnum
    trigger: Trigger
    dest: StrEnum
    effects: Effects


class Control:
    """One side's sessions over `table`; every answer is worked out once."""

    def __init__(self, side: Side, table: CompleteTable) -> None:
        self.side = side
        self.table = table
        self._machine = TableMachine(table)
        self._known: dict[tuple[StrEnum, object], Reaction | None] = {}

    def session(self, state: StrEnum) -> Session:
        """A session that stands in this state."""
        session = Session(self._machine)
        session.state = state
        return session

    def read(self, state: StrEnum, value: int) -> Reaction | None:
        """The next message is `value`, perhaps one that is none; None: its turn has not come."""
        trigger, _ = self.table.arrival(value)
        data = value.to_bytes(4, "big")
        return self._ask(state, value, trigger, lambda session: self._taken(session, data))

    def end_of_link(self, state: StrEnum) -> Reaction | None:
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

    def done(self, state: StrEnum, effect: Do) -> Reaction:
        """An effect has completed."""
        return self._certain(state, done(effect), lambda session: session.fire(done(effect)))

    def fault(self, state: StrEnum, kind: Fault) -> Reaction:
        """The handshake is broken."""
        return self._certain(state, fault(kind), lambda session: session.fire(fault(kind)))

    def claimed(self, state: StrEnum, granted: bool) -> Reaction:
        """The arbiter has answered."""
        if granted:
            return self._certain(state, won, lambda session: session.fire(won))
        return self._certain(state, lost, lambda session: session.fire(lost))

    def begin_checkpoint(self, state: StrEnum) -> Reaction | None:
        """Start a checkpoint, where that is in order."""
        return self._if_in_order(state, begin.checkpoint, lambda session: session.fire(begin.checkpoint))

    def leave(self, state: StrEnum) -> Reaction | None:
        """End in order, where that is in order."""
        return self._if_in_order(state, begin.leave, lambda session: session.fire(begin.leave))

    def awaits_message(self, state: StrEnum) -> bool:
        """Whether a message is what comes next here."""
        return self.session(state).awaits_message

    def _if_in_order(
        self, state: StrEnum, trigger: Trigger, feed: Callable[[Session], Effects]
    ) -> Reaction | None:
        return self._ask(state, trigger, trigger, lambda s: feed(s) if s.may(trigger) else None)

    def _certain(self, state: StrEnum, trigger: Trigger, feed: Callable[[Session], Effects]) -> Reaction:
        reaction = self._ask(state, trigger, trigger, feed)
        assert reaction is not None
        return reaction

    def _ask(
        self, state: StrEnum, key: object, trigger: Trigger, feed: Callable[[Session], Effects | None]
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
    logger = logging.getLogger("colo_fsm.fsm")

    def nothing(_: logging.LogRecord) -> bool:
        return False

    loggers = [logger, *(logging.getLogger(f"colo_fsm.fsm.{name}") for name in ("session", "wire"))]
    for each in loggers:
        each.addFilter(nothing)
    try:
        yield
    finally:
        for each in loggers:
            each.removeFilter(nothing)
