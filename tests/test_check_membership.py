"""Members explored: what must hold does, and each planted error is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from systems import searched as searched_once

from colo_fsm.check import (
    MEMBERS,
    Bounds,
    Documented,
    MemberProperty,
    MemberResult,
    MemberScenario,
    Rules,
    TooLarge,
    explore_members,
)
from colo_fsm.check.members.rules import PLAIN, PRODUCTION
from colo_fsm.check.members.steps import Members
from colo_fsm.check.members.world import World, protected
from colo_fsm.membership import record as production
from colo_fsm.membership.record import Finding, Member, Phase, Point, Record

KEPT, SERVED, ONE, HEALS = MemberProperty
PAGE = Path(__file__).parent.parent / "docs" / "verification.md"
Find = Callable[[Record | None, Member, Point | None], Finding]


def taking(wrong: dict[Finding, Finding]) -> Find:
    """Members that take one finding for another."""

    def find(record: Record | None, me: Member, have: Point | None) -> Finding:
        found = production.find(record, me, have)
        return wrong.get(found, found) if have is not None else found

    return find


def everybody_wins(record: Record, me: Member, generation: int, token: int) -> Record:
    return attrs.evolve(record, phase=Phase.ALONE, holder=me, mate=None, stored=True, token=token)


def any_copy_will_do(record: Record, me: Member, generation: int) -> Record | None:
    """A Secondary's copy counts before it is whole."""
    after = production.copied(record, me, generation)
    if after is None:
        return None
    return attrs.evolve(after, phase=Phase.PAIRED, generation=generation, mate=me, stored=False)


@attrs.frozen
class Planted:
    """An error, and the property that breaks first, in so many steps."""

    rules: Rules
    breaks: MemberProperty
    steps: int


TWO_DEEP = Bounds()


PLANTED = {
    "overwrite": Planted(PLAIN, KEPT, 19),
    "forget the survivor's state": Planted(Rules(keeps=False), KEPT, 15),
    "join without the newest point": Planted(Rules(waits=False), SERVED, 25),
    "the last one up goes on": Planted(
        Rules(
            find=taking({Finding.GIVE_BACK: Finding.GO_ON, Finding.FOLLOW: Finding.GO_ON}),
            kept=lambda r, me, g, t: attrs.evolve(
                r, phase=Phase.ALONE, holder=me, generation=g, begun=max(g, r.begun), stored=True
            ),
        ),
        ONE,
        15,
    ),
    "a pair that the record never counted": Planted(
        Rules(joined=lambda record, me, generation: record), KEPT, 19
    ),
    "a copy that is not whole counts": Planted(Rules(copied=any_copy_will_do), ONE, 20),
    "two claims are won": Planted(Rules(claimed=everybody_wins), ONE, 15),
}


def searched(rules: Rules = PRODUCTION, bounds: Bounds = TWO_DEEP, **how: bool) -> MemberResult:
    return explore_members(MemberScenario("tried", rules, bounds), **how)


@pytest.mark.parametrize("documented", MEMBERS, ids=lambda documented: documented.name)
def test_the_verdicts_are_the_documented_ones(documented: Documented[MemberScenario]) -> None:
    """Two failures deep: with the record nothing acknowledged is lost and all heals, without it neither."""
    result = searched_once(documented.name)
    assert documented.surprises(result) == []
    assert result.states > 10_000


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found(name: str) -> None:
    planted = PLANTED[name]
    found = searched(planted.rules, Bounds(writes=1), stop_at_first=True).broken
    assert {which: len(trail.steps) for which, trail in found.items()} == {planted.breaks: planted.steps}


def test_the_page_names_the_planted_errors() -> None:
    rows = [f"| {name} | `{planted.breaks}` | {planted.steps} |" for name, planted in PLANTED.items()]
    assert "\n".join(rows) + "\n\n" in PAGE.read_text()


def test_of_plain_colo_restarted_the_shortest_loss_is_two_crashes() -> None:
    """Both sides restarted by a supervisor: the empty Primary overwrites what was acknowledged."""
    trail = searched(PLAIN, stop_at_first=True).broken[KEPT]
    assert [step.name for step in trail.steps].count("crashes") == 2
    assert trail.steps[-1].name == "has the copy"
    assert trail.end == "no store has write 1, which was acknowledged"


def test_a_lost_disk_may_lose_state_and_nobody_serves_less() -> None:
    assert not searched(bounds=Bounds(writes=1, disks=1)).broken


def test_without_failures_two_members_come_to_a_pair_and_serve() -> None:
    members = Members(PRODUCTION, Bounds(writes=1, failures=0))
    seen, todo = set(), {World()}
    while todo:
        seen |= todo
        todo = {step.world for world in todo for step in members.steps(world)} - seen
    assert any(protected(world) and world.acknowledged for world in seen)
    assert len(seen) == searched(bounds=Bounds(writes=1, failures=0)).states


def test_beyond_its_limit_nothing_is_proved() -> None:
    with pytest.raises(TooLarge, match="more than 100 states"):
        explore_members(MemberScenario(), limit=100)


@pytest.mark.soak
def test_three_failures_deep() -> None:
    result = searched(bounds=Bounds(failures=3, disks=1))
    assert not result.broken
    assert f"{result.states:,} states" in PAGE.read_text()


@pytest.mark.soak
def test_a_member_that_goes_on_with_an_older_store_is_found_three_failures_deep() -> None:
    wrong = Rules(find=taking({Finding.GIVE_BACK: Finding.GO_ON}))
    assert searched(wrong, Bounds(failures=3)).broken.keys() & {KEPT, SERVED}
