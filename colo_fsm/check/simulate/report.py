"""What many runs have covered, in sums, tables or JSON, and what there was to cover."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from colo_fsm.fsm import Side

from .rehearsal import rehearse
from .run import Outcome
from .schedule import SAFE_KINDS, STARTING_KINDS, Kind
from .tables import DOWN, Tables, after_loss, closed
from .verdict import KINDS as PROBLEM_KINDS

Cell = tuple[Kind, Side, str]
"""A fault of this kind has struck while this side was in this state."""


@attrs.define
class Coverage:
    """Sums over many runs; `+=` adds those of another process."""

    counts: Counter[str] = attrs.field(factory=Counter)
    """Runs, and how many of them `failed`, `survived` or were `ended_by_fault`; and `Outcome.counts`.

    `short`: fewer than ten checkpoints, and no fault has ended it. There must be none.
    """
    problems: Counter[str] = attrs.field(factory=Counter)
    """Runs that showed a problem of this kind."""
    documented: Counter[str] = attrs.field(factory=Counter)
    """Runs that showed one that is documented for their faults."""
    planned: Counter[Kind] = attrs.field(factory=Counter)
    struck: Counter[Kind] = attrs.field(factory=Counter)
    pairs: Counter[tuple[Kind, Kind]] = attrs.field(factory=Counter)
    cells: Counter[Cell] = attrs.field(factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        short = outcome.counts["checkpoints"] < 10 and not outcome.ended_by_fault
        self.counts.update(
            outcome.counts, runs=1, failed=not outcome.ok, survived=outcome.survived,
            ended_by_fault=outcome.ended_by_fault, short=short,
        )  # fmt: skip
        self.problems.update({problem.kind for problem in outcome.problems})
        self.documented.update({problem.kind for problem in outcome.documented})
        self.planned.update(fault.kind for fault in outcome.schedule.faults)
        kinds = sorted(strike.fault.kind for strike in outcome.strikes)
        self.struck.update(kinds)
        self.pairs.update(set(itertools.combinations(kinds, 2)))
        for strike in outcome.strikes:
            self.cells[strike.fault.kind, Side.PRIMARY, strike.primary] += 1
            self.cells[strike.fault.kind, Side.SECONDARY, strike.secondary] += 1

    def __iadd__(self, other: Coverage) -> Coverage:
        for field in attrs.fields(Coverage):
            getattr(self, field.name).update(getattr(other, field.name))
        return self

    def __str__(self) -> str:
        """What was run and what came of it, a line each."""
        c = self.counts

        def found(problems: Counter[str]) -> str:
            return ", ".join(f"{kind} {problems[kind]}" for kind in PROBLEM_KINDS)

        lines = [
            f"schedules    {c['runs']:,}: {c['ended_by_fault']:,} ended by a fault, {c['short']:,} too short",
            f"problems     {found(self.problems)}",
            f"nobody left  {c['runs'] - c['survived']:,} (no proof about loss)",
            f"simulated    {c['milliseconds'] // 1000:,} s, {c['generations']:,} generations, "
            f"{c['checkpoints']:,} checkpoints",
            f"claims       {c['won']:,} won, {c['lost_claims']:,} lost",
            f"clients      {c['operations']:,} operations answered",
            f"faults       {self.struck.total():,} struck of {self.planned.total():,} planned, "
            f"{len(self.pairs)} pairs of kinds",
        ]
        if self.documented:
            lines.insert(2, f"documented   {found(self.documented)} (what such faults can do)")
        return "\n".join(lines)


NEVER, RARE = "-", "."
"""Stand in a table where a cell cannot be hit, and where it was not."""


@attrs.frozen
class Reason:
    """Why a cell may stay empty. `never`: it cannot be hit. Otherwise it takes a coincidence."""

    text: str
    never: bool = False


PASSED = Reason("passed within one step: only an observer of ours can fail in it", never=True)
NO_LINK = Reason("the side has closed its end of the link, or died with it")
NOT_WELL = Reason("no such thing happens then while the pair is well")
STARTED = Reason("strikes before both sides have a link")
OVER = Reason("a side that has left takes no request")


class Report:
    """Says what runs of this pair of tables have covered."""

    def __init__(self, tables: Tables = Tables()) -> None:  # noqa: B008 - frozen
        self._seen = rehearse(tables)
        self._tables = {side: tables.complete(side) for side in Side}
        self._closed = {side: {*closed(self._tables[side]), DOWN} for side in Side}
        self.states: dict[Side, tuple[str, ...]] = {side: (*self._tables[side].states, DOWN) for side in Side}
        """Every state that a side can be found in."""

    # -- what there is to cover -----------------------------------------------------------------

    def why_empty(self, kind: Kind, side: Side, state: str) -> Reason | None:
        """Why no fault of this kind needs to be seen in this state of this side; None: it has to be."""
        table = self._tables[side]
        if state in self._seen.passed[side]:
            return None if kind is Kind.GUEST_FAILURE else PASSED
        if state in self._closed[side] and kind in (
            Kind.CLOSED, Kind.SILENT, Kind.DELAY, Kind.PARTIAL_WRITE,
        ):  # fmt: skip
            return NO_LINK
        if kind in STARTING_KINDS:
            return None if state == table.initial else STARTED
        if (during := self._seen.during.get(kind)) is not None and (side, state) not in during:
            return NOT_WELL
        left = table.final - after_loss(table)
        return OVER if kind is Kind.FAILOVER_REQUEST and state in left else None

    def missing(self, coverage: Coverage) -> list[Cell]:
        """Cells that can be hit, and were not."""
        cells = ((kind, side, state) for kind in SAFE_KINDS for side in Side for state in self.states[side])
        return [cell for cell in cells if not coverage.cells[cell] and self.why_empty(*cell) is None]

    def impossible(self, coverage: Coverage) -> list[Cell]:
        """Cells that were hit although they are said never to be."""
        hit = (cell for cell, hits in coverage.cells.items() if hits)
        return [cell for cell in hit if (why := self.why_empty(*cell)) is not None and why.never]

    # -- as text and as JSON --------------------------------------------------------------------

    def matrices(self, coverage: Coverage) -> str:
        """How often each kind has struck, with which others, and in which states; and what is left."""
        return "\n".join([*_kinds(coverage), *self._states(coverage), *self._empty(coverage)])

    def as_json(self, coverage: Coverage) -> dict[str, Any]:
        """All of it as data."""
        kinds, cells = _kinds_of(coverage), sorted(coverage.cells.items())
        return dict(coverage.counts) | {
            "problems": {kind: coverage.problems[kind] for kind in PROBLEM_KINDS},
            "documented": dict(coverage.documented),
            "struck": {str(kind): coverage.struck[kind] for kind in kinds},
            "planned": {str(kind): coverage.planned[kind] for kind in kinds},
            "pairs": [[str(a), str(b), hits] for (a, b), hits in sorted(coverage.pairs.items())],
            "cells": [[str(k), str(side), str(s), hits] for (k, side, s), hits in cells],
            "missing": [list(map(str, cell)) for cell in self.missing(coverage)],
        }

    def _states(self, coverage: Coverage) -> Iterator[str]:
        for side in Side:
            rows = [
                (kind, [self._cell(coverage, (kind, side, state)) for state in self.states[side]])
                for kind in _kinds_of(coverage)
            ]
            yield ""
            yield from _table(f"while the {side} was", self.states[side], rows)

    def _cell(self, coverage: Coverage, cell: Cell) -> str:
        why = self.why_empty(*cell)
        hits = coverage.cells[cell]
        return NEVER if why is not None and why.never and not hits else _hits(hits)

    def _empty(self, coverage: Coverage) -> Iterator[str]:
        """Why cells are empty, and which have no reason."""
        kinds = _kinds_of(coverage)
        reasons: dict[Reason, int] = {}
        for cell in ((kind, side, state) for kind in kinds for side in Side for state in self.states[side]):
            why = self.why_empty(*cell)
            if why is not None and not coverage.cells[cell]:
                reasons[why] = reasons.get(why, 0) + 1
        yield ""
        for why, cells in reasons.items():
            yield f"{NEVER if why.never else RARE} {why.text} (cells: {cells})"
        if left := [cell for cell in self.missing(coverage) if cell[0] in kinds]:
            yield "not reached yet: " + ", ".join(f"{k}/{side[0].upper()} {state}" for k, side, state in left)


def _kinds_of(coverage: Coverage) -> list[Kind]:
    return [kind for kind in Kind if coverage.planned[kind]]


def _table(head: str, columns: Iterable[str], rows: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    lines = [(head, list(columns)), *rows]
    first = max(len(name) for name, _ in lines)
    widths = [max(map(len, cells)) for cells in zip(*(cells for _, cells in lines), strict=True)]
    for name, cells in lines:
        yield "  ".join([name.ljust(first), *map(str.rjust, cells, widths)])


def _kinds(coverage: Coverage) -> Iterator[str]:
    """How often each kind has struck, and in how many runs with each other."""
    kinds = _kinds_of(coverage)
    letters = [chr(ord("A") + at) for at in range(len(kinds))]
    rows = [
        (
            f"{letter} {kind}",
            [f"{coverage.struck[kind]:,}", *(_hits(_together(coverage, kind, other)) for other in kinds)],
        )
        for letter, kind in zip(letters, kinds, strict=True)
    ]
    yield from _table("struck, and in one run with", ["", *letters], rows)


def _together(coverage: Coverage, kind: Kind, other: Kind) -> int:
    first, second = sorted((kind, other))
    return coverage.pairs[first, second]


def _hits(count: int) -> str:
    return f"{count:,}" if count else RARE
