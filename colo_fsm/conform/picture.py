"""The learned machine beside the declared one, as a picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from colo_fsm.draw import Answers, Picture, Step, beside

from .alike import GIVEN_UP, Edge, Machine, counterparts, differing
from .blackbox import Output
from .learn import Learned

GIVES_UP = Output((), ended=True)
"""What is so often the answer that it is drawn only once, if it is right."""


def picture(learned: Learned) -> Picture:
    """Both machines, with what differs in red. Raises ValueError where no machine was learned."""
    declared, machine = learned.declared, learned.machine
    if machine is None:
        raise ValueError(
            "there is no machine to draw: none was thought of before the side was asked too often"
        )
    ours, theirs = differing(declared, machine)
    known = counterparts(declared, machine)
    outside = [state for state in machine.live if state not in known]
    alike = sorted(known, key=lambda state: declared.states.index(known[state]))
    left = _answers("the table", declared, declared.live, ours)
    right = _answers(learned.target, machine, [*alike, *outside], theirs, outside)
    return beside((left, right), str(learned))


def _answers(
    title: str, m: Machine, states: Sequence[str], wrong: Collection[Edge], outside: Sequence[str] = ()
) -> Answers:
    """A machine with its states in this order. Those of the end stand last: they are drawn below."""
    live = [state for state in states if state not in m.ended]
    steps = [
        Step(state, str(given), str(answer), str(dest), (state, given) in wrong)
        for state in live
        for given in m.inputs
        for dest, answer in [m.steps[state, given]]
        if answer != GIVES_UP or (state, given) in wrong
    ]
    end = GIVEN_UP if m.ended.intersection(m.states) else None
    names = [*map(str, live), *([GIVEN_UP] if end else [])]
    return Answers(title, [*map(str, m.inputs)], names, str(m.first), steps, str(GIVES_UP), end, outside)
