"""Every table with one slip in one of its lines: the mistakes of somebody who writes a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

import attrs

from colo_fsm.fsm import Do, Effect, Line, OnlyIf, Table, Trigger, always, done, otherwise

T = TypeVar("T")
Effects = tuple[Effect | OnlyIf, ...]


class Mutant(NamedTuple):
    """A table with one slip: in which line, and what is wrong with it."""

    line: str
    what: str
    table: Table

    def __str__(self) -> str:
        return f"{self.line}: {self.what}"


def mutants(table: Table) -> Iterator[Mutant]:
    """Every single slip in this table; no two are the same table, and none is this one."""
    seen = {_written(table)}
    for mutant in (*_of_lines(table), *_of_effects(table)):
        if _written(mutant.table) not in seen:
            seen.add(_written(mutant.table))
            yield mutant


def _written(table: Table) -> tuple[object, ...]:
    return table.lines, table.start, table.error


def _name(table: Table, line: Line) -> str:
    when = f" ({line.when})" if line.when else ""
    return f"{table.side} {'/'.join(line.sources)} {line.trigger}{when}"


# -- a line but for its effects ---------------------------------------------------------------------


def _of_lines(table: Table) -> Iterator[Mutant]:
    for n, line in enumerate(table.lines):
        yield _in_line(table, n, "removed")
        for dest in (*table.words.states, None):
            yield _in_line(table, n, f"to {dest or 'nowhere'}", attrs.evolve(line, dest=dest))
        for trigger in _triggers(table):
            yield _in_line(table, n, f"on {trigger}", attrs.evolve(line, trigger=trigger))
        if len(line.sources) > 1:
            for at, source in enumerate(line.sources):
                less = attrs.evolve(line, sources=_without(line.sources, at))
                yield _in_line(table, n, f"not in {source}", less)
        yield _in_line(table, n, "in every variant", attrs.evolve(line, when=None))


def _in_line(table: Table, n: int, what: str, *instead: Line) -> Mutant:
    lines = table.lines[:n] + instead + table.lines[n + 1 :]
    return Mutant(_name(table, table.lines[n]), what, attrs.evolve(table, lines=lines))


def _triggers(table: Table) -> tuple[Trigger, ...]:
    """All that can be written as a trigger."""
    return (*always(table.words), *map(done, Do), otherwise)


# -- effects: of a line, of the start, of the error transition, or from one to another ----------------


def _of_effects(table: Table) -> Iterator[Mutant]:
    lists = {f"{table.side} start": table.start, f"{table.side} error": table.error}
    lists |= {_name(table, line): line.effects for line in table.lines}
    assert len(lists) == len(table.lines) + 2, "two lines have one name"
    for where, effects in lists.items():
        for what, changes in _slips(lists, where, effects):
            start, error, *lines = (lists | changes).values()
            changed = tuple(
                attrs.evolve(line, effects=each) for line, each in zip(table.lines, lines, strict=True)
            )
            yield Mutant(where, what, attrs.evolve(table, lines=changed, start=start, error=error))


def _slips(
    lists: Mapping[str, Effects], where: str, effects: Effects
) -> Iterator[tuple[str, dict[str, Effects]]]:
    """Each slip in these effects, in words, and the lists as they are then."""
    for n, effect in enumerate(effects):
        before, behind, less = effects[:n], effects[n + 1 :], _without(effects, n)
        yield f"no {_says(effect)}", {where: less}
        if isinstance(effect, OnlyIf):
            yield f"{effect.effect} in every variant", {where: (*before, effect.effect, *behind)}
        if behind:
            yield (
                f"{_says(behind[0])} before {_says(effect)}",
                {where: (*before, behind[0], effect, *behind[1:])},
            )
        for there, theirs in lists.items():
            if there != where:
                yield f"{_says(effect)} goes first in {there}", {where: less, there: (effect, *theirs)}
                yield f"{_says(effect)} goes last in {there}", {where: less, there: (*theirs, effect)}


def _says(effect: Effect | OnlyIf) -> str:
    return f"{effect.effect} ({effect.condition})" if isinstance(effect, OnlyIf) else str(effect)


def _without(items: tuple[T, ...], n: int) -> tuple[T, ...]:
    return items[:n] + items[n + 1 :]
