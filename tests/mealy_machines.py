"""Machines for the tests of suites: random small ones, all tiny ones, and a ring."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from hypothesis import settings
from hypothesis import strategies as st

from colo_fsm.conform import Mealy

DRAWN = settings(max_examples=60, deadline=None, derandomize=True)

Small = Mealy[int, str, int]
"""States are numbers, 0 the initial one; inputs are letters, outputs 0 or 1."""
END = -1


@st.composite
def small(draw: st.DrawFn, most_states: int = 4, inputs: str = "ab") -> Small:
    """Any that can begin, with states that cannot be reached, that are equivalent, or that have ended.

    Most outputs are the same: so it takes several words to tell its states apart.
    """
    states = range(draw(st.integers(1, most_states)))
    step = st.tuples(st.sampled_from(states), st.sampled_from((0, 0, 0, 1)))
    steps = {(state, given): draw(step) for state in states for given in inputs}
    ended = {state for state in states[1:] if draw(st.integers(0, 3)) == 0}
    return Mealy(0, tuple(inputs), steps, frozenset(ended))


@st.composite
def mistaken(draw: st.DrawFn, m: Small, more_states: int) -> Small:
    """The machine with a few wrong steps, and with at most so many more states that can be live."""
    steps = dict(m.steps)
    states = [*m.states]
    for _ in range(more_states):
        copied, copy = draw(st.sampled_from(states)), max(states) + 1
        if copied not in m.ended:
            steps |= {(copy, given): steps[copied, given] for given in m.inputs}
            at = draw(st.sampled_from([key for key in steps if key[0] in states]))
            steps[at] = copy, steps[at][1]
            states.append(copy)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.sampled_from(sorted(steps)))
        steps[at] = draw(st.sampled_from(states)), draw(st.integers(0, 1))
    return Mealy(m.initial, m.inputs, steps, m.ended)


def every(live: int, inputs: str = "ab") -> Iterator[Small]:
    """Each machine with so many live states, all of them reached, numbered breadth first; it may end."""
    places = list(product(range(live), inputs))
    for dests in product(range(END, live), repeat=len(places)):
        if list(dict.fromkeys(d for d in (0, *dests) if d != END)) == list(range(live)):
            for outputs in product((0, 1), repeat=len(places)):
                steps = dict(zip(places, zip(dests, outputs, strict=True), strict=True))
                yield Mealy(0, tuple(inputs), steps, frozenset({END}))


def ring(size: int = 7, laps: int = 1) -> Mealy[str, str, str]:
    """So many messages, each right in one state, where it leads on; the others move nothing.

    With more laps the way is longer until it is closed, and the answers are the same.
    """
    messages = tuple(f"m{n}" for n in range(size))
    states = size * laps
    steps = {
        (f"s{n}", message): (f"s{(n + 1) % states}", "yes")
        if message == messages[n % size]
        else (f"s{n}", "no")
        for n in range(states)
        for message in messages
    }
    return Mealy("s0", messages, steps)
