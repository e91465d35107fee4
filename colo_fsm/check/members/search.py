"""Every moment that two members can come to, breadth first: counterexamples are shortest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import attrs

from ..found import Found, Named, TooLarge, without_collector
from .rules import MemberScenario
from .steps import Members
from .world import MEMBERS, Step, World, Writes, active, protected


class MemberProperty(Named):
    """What must hold of members, at every moment."""

    KEPT = "kept", "some store has all that was acknowledged, unless a disk was lost"
    SERVED = "served", "a member that answers has all that was acknowledged"
    ONE = "one", "at most one member can acknowledge anything"
    HEALS = (
        "heals",
        "there is a way back to a protected pair without another failure, unless a disk was lost",
    )


class MemberTrail(NamedTuple):
    """The shortest way to a moment in which something does not hold."""

    steps: tuple[Step, ...]
    end: str
    """What is wrong there, in words."""


@attrs.frozen(kw_only=True)
class MemberResult(Found[MemberProperty, MemberTrail]):
    """What a search of members has found."""

    properties: ClassVar[tuple[MemberProperty, ...]] = tuple(MemberProperty)
    scenario: MemberScenario


def explore_members(
    scenario: MemberScenario, *, limit: int = 5_000_000, stop_at_first: bool = False
) -> MemberResult:
    """Explore all of a scenario; with `stop_at_first`, only until something is broken.

    Raises TooLarge beyond `limit` states: then nothing is proved.
    """
    with without_collector():
        return _Search(scenario, limit).run(stop_at_first)


class _Search:
    """One exploration."""

    def __init__(self, scenario: MemberScenario, limit: int) -> None:
        self._scenario = scenario
        self._limit = limit
        self._members = Members(scenario.rules, scenario.bounds)
        self._came: dict[World, tuple[World, Step] | None] = {World(): None}
        self._before: dict[World, list[World]] = {}
        """From which moments one leads here without a failure."""
        self._broken: dict[MemberProperty, MemberTrail] = {}
        self._transitions = 0

    def run(self, stop_at_first: bool) -> MemberResult:
        began = time.perf_counter()
        todo = deque(self._came)
        while todo and not (stop_at_first and self._broken):
            todo.extend(self._new(todo.popleft()))
            if len(self._came) > self._limit:
                raise TooLarge.beyond(self._limit)
        if not todo:
            self._heals()
        return MemberResult(
            scenario=self._scenario,
            states=len(self._came),
            transitions=self._transitions,
            seconds=time.perf_counter() - began,
            broken=self._broken,
        )

    def _new(self, world: World) -> Iterator[World]:
        """The moments behind this one that were not known."""
        for step in self._members.steps(world):
            self._transitions += 1
            after = step.world
            if after.failures == world.failures:
                self._before.setdefault(after, []).append(world)
            if after not in self._came:
                self._came[after] = world, step
                for which, why in _broken(after):
                    self._breaks(which, why, after)
                yield after

    def _breaks(self, which: MemberProperty, why: str, world: World) -> None:
        if which not in self._broken:
            self._broken[which] = MemberTrail(self._way(world), why)

    def _heals(self) -> None:
        """Whether a way without a failure leads from everywhere to a protected pair."""
        todo = deque(world for world in self._came if protected(world))
        heal = set(todo)
        while todo:
            for earlier in self._before.get(todo.popleft(), ()):
                if earlier not in heal:
                    heal.add(earlier)
                    todo.append(earlier)
        stuck = next((world for world in self._came if world not in heal and not world.disks), None)
        if stuck is not None:
            self._breaks(MemberProperty.HEALS, "no way leads from here to a protected pair", stuck)

    def _way(self, world: World) -> tuple[Step, ...]:
        way: list[Step] = []
        while (last := self._came[world]) is not None:
            world, step = last
            way.append(step)
        return tuple(reversed(way))


def _broken(world: World) -> Iterator[tuple[MemberProperty, str]]:
    """What does not hold at this moment, and why."""
    acknowledged = world.acknowledged
    stores = [seen.stored.writes for seen in world.members if seen.stored is not None]
    if acknowledged and not world.disks and not any(acknowledged <= writes for writes in stores):
        yield MemberProperty.KEPT, f"no store has {_named(acknowledged)}, which was acknowledged"
    running = [index for index in (0, 1) if active(world, index)]
    for index in running:
        if lost := acknowledged - world.members[index].memory:
            who = MEMBERS[index].name
            yield MemberProperty.SERVED, f"{who} answers without {_named(lost)}, which was acknowledged"
    if len(running) > 1:
        yield MemberProperty.ONE, "both can acknowledge what they are told"


def _named(writes: Writes) -> str:
    """Writes by their numbers, from 1."""
    return " and ".join(f"write {number + 1}" for number in sorted(writes))
