"""COLO's tables for a side that belongs to a member: who wins does not run alone, its member goes on."""

from __future__ import annotations

import attrs

from colo_fsm.colo import PRIMARY, SECONDARY, State
from colo_fsm.fsm import Table, row, won
from colo_fsm.fsm.table import Line


def handing_over(table: Table) -> Table:
    """The same protocol, but whoever wins the claim ends, its guest suspended and nothing let out."""
    lines = [kept for line in table.lines if (kept := _without_alone(line)) is not None]
    return attrs.evolve(table, lines=(row(State.FAILOVER, won, State.ENDED), *lines))


def _without_alone(line: Line) -> Line | None:
    if line.dest is State.ALONE:
        return None
    sources = tuple(source for source in line.sources if source is not State.ALONE)
    return attrs.evolve(line, sources=sources) if sources else None


MEMBER_PRIMARY, MEMBER_SECONDARY = handing_over(PRIMARY), handing_over(SECONDARY)
