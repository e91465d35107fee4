"""A counterexample of members as an exchange to read or to draw."""

from __future__ import annotations

from collections.abc import Iterator

from colo_fsm.draw import Exchange, Moment, Tone
from colo_fsm.fsm import Side

from .search import MemberProperty, MemberResult
from .world import MEMBERS, Step, World, begun_by


def member_exchange(result: MemberResult, which: MemberProperty) -> Exchange:
    """How `which` is broken, on a shortest way. Raises KeyError where it holds."""
    trail = result.broken[which]
    *moments, last = _moments(trail.steps)
    wrong = Moment(last.actor, f"{last.text}: {trail.end}", last.sends, Tone.WRONG)
    title = f"{which} does not hold in {result.scenario.name}: {which.meaning}"
    first, second = (f"Member {member}" for member in MEMBERS)
    return Exchange(title, (*moments, wrong), (first, second))


def _moments(steps: tuple[Step, ...]) -> Iterator[Moment]:
    before = World()
    for step in steps:
        after, index = step.world, MEMBERS.index(step.who)
        was, seen = before.members[index], after.members[index]
        text = step.name if was.role is seen.role else f"{step.name} → {seen.role}"
        tone = Tone.FAULT if after.failures > before.failures else Tone.STEP
        yield Moment(tuple(Side)[index], text, tuple(_sent(before, after, index)), tone)
        before = after


def _sent(before: World, after: World, index: int) -> Iterator[str]:
    """What this member sends to the other one in a step of its own."""
    if begun_by(after.members[index]) not in (0, begun_by(before.members[index])):
        yield "the whole state"
    if before.members[1 - index].memory != after.members[1 - index].memory:
        yield "a checkpoint"
