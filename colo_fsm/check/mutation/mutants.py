"""Wrong tables, one slip each: every row of a complete table, mutated in every way that is told apart here.

What is mutated is the complete table of a side, so that an implied row (a fault, a message out of order) is
as much a row as a written one. The implied rows of a state also stand in the table as one line, `otherwise`
or the error transition: that line is mutated too, as a whole.

`Row.implied` decides what a session takes for in order (`may`, `accepts`, `expects`), so it belongs to the
slip. A mutated row keeps its flag. For a message, an order (`begin`) or a completion there is a second
reading, `as_written`: somebody wrote the wrong row down, and the session now awaits the message or allows the
order. A written row that is ignored also has the opposite one: nobody awaits it any more. Faults and the
arbiter's answers need no second reading: nothing looks at the flag of their rows but the error's text.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import permutations

import attrs

from colo_fsm.colo import TABLES, State, Variant
from colo_fsm.fsm import CompleteTable, Effect, Row, Side
from colo_fsm.fsm import Kind as Trigger_

ALL_ORDERS = 4
"""Up to so many effects are tried in every order; of more, neighbours change places."""

REST = "anything else"
"""How a state's implied rows are called when all of them are mutated at once."""

FLAG_MATTERS = frozenset({Trigger_.RECV, Trigger_.BEGIN, Trigger_.DONE})


class Slip(StrEnum):
    """What is wrong with the row."""

    DROPPED = "dropped"
    """The row is not there: its input does what its state does otherwise."""
    TARGET = "target"
    ORDER = "order"
    EFFECT = "effect"
    """One effect is missing."""
    IGNORED = "ignored"
    """The input is swallowed: nothing happens, nobody is told."""


@attrs.frozen(eq=False)
class Mutant:
    """A complete table that differs from the published one in one slip, in `was`, which is now `now`.

    Both are () where the start is mutated; they are several rows where a state's whole rest is. A `was`
    without a `now` is an input that the mutant does not know at all.
    """

    slip: Slip
    table: CompleteTable = attrs.field(repr=False)
    source: str
    trigger: str
    what: str
    was: tuple[Row, ...] = ()
    now: tuple[Row, ...] = ()

    @property
    def side(self) -> Side:
        return self.table.side

    @property
    def variant(self) -> Variant:
        assert isinstance(self.table.variant, Variant)
        return self.table.variant

    def __str__(self) -> str:
        return f"{self.variant} {self.side}: {self.source} --{self.trigger}-->: {self.what}"


def mutants(table: CompleteTable) -> Iterator[Mutant]:
    """Every mutant of this table."""
    for row in table.rows:
        yield from _of_row(table, row)
    for state in table.states:
        rest = tuple(row for row in table.rows if row.source is state and row.implied)
        if len(rest) > 1:
            yield from _of_rest(table, rest)
    for n, effect in enumerate(table.start):
        mutated = attrs.evolve(table, start=_without(table.start, n))
        yield Mutant(Slip.EFFECT, mutated, "start", "start", f"no {effect}")


# -- one row --------------------------------------------------------------------------------------


def _of_row(table: CompleteTable, row: Row) -> Iterator[Mutant]:
    if not row.implied:
        yield from _dropped(table, row)
    seen = {row}
    for slip, what, now in (*_changes(table, row), *_second_readings(table, row)):
        if now not in seen:
            seen.add(now)
            yield _mutant(table, slip, what, (row,), (now,))


def _changes(table: CompleteTable, row: Row) -> Iterator[tuple[Slip, str, Row]]:
    """The slips that leave the flag as it is: what kind, in words, the row as it is then."""
    for dest in table.states:
        if dest is not (row.dest or row.source):
            yield Slip.TARGET, f"to {dest}", attrs.evolve(row, dest=dest)
    for order in _orders(row.effects):
        yield Slip.ORDER, ", ".join(map(str, order)), attrs.evolve(row, effects=order)
    for n, effect in enumerate(row.effects):
        yield Slip.EFFECT, f"no {effect}", attrs.evolve(row, effects=_without(row.effects, n))
    if row.dest is not None:
        yield Slip.IGNORED, "ignored", attrs.evolve(row, dest=None, effects=())


def _second_readings(table: CompleteTable, row: Row) -> Iterator[tuple[Slip, str, Row]]:
    if row.trigger.kind not in FLAG_MATTERS:
        return
    for slip, what, now in _changes(table, row):
        if row.implied and slip in (Slip.TARGET, Slip.IGNORED):
            yield slip, f"{what}, as written", attrs.evolve(now, implied=False)
        if not row.implied and slip is Slip.IGNORED:
            yield slip, f"{what}, and not awaited", attrs.evolve(now, implied=True)


def _dropped(table: CompleteTable, row: Row) -> Iterator[Mutant]:
    now = otherwise(table, row)
    yield _mutant(table, Slip.DROPPED, "dropped", (row,), (now,))
    same = [each for each in table.written if each.trigger is row.trigger]
    if row.trigger.kind is Trigger_.DONE and len(same) == 1:
        # as when the line is taken out of the source: nobody reports this completion any more
        triggers = tuple(trigger for trigger in table.triggers if trigger is not row.trigger)
        rows = tuple(each for each in table.rows if each.trigger is not row.trigger)
        mutated = attrs.evolve(table, triggers=triggers, rows=rows)
        what = "dropped, and not reported"
        yield Mutant(Slip.DROPPED, mutated, str(row.source), str(row.trigger), what, (row,))


def otherwise(table: CompleteTable, row: Row) -> Row:
    """What this row's input would do if nobody had written it."""
    for other in table.rows:
        if other.source is row.source and other.implied:
            return attrs.evolve(row, dest=other.dest, effects=other.effects, implied=True)
    return _error(table, row)


def _error(table: CompleteTable, row: Row) -> Row:
    effects = TABLES[table.side].on_error(table.variant)
    return attrs.evolve(row, dest=State.FAILOVER, effects=effects, implied=True)


# -- a state's whole rest -------------------------------------------------------------------------


def _of_rest(table: CompleteTable, rest: tuple[Row, ...]) -> Iterator[Mutant]:
    """All implied rows of a state at once: the state's `otherwise` row, or the error transition."""
    slips = [(slip, what) for slip, what, _ in _changes(table, rest[0])]
    changed = [tuple(now for *_, now in _changes(table, row)) for row in rest]
    for (slip, what), now in zip(slips, zip(*changed, strict=True), strict=True):
        yield _mutant(table, slip, what, rest, now)
    now = tuple(_error(table, row) for row in rest)
    if now != rest:
        yield _mutant(table, Slip.DROPPED, "dropped", rest, now)


def _mutant(
    table: CompleteTable, slip: Slip, what: str, was: tuple[Row, ...], now: tuple[Row, ...]
) -> Mutant:
    trigger = str(was[0].trigger) if len(was) == 1 else REST
    return Mutant(slip, with_rows(table, *now), str(was[0].source), trigger, what, was, now)


# -- pieces ---------------------------------------------------------------------------------------


def with_rows(table: CompleteTable, *rows: Row) -> CompleteTable:
    """The table with these rows instead of those for the same inputs."""
    instead = {(row.source, row.trigger): row for row in rows}
    return attrs.evolve(table, rows=tuple(instead.get((row.source, row.trigger), row) for row in table.rows))


def _orders(effects: tuple[Effect, ...]) -> Iterator[tuple[Effect, ...]]:
    if len(effects) <= ALL_ORDERS:
        yield from (order for order in permutations(effects) if order != effects)
        return
    for n in range(len(effects) - 1):
        yield (*effects[:n], effects[n + 1], effects[n], *effects[n + 2 :])


def _without(effects: tuple[Effect, ...], n: int) -> tuple[Effect, ...]:
    return effects[:n] + effects[n + 1 :]
