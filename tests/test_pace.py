"""Behind a checkpoint that one answer waited for, the next is asked for already, and its reply lies."""

from __future__ import annotations

from typing import Any

import pytest
from replicas import LOADED, READY, RECEIVED, REPLY, REQUEST, Bench

from colo_fsm.colo import PRIMARY, Mode, State, Variant
from colo_fsm.fsm import Side, TimedOut, UnexpectedMessage
from colo_fsm.fsm.complete import complete
from colo_fsm.replica import CheckpointTaken, Options
from colo_fsm.replica.outbox import Outbox
from colo_fsm.replica.pace import LONGEST_AHEAD, Pace

ROUND = REPLY + RECEIVED + LOADED
PATIENCE: Any = pytest.approx(LONGEST_AHEAD)


def primary(**options: Any) -> Bench:
    """A Primary whose Secondary is ready."""
    wanted = {"interval": 77.0, "deadline": 10.0, **options}
    return Bench(Side.PRIMARY, options=Options(**wanted)).start().receive(READY)


def answered(out: list[str], **options: Any) -> Bench:
    """A Primary whose first checkpoint has let an answer out."""
    made = primary(**options)
    made.replica.outbox.hold(lambda: out.append("a"))
    return made.wake().receive(ROUND)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_the_next_answer_waits_for_one_round_trip(step: int) -> None:
    out: list[str] = []
    made = answered(out)
    assert (made.state, made.writes[-1], made.wait.timeout) == (State.REQUESTED, REQUEST, PATIENCE)
    calls = list(made.guest.calls)
    made.receive(REPLY, step=step)
    assert (made.state, made.guest.calls) == (State.REQUESTED, calls), "nothing is saved before it is due"
    made.replica.outbox.hold(lambda: out.append("b"))
    assert made.wake().state is State.SIZED
    made.receive(RECEIVED + LOADED)
    assert (out, made.replica.checkpoint) == (["a", "b"], 2)


def test_an_answer_before_the_reply_waits_for_it() -> None:
    out: list[str] = []
    made = answered(out)
    made.replica.outbox.hold(lambda: out.append("b"))
    assert made.wake().state is State.REQUESTED
    made.receive(ROUND)
    assert (out, made.replica.checkpoint) == (["a", "b"], 2)


def test_what_several_wait_for_is_asked_for_when_the_first_does() -> None:
    """Others come while it is asked for, and share it."""
    made = primary()
    for _ in range(2):
        made.replica.outbox.hold(lambda: None)
    made.wake().receive(ROUND)
    assert (made.state, made.wait.timeout) == (State.LOADED, 77.0)


def test_who_bounds_the_load_asks_for_nothing_ahead() -> None:
    made = primary(min_interval=2.0)
    made.replica.outbox.hold(lambda: None)
    made.lapse().receive(ROUND)
    assert (made.replica.checkpoint, made.state) == (1, State.LOADED)


@pytest.mark.parametrize(
    ("interval", "deadline", "waits"), [(77.0, 10.0, PATIENCE), (0.05, 10.0, 0.05), (77.0, 0.2, 0.04)]
)
def test_when_nobody_comes_it_is_taken_and_is_the_last(
    interval: float, deadline: float, waits: float
) -> None:
    """The Secondary counts the time, and does not leave meanwhile: a fifth of its deadline at most."""
    made = answered([], interval=interval, deadline=deadline).receive(REPLY)
    assert made.wait.timeout == pytest.approx(waits)
    made.lapse().receive(RECEIVED + LOADED)
    assert (made.state, made.replica.checkpoint) == (State.LOADED, 2)
    assert made.wait.timeout == pytest.approx(interval)


def test_a_request_takes_it() -> None:
    made = answered([]).receive(REPLY)
    made.replica.pace.requested = True
    made.wake().receive(RECEIVED + LOADED)
    assert (made.state, made.replica.checkpoint) == (State.LOADED, 2)


def test_who_leaves_takes_it_first() -> None:
    made = answered([]).receive(REPLY)
    made.replica.leave_requested = True
    assert made.wake().state is State.SIZED
    made.receive(RECEIVED + LOADED)
    assert (made.state, made.replica.checkpoint) == (State.ENDED, 2)


def test_failover_waits_for_nothing() -> None:
    made = answered([]).receive(REPLY)
    made.replica.failover_requested = True
    assert made.wake().state is State.ALONE


@pytest.mark.parametrize("replied", [True, False])
def test_the_end_of_the_link_is_noticed_at_once(replied: bool) -> None:
    made = answered([])
    if replied:
        made.receive(REPLY)
    before = made.now
    made.end_of_link()
    assert (made.state, made.now) == (State.ALONE, before)


def test_a_reply_that_does_not_come_is_a_fault() -> None:
    made = answered([])
    assert made.lapse().state is State.REQUESTED, "it is due, and waits for the rest of the deadline"
    assert made.wait.timeout == pytest.approx(10.0 - LONGEST_AHEAD)
    made.lapse()
    assert (made.state, type(made.session.error)) == (State.ALONE, TimedOut)


@pytest.mark.parametrize("strange", [LOADED, REPLY + LOADED, b"\xff" * 4])
def test_what_is_no_reply_is_out_of_order(strange: bytes) -> None:
    made = answered([]).receive(strange)
    made.replica.outbox.hold(lambda: None)
    made.wake()
    assert made.state is State.ALONE
    assert made.session.error is not None


def test_what_comes_behind_a_reply_that_lies_is_looked_at_at_once() -> None:
    made = answered([]).receive(REPLY).receive(LOADED)
    assert (made.state, type(made.session.error)) == (State.ALONE, UnexpectedMessage)


def test_what_comes_with_the_reply_takes_it_and_the_next_has_its_own_time() -> None:
    """It cannot be right any more, or it is a round early."""
    made = answered([])
    made.now += 1.5
    made.receive(ROUND)
    assert (made.state, made.replica.checkpoint, made.wait.timeout) == (State.LOADED, 2, 77.0)


def test_the_time_that_it_lies_is_not_the_rounds() -> None:
    made = answered([]).receive(REPLY)
    made.now += 1.5
    made.replica.outbox.hold(lambda: None)
    made.wake()
    made.now += 0.25
    made.receive(RECEIVED + LOADED)
    assert [e.total for e in made.events if isinstance(e, CheckpointTaken)] == [0.0, 0.25]


def test_a_secondary_that_runs_is_not_stopped_before_its_time() -> None:
    """In mode hybrid the request is when it stops."""
    outbox = Outbox()
    for mode in Mode:
        table = complete(PRIMARY, Variant(mode=mode))
        pace = Pace(table, Options(), outbox, 1.0)
        pace.let_out = 1
        assert pace.ask_ahead(State.LOADED) is (mode is Mode.PERIODIC)
