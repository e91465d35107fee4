"""A shadow agrees with the two machines, and finds whatever does not."""

from __future__ import annotations

import pytest
from chance_pair import Pair

from colo_fsm.colo import COLO, COLOMessage, State
from colo_fsm.fsm import Do, Message, Side
from colo_fsm.qemu.watch.shadow import ANYWHERE, Act, Seen, Shadow, Sight

M = COLOMessage
PRIMARY, SECONDARY = Side.PRIMARY, Side.SECONDARY


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


@pytest.mark.parametrize("side", Side)
def test_what_belongs_there_instead_of_what_one_side_s_log_has(side: Side) -> None:
    """What it sends there, or else what it awaits: of all messages, wherever it stands."""
    said = run()
    for at, (sender, expected) in enumerate(said):
        shadow = Shadow(sights=(Sight.ALL, Sight.ALL))
        for by, message in said[:at]:
            shadow.see(Seen(by, Act.SENT, message))
            shadow.see(Seen(by.peer, Act.RECEIVED, message))
        if side is not sender:
            shadow.see(Seen(sender, Act.SENT, expected))
        act = Act.SENT if side is sender else Act.RECEIVED
        wrong = M.VMSTATE_SIZE if expected is not M.VMSTATE_SIZE else M.VMSTATE_SEND
        found = shadow.see(Seen(side, act, wrong))
        assert found is not None
        assert found.expected == {expected}


@pytest.mark.parametrize("side", Side)
def test_where_nothing_more_is_seen_of_a_side_it_may_do_anything(side: Side) -> None:
    shadow = Shadow()
    said = run()
    for each in said[:4]:
        shadow.saw(*each)
    shadow.look(side, Sight.NOTHING)
    assert all(shadow.saw(*each) is None for each in said[4:] if each[0] is not side)
    assert shadow.saw(side.peer, 7) is not None
