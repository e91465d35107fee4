"""What waits and what is waited for, without a driver: attempts, answers, turns, calls that end late."""

from __future__ import annotations

import contextvars
import socket

import pytest
from replicas import Broken

from colo_fsm.replica import NotRunning
from colo_fsm.replica.gate import Answer, Gate
from colo_fsm.replica.wish import LONGEST, Call, Script, Wait, milliseconds, serve_here


class Again:
    """Counts how often another attempt was worth it."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


class TestAnswer:
    def test_whoever_waits_is_called_once(self) -> None:
        answer, again = Answer(), Again()
        assert answer.get(again) is None
        assert answer.get(again) is None
        answer.settle()
        answer.settle(Broken())
        assert again.times == 1
        assert answer.get(again) is True
        assert again.times == 1

    def test_an_error_is_an_answer(self) -> None:
        answer, again = Answer(), Again()
        answer.settle(Broken("no"))
        with pytest.raises(Broken):
            answer.get(again)
        assert answer.settled(again) is True

    def test_whoever_has_gone_is_not_called(self) -> None:
        answer, again = Answer(), Again()
        answer.get(again)
        answer.forget(again)
        answer.settle()
        assert again.times == 0


class TestGate:
    def test_turns_begin_while_it_is_open(self) -> None:
        left = Again()
        gate, again = Gate(left), Again()
        assert gate.enter(again) is None
        assert gate.running(again) is None
        gate.open()
        assert again.times == 1
        assert gate.running(again) is True
        turn = gate.enter(again)
        assert turn is not None
        assert gate.turns == 1
        gate.leave(turn)
        assert (gate.turns, left.times) == (0, 0), "nobody waits for the end of turns of an open gate"

    def test_the_last_turn_of_a_closed_gate_is_told(self) -> None:
        left = Again()
        gate, again = Gate(left), Again()
        gate.open()
        turns = [contextvars.Context().run(gate.enter, again) for _ in range(2)]
        assert gate.close() is False
        told = []
        for turn in turns:
            assert turn is not None
            gate.leave(turn)
            told.append(left.times)
        assert told == [0, 1]
        assert gate.close() is True
        assert gate.enter(again) is None

    def test_shut_is_for_good(self) -> None:
        gate, again = Gate(Again()), Again()
        gate.running(again)
        gate.open()
        gate.shut()
        for attempt in (gate.running, gate.enter):
            with pytest.raises(NotRunning):
                attempt(again)
        assert again.times == 1

    def test_a_turn_may_end_in_another_context(self) -> None:
        """As an async generator that is closed by somebody else does it."""
        gate, again = Gate(Again()), Again()
        gate.open()
        turn = contextvars.Context().run(gate.enter, again)
        assert turn is not None
        gate.leave(turn)
        assert gate.enter(again) is not None

    def test_a_start_is_not_missed_when_a_checkpoint_follows_at_once(self) -> None:
        gate, again = Gate(Again()), Again()
        assert gate.begun(again) is None
        gate.open()
        gate.close()
        assert again.times == 1
        assert gate.begun(again) is True
        assert gate.running(again) is None

    def test_why_it_is_shut(self) -> None:
        gate, cause = Gate(Again()), Broken()
        gate.shut("the claim was lost", cause)
        for attempt in (gate.running, gate.begun, gate.enter):
            with pytest.raises(NotRunning, match="the claim was lost") as caught:
                attempt(Again())
            assert caught.value.__cause__ is cause


class TestCall:
    def test_what_waits_for_its_end(self) -> None:
        done: list[str] = []
        call = Call(lambda: done.append("hook"))
        call.then(lambda: done.append("later"))
        assert (call.over, done) == (False, [])
        call.run()
        call.then(lambda: done.append("at once"))
        assert (call.over, done) == (True, ["hook", "later", "at once"])

    def test_one_that_raises_is_over_too(self) -> None:
        def hook() -> None:
            raise Broken

        done: list[int] = []
        call = Call(hook)
        call.then(lambda: done.append(1))
        with pytest.raises(Broken):
            call.run()
        assert done == [1]


class TestServedHere:
    def test_it_waits_calls_and_throws(self) -> None:
        left, right = socket.socketpair()

        def hook() -> str:
            right.send(b"x")
            return "called"

        def script() -> Script[tuple[str, bytes]]:
            with pytest.raises(TimeoutError):
                yield Wait(left, timeout=0.0)
            yield Wait(left, writing=True, timeout=5.0)
            answer = yield Call(hook)
            yield Wait(left, timeout=5.0)
            with pytest.raises(ZeroDivisionError):
                yield Call(lambda: 1 // 0)
            return answer, left.recv(1)

        with left, right:
            assert serve_here(script()) == ("called", b"x")

    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [(None, None), (0.0, 0), (0.0001, 1), (1.0, 1000), (LONGEST, 10**9), (LONGEST + 1, None)],
    )
    def test_as_poll_counts(self, seconds: float | None, expected: int | None) -> None:
        assert milliseconds(seconds) == expected
