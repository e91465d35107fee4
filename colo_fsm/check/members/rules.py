"""What members go by, and how much happens to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from colo_fsm.membership import record as production
from colo_fsm.membership.record import Finding, Member, Phase, Point, Record


@attrs.frozen
class Rules:
    """What may be done by which record: the production's functions, unless one is planted."""

    find: Callable[[Record | None, Member, Point | None], Finding] = production.find
    taken: Callable[[Record, Member], Record | None] = production.taken
    opened: Callable[[Record, Member, int], Record | None] = production.opened
    copied: Callable[[Record, Member, int], Record | None] = production.copied
    joined: Callable[[Record, Member, int], Record | None] = production.joined
    claimed: Callable[[Record, Member, int, int], Record | None] = production.claimed
    kept: Callable[[Record, Member, int, int], Record | None] = production.kept
    handed: Callable[[Record, Member], Record | None] = production.handed
    given_back: Callable[[Record, Member], Record | None] = production.given_back
    waits: bool = True
    """Whether a member's new pair counts only when its Secondary has all of the member's store."""
    keeps: bool = True
    """Whether a member alone stores what it acknowledges."""


PRODUCTION: Final = Rules()


# -- COLO by hand, as it was before there was a record -----------------------------------------------


def _as_started(record: Record | None, me: Member, have: Point | None) -> Finding:
    """Whoever is started as the Primary is the Primary, whatever the stores hold."""
    if record is None:
        return Finding.BEGIN
    return Finding.OFFER if me.name == "a" else Finding.FOLLOW


def _anybody_opens(record: Record, me: Member, generation: int) -> Record:
    return attrs.evolve(record, begun=generation, guest=None, holder=me)


def _anybody_joins(record: Record, me: Member, generation: int) -> Record:
    return attrs.evolve(
        record, phase=Phase.PAIRED, generation=generation, mate=record.guest, guest=None, stored=False
    )


def _nobody(record: Record, me: Member) -> None:
    return None


PLAIN: Final = Rules(
    find=_as_started, taken=_nobody, opened=_anybody_opens, joined=_anybody_joins, handed=_nobody
)
"""Two commands under a supervisor: a pair's claims are kept, and nobody says what its store holds."""


@attrs.frozen
class Bounds:
    """How much happens: writes, failures (crashes and lost links together), and disks lost among them."""

    writes: int = 2
    failures: int = 2
    disks: int = 0


@attrs.frozen
class MemberScenario:
    """One system of two members to explore."""

    name: str = "members"
    rules: Rules = PRODUCTION
    bounds: Bounds = Bounds()

    def __str__(self) -> str:
        writes, failures, disks = attrs.astuple(self.bounds)
        who = "two members without a record" if self.rules == PLAIN else "two members and a record"
        lost = f", {disks} of which may take a disk along" if disks else ""
        return f"{who}: {writes} writes, {failures} crashes or lost links{lost}"
