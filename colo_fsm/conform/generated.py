"""Suites made of a table: each word of inputs becomes a case, with the answers that the table declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from colo_fsm.fsm import CompleteTable

from . import suites
from .blackbox import Input, Output, Reaction, blackbox, opening, reaction
from .case import Accepted, Act, Case, Given, Step
from .mealy import Mealy


class Suite(Protocol):
    """Makes words of inputs."""

    def __call__(self, m: Mealy[str, Input, Output], /) -> tuple[tuple[Input, ...], ...]: ...


SUITES: Mapping[str, Suite] = {
    "tour": suites.tour,
    "switch": suites.switches,
    "wp": suites.wp,
    "wp1": lambda m: suites.wp(m, extra=1),
}
"""By the name that `--suite` takes. What each is for: docs/conformance.md."""
MUST = {
    "tour": "Every transition: the side answers as its table says.",
    "switch": "Every two transitions in a row: the side answers as its table says.",
    "wp": "The side is in the state that its table says, as far as what follows can tell.",
    "wp1": "The same for a side with one state more than its table.",
}


def generated(table: CompleteTable, suite: str) -> Iterator[Case]:
    """The cases of a suite of `SUITES`. Raises ValueError for a side that never waits for its peer."""
    words = SUITES[suite](blackbox(table))
    digits = len(str(len(words)))
    name = table.words.name.lower().replace(" ", "-")
    for number, word in enumerate(words, 1):
        yield Case(
            f"{name}/{table.side}/{suite}/{number:0{digits}}",
            MUST[suite],
            f"the {table.side}'s table",
            tuple(script(table, word)),
        )


def script(table: CompleteTable, word: tuple[Input, ...]) -> Iterator[Step]:
    """What the table says on these inputs, step by step."""
    here = opening(table)
    yield declared(None, here)
    for given in word:
        in_turn = given.message is None or given.message in table.accepts[here.state]
        here = reaction(table, here.state, given)
        yield declared(Given(given, not in_turn), here)


def declared(act: Act | None, there: Reaction) -> Step:
    """The step at which this has to follow."""
    row = str(there.rows[0]) if there.rows else f"{there.state}, where the side begins"
    return Step(act, (Accepted(there.output),), row=row)
