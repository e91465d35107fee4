"""A table made total: what a machine, a session, a picture and an explorer read.

`complete()` adds, as ordinary rows, what happens to every (state, trigger) that is not written: the
state's `otherwise` row where there is one, else the error transition to `failover`. So there is no
input that a machine does not know, and no way to ignore one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import attrs

from .table import ALWAYS, Kind, Row, Table, Trigger, otherwise
from .validate import TableError, states_of, validate
from .vocabulary import COLOMessage, Effect, Side, State, Variant


@attrs.frozen(eq=False, slots=False)
class CompleteTable:
    """One side's machine as data, for one variant: a row for every state and every trigger."""

    side: Side
    variant: Variant
    states: tuple[State, ...]
    triggers: tuple[Trigger, ...]
    rows: tuple[Row, ...]
    start: tuple[Effect, ...]
    """What the driver does first, in `init`."""

    @cached_property
    def by_input(self) -> Mapping[tuple[State, Trigger], Row]:
        """The row that fires, for every (state, trigger)."""
        return {(r.source, r.trigger): r for r in self.rows}

    @cached_property
    def written(self) -> tuple[Row, ...]:
        """The rows of the protocol proper: without those that `complete()` added."""
        return tuple(r for r in self.rows if not r.implied)

    @cached_property
    def accepts(self) -> Mapping[State, frozenset[COLOMessage]]:
        """The messages that a state awaits; empty where it awaits none."""
        return {
            state: frozenset(
                r.trigger.message for r in self.written if r.source is state and r.trigger.message is not None
            )
            for state in self.states
        }

    @cached_property
    def expects(self) -> Mapping[State, COLOMessage | None]:
        """The next message that this side will accept, seen from each state; None if none ever."""
        return {state: self._next_accepted(state) for state in self.states}

    def _next_accepted(self, state: State) -> COLOMessage | None:
        seen: list[State] = []
        ahead = [state]
        while ahead:
            here = ahead.pop(0)
            seen.append(here)
            if self.accepts[here]:
                return min(self.accepts[here])
            steps = (
                r for r in self.written if r.source is here and r.trigger.kind in (Kind.BEGIN, Kind.DONE)
            )
            ahead += [r.dest for r in steps if r.dest and r.dest not in seen]
        return None

    @cached_property
    def final(self) -> frozenset[State]:
        """The states that nothing leaves."""
        return frozenset(self.states) - {r.source for r in self.rows if r.dest not in (None, r.source)}

    @cached_property
    def awaited(self) -> frozenset[str]:
        """The effects whose completion is a trigger: report each with `session.done(effect)`."""
        return frozenset(t.name.removeprefix("done_") for t in self.triggers if t.kind is Kind.DONE)


def complete(table: Table, variant: Variant) -> CompleteTable:
    """The whole machine of this variant. Raises TableError with every problem of the table."""
    problems = validate(table, variant)
    if problems:
        raise TableError(f"the table of the {table.side} in {variant} is no machine", problems)
    written = table.rows(variant)
    states = states_of(written)
    awaited = dict.fromkeys(r.trigger for r in written if r.trigger.kind is Kind.DONE)
    triggers = (*ALWAYS, *awaited)
    rows = {(r.source, r.trigger): r for r in written if r.trigger is not otherwise}
    rest = {r.source: (r.dest, r.effects) for r in written if r.trigger is otherwise}
    error = (State.FAILOVER, table.on_error(variant))
    for state in states:
        dest, effects = rest.get(state, error)
        for trigger in triggers:
            rows.setdefault((state, trigger), Row(state, trigger, dest, effects, implied=True))
    ordered = tuple(rows[state, trigger] for state in states for trigger in triggers)
    return CompleteTable(table.side, variant, states, triggers, ordered, table.begins_with(variant))
