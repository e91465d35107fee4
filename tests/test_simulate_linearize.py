"""The checker of histories: known good, known bad, and all orders tried for small ones."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from colo_fsm.check.simulate import Operation, linearizable

Op = Operation[tuple[str, str], str]


def apply(argument: tuple[str, str], value: str) -> tuple[str, str]:
    verb, text = argument
    return (value, value) if verb == "get" else (text, "ok")


def put(start: float, end: float, text: str) -> Op:
    return Operation(start, end, ("put", text), None if end == math.inf else "ok")


def get(start: float, end: float, answer: str | None) -> Op:
    return Operation(start, end, ("get", ""), answer)


GOOD = {
    "nothing": [],
    "one after the other": [put(0, 1, "a"), get(2, 3, "a"), put(4, 5, "b"), get(6, 7, "b")],
    "a read during a write sees the old value": [put(0, 9, "a"), get(1, 2, "")],
    "or the new one": [put(0, 9, "a"), get(1, 2, "a")],
    "a write that was never answered took effect": [put(0, math.inf, "a"), get(5, 6, "a")],
    "late": [put(0, math.inf, "a"), get(5, 6, ""), get(7, 8, "a")],
    "or never": [put(0, math.inf, "a"), get(5, 6, ""), get(7, 8, "")],
    "two writes at a time, in the other order": [put(0, 9, "a"), put(1, 8, "b"), get(10, 11, "a")],
    "a read that was never answered": [get(0, math.inf, None), put(1, 2, "a")],
    "an end at the moment of a start may overlap": [put(0, 1, "a"), get(1, 2, "")],
}
BAD = {
    "a lost write": [put(0, 1, "a"), get(2, 3, "")],
    "a stale read": [put(0, 1, "a"), put(2, 3, "b"), get(4, 5, "a")],
    "a value that nobody wrote": [put(0, 1, "a"), get(2, 3, "z")],
    "back and forth": [put(0, 9, "a"), get(1, 2, "a"), get(3, 4, "")],
    "a read before its write": [get(0, 1, "a"), put(2, 3, "a")],
    "two readers that disagree": [
        put(0, 1, "a"), put(2, 9, "b"), put(2, 9, "c"),
        get(10, 11, "b"), get(12, 13, "c"),
    ],
    "an unanswered write that came and went": [put(0, math.inf, "a"), get(5, 6, "a"), get(7, 8, "")],
}  # fmt: skip


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_good(history: list[Op]) -> None:
    assert linearizable(history, "", apply)


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_bad(history: list[Op]) -> None:
    assert not linearizable(history, "", apply)


def by_all_orders(history: list[Op]) -> bool:
    """The definition, word for word."""
    answered = [op for op in history if not op.pending]
    unknown = [op for op in history if op.pending]
    for size in range(len(unknown) + 1):
        for happened in itertools.combinations(unknown, size):
            if any(explains(order) for order in itertools.permutations([*answered, *happened])):
                return True
    return False


def explains(order: tuple[Op, ...]) -> bool:
    value = ""
    for at, op in enumerate(order):
        if any(later.returned < op.invoked for later in order[at + 1 :]):
            return False
        value, answer = apply(op.argument, value)
        if not op.pending and answer != op.answer:
            return False
    return True


def drawn(chance: random.Random) -> list[Op]:
    history = []
    for _ in range(chance.randint(2, 5)):
        start = chance.randint(0, 8)
        end = math.inf if chance.random() < 0.2 else start + chance.randint(0, 4)
        text = chance.choice("ab")
        history.append(
            put(start, end, text) if chance.random() < 0.5 else get(start, end, chance.choice(["", text]))
        )
    return history


def test_as_all_orders_say() -> None:
    chance = random.Random(1)
    verdicts = set()
    for _ in range(1500):
        history = drawn(chance)
        assert linearizable(history, "", apply) == by_all_orders(history), history
        verdicts.add(by_all_orders(history))
    assert verdicts == {True, False}


@pytest.mark.timeout(300)  # trying all orders would take for ever
def test_a_long_history_is_no_burden() -> None:
    """Twenty clients at a time, and the last read is wrong: all that can be tried is tried, once."""
    history = [put(at, at + 1.5, str(at)) for at in range(1000)]
    assert linearizable([*history, get(2000, 2001, "999")], "", apply)
    assert not linearizable([*history, get(2000, 2001, "5")], "", apply)
