"""Sums over many runs: which faults struck, in which states of both sides, and with which others."""

from __future__ import annotations

import itertools
from collections import Counter

import attrs

from colo_fsm.fsm import Side

from .run import Outcome
from .schedule import Kind
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
