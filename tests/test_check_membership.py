"""Members explored: what must hold does, and each planted error is found."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from colo_fsm.check.membership import (
    Bounds,
    Explored,
    Property,
    Rules,
    World,
    active,
    explore,
)
from colo_fsm.member import record as production
from colo_fsm.member.record import Finding, Member, Phase, Point, Record

Find = Callable[[Record | None, Member, Point | None], Finding]


def taking(wrong: dict[Finding, Finding]) -> Find:
    """Members that take one finding for another."""

    def find(record: Record | None, me: Member, have: Point | None) -> Finding:
        found = production.find(record, me, have)
        return wrong.get(found, found) if have is not None else found

    return find


def plain_find(record: Record | None, me: Member, have: Point | None) -> Finding:
    """COLO by hand: whoever is started as the Primary is the Primary."""
    if record is None:
        return Finding.BEGIN
    return Finding.OFFER if me.name == "a" else Finding.FOLLOW


def anybody_opens(record: Record, me: Member, generation: int) -> Record:
    return attrs.evolve(record, begun=generation, guest=None, holder=me)


def anybody_joins(record: Record, me: Member, generation: int) -> Record:
    return attrs.evolve(
        record, phase=Phase.PAIRED, generation=generation, mate=record.guest, guest=None, stored=False
    )


def everybody_wins(record: Record, me: Member, generation: int, token: int) -> Record:
    return attrs.evolve(record, phase=Phase.ALONE, holder=me, mate=None, stored=True, token=token)


def any_copy_will_do(record: Record, me: Member, generation: int) -> Record | None:
    """The Secondary is called the mate before it has said that it is ready."""
    after = production.opened(record, me, generation)
    if after is None or record.guest is None:
        return after
    return attrs.evolve(after, phase=Phase.PAIRED, mate=record.guest)


PLANTED = {
    "overwrite": Rules(
        find=plain_find, opened=anybody_opens, joined=anybody_joins, handed=lambda record, me: None
    ),
    "forget the survivor's state": Rules(keeps=False),
    "join without the newest point": Rules(
        find=taking({Finding.GIVE_BACK: Finding.GO_ON, Finding.FOLLOW: Finding.GO_ON}),
        kept=lambda r, me, g, t: attrs.evolve(
            r, phase=Phase.ALONE, holder=me, generation=g, begun=max(g, r.begun), stored=True
        ),
    ),
    "a pair that the record never counted": Rules(joined=lambda record, me, generation: record),
    "two claims are won": Rules(claimed=everybody_wins),
}


@pytest.fixture(scope="module")
def explored() -> Explored:
    return explore()


def test_two_failures_deep_nothing_acknowledged_is_lost_and_all_heals(explored: Explored) -> None:
    assert not explored.broken
    assert explored.states > 10_000


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found(name: str) -> None:
    found = explore(PLANTED[name], stop_at_first=True).broken
    assert found.keys() & {Property.KEPT, Property.SERVED, Property.ONE}


def test_of_plain_colo_restarted_the_shortest_loss_is_two_crashes() -> None:
    """Both sides restarted by a supervisor: the empty Primary overwrites what was acknowledged."""
    way = explore(PLANTED["overwrite"], stop_at_first=True).broken[Property.KEPT]
    assert [step.name for step in way].count("crashes") == 2
    assert way[-1].name == "has the copy"
    assert way[-1].world.acknowledged


def test_a_lost_disk_may_lose_state_and_nobody_serves_less() -> None:
    found = explore(bounds=Bounds(writes=1, faults=2, disks=1)).broken
    assert Property.SERVED not in found
    assert Property.ONE not in found


def test_the_world_is_as_large_as_it_says() -> None:
    """Without faults the two come to a protected pair, and the search sees writes acknowledged there."""
    found = explore(bounds=Bounds(writes=1, faults=0))
    assert not found.broken
    start = World()
    assert not any(active(start, index) for index in (0, 1))


@pytest.mark.soak
def test_three_failures_deep() -> None:
    assert not explore(bounds=Bounds(writes=2, faults=3, disks=1)).broken


@pytest.mark.soak
def test_a_member_that_goes_on_with_an_older_store_is_found_three_failures_deep() -> None:
    wrong = Rules(find=taking({Finding.GIVE_BACK: Finding.GO_ON}))
    assert explore(wrong, Bounds(faults=3)).broken.keys() & {Property.KEPT, Property.SERVED}
