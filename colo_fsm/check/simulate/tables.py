"""What follows from both sides' tables for who strikes at them: rounds, ends, and what lets packets out."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import attrs

from colo_fsm.colo import PRIMARY, SECONDARY, Variant
from colo_fsm.fsm import CompleteTable, Do, Kind, Row, Side, Table, begin, lost, machine_for

DOWN = "down"
"""Stands for the state of a side whose process is dead."""


@attrs.frozen
class Tables:
    """The protocol that is simulated: COLO's unless told otherwise."""

    primary: Table = PRIMARY
    secondary: Table = SECONDARY

    def of(self, side: Side) -> Table:
        """This side's, as it was written."""
        return self.primary if side is Side.PRIMARY else self.secondary

    def complete(self, side: Side, variant: Variant = Variant()) -> CompleteTable:  # noqa: B008 - frozen
        """This side's, as its machine has it. Raises TableError."""
        return machine_for(self.of(side), variant).table


def in_rounds(table: CompleteTable) -> tuple[StrEnum, ...]:
    """The states of a pair that is well: those between two rounds, and those of a round."""
    steps = [
        r for r in table.written if r.trigger.kind in (Kind.RECV, Kind.DONE) or r.trigger is begin.checkpoint
    ]
    after = _reached(table.idle, [(r.source, r.dest) for r in steps if r.dest])
    before = _reached(table.idle, [(r.dest, r.source) for r in steps if r.dest])
    return tuple(state for state in table.states if state in after & before)


def _reached(start: Iterable[StrEnum], steps: Iterable[tuple[StrEnum, StrEnum]]) -> frozenset[StrEnum]:
    found = set(start)
    while more := {dest for source, dest in steps if source in found} - found:
        found |= more
    return frozenset(found)


def closed(table: CompleteTable) -> frozenset[StrEnum]:
    """The states that no row leads to before the link is closed."""
    found = set(table.states) - {table.initial}
    while linked := {
        r.dest
        for r in table.rows
        if r.dest in found and r.source not in found and Do.disconnect not in r.effects
    }:
        found -= linked
    return frozenset(found)


def after_loss(table: CompleteTable) -> frozenset[StrEnum]:
    """Where a side is that has lost its claim."""
    return frozenset(r.dest for r in table.written if r.trigger is lost and r.dest)


def releasing(table: CompleteTable) -> tuple[Row, ...]:
    """The Primary's rows from the sent checkpoint to the release of what it covers, if all are messages."""
    chain: list[Row] = []
    row = next((r for r in table.written if Do.release in r.effects), None)
    while row is not None and row.trigger.message is not None and row not in chain:
        chain.insert(0, row)
        row = next((r for r in table.written if r.dest is chain[0].source), None)
    return tuple(chain)
