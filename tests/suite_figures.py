"""How strong the suites are: how many of the machines with one fault each of them fails.

python tests/suite_figures.py      print the table that the docs have
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from colo_fsm.colo import TABLES, Variant
from colo_fsm.conform import Mealy, blackbox, difference, switches, tour, wp
from colo_fsm.conform.mealy import In, Out, S
from colo_fsm.fsm import Side, complete

SUITES: dict[str, Callable[[Mealy[S, In, Out]], tuple[tuple[In, ...], ...]]] = {
    "tour": tour,
    "1-switch": switches,
    "Wp": wp,
    "Wp, one more state": lambda m: wp(m, extra=1),
}


Tree = dict[In, tuple[Out, bool, "Tree[In, Out]"]]


def expected(m: Mealy[S, In, Out], suite: Iterable[tuple[In, ...]]) -> Tree[In, Out]:
    """What the machine shows behind each beginning of these tests: to run many others against, and fast."""
    tree: Tree[In, Out] = {}
    for word in suite:
        here = tree
        for given, (output, ended) in zip(word, m.seen(m.initial, word), strict=True):
            here = here.setdefault(given, (output, ended, {}))[2]
    return tree


def fails(other: Mealy[S, In, Out], state: S, tree: Tree[In, Out]) -> bool:
    """Whether a machine fails one of these tests, from this state on."""
    for given, (output, ended, further) in tree.items():
        dest, answer = other.steps[state, given]
        if answer != output or (dest in other.ended) != ended or fails(other, dest, further):
            return True
    return False


def kills(m: Mealy[S, In, Out], suite: Iterable[tuple[In, ...]], others: Iterable[Mealy[S, In, Out]]) -> int:
    """How many of these machines fail a test of this suite of `m`."""
    tree = expected(m, suite)
    return sum(fails(other, other.initial, tree) for other in others)


def _with(m: Mealy[S, In, Out], steps: dict[tuple[S, In], tuple[S, Out]]) -> Mealy[S, In, Out]:
    return Mealy(m.initial, m.inputs, {**m.steps, **steps}, m.ended, m.first)


def _wrong(m: Mealy[S, In, Out], state: S, given: In) -> Iterator[tuple[S, Out]]:
    """Every other step that this one could be by mistake: another output, or another next state."""
    dest, output = m.steps[state, given]
    outputs = dict.fromkeys(m.steps[s, i][1] for s in m.live for i in m.inputs)
    yield from ((dest, wrong) for wrong in outputs if wrong != output)
    yield from ((wrong, output) for wrong in m.states if wrong != dest)


def with_a_wrong_step(m: Mealy[S, In, Out]) -> Iterator[Mealy[S, In, Out]]:
    """Every machine that differs in one output or one next state, and answers otherwise."""
    for at in ((state, given) for state in m.live for given in m.inputs):
        for wrong in _wrong(m, *at):
            yield from _if_it_differs(m, _with(m, {at: wrong}))


def with_one_more_state(m: Mealy[str, In, Out]) -> Iterator[Mealy[str, In, Out]]:
    """Every machine in which one transition leads to a copy of its state that has one wrong step."""
    for at in ((state, given) for state in m.live for given in m.inputs):
        dest, output = m.steps[at]
        copy = f"{dest}, a copy"
        if dest not in m.ended:
            own = {(copy, given): m.steps[dest, given] for given in m.inputs} | {at: (copy, output)}
            for given in m.inputs:
                for wrong in _wrong(m, dest, given):
                    yield from _if_it_differs(m, _with(m, own | {(copy, given): wrong}))


def _if_it_differs(m: Mealy[S, In, Out], other: Mealy[S, In, Out]) -> Iterator[Mealy[S, In, Out]]:
    if difference(m, other) is not None:
        yield other


class Figures(NamedTuple):
    """How large a suite is, and how many of how many faulty machines it fails."""

    suite: str
    tests: int
    inputs: int
    wrong_step: tuple[int, int]
    one_more_state: tuple[int, int]

    def __str__(self) -> str:
        counts = (f"{failed:,} of {of:,}" for failed, of in (self.wrong_step, self.one_more_state))
        return " | ".join((self.suite, f"{self.tests:,}", f"{self.inputs:,}", *counts))


def figures(side: Side, *, closes: bool = True) -> Iterator[Figures]:
    """Those of each suite for a side of COLO, which closes the link when it gives up, or leaves it open."""
    m = blackbox(complete(TABLES[side], Variant()), closes=closes)
    least = m.minimal()
    wrong_step, one_more_state = list(with_a_wrong_step(least)), list(with_one_more_state(least))
    for name, make in SUITES.items():
        suite = make(m)
        yield Figures(
            *(name, len(suite), sum(map(len, suite))),
            (kills(m, suite, wrong_step), len(wrong_step)),
            (kills(m, suite, one_more_state), len(one_more_state)),
        )


def table() -> str:
    """The figures of both sides, in Markdown."""
    rows = ["side | suite | tests | inputs | one wrong step | and one more state", " | ".join(["---"] * 6)]
    for side in Side:
        for closes in (True, False):
            name = side.capitalize() + ("" if closes else ", in silence")
            rows += [f"{name} | {each}" for each in figures(side, closes=closes)]
    return "".join(f"| {row} |\n" for row in rows)


if __name__ == "__main__":
    print(table(), end="")
