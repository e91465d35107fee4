"""A learned machine beside the declared one: which state stands for which, and where they part."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping

from .asked import Answer
from .blackbox import Input
from .mealy import Mealy

Machine = Mealy[str, Input, Answer]
Edge = tuple[str, Input]
"""A state and an input."""

GIVEN_UP = "given up"
"""The name of the state in which a side has ended."""
OUTSIDE = "outside the table"
"""The name of a state that no declared state stands for."""


def counterparts(declared: Machine, learned: Machine) -> Mapping[str, str]:
    """The declared state that the same inputs lead to, for each learned state.

    Ways on which all answers are alike come first, then such as have wrong answers. Left out is a state that
    is reached only where the declared machine has ended.
    """
    found = {learned.initial: declared.initial}
    wrong: list[tuple[str, str]] = []
    ahead = deque(found)
    while ahead:
        state = ahead.popleft()
        for _, (dest, answer), (there, output) in _both(declared, learned, state, found[state]):
            if (dest in learned.ended) != (there in declared.ended):
                continue
            if answer != output:
                wrong.append((dest, there))
            elif dest not in found:
                found[dest] = there
                ahead.append(dest)
        while not ahead and wrong:
            dest, there = wrong.pop(0)
            if dest not in found:
                found[dest] = there
                ahead.append(dest)
    return found


def _both(
    declared: Machine, learned: Machine, state: str, there: str
) -> Iterator[tuple[Input, tuple[str, Answer], tuple[str, Answer]]]:
    """For each input, the steps of the learned state and of that which stands for it; none at an end."""
    for given in () if state in learned.ended or there in declared.ended else learned.inputs:
        yield given, learned.steps[state, given], declared.steps[there, given]


def differing(declared: Machine, learned: Machine) -> tuple[frozenset[Edge], frozenset[Edge]]:
    """The steps of the declared and of the learned machine that differ: in the answer, or where they lead."""
    found = counterparts(declared, learned)
    ours, theirs = set[Edge](), set[Edge]()
    for state in (state for state in learned.live if state in found):
        for given, (dest, answer), (there, output) in _both(declared, learned, state, found[state]):
            if answer != output or found.get(dest) != there:
                ours.add((found[state], given))
                theirs.add((state, given))
    return frozenset(ours), frozenset(theirs)


def named(declared: Machine, learned: Machine) -> Machine:
    """The learned machine with the names of the declared states; of several that one stands for, numbered."""
    found = counterparts(declared, learned)
    names = (GIVEN_UP if s in learned.ended else found.get(s, OUTSIDE) for s in learned.states)
    return renamed(learned, dict(zip(learned.states, _numbered(names), strict=True)))


def with_one_end(m: Machine) -> Machine:
    """A machine whose state at the end, of which a minimal one has one at most, has that name."""
    return renamed(m, {state: GIVEN_UP if state in m.ended else state for state in m.states})


def renamed(m: Machine, names: Mapping[str, str]) -> Machine:
    """The same machine, with other names for its states."""
    steps = {
        (names[state], given): (names[dest], answer)
        for (state, given), (dest, answer) in m.steps.items()
        if state in names
    }
    ended = frozenset(names[state] for state in m.ended if state in names)
    return Mealy(names[m.initial], m.inputs, steps, ended, m.first)


def _numbered(names: Iterable[str]) -> Iterator[str]:
    count = Counter[str]()
    for name in names:
        count[name] += 1
        yield name if count[name] == 1 else f"{name} {count[name]}"
