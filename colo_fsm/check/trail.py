"""A counterexample as an exchange to read or to draw."""

from __future__ import annotations

from collections.abc import Mapping

from colo_fsm.draw import Exchange, Moment, Tone
from colo_fsm.fsm import Side

from .model.properties import Property
from .model.steps import Step
from .search.explore import Result, Trail
from .search.space import AnyStep


def exchange(result: Result, which: Property) -> Exchange:
    """How `which` is broken, on a shortest way. Raises KeyError where it holds."""
    trail = result.broken[which]
    names = result.scenario.law.wire.names
    moments = [_moment(side, step, names) for side, step in trail.steps]
    if trail.rests:
        moments.append(Moment(None, trail.end, (), Tone.WRONG))
    else:
        last = moments[-1]
        moments[-1] = Moment(last.actor, last.text, last.sends, Tone.WRONG)
    title = f"{which} does not hold in {result.scenario.name}: {_why(which, trail)}"
    return Exchange(title, tuple(moments))


def _why(which: Property, trail: Trail) -> str:
    return which.meaning if trail.end == which.meaning else f"{which.meaning} ({trail.end})"


def _moment(side: Side | None, step: AnyStep, names: Mapping[int, str]) -> Moment:
    tone = Tone.FAULT if step.strike is not None else Tone.STEP
    if not isinstance(step, Step):
        return Moment(side, step.text, (), tone)
    arrives = list(step.put.items)
    sends = []
    for value in step.sent:
        if value in arrives:
            arrives.remove(value)
            sends.append(names[value])
        else:
            sends.append(f"{names[value]} (lost)")
    return Moment(side, step.text, tuple(sends), tone)
