"""Mealy machines: walks, the minimal machine, and the shortest difference of two."""

from __future__ import annotations

from itertools import combinations, product

import attrs
import pytest
from hypothesis import given
from mealy_machines import DRAWN, Small, ring, small

from colo_fsm.conform import Mealy, difference
from colo_fsm.conform.mealy import telling_apart

DOOR = Mealy(
    "shut",
    ("push", "lock"),
    {
        ("shut", "push"): ("open", "creaks"),
        ("shut", "lock"): ("locked", "clicks"),
        ("open", "push"): ("shut", "bangs"),
        ("open", "lock"): ("open", "jams"),
        ("unheard of", "push"): ("shut", "creaks"),
    },
    ended=frozenset({"locked"}),
)


def by_trying(a: Small, b: Small) -> tuple[str, ...] | None:
    """The first of all words, shortest first, on which they differ."""
    for length in range(len(a.states) + len(b.states)):
        for word in product(a.inputs, repeat=length):
            if differ_behind(a, b, word):
                return word
    return None


def differ_behind(a: Small, b: Small, word: tuple[str, ...]) -> bool:
    """Written without `seen`: the outputs, and whether the walk has come to its end."""
    over = [m.after(word) in m.ended for m in (a, b)]
    return a.run(word) != b.run(word) or over[0] != over[1]


# -- a walk ---------------------------------------------------------------------------------------------


def test_a_walk_goes_as_far_as_something_can_be_given() -> None:
    assert DOOR.run(()) == ()
    assert DOOR.run(("push", "lock", "push")) == ("creaks", "jams", "bangs")
    assert DOOR.after(("push", "lock", "push")) == "shut"
    assert DOOR.run(("lock", "push", "push")) == ("clicks",)
    assert DOOR.after(("lock", "push", "push")) == "locked"
    assert DOOR.seen("open", ("push", "lock", "push")) == (("bangs", False), ("clicks", True))


def test_its_states_are_those_that_can_be_reached() -> None:
    assert DOOR.states == ("shut", "open", "locked")
    assert DOOR.live == ("shut", "open")
    assert dict(DOOR.access) == {"shut": (), "open": ("push",), "locked": ("lock",)}
    assert ring().states == tuple(f"s{n}" for n in range(7))


@DRAWN
@given(small(4))
def test_the_way_to_a_state_is_the_first_of_the_shortest(m: Small) -> None:
    words = [word for length in range(4) for word in product(m.inputs, repeat=length)]
    ways = {m.after(word): word for word in reversed(words) if len(m.run(word)) == len(word)}
    assert ways == dict(m.access)


def test_a_machine_is_complete() -> None:
    steps = {key: step for key, step in DOOR.steps.items() if key != ("open", "lock")}
    with pytest.raises(ValueError, match="no step for 'lock' in 'open'"):
        attrs.evolve(DOOR, steps=steps)
    with pytest.raises(ValueError, match="no step for 'push' in 'locked'"):
        attrs.evolve(DOOR, ended=frozenset())
    with pytest.raises(ValueError, match="an input stands twice: push, lock, push"):
        attrs.evolve(DOOR, inputs=("push", "lock", "push"))


# -- the difference of two machines -----------------------------------------------------------------


@DRAWN
@given(small(3), small(3))
def test_the_difference_is_the_first_of_the_shortest_words(a: Small, b: Small) -> None:
    assert difference(a, b) == by_trying(a, b)
    assert difference(a, a) is None


def test_what_is_said_before_any_input_may_differ() -> None:
    greets = attrs.evolve(DOOR, first="knocks")
    assert difference(DOOR, greets) == ()
    assert difference(greets, greets) is None
    assert difference(greets, greets.minimal()) is None


def test_a_machine_that_has_ended_differs_from_one_that_goes_on() -> None:
    steps = {**DOOR.steps, ("locked", "push"): ("locked", ""), ("locked", "lock"): ("locked", "")}
    goes_on = Mealy("shut", DOOR.inputs, steps)
    assert difference(DOOR, goes_on) == difference(goes_on, DOOR) == ("lock",)
    assert difference(attrs.evolve(DOOR, initial="locked"), goes_on) == ()


def test_only_machines_with_the_same_inputs_are_compared() -> None:
    turned = attrs.evolve(DOOR, inputs=("lock", "push"))
    assert difference(DOOR, turned) is None
    with pytest.raises(ValueError, match="do not take the same inputs"):
        difference(DOOR, attrs.evolve(DOOR, inputs=("push",), ended=frozenset()))


# -- the minimal machine ------------------------------------------------------------------------------


@DRAWN
@given(small(6))
def test_the_minimal_machine_answers_alike_and_has_no_state_too_many(m: Small) -> None:
    least = m.minimal()
    assert difference(m, least) is None
    assert least.initial == m.initial
    assert set(least.states) <= set(m.states)
    assert len(set(least.states) - set(least.live)) <= 1
    assert all(telling_apart(least, s, least, t) for s, t in combinations(least.live, 2))


def test_of_equivalent_states_the_first_keeps_its_name() -> None:
    least = ring(laps=2).minimal()
    assert least.states == ring().states
    assert dict(least.steps) == dict(ring().steps)
