"""What was covered: which faults struck, in which states of both sides, and with which others."""

from __future__ import annotations

import itertools
from collections import Counter

import attrs

from colo_fsm.fsm import Side

from .run import Outcome
from .schedule import Kind

Cell = tuple[Kind, Side, str]
"""A fault of this kind has struck while this side was in this state."""


@attrs.define
class Coverage:
    """Sums over many runs; `+=` adds those of another process."""

    runs: int = 0
    failed: int = 0
    survived: int = 0
    ended_by_fault: int = 0
    short: int = 0
    """Runs of fewer than ten checkpoints that no fault has ended. There must be none."""
    seconds: float = 0.0
    checkpoints: int = 0
    generations: int = 0
    won: int = 0
    lost_claims: int = 0
    operations: int = 0
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
        self.runs += 1
        self.failed += not outcome.ok
        self.survived += outcome.survived
        self.ended_by_fault += outcome.ended_by_fault
        self.short += outcome.checkpoints < 10 and not outcome.ended_by_fault
        self.seconds += outcome.seconds
        self.checkpoints += outcome.checkpoints
        self.generations += outcome.generations
        self.won += outcome.won
        self.lost_claims += outcome.lost_claims
        self.operations += outcome.operations
        self.problems.update({problem.kind for problem in outcome.problems})
        self.documented.update({problem.kind for problem in outcome.documented})
        self.planned.update(fault.kind for fault in outcome.schedule.faults)
        self.struck.update(strike.fault.kind for strike in outcome.strikes)
        kinds = sorted(strike.fault.kind for strike in outcome.strikes)
        self.pairs.update(set(itertools.combinations(kinds, 2)))
        for strike in outcome.strikes:
            self.cells[strike.fault.kind, Side.PRIMARY, strike.primary] += 1
            self.cells[strike.fault.kind, Side.SECONDARY, strike.secondary] += 1

    def __iadd__(self, other: Coverage) -> Coverage:
        for field in attrs.fields(Coverage):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self
