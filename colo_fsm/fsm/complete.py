"""A table made total: what a machine, a session, a picture and an explorer read.

`complete()` adds, as ordinary rows, what happens to every (state, trigger) that is not written: the
state's `otherwise` row where there is one, else the error transition to `failover`. So there is no
input that a machine does not know, and no way to ignore one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property

import attrs

from .errors import InvalidMessage, ProtocolError
from .table import Kind, Row, Table, Trigger, Variant, always, begin, done, fault, otherwise, recv, won
from .terms import Do, Effect, FailoverStatus, Fault, Message, Side
from .validate import TableError, states_of, validate
from .words import Words


@attrs.frozen(eq=False, slots=False)
class CompleteTable:
    """One side's machine as data, for one variant: a row for every state and every trigger."""

    side: Side
    words: Words
    variant: Variant
    states: tuple[StrEnum, ...]
    triggers: tuple[Trigger, ...]
    rows: tuple[Row, ...]
    start: tuple[Effect, ...]
    """What the driver does first, in `initial`."""

    @cached_property
    def initial(self) -> StrEnum:
        """Where a side begins."""
        return self.words.initial

    @property
    def failover(self) -> StrEnum:
        """Where the error transition leads: the replication is over, the claim is not answered."""
        return self.words.failover

    @cached_property
    def by_input(self) -> Mapping[tuple[StrEnum, Trigger], Row]:
        """The row that fires, for every (state, trigger)."""
        return {(r.source, r.trigger): r for r in self.rows}

    @cached_property
    def written(self) -> tuple[Row, ...]:
        """The rows of the protocol proper: without those that `complete()` added."""
        return tuple(r for r in self.rows if not r.implied)

    def may(self, state: StrEnum, trigger: Trigger) -> bool:
        """Whether this trigger is in order in this state: whether the table has a written row for it."""
        row = self.by_input.get((state, trigger))
        return row is not None and not row.implied

    def awaits(self, state: StrEnum, effect: Do) -> bool:
        """Whether a row waits in this state for the effect's completion."""
        return effect in self.completions.get(state, ())

    @cached_property
    def completions(self) -> Mapping[StrEnum, frozenset[object]]:
        """The effects whose completion a state awaits; a state that awaits none is not there."""
        found: dict[StrEnum, set[object]] = {}
        for r in self.written:
            if r.trigger.kind is Kind.DONE:
                found.setdefault(r.source, set()).add(r.trigger.word)
        return {state: frozenset(effects) for state, effects in found.items()}

    @cached_property
    def awaited(self) -> frozenset[Do]:
        """The effects whose completion some state awaits."""
        return frozenset(effect for effect in Do if done(effect) in self.triggers)

    @cached_property
    def accepts(self) -> Mapping[StrEnum, frozenset[Message]]:
        """The messages that a state awaits; empty where it awaits none."""
        return {
            state: frozenset(
                r.trigger.message for r in self.written if r.source is state and r.trigger.message is not None
            )
            for state in self.states
        }

    @cached_property
    def listens(self) -> frozenset[StrEnum]:
        """The states in which messages are looked at: where one is awaited, and between two checkpoints."""
        return frozenset(s for s in self.states if self.accepts[s] or self.may(s, begin.checkpoint))

    @cached_property
    def expects(self) -> Mapping[StrEnum, Message | None]:
        """The next message that this side will accept, seen from each state; None if none ever."""
        return {state: self._next_accepted(state) for state in self.states}

    def _next_accepted(self, state: StrEnum) -> Message | None:
        order = list(self.words.sender)
        seen: list[StrEnum] = []
        ahead = [state]
        while ahead:
            here = ahead.pop(0)
            seen.append(here)
            if self.accepts[here]:
                return min(self.accepts[here], key=order.index)
            steps = (
                r for r in self.written if r.source is here and r.trigger.kind in (Kind.BEGIN, Kind.DONE)
            )
            ahead += [r.dest for r in steps if r.dest and r.dest not in seen]
        return None

    @cached_property
    def final(self) -> frozenset[StrEnum]:
        """The states that nothing leaves."""
        return frozenset(self.states) - {r.source for r in self.rows if r.dest not in (None, r.source)}

    @cached_property
    def timed(self) -> frozenset[StrEnum]:
        """The states in which a silent link is a fault: those that may not leave.

        A slow first copy, or a long pause between two rounds, must not kill a healthy pair.
        """
        return frozenset(s for s in self.states if not self.may(s, begin.leave))

    @cached_property
    def idle(self) -> frozenset[StrEnum]:
        """The states between two rounds: a side may leave, and begins or awaits the next one."""
        return frozenset(
            state
            for state in self.states
            if state is not self.initial
            and self.may(state, begin.leave)
            and (self.accepts[state] or self.may(state, begin.checkpoint))
        )

    @cached_property
    def alone(self) -> frozenset[StrEnum]:
        """Where a side that has won its claim runs unreplicated."""
        return frozenset(r.dest for r in self.written if r.trigger is won and r.dest)

    @cached_property
    def status(self) -> Mapping[StrEnum, FailoverStatus]:
        """How far a failover has come in each state.

        A state that is no sync point's and whose work leads to `failover` finishes a load first.
        """
        found = dict.fromkeys(self.states, FailoverStatus.NONE)
        for r in self.written:
            mirrored = (self.initial, *self.words.mirror.values())
            if r.trigger.kind is Kind.DONE and r.dest is self.failover and r.source not in mirrored:
                found[r.source] = FailoverStatus.RELAUNCH
        found |= {self.failover: FailoverStatus.ACTIVE} | dict.fromkeys(self.alone, FailoverStatus.COMPLETED)
        return found

    @cached_property
    def _arrivals(self) -> Mapping[int, Trigger]:
        return {value: recv(message) for value, message in self.words.by_value.items()}

    def arrival(self, value: int) -> tuple[Trigger, ProtocolError | None]:
        """What it means that this value has come where a message may: for `Session.fire`."""
        trigger = self._arrivals.get(value)
        return (fault(Fault.INVALID), InvalidMessage(value)) if trigger is None else (trigger, None)


def complete(table: Table, variant: Variant = ()) -> CompleteTable:
    """The whole machine of this variant. Raises TableError with every problem of the table."""
    problems = validate(table, variant)
    if problems:
        which = f" in {variant}" if variant else ""
        raise TableError(f"the {table.side}'s table{which} is no machine", problems)
    written = table.rows(variant)
    states = states_of(table.words, written)
    awaited = dict.fromkeys(r.trigger for r in written if r.trigger.kind is Kind.DONE)
    triggers = (*always(table.words), *awaited)
    rows = {(r.source, r.trigger): r for r in written if r.trigger is not otherwise}
    rest = {r.source: (r.dest, r.effects) for r in written if r.trigger is otherwise}
    error = (table.words.failover, table.on_error(variant))
    for state in states:
        dest, effects = rest.get(state, error)
        for trigger in triggers:
            rows.setdefault((state, trigger), Row(state, trigger, dest, effects, implied=True))
    ordered = tuple(rows[state, trigger] for state in states for trigger in triggers)
    return CompleteTable(
        table.side, table.words, variant, states, triggers, ordered, table.begins_with(variant)
    )
