"""A shadow agrees with the two machines, and finds whatever does not."""

from __future__ import annotations

import random

import pytest

from colo_fsm.colo import COLO, COLOMessage, PrimarySession, SecondarySession, State
from colo_fsm.fsm import Do, Effects, Message, Send, Session, Side, begin, done
from colo_fsm.qemu.shadow import ANYWHERE, VARIANT, Act, Seen, Shadow, Sight

M = COLOMessage
PRIMARY, SECONDARY = Side.PRIMARY, Side.SECONDARY


class Pair:
    """Two real sessions on a perfect link; whose turn it is, chance says. `said` is what each one sent."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sessions: dict[Side, Session] = {
            PRIMARY: PrimarySession(VARIANT),
            SECONDARY: SecondarySession(VARIANT),
        }
        self.inboxes: dict[Side, list[Message]] = {PRIMARY: [], SECONDARY: []}
        self.said: list[tuple[Side, Message]] = []
        self.acts: list[Seen] = []
        self.waiting: dict[Side, list[Do]] = {PRIMARY: [], SECONDARY: []}
        for side in Side:
            self.perform(side, self.sessions[side].start())

    def perform(self, side: Side, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.said.append((side, effect.message))
                self.acts.append(Seen(side, Act.SENT, effect.message))
                self.inboxes[side.peer].append(effect.message)
            elif effect in self.sessions[side].table.awaited:
                self.waiting[side].append(effect)

    def step(self) -> None:
        side = self.rng.choice(list(Side))
        session = self.sessions[side]
        if self.waiting[side]:
            self.perform(side, session.fire(done(self.waiting[side].pop())))
        elif self.inboxes[side] and session.awaits_message:
            message = self.inboxes[side].pop(0)
            self.acts.append(Seen(side, Act.RECEIVED, message))
            self.perform(side, session.fire(*session.table.arrival(message)))
        elif side is PRIMARY and session.state in (State.READY, State.LOADED):
            self.perform(side, session.fire(begin.checkpoint))


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_the_sessions(seed: int) -> None:
    pair, shadow = Pair(seed), Shadow()
    for _ in range(400):
        said = len(pair.said)
        pair.step()
        for side, message in pair.said[said:]:
            assert shadow.saw(side, message) is None
        if not any(pair.inboxes.values()) and not any(pair.waiting.values()):
            for side in Side:
                assert pair.sessions[side].state in shadow.states(side)
    assert pair.said.count((PRIMARY, M.CHECKPOINT_REQUEST)) > 5


def run() -> list[tuple[Side, Message]]:
    """What a pair says in three rounds."""
    pair = Pair(1)
    while pair.said.count((SECONDARY, M.VMSTATE_LOADED)) < 3:
        pair.step()
    return pair.said


def test_one_place_for_each_message() -> None:
    """At every point of a run only the one message passes; the first other one is the verdict."""
    said = run()
    for at, expected in enumerate(said):
        for side in Side:
            for value in (*M, 7, 0xFFFFFFFF):
                shadow = Shadow()
                for earlier in said[:at]:
                    shadow.saw(*earlier)
                found = shadow.saw(side, value, "here")
                assert (found is None) == ((side, value) == expected)
                if found is not None:
                    assert (found.side, found.message, found.place) == (side, value, "here")
                    assert shadow.saw(*expected) is found


def test_deviation_says_where_it_stood_and_what_belongs_there() -> None:
    shadow = Shadow()
    shadow.saw(SECONDARY, M.CHECKPOINT_READY)
    before = shadow.between_rounds
    shadow.saw(PRIMARY, M.CHECKPOINT_REQUEST)
    assert (before, shadow.between_rounds) == (True, False)
    found = shadow.saw(PRIMARY, M.VMSTATE_SEND, "byte 12")
    assert found is not None
    assert found.state is State.REQUESTED
    assert found.expected == frozenset({M.CHECKPOINT_REPLY})
    assert str(found) == (
        "byte 12: the primary sent vmstate-send in 'requested', where it awaits checkpoint-reply"
    )
    shadow = Shadow()
    found = shadow.saw(SECONDARY, 9)
    assert str(found) == "the secondary sent the invalid message 9 in 'init', where it sends checkpoint-ready"


def test_a_start_in_the_middle_is_found_out() -> None:
    said = run()
    for start in range(len(said) - 8):
        shadow = Shadow(ANYWHERE)
        for side, message in said[start:]:
            assert shadow.saw(side, message) is None
        assert shadow.states(PRIMARY) == shadow.states(SECONDARY) == {State.LOADED}
        assert shadow.saw(PRIMARY, M.VMSTATE_SIZE) is not None


def test_a_start_in_the_middle_does_not_excuse_everything() -> None:
    shadow = Shadow(ANYWHERE)
    assert shadow.saw(SECONDARY, M.VMSTATE_RECEIVED) is None
    found = shadow.saw(SECONDARY, M.CHECKPOINT_REPLY)
    assert found is not None
    assert found.state is State.RECEIVED


def test_messages_sent_ahead_wait_for_their_turn() -> None:
    """A log may have all that one side sent before anything of what the other side did."""
    shadow = Shadow(sights=(Sight.NOTHING, Sight.ALL))
    for side, message in run():
        act = Act.SENT if side is SECONDARY else Act.RECEIVED
        assert shadow.see(Seen(SECONDARY, act, message)) is None
    assert shadow.see(Seen(SECONDARY, Act.RECEIVED, M.VMSTATE_SEND)) is not None


def test_nothing_is_received_before_it_was_sent() -> None:
    shadow = Shadow(sights=(Sight.ALL, Sight.ALL))
    assert not shadow.allows(Seen(PRIMARY, Act.RECEIVED, M.CHECKPOINT_READY))
    shadow.saw(SECONDARY, M.CHECKPOINT_READY)
    assert shadow.allows(Seen(PRIMARY, Act.RECEIVED, M.CHECKPOINT_READY))


@pytest.mark.parametrize("seed", range(5))
def test_whole_logs_agree_in_any_order_of_the_pair(seed: int) -> None:
    pair, shadow = Pair(seed), Shadow(sights=(Sight.ALL, Sight.ALL))
    for _ in range(300):
        pair.step()
    assert all(shadow.see(seen) is None for seen in pair.acts)


def test_the_guest_stops_and_starts_where_a_row_says_so() -> None:
    shadow = Shadow()
    assert not shadow.allows(Seen(PRIMARY, Act.DID, Do.suspend))
    for side, message in run()[:3]:
        shadow.saw(side, message)
    assert COLO.sender[M.CHECKPOINT_REPLY] is SECONDARY
    assert shadow.allows(Seen(PRIMARY, Act.DID, Do.suspend))
    assert shadow.see(Seen(PRIMARY, Act.DID, Do.resume)) is not None
