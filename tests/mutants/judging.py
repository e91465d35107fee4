"""What notices a mutant: `complete()`, or the explorer in one of these systems."""

from __future__ import annotations

from functools import cache

import attrs

from colo_fsm.check import Result, Scenario, TooLarge, documented, explore
from colo_fsm.colo import TABLES, Variant
from colo_fsm.fsm import CompleteTable, Table, TableError, complete

SYSTEMS: tuple[Scenario, ...] = (
    *(Scenario(str(variant), variant) for variant in Variant.all()),
    *(
        documented(name).scenario
        for name in (
            "hybrid-all-breaks",
            "patch-all-breaks",
            "claim-damaged-loaded",
            "patch-disturbed",
            "hybrid-disturbed",
            "patch-injected-loaded",
        )
    ),
)
"""Every variant without a fault; then all that can go wrong, those that notice most first."""


@cache
def sound(system: Scenario) -> Result:
    """What is found with the tables as they are."""
    return explore(system)


def noticed_by(table: Table) -> str:
    """What notices that this table is wrong: `refused`, `too large`, or a property; "" if nothing does."""
    for system in SYSTEMS:
        try:
            mutated = complete(table, system.variant)
            if _differs(mutated, sound(system)):
                known = sound(system).broken.keys()
                changed = attrs.evolve(system, tables={table.side: mutated})
                broken = explore(changed, stop_at_first=not known).broken.keys() - known
                if broken:
                    return min(broken)
        except TableError:
            return "refused"
        except TooLarge:
            return "too large"
    return ""


def _differs(mutated: CompleteTable, result: Result) -> bool:
    """Whether this search can go otherwise than the sound one.

    It cannot where everything that a session looks at before it fires is the same, and no row that the
    sound search fires is another.
    """
    table = complete(TABLES[mutated.side], result.scenario.variant)
    fired = {(each.source, each.trigger) for side, each in result.fired if side is table.side}
    changed = {(row.source, row.trigger) for row in set(mutated.rows) ^ set(table.rows)}
    return _before_firing(mutated) != _before_firing(table) or bool(changed & fired)


def _before_firing(table: CompleteTable) -> tuple[object, ...]:
    written = {(row.source, row.trigger) for row in table.written}
    return table.start, table.states, table.triggers, table.expects, written
