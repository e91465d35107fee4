"""What both sides of a script do, on a virtual clock and without a socket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import attrs
import pytest
from protocols import goodbye
from replicas import (
    GREETING,
    LOADED,
    READY,
    RECEIVED,
    REPLY,
    REQUEST,
    SEND,
    SIZE,
    Bench,
    Broken,
    OneShot,
    initial_bytes,
    live_bytes,
    round_bytes,
    same,
    state_bytes,
)

from colo_fsm.arbiter import NotFenced, UnknownGeneration
from colo_fsm.colo import State
from colo_fsm.fsm import (
    SIGN_OF_LIFE,
    Do,
    FailoverRequested,
    FailoverStatus,
    GuestFailed,
    LinkLost,
    NoReturnPath,
    SendFailed,
    Side,
    TimedOut,
    Transition,
    Truncated,
    begin,
    row,
    send,
)
from colo_fsm.replica import ClaimAnswered, ClaimUnanswered, MemoryStore, Options
from colo_fsm.replica.wish import Wait

P, S = Side.PRIMARY, Side.SECONDARY
SIDES = [P, S]

SLOW = 16.0
TO_STATE: Mapping[tuple[Side, State], bytes] = {
    (P, State.REQUESTED): READY,
    (P, State.SIZED): READY + REPLY,
    (P, State.RECEIVED): READY + REPLY + RECEIVED,
    (S, State.REPLIED): initial_bytes() + REQUEST,
    (S, State.SENDING): initial_bytes() + REQUEST + SEND + live_bytes(),
    (S, State.SIZED): initial_bytes() + REQUEST + SEND + live_bytes() + SIZE,
}
AWAITING = list(TO_STATE)


def bench(side: Side, upto: bytes = b"", **more: Any) -> Bench:
    """A side that has received so much. A Primary then begins its checkpoint."""
    made = Bench(side, **more).start().receive(upto)
    return made.lapse() if made.state is State.READY and side is P else made


def at(side: Side, state: State, **more: Any) -> Bench:
    made = bench(side, TO_STATE[side, state], **more)
    assert made.state is state
    return made


class TestDeadlines:
    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_silence_inside_a_round(self, side: Side, state: State) -> None:
        made = at(side, state, options=Options(deadline=SLOW))
        assert made.wait.timeout == SLOW
        made.lapse()
        assert same(made.session.error, TimedOut(state, SLOW))
        assert made.state is State.ALONE

    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_a_byte_is_progress(self, side: Side, state: State) -> None:
        made = at(side, state, options=Options(deadline=SLOW))
        made.receive(b"\0", step=1)
        assert (made.state, made.wait.timeout) == (state, SLOW)

    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_a_wake_up_is_no_progress(self, side: Side, state: State) -> None:
        """Whoever asks for checkpoints all the time must not keep a dead link alive."""
        made = at(side, state, options=Options(deadline=SLOW))
        made.wake(after=SLOW / 4).wake(after=SLOW / 2)
        assert made.wait.timeout == pytest.approx(SLOW / 4)

    def test_ten_of_them_while_the_first_copy_is_under_way(self) -> None:
        primary = Bench(P, options=Options(deadline=1.0))
        primary.link.room = 1
        primary.start()
        assert primary.wait == Wait(primary.link, writing=True, timeout=10.0)
        secondary = Bench(S, options=Options(deadline=1.0)).start()
        assert secondary.wait == Wait(secondary.link, timeout=10.0)
        secondary.receive(initial_bytes()[:-3], step=1)
        assert (secondary.state, secondary.wait.timeout) == (State.INIT, 10.0)

    @pytest.mark.parametrize("side", SIDES)
    def test_a_peer_that_says_nothing_in_the_handshake(self, side: Side) -> None:
        made = Bench(side, options=Options(deadline=1.0)).start()
        made.lapse()
        assert same(made.session.error, TimedOut(State.INIT, 10.0))
        assert (made.state, made.over) == (State.STOPPED, True)

    def test_time_until_a_peer_comes_does_not_count(self) -> None:
        made = Bench(S, options=Options(deadline=1.0))
        made.now += 1000.0
        assert made.start().wait.timeout == 10.0

    def test_none_between_two_rounds(self) -> None:
        secondary = bench(S, initial_bytes())
        assert (secondary.state, secondary.wait.timeout) == (State.READY, None)
        secondary.receive(round_bytes(b"1"))
        assert (secondary.state, secondary.wait.timeout) == (State.LOADED, None)
        primary = Bench(P, options=Options(interval=77.0)).start().receive(READY)
        assert (primary.state, primary.wait.timeout) == (State.READY, 77.0)
        primary.lapse()
        primary.receive(REPLY + RECEIVED + LOADED)
        assert (primary.state, primary.wait.timeout) == (State.LOADED, 77.0)
        assert primary.session.error is None

    def test_a_stuck_write_has_the_deadline_too(self) -> None:
        made = at(P, State.REQUESTED, options=Options(deadline=SLOW))
        made.link.room = 5
        made.receive(REPLY)
        assert (made.wait.writing, made.wait.timeout) == (True, SLOW)
        made.link.room = 5
        made.wake(after=SLOW / 2)
        assert made.wait.timeout == pytest.approx(SLOW), "bytes have moved"
        made.lapse()
        assert same(made.session.error, TimedOut(State.SIZED, SLOW, sending=True))


class Elsewhere(MemoryStore):
    """Nobody knows of it that it is quick."""


class TestSlowIsNotDead:
    """Who works on something says so, where the peer awaits a message and nowhere else."""

    WORK = [
        pytest.param(P, b"", "save", b"", id="the first copy is being saved"),
        pytest.param(P, READY + REPLY, "save", REQUEST, id="a round is being saved"),
        pytest.param(P, READY, "resume", b"", id="the guest is being resumed"),
        pytest.param(S, initial_bytes(), "_load_here", b"", id="the first copy is being loaded"),
        pytest.param(S, initial_bytes() + round_bytes(b"1"), "_commit", REPLY, id="a round is being stored"),
        pytest.param(
            S, initial_bytes() + round_bytes(b"1"), "_load_here", RECEIVED, id="a round is being loaded"
        ),
    ]

    @pytest.mark.parametrize(("side", "upto", "hook", "before"), WORK)
    def test_a_hook_that_takes_long(self, side: Side, upto: bytes, hook: str, before: bytes) -> None:
        made = Bench(side, options=Options(deadline=5.0), store=Elsewhere())
        seen: list[bytes] = []

        def at_work() -> None:
            call = made.calls[-1]
            assert call.every == 1.0
            assert call.meanwhile is not None
            call.meanwhile()
            call.meanwhile()
            seen.append(b"".join(made.writes[-3:]))

        made.during[hook] = at_work
        made.start()
        if side is P and REPLY in upto:
            made.receive(READY).lapse().receive(REPLY)
        else:
            made.receive(upto)
        assert seen[-1].endswith(before + SIGN_OF_LIFE * 2)
        assert made.session.error is None

    @pytest.mark.parametrize(("side", "state"), [at for at in AWAITING if at != (S, State.SIZED)])
    def test_a_peer_that_is_at_work(self, side: Side, state: State) -> None:
        made = at(side, state, options=Options(deadline=SLOW))
        for _ in range(3):
            made.wake(after=SLOW / 2).receive(SIGN_OF_LIFE)
            assert (made.state, made.session.error) == (state, None)
            assert made.wait.timeout == pytest.approx(SLOW)

    @pytest.mark.parametrize("side", SIDES)
    def test_a_sign_between_two_rounds_changes_nothing(self, side: Side) -> None:
        made = Bench(side).start().receive(READY if side is P else initial_bytes())
        made.receive(SIGN_OF_LIFE * 2)
        assert (made.state, made.session.error) == (State.READY, None)

    def test_a_primary_that_saves_its_first_copy(self) -> None:
        made = Bench(S)
        stream = initial_bytes(b"4")
        made.start().receive(GREETING + SIGN_OF_LIFE * 2 + stream[len(GREETING) :])
        assert (made.state, made.guest.count) == (State.READY, 4)

    def test_a_turn_that_takes_long(self) -> None:
        made = Bench(P, options=Options(deadline=5.0, hook_deadline=2.5)).start().receive(READY).lapse()
        turn = made.replica.gate.enter(lambda: None)
        assert turn is not None
        made.receive(REPLY)
        assert made.wait == Wait(timeout=1.0)
        made.lapse().lapse()
        assert made.writes[-2:] == [SIGN_OF_LIFE] * 2
        assert made.wait == Wait(timeout=0.5)
        made.lapse()
        assert str(made.session.error) == "a turn failed: TimeoutError: it has been open for 2.5 s"
        suspended: list[bool] = []
        made.during["claim"] = lambda: suspended.append(not made.guest.running)
        made.replica.gate.leave(turn)
        made.lapse().lapse()
        assert (made.state, suspended) == (State.ALONE, [True])

    def test_a_part_of_one_is_made_whole_before_the_next_message(self) -> None:
        made = at(P, State.REQUESTED)

        def at_work() -> None:
            made.link.room = 3
            for _ in range(2):
                assert made.calls[-1].meanwhile is not None
                made.calls[-1].meanwhile()
            made.link.room = None

        made.during["save"] = at_work
        made.receive(REPLY)
        assert (SIGN_OF_LIFE + SEND) in b"".join(made.writes)

    def test_none_once_the_round_is_broken(self) -> None:
        """The Secondary still loads what it has stored; the Primary must hear the end, and nothing else."""
        made = at(S, State.SIZED, store=Elsewhere())
        loads: list[int] = []

        def at_work() -> None:
            loads.append(len(made.writes))
            assert made.calls[-1].meanwhile is not None
            made.calls[-1].meanwhile()

        made.during["_load_here"] = at_work
        made.end_of_link()
        assert made.state is State.ALONE
        assert loads == [len(made.writes)]

    def test_a_link_that_has_failed_is_the_hooks_no_business(self) -> None:
        made = at(P, State.REQUESTED)

        def at_work() -> None:
            made.link.before_write = raising(BrokenPipeError())
            assert made.calls[-1].meanwhile is not None
            made.calls[-1].meanwhile()

        made.during["save"] = at_work
        made.receive(REPLY)
        assert isinstance(made.session.error, SendFailed)


class TestLink:
    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_end_of_link(self, side: Side, state: State) -> None:
        made = at(side, state).end_of_link()
        assert isinstance(made.session.error, LinkLost)
        assert made.state is State.ALONE

    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_end_inside_a_message(self, side: Side, state: State) -> None:
        made = at(side, state).receive(b"\0").end_of_link()
        assert same(made.session.error, Truncated())

    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_error_on_receiving(self, side: Side, state: State) -> None:
        cause = ConnectionResetError(104, "reset")
        made = at(side, state).fail(cause)
        assert same(made.session.error, LinkLost(cause))

    @pytest.mark.parametrize(("side", "upto"), [(P, READY), (S, initial_bytes() + REQUEST)])
    def test_error_on_sending(self, side: Side, upto: bytes) -> None:
        cause = BrokenPipeError(32, "broken")
        made = Bench(side).start()
        made.until_reading()
        made.link.before_write = raising(cause)
        made.receive(upto)
        if side is P:
            made.lapse()
        assert same(made.session.error, SendFailed(cause))

    def test_a_wake_up_is_no_progress_of_a_stuck_write(self) -> None:
        made = Bench(P, options=Options(deadline=SLOW)).start().receive(READY)
        made.link.room = 0
        made.lapse()
        assert (made.wait.writing, made.wait.timeout) == (True, SLOW)
        made.wake(after=5.0)
        assert made.wait.timeout == SLOW - 5.0
        made.wake(after=5.0)
        assert made.wait.timeout == SLOW - 10.0
        made.lapse()
        assert same(made.session.error, TimedOut(State.REQUESTED, SLOW, sending=True))

    def test_no_return_path(self) -> None:
        cause = OSError(107, "not connected")
        made = Bench(P)
        made.link.peer = cause
        made.start()
        assert same(made.session.error, NoReturnPath(cause))
        assert (made.state, made.over, made.writes, made.calls) == (State.STOPPED, True, [], [])

    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_it_is_closed_before_the_claim(self, side: Side, state: State) -> None:
        made = at(side, state)
        resumed = made.guest.calls.count("resume")
        closed: list[bool] = []

        def claimed() -> None:
            closed.append(made.link.closed)
            assert not made.guest.running
            assert made.guest.calls.count("resume") == resumed, "it must not run before it has won"

        made.during["claim"] = claimed
        made.end_of_link()
        assert made.state is State.ALONE
        assert closed == [True]


def raising(error: Exception) -> Callable[[], object]:
    def hook() -> object:
        raise error

    return hook


def test_nothing_is_sent_behind_a_message_that_was_broken_off() -> None:
    """Whoever reads would take it for a part of that."""
    leaving = row(State.INIT, begin.leave, State.ENDED, send(goodbye.M.GOODBYE), Do.disconnect)
    others = goodbye.PRIMARY.lines
    others = tuple(r for r in others if (r.sources, r.trigger) != ((State.INIT,), begin.leave))
    made = Bench(P, table=attrs.evolve(goodbye.PRIMARY, lines=(*others, leaving)))
    made.link.room = 5
    made.start()
    made.replica.leave_requested = True
    made.wake()
    assert (made.state, made.over, b"".join(made.writes)) == (State.ENDED, True, GREETING[:5])


class TestClaim:
    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_without_an_answer_it_stays_suspended_and_asks_again(self, side: Side, state: State) -> None:
        arbiter = OneShot(unreachable=2)
        made = at(side, state, arbiter=arbiter, options=Options(claim_retry=3.0)).end_of_link()
        for asked in (1, 2):
            assert (made.state, made.guest.running, len(arbiter.claims)) == (State.FAILOVER, False, asked)
            assert made.session.failover_status is FailoverStatus.ACTIVE
            assert made.wait == Wait(timeout=3.0)
            said = [e for e in made.events if isinstance(e, ClaimUnanswered)]
            assert [e.retry for e in said] == [3.0] * asked
            made.lapse()
        assert (made.state, made.guest.running, made.replica.token) == (State.ALONE, True, 1)

    def test_fencing_is_tried_ever_more_slowly_up_to_a_bound(self) -> None:
        """A claim that nobody answers is asked for at one pace; a machine that resists is not hammered."""
        arbiter = OneShot(unreachable=8, failure=NotFenced("fence", "no route"))
        made = at(P, State.SIZED, arbiter=arbiter, options=Options(claim_retry=0.5)).end_of_link()
        for _ in range(8):
            assert (made.state, made.guest.running) == (State.FAILOVER, False)
            made.lapse()
        said = [e.retry for e in made.events if isinstance(e, ClaimUnanswered)]
        assert said == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]
        assert (made.state, made.guest.running) == (State.ALONE, True)

    def test_a_side_that_failed_itself_lets_the_other_ask_first(self) -> None:
        """It is the first to know, and would take the claim away from the side that is well."""
        made = at(P, State.REQUESTED, options=Options(claim_retry=3.0))
        made.guest.failing = {"save"}
        made.receive(REPLY)
        arbiter = made.arbiter
        assert isinstance(arbiter, OneShot)
        assert (made.state, made.wait.timeout, arbiter.claims) == (State.FAILOVER, 3.0, [])
        made.wake(after=1.0)
        assert (made.wait.timeout, arbiter.claims) == (2.0, [])
        made.lapse()
        assert (made.state, arbiter.claims) == (State.ALONE, [P])

    def test_a_wake_up_does_not_ask_early(self) -> None:
        arbiter = OneShot(unreachable=1)
        made = at(P, State.SIZED, arbiter=arbiter, options=Options(claim_retry=4.0)).end_of_link()
        made.wake(after=1.0)
        assert (len(arbiter.claims), made.wait.timeout) == (1, 3.0)

    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_lost(self, side: Side, state: State) -> None:
        made = at(side, state)
        made.arbiter.claim(7, side.peer)
        made.end_of_link()
        assert (made.state, made.over, made.guest.running) == (State.STOPPED, True, False)
        assert [e.won for e in made.events if isinstance(e, ClaimAnswered)] == [False]

    def test_leaving_while_nobody_answers(self) -> None:
        made = at(S, State.SIZED, arbiter=OneShot(unreachable=9)).end_of_link()
        made.replica.leave_requested = True
        made.wake()
        assert (made.state, made.over) == (State.STOPPED, True)

    def test_a_generation_that_nobody_knows_is_no_answer(self) -> None:
        """A claim file was made anew: put back, it answers. "Lost" would end a healthy survivor."""
        arbiter = OneShot(unreachable=1, failure=UnknownGeneration("test:", 7))
        made = at(S, State.SIZED, arbiter=arbiter, options=Options(claim_retry=3.0)).end_of_link()
        assert (made.state, made.guest.running, made.wait) == (State.FAILOVER, False, Wait(timeout=3.0))
        (said,) = (e for e in made.events if isinstance(e, ClaimUnanswered))
        assert isinstance(said.cause, UnknownGeneration)
        made.lapse()
        assert (made.state, made.guest.running) == (State.ALONE, True)

    @pytest.mark.parametrize("side", SIDES)
    def test_a_fault_before_ready_claims_nothing(self, side: Side) -> None:
        made = Bench(side).start().end_of_link()
        assert (made.state, made.over, made.arbiter.claims) == (State.STOPPED, True, [])  # type: ignore[attr-defined]
        assert "resume" not in made.guest.calls


class TestRequests:
    @pytest.mark.parametrize(
        ("side", "upto"),
        [(side, upto) for (side, _), upto in TO_STATE.items()] + [(P, READY), (S, initial_bytes())],
    )
    def test_failover_at_any_time(self, side: Side, upto: bytes) -> None:
        made = Bench(side).start().receive(upto)
        before = len(made.writes)
        made.replica.failover_requested = True
        told = [made.replica.failover_status]
        made.wake()
        told.append(made.replica.failover_status)
        assert told == [FailoverStatus.REQUIRE, FailoverStatus.COMPLETED]
        assert isinstance(made.session.error, FailoverRequested)
        assert (made.state, made.guest.running) == (State.ALONE, True)
        assert len(made.writes) == before

    @pytest.mark.parametrize("side", SIDES)
    def test_failover_before_ready(self, side: Side) -> None:
        made = Bench(side).start()
        made.replica.failover_requested = True
        made.wake()
        assert (made.state, made.arbiter.claims) == (State.STOPPED, [])  # type: ignore[attr-defined]

    def test_failover_in_the_middle_of_live_state(self) -> None:
        made = bench(S, initial_bytes(b"4") + REQUEST + SEND + live_bytes()[:9])
        made.replica.failover_requested = True
        made.wake()
        assert (made.state, made.guest.count) == (State.ALONE, 4)

    def test_failover_while_loading_finishes_the_load_and_sends_nothing(self) -> None:
        made = bench(S, initial_bytes(b"4"))
        made.guest.at["load"] = lambda: setattr(made.replica, "failover_requested", True)
        states: list[StrEnum] = []
        made.session.on_transition(lambda t: states.append(t.dest))
        made.receive(round_bytes(b"5"))
        assert states[-3:] == [State.FINISHING, State.FAILOVER, State.ALONE]
        assert made.guest.calls.count("load") == 2
        assert made.guest.count == 5
        assert made.writes[-1] == REPLY + RECEIVED

    @pytest.mark.parametrize(("side", "state"), AWAITING)
    def test_leaving_waits_for_the_end_of_the_round(self, side: Side, state: State) -> None:
        made = at(side, state)
        made.replica.leave_requested = True
        made.wake()
        assert made.state is state
        rest = {
            State.REQUESTED: REPLY + RECEIVED + LOADED,
            State.RECEIVED: LOADED,
            State.REPLIED: round_bytes(b"0")[4:],
            State.SENDING: SIZE + state_bytes(b"0"),
        }
        rest[State.SIZED] = RECEIVED + LOADED if side is P else state_bytes(b"0")
        made.receive(rest[state])
        assert (made.state, made.over, made.session.error) == (State.ENDED, True, None)
        assert made.replica.checkpoint == 1
        assert made.arbiter.claims == []  # type: ignore[attr-defined]
        assert side is P or made.writes[-1] == LOADED, "the Primary awaits the end of the round"

    @pytest.mark.parametrize("side", SIDES)
    @pytest.mark.parametrize("part", [0, 5])
    def test_leaving_before_ready(self, side: Side, part: int) -> None:
        """Also while the first copy is under way: a Primary that is frozen must not hold a Secondary."""
        made = Bench(side).start()
        if side is S and part:
            made.receive(initial_bytes()[:part])
        made.replica.leave_requested = True
        made.wake()
        assert (made.state, made.over, made.arbiter.claims) == (State.ENDED, True, [])  # type: ignore[attr-defined]

    @pytest.mark.parametrize("side", SIDES)
    def test_leaving_alone(self, side: Side) -> None:
        made = bench(side, READY if side is P else initial_bytes()).end_of_link()
        assert made.state is State.ALONE
        made.replica.leave_requested = True
        made.wake()
        assert (made.state, made.over, made.guest.running) == (State.ENDED, True, False)


class TestEmbedder:
    """What the embedder supplies fails."""

    @pytest.mark.parametrize("state", [State.READY, State.REQUESTED, State.SIZED, State.LOADED])
    @pytest.mark.parametrize("side", SIDES)
    def test_an_observer_that_raises(self, side: Side, state: State) -> None:
        made = Bench(side)
        error = Broken("observer")
        made.session.on_transition(lambda _: raising(error)(), state)
        made.start()
        pieces = [READY, REPLY + RECEIVED + LOADED] if side is P else [initial_bytes(), round_bytes(b"1")]
        for piece in pieces:
            if made.state is not State.FAILOVER:
                made.receive(piece)
            if side is P and made.state is State.READY:
                made.lapse()
        assert same(made.session.error, GuestFailed("observer", error))
        assert (made.state, made.arbiter.claims) == (State.FAILOVER, [])  # type: ignore[attr-defined]
        made.lapse()
        assert (made.state, made.guest.running) == (State.ALONE, True)

    def test_it_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "colo_fsm"):
            made = bench(P, READY)
            made.guest.failing = {"save"}
            made.receive(REPLY)
        assert [r.getMessage() for r in caplog.records] == ["guest.save failed: Broken: save"]

    @pytest.mark.parametrize("side", SIDES)
    def test_the_transitions_are_told_in_order(self, side: Side) -> None:
        made = Bench(side).start()
        if side is P:
            made.receive(READY)
            made.lapse().receive(REPLY + RECEIVED + LOADED)
        else:
            made.receive(initial_bytes() + round_bytes(b"1"))
        told = [e for e in made.events if isinstance(e, Transition)]
        order = [State.INIT, State.READY, State.REQUESTED, State.REPLIED, State.SENDING, State.SIZED]
        assert [t.source for t in told] == [*order, State.RECEIVED]
        assert told[-1].dest is State.LOADED
