"""What the link and the arbiter do: each disturbance as it stands in the documentation, no more, no less."""

from __future__ import annotations

import pytest

from colo_fsm.check import Scenario, Strike
from colo_fsm.check.model.surroundings import arbiter_losses, closed, disturbed, silenced, tail_lost
from colo_fsm.check.model.world import (
    FAR,
    NEVER,
    ROOM,
    Channel,
    End,
    Facts,
    Item,
    Put,
    Take,
    older,
)
from colo_fsm.colo import COLOMessage as M
from colo_fsm.colo import Profile, Variant

QEMU, PATCH = Variant(), Variant(Profile.PATCH)
WIRE, BARE = Scenario(variant=QEMU).law.wire, Scenario(variant=PATCH).law.wire
REQUEST, SEND = Item(M.CHECKPOINT_REQUEST), Item(M.VMSTATE_SEND)
TWO = Channel((SEND, Item(WIRE.live)))


def after(strike: Strike, channel: Channel, variant: Variant = QEMU) -> set[tuple[Item, ...]]:
    scenario = Scenario(variant=variant, faults=frozenset({strike}))
    return {there.items for found, _, there in disturbed(channel, scenario) if found is strike}


def test_a_message_becomes_any_other_and_none() -> None:
    assert after(Strike.CORRUPT, Channel((REQUEST,))) == {(Item(v),) for v in range(8) if v != 1}


def test_a_state_is_damaged_once_and_a_message_is_not() -> None:
    damaged = (SEND, Item(WIRE.live, sound=False))
    assert after(Strike.PAYLOAD, TWO) == {damaged}
    assert after(Strike.PAYLOAD, Channel(damaged)) == set()
    assert after(Strike.PAYLOAD, Channel((SEND,)), PATCH) == {(SEND._replace(sound=False),)}


def test_neighbours_change_places() -> None:
    assert after(Strike.REORDER, TWO) == {(Item(WIRE.live), SEND)}
    assert after(Strike.REORDER, Channel((REQUEST, REQUEST))) == set()


def test_anything_comes_twice() -> None:
    assert after(Strike.DUPLICATE, TWO) == {
        (SEND, SEND, Item(WIRE.live)),
        (SEND, Item(WIRE.live), Item(WIRE.live)),
    }


def test_any_message_is_forged_on_an_open_link() -> None:
    assert after(Strike.INJECT, Channel()) == {(Item(value),) for value in range(8)}
    assert after(Strike.INJECT, Channel((), End.CLOSED)) == set()


@pytest.mark.parametrize("strike", [Strike.DUPLICATE, Strike.INJECT])
def test_a_full_link_takes_no_more(strike: Strike) -> None:
    assert after(strike, Channel((REQUEST,) * ROOM)) == set()


def test_behind_a_break_the_tail_may_be_lost() -> None:
    for end in (End.CLOSED, End.SILENT):
        assert [there for _, there in tail_lost(Channel(TWO.items, end), WIRE)] == [Channel((SEND,), end)]
    assert list(tail_lost(TWO, WIRE)) == []


def test_a_cut_reaches_what_is_open_and_a_silence_the_end_of_the_link_too() -> None:
    assert [closed(Channel((), end)).end for end in End] == [End.CLOSED, End.CLOSED, End.SILENT, End.GONE]
    assert [silenced(Channel((), end)).end for end in End] == [End.SILENT, End.SILENT, End.SILENT, End.GONE]


def test_an_arbiter_is_lost_once() -> None:
    lossy = Scenario(faults=frozenset({Strike.ARBITER}))
    (lost,) = arbiter_losses(Facts(), lossy)
    assert not lost.arbiter_up
    assert list(arbiter_losses(lost, lossy)) == []
    assert list(arbiter_losses(Facts(), Scenario())) == []


def test_a_save_makes_all_that_is_known_older() -> None:
    facts = Facts(released=0, stored=1, loaded=NEVER, received=FAR).aged()
    assert (facts.released, facts.stored, facts.loaded, facts.received) == (1, 2, NEVER, FAR)
    assert older(NEVER) == NEVER
    assert Put(aged=True).on(TWO, WIRE).items == (SEND, Item(WIRE.live, lag=1))
    assert Put(aged=True).on(TWO, BARE).items == (SEND._replace(lag=1), Item(WIRE.live))


def test_what_a_step_does_to_the_link() -> None:
    assert Put(items=(WIRE.state,)).on(TWO, WIRE).items == (*TWO.items, Item(WIRE.state))
    assert Put(end=End.CLOSED).on(TWO, WIRE) == Channel(TWO.items, End.CLOSED)
    assert Put(items=(WIRE.state,)).on(Channel((), End.SILENT), WIRE) == Channel((), End.SILENT)
    assert Take.FIRST.on(TWO) == Channel((Item(WIRE.live),))
    assert Take.HANG_UP.on(TWO) == Channel((), End.GONE)
    assert Take.VANISH.on(TWO) == Channel((), End.SILENT)
    assert Take.NOTHING.on(TWO) == TWO
