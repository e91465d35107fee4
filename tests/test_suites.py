"""Test suites: what each covers, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, product
from typing import Any

import attrs
import pytest
import suite_figures
from hypothesis import given
from hypothesis import strategies as st
from mealy_machines import DRAWN, Small, every, mistaken, ring, small
from suite_figures import expected, fails, kills, with_a_wrong_step, with_one_more_state

from colo_fsm.colo import SECONDARY, Variant
from colo_fsm.conform import Mealy, blackbox, difference, switches, tour, w, wp
from colo_fsm.conform.suites import laps
from colo_fsm.fsm import Side, complete

Suite = tuple[tuple[str, ...], ...]
Maker = Callable[[Any], tuple[tuple[Any, ...], ...]]

ALL: dict[str, Maker] = {
    "tour": tour,
    "0-switch": lambda m: switches(m, 0),
    "1-switch": switches,
    "2-switch": lambda m: switches(m, 2),
    "w": w,
    "w1": lambda m: w(m, extra=1),
    "wp": wp,
    "wp1": lambda m: wp(m, extra=1),
}
PROMISING: dict[str, tuple[Maker, int]] = {
    "w": (w, 0),
    "w1": (lambda m: w(m, extra=1), 1),
    "wp": (wp, 0),
    "wp1": (lambda m: wp(m, extra=1), 1),
    "wp2": (lambda m: wp(m, extra=2), 2),
}
every_suite = pytest.mark.parametrize("make", ALL.values(), ids=ALL)
promising = pytest.mark.parametrize(("make", "extra"), PROMISING.values(), ids=PROMISING)


# -- a suite as such ----------------------------------------------------------------------------------


@every_suite
@DRAWN
@given(m=small())
def test_no_test_is_the_beginning_of_another_or_goes_on_behind_the_end(make: Maker, m: Small) -> None:
    suite = make(m)
    assert suite
    assert len(set(suite)) == len(suite)
    assert not any(a == b[: len(a)] for a in suite for b in suite if a is not b)
    assert all(len(m.run(word)) == len(word) for word in suite)


@every_suite
@DRAWN
@given(m=small())
def test_every_transition_is_tried(make: Maker, m: Small) -> None:
    """Of the minimal machine, which W and Wp are about."""
    least = m.minimal()
    tried = {at for word in make(m) for at in transitions(least, word)}
    assert tried == {(state, given) for state in least.live for given in least.inputs}


def transitions(m: Mealy[Any, Any, Any], word: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """The transitions that a test goes through."""
    state = m.initial
    for at in word:
        yield state, at
        state, _ = m.steps[state, at]


@DRAWN
@given(m=small())
def test_laps_go_through_all_that_goes_on(m: Small) -> None:
    """As often as asked for, as far as there is a way back to it, and never to an end."""
    word = laps(m, 2)
    passed = [*transitions(m, word)]
    assert len(m.run(word)) == len(word)
    assert all(m.steps[at][0] not in m.ended for at in passed)
    onward = {
        (state, given) for state in m.live for given in m.inputs if m.steps[state, given][0] not in m.ended
    }
    here = m.after(word)
    assert all(passed.count(at) >= 2 for at in onward if can_follow(m, here, at))


def can_follow(m: Small, start: int, at: tuple[int, str]) -> bool:
    """Whether there is a way from a state on to this transition, and from behind it back to that state."""
    return at[0] in reached(m, start) and start in reached(m, m.steps[at][0])


def reached(m: Small, start: int) -> tuple[int, ...]:
    return Mealy(start, m.inputs, m.steps, m.ended).states


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_where_nothing_can_be_given_there_is_still_what_is_said_first(make: Maker) -> None:
    assert make(Mealy("over", ("a",), {}, frozenset({"over"}))) == ((),)
    assert make(Mealy("idle", (), {})) == ((),)


@attrs.frozen
class Salted:
    """A word whose hash, as that of any text, differs from one process to the next."""

    word: str = attrs.field(converter=str)
    salt: int

    def __hash__(self) -> int:
        return hash(f"{self.salt}{self.word}")


@every_suite
def test_the_order_does_not_come_from_hashes(make: Maker) -> None:
    m = blackbox(complete(SECONDARY, Variant()), closes=False)
    made = set()
    for salt in range(5):
        steps = {
            (Salted(state, salt), Salted(given, salt)): (Salted(dest, salt), output)
            for (state, given), (dest, output) in m.steps.items()
        }
        ended = frozenset(Salted(state, salt) for state in m.ended)
        inputs = tuple(Salted(given, salt) for given in m.inputs)
        salted = Mealy(Salted(m.initial, salt), inputs, steps, ended)
        made.add(tuple(tuple(given.word for given in word) for word in make(salted)))
    assert len(made) == 1


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="n is -1: it must be 0 or more"):
        switches(ring(), -1)
    for make in (w, wp):
        with pytest.raises(ValueError, match="extra is -1: it must be 0 or more"):
            make(ring(), -1)


# -- what each covers ---------------------------------------------------------------------------------


def test_a_tour_begins_afresh_only_where_it_must() -> None:
    assert len(tour(ring())) == 1
    no_return = Mealy("s", ("a", "b"), {("s", "a"): ("s", 0), ("s", "b"): ("t", 0)}, frozenset({"t"}))
    assert tour(no_return) == (("a", "b"),)
    trap = Mealy("s", ("a", "b"), {**no_return.steps, ("t", "a"): ("t", 1), ("t", "b"): ("t", 1)})
    assert tour(trap) == (("a", "b", "a", "b"),)
    two_ways_out = Mealy("s", ("a", "b"), {("s", "a"): ("t", 0), ("s", "b"): ("t", 0)}, frozenset({"t"}))
    assert tour(two_ways_out) == (("a",), ("b",))


@pytest.mark.parametrize("n", [0, 1, 2])
@DRAWN
@given(m=small(3))
def test_a_switch_cover_has_every_sequence_from_every_state(n: int, m: Small) -> None:
    tried = set()
    for word in switches(m, n):
        states = [m.initial, *(state for state, _ in m.walk(m.initial, word))]
        tried |= {(state, word[at : at + n + 1]) for at, state in enumerate(states)}
    for state in m.live:
        for word in product(m.inputs, repeat=n + 1):
            assert (state, word[: len(list(m.walk(state, word)))]) in tried


# -- what each finds ------------------------------------------------------------------------------------


@promising
@DRAWN
@given(data=st.data(), m=small())
def test_w_and_wp_fail_every_machine_that_answers_otherwise(
    make: Maker, extra: int, data: st.DataObject, m: Small
) -> None:
    """The theorem, for machines that are nearly right: those are the ones that could slip through."""
    least = m.minimal()
    other = data.draw(mistaken(least, extra))
    judge(m, make(m), other)


@pytest.mark.parametrize("make", [w, wp])
@DRAWN
@given(m=small(5, "abc"))
def test_w_and_wp_fail_every_machine_with_one_wrong_step(make: Maker, m: Small) -> None:
    wrong = list(with_a_wrong_step(m.minimal()))
    assert kills(m, make(m), wrong) == len(wrong)


def test_wp_needs_each_word_that_tells_states_apart_in_each_state() -> None:
    """With this machine phase 2 alone lets a wrong step pass: `a` in state 1 that moves nothing."""
    steps = {
        (0, "a"): (1, 0),
        (0, "b"): (0, 0),
        (1, "a"): (0, 0),
        (1, "b"): (2, 1),
        (2, "a"): (0, 0),
        (2, "b"): (0, 0),
    }
    m = Mealy(0, ("a", "b"), steps)
    wrong = list(with_a_wrong_step(m))
    assert kills(m, wp(m), wrong) == len(wrong)


@promising
@DRAWN
@given(m=small(), other=small())
def test_w_and_wp_fail_any_other_machine(make: Maker, extra: int, m: Small, other: Small) -> None:
    if len(other.minimal().live) <= len(m.minimal().live) + extra:
        judge(m, make(m), other)


def judge(m: Small, suite: Suite, other: Small) -> None:
    """A machine fails if and only if some word, found without the suite, tells it from the right one."""
    failed = any(m.seen(0, word) != other.seen(0, word) for word in suite)
    assert failed == (difference(m, other) is not None)


TWO = [m for live in (1, 2) for m in every(live)]


@promising
def test_among_all_tiny_machines_none_slips_through(make: Maker, extra: int) -> None:
    """Every implementation with up to two live states, for a sample of right ones: 1,056 each."""
    for m in TWO[:: 1 if extra == 0 else 4]:
        if len(m.minimal().live) == 2:
            tree = expected(m, make(m))
            passed = [other for other in TWO if not fails(other, 0, tree)]
            assert all(difference(m, other) is None for other in passed)


@pytest.mark.parametrize("make", [lambda m: w(m, extra=1), lambda m: wp(m, extra=1)], ids=["w", "wp"])
def test_among_all_with_one_more_state_none_slips_through(make: Maker) -> None:
    two = [m for m in TWO if len(m.minimal().live) == 2]
    trees = [(m, expected(m, make(m))) for m in two[:: len(two) // 4]]
    slipped = [
        (m, other)
        for other in islice(every(3), 0, None, 5)
        for m, tree in trees
        if not fails(other, 0, tree) and difference(m, other) is not None
    ]
    assert slipped == []


def test_wp_fails_each_machine_with_one_wrong_step_and_a_tour_does_not() -> None:
    m = ring()
    wrong = list(with_a_wrong_step(m))
    assert len(wrong) == 49 * (1 + 6)
    assert kills(m, wp(m), wrong) == kills(m, w(m), wrong) == len(wrong)
    assert kills(m, tour(m), wrong) < len(wrong)
    assert len(wp(m)) < len(w(m))


def test_one_more_state_takes_one_more_input() -> None:
    m = ring(5)
    wrong = list(with_one_more_state(m))
    assert kills(m, wp(m, extra=1), wrong) == len(wrong) > 500
    assert kills(m, wp(m), wrong) < len(wrong)
    assert kills(m, tour(m), wrong) < len(wrong)


@pytest.mark.parametrize("closes", [True, False], ids=["closes", "in silence"])
def test_the_suites_of_a_secondary_find_what_they_promise(closes: bool) -> None:
    found = {each.suite: each for each in suite_figures.figures(Side.SECONDARY, closes=closes)}
    for name in ("Wp", "Wp, one more state"):
        failed, of = found[name].wrong_step
        assert failed == of > 150
    failed, of = found["Wp, one more state"].one_more_state
    assert failed == of > 150
    assert found["Wp"].one_more_state < (of, of)
    assert (found["tour"].wrong_step == found["Wp"].wrong_step) == closes, (
        "a tour sees only what shows at once"
    )
