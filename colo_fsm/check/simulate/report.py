"""What many runs have covered, as an aligned table or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from colo_fsm.fsm import Side

from .coverage import Coverage
from .reach import Reason, wanted, why_empty
from .schedule import Kind
from .verdict import KINDS as PROBLEM_KINDS
from .witness import STATES

NEVER, RARE = "-", "."
"""Stand in a table where a cell cannot be hit, and where it was not."""


def text(coverage: Coverage) -> str:
    """All of it, for a terminal."""
    return "\n".join([*summary(coverage), "", *_kinds(coverage), *_states(coverage), *_empty(coverage)])


def summary(coverage: Coverage) -> list[str]:
    """What was run and what came of it, a line each."""
    c = coverage
    nobody = c.runs - c.survived
    problems = ", ".join(f"{kind} {c.problems[kind]}" for kind in PROBLEM_KINDS)
    lines = [
        f"schedules    {c.runs:,}: {c.ended_by_fault:,} ended by a fault, {c.short:,} too short",
        f"problems     {problems}",
        f"nobody left  {nobody:,} (no proof about loss)",
        f"simulated    {c.seconds:,.0f} s, {c.generations:,} generations, {c.checkpoints:,} checkpoints",
        f"claims       {c.won:,} won, {c.lost_claims:,} lost",
        f"clients      {c.operations:,} operations answered",
        f"faults       {c.struck.total():,} struck of {c.planned.total():,} planned, "
        f"{len(c.pairs)} pairs of kinds",
    ]
    if c.documented:
        documented = ", ".join(f"{kind} {c.documented[kind]}" for kind in PROBLEM_KINDS if c.documented[kind])
        lines.insert(2, f"documented   {documented} (what such faults can do)")
    return lines


def missing(coverage: Coverage) -> list[tuple[Kind, Side, str]]:
    """Cells that can be hit, and were not."""
    return [cell for cell in wanted() if not coverage.cells[cell]]


def impossible(coverage: Coverage) -> list[tuple[Kind, Side, str]]:
    """Cells that were hit although they are said never to be."""
    return [cell for cell, hits in coverage.cells.items() if hits and (why := why_empty(*cell)) and why.never]


def as_json(coverage: Coverage) -> dict[str, Any]:
    """The same as data."""
    counts = {
        field.name: value
        for field in attrs.fields(Coverage)
        if isinstance(value := getattr(coverage, field.name), int | float)
    }
    return counts | {
        "problems": {kind: coverage.problems[kind] for kind in PROBLEM_KINDS},
        "documented": dict(coverage.documented),
        "struck": {str(kind): coverage.struck[kind] for kind in _seen(coverage)},
        "planned": {str(kind): coverage.planned[kind] for kind in _seen(coverage)},
        "pairs": [[str(a), str(b), hits] for (a, b), hits in sorted(coverage.pairs.items())],
        "cells": [[str(k), str(side), str(s), hits] for (k, side, s), hits in sorted(coverage.cells.items())],
        "missing": [list(map(str, cell)) for cell in missing(coverage)],
    }


def _seen(coverage: Coverage) -> list[Kind]:
    return [kind for kind in Kind if coverage.planned[kind]]


def _table(head: str, columns: Iterable[str], rows: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    lines = [(head, list(columns)), *rows]
    first = max(len(name) for name, _ in lines)
    widths = [max(map(len, cells)) for cells in zip(*(cells for _, cells in lines), strict=True)]
    for name, cells in lines:
        yield "  ".join([name.ljust(first), *map(str.rjust, cells, widths)])


def _kinds(coverage: Coverage) -> Iterator[str]:
    """How often each kind has struck, and in how many runs with each other."""
    kinds = _seen(coverage)
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


def _states(coverage: Coverage) -> Iterator[str]:
    for side in Side:
        rows = [
            (kind, [_cell(coverage, kind, side, state) for state in STATES[side]]) for kind in _seen(coverage)
        ]
        yield ""
        yield from _table(f"while the {side} was", STATES[side], rows)


def _hits(count: int) -> str:
    return f"{count:,}" if count else RARE


def _cell(coverage: Coverage, kind: Kind, side: Side, state: str) -> str:
    why = why_empty(kind, side, state)
    hits = coverage.cells[kind, side, state]
    return NEVER if why is not None and why.never and not hits else _hits(hits)


def _empty(coverage: Coverage) -> Iterator[str]:
    """Why cells are empty, and which have no reason."""
    reasons: dict[Reason, list[str]] = {}
    for kind in _seen(coverage):
        for side in Side:
            for state in STATES[side]:
                why = why_empty(kind, side, state)
                if why is not None and not coverage.cells[kind, side, state]:
                    reasons.setdefault(why, []).append(f"{kind}/{side[0].upper()} {state}")
    yield ""
    for why, cells in reasons.items():
        yield f"{NEVER if why.never else RARE} {why.text} (cells: {len(cells)})"
    if left := [cell for cell in missing(coverage) if cell[0] in _seen(coverage)]:
        yield "not reached yet: " + ", ".join(f"{k}/{side[0].upper()} {state}" for k, side, state in left)
