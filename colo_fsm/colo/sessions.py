"""COLO's sessions: one side each, of the variant asked for."""

from __future__ import annotations

import attrs

from colo_fsm.fsm.machine import TableMachine, machine_for
from colo_fsm.fsm.session import Session
from colo_fsm.fsm.table import Table
from colo_fsm.fsm.terms import Side

from .primary import PRIMARY
from .secondary import SECONDARY
from .words import Variant

TABLES: dict[Side, Table] = {Side.PRIMARY: PRIMARY, Side.SECONDARY: SECONDARY}


def colo_machine(side: Side, variant: Variant = Variant()) -> TableMachine:  # noqa: B008 - frozen
    """The shared machine of this side and variant."""
    return machine_for(TABLES[side], variant)


@attrs.define(slots=True, eq=False, init=False)
class PrimarySession(Session):
    """The Primary's side of a pair; `colo_fsm.colo.primary` has its rows."""

    def __init__(self, variant: Variant = Variant()) -> None:  # noqa: B008 - frozen
        super().__init__(colo_machine(Side.PRIMARY, variant))


@attrs.define(slots=True, eq=False, init=False)
class SecondarySession(Session):
    """The Secondary's side of a pair; `colo_fsm.colo.secondary` has its rows."""

    def __init__(self, variant: Variant = Variant()) -> None:  # noqa: B008 - frozen
        super().__init__(colo_machine(Side.SECONDARY, variant))
