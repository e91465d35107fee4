"""Checks of a table as written: all problems at once, before a machine is made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from .table import SENDER, Kind, Row, Table
from .vocabulary import Send, State, Variant


class TableError(ValueError):
    """A table is not a machine; `problems` has all that is wrong with it, one text each."""

    def __init__(self, title: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{title}:" + "".join(f"\n  - {p}" for p in self.problems))


def validate(table: Table, variant: Variant) -> tuple[str, ...]:
    """Everything that is wrong with this table in this variant, one text each; () when it is sound."""
    checks = (_duplicates, _rowless, _unreachable, _wrong_way, _never_done)
    rows = table.rows(variant)
    return tuple(problem for check in checks for problem in check(table, variant, rows))


def states_of(rows: Iterable[Row]) -> tuple[State, ...]:
    """The states that these rows use, in the order of the protocol."""
    used = {State.INIT, State.FAILOVER}
    for r in rows:
        used |= {r.source} | ({r.dest} if r.dest else set())
    return tuple(s for s in State if s in used)


def _duplicates(table: Table, variant: Variant, rows: tuple[Row, ...]) -> Iterator[str]:
    for (source, trigger), n in Counter((r.source, r.trigger) for r in rows).items():
        if n > 1:
            yield f"{n} rows for '{trigger}' in '{source}': only the first could ever fire"


def _rowless(table: Table, variant: Variant, rows: tuple[Row, ...]) -> Iterator[str]:
    sources = {r.source for r in rows}
    for state in states_of(rows):
        if state not in sources:
            yield f"'{state}' is entered but has no row: list it, with `otherwise` if nothing leaves it"


def _unreachable(table: Table, variant: Variant, rows: tuple[Row, ...]) -> Iterator[str]:
    reached: set[State] = set()
    found = {State.INIT, State.FAILOVER}
    while found:
        reached |= found
        found = {r.dest for r in rows if r.source in reached and r.dest} - reached
    for state in states_of(rows):
        if state not in reached:
            yield f"'{state}' cannot be reached from '{State.INIT}'"


def _wrong_way(table: Table, variant: Variant, rows: tuple[Row, ...]) -> Iterator[str]:
    asked = [(f"{r}", effect) for r in rows for effect in r.effects]
    asked += [("the start", effect) for effect in table.begins_with(variant)]
    asked += [("the error transition", effect) for effect in table.on_error(variant)]
    for where, effect in asked:
        if isinstance(effect, Send) and SENDER[effect.message] is not table.side:
            yield f"{where}: {effect.message.text} is not the {table.side}'s to send"
    for r in rows:
        if r.trigger.message is not None and SENDER[r.trigger.message] is table.side:
            yield f"{r}: {r.trigger.message.text} is not the {table.side}'s to receive"


def _never_done(table: Table, variant: Variant, rows: tuple[Row, ...]) -> Iterator[str]:
    """A `done` that nothing on the way in can bring about leaves its state stuck."""
    asked = {state: set[str]() for state in states_of(rows)}
    asked[State.INIT].update(map(str, table.begins_with(variant)))
    asked[State.FAILOVER].update(map(str, table.on_error(variant)))
    for r in rows:
        asked[r.dest or r.source].update(map(str, r.effects))
    for r in rows:
        effect = r.trigger.name.removeprefix("done_")
        if r.trigger.kind is Kind.DONE and effect not in asked[r.source]:
            yield f"{r}: no row into '{r.source}' asks for '{effect}'"
