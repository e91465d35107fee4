"""The frozen `transitions` machine of a side: one for each variant, shared by all its sessions."""

from __future__ import annotations

from functools import cache
from typing import Any

from .complete import CompleteTable, complete
from .frozen import FrozenMachine
from .primary import PRIMARY
from .secondary import SECONDARY
from .vocabulary import Side, State, Variant

TABLES = {Side.PRIMARY: PRIMARY, Side.SECONDARY: SECONDARY}


def definition(table: CompleteTable) -> dict[str, Any]:
    """The keyword arguments that make any `transitions` machine of this table.

    `transitions.Machine(**definition(table))` is the reference our frozen machine is compared with;
    give it a model of your own, or any of the library's other machine classes.
    """
    return {
        "states": list(table.states),
        "initial": State.INIT,
        "transitions": [{"trigger": r.trigger.name, "source": r.source, "dest": r.dest} for r in table.rows],
        "auto_transitions": False,
    }


class ColoMachine(FrozenMachine):
    """A `transitions` machine made of a complete table, and the `table` it was made of.

    `machine.events[name].trigger(session)` is all that ever changes a session's state.
    """

    table: CompleteTable

    def __init__(self, table: CompleteTable) -> None:
        super().__init__(model=None, **definition(table))
        self.table = table
        self.freeze()


def machine_for(side: Side, variant: Variant = Variant()) -> ColoMachine:  # noqa: B008 - frozen
    """The shared machine of this side and variant."""
    return _machine(side, variant)


@cache
def _machine(side: Side, variant: Variant) -> ColoMachine:
    return ColoMachine(complete(TABLES[side], variant))
