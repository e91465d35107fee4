"""Cases by hand, from the patch and from what QEMU does: the suite `must`. docs/conformance.md lists them."""

from __future__ import annotations

from colo_fsm.colo import COLO, TABLES
from colo_fsm.fsm import CompleteTable, Side, complete

from ..case import Case
from . import primary, secondary


def by_hand(table: CompleteTable) -> tuple[Case, ...]:
    """The cases of this side and variant of COLO; none for a protocol that is not COLO.

    What they ask is what COLO's own tables declare, whatever `table` does.
    """
    if table.words is not COLO:
        return ()
    own = complete(TABLES[table.side], table.variant)
    return tuple((primary if own.side is Side.PRIMARY else secondary).cases(own))
