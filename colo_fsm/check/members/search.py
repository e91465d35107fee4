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
        self._number: dict[World, int] = {World(): 0}
        """Each moment found. Everything else goes by these numbers: to hash a moment takes long."""
        self._came: list[tuple[int, Step] | None] = [None]
        """For each: a shortest way here, its last step."""
        self._before: list[list[int]] = [[]]
        """For each: the moments from which a step leads here that is no failure."""
        self._broken: dict[MemberProperty, MemberTrail] = {}
        self._transitions = 0

    def run(self, stop_at_first: bool) -> MemberResult:
        began = time.perf_counter()
        worlds = [World()]
        for here, world in enumerate(worlds):
            worlds.extend(self._new(world, here))  # it grows while it is walked: breadth first
            if len(worlds) > self._limit:
                raise TooLarge.beyond(self._limit)
            if stop_at_first and self._broken:
                break
        else:
            self._heals(worlds)
        return MemberResult(
            scenario=self._scenario,
            states=len(worlds),
            transitions=self._transitions,
            seconds=time.perf_counter() - began,
            broken=self._broken,
        )

    def _new(self, world: World, here: int) -> Iterator[World]:
        """The moments behind this one that were not known."""
        for step in self._members.steps(world):
            self._transitions += 1
            after = step.world
            there = self._number.setdefault(after, len(self._came))
            if there == len(self._came):
                self._came.append((here, step))
                self._before.append([])
                for which, why in _broken(after):
                    self._breaks(which, why, there)
                yield after
            if after.failures == world.failures:
                self._before[there].append(here)

    def _breaks(self, which: MemberProperty, why: str, at: int) -> None:
        if which not in self._broken:
            self._broken[which] = MemberTrail(self._way(at), why)

    def _heals(self, worlds: list[World]) -> None:
        """Whether a way without a failure leads from everywhere to a protected pair."""
        todo = deque(at for at, world in enumerate(worlds) if protected(world))
        heal = set(todo)
        while todo:
            for earlier in self._before[todo.popleft()]:
                if earlier not in heal:
                    heal.add(earlier)
                    todo.append(earlier)
        stuck = next((at for at, world in enumerate(worlds) if at not in heal and not world.disks), None)
        if stuck is not None:
            self._breaks(MemberProperty.HEALS, "no way leads from here to a protected pair", stuck)

    def _way(self, at: int) -> tuple[Step, ...]:
        way: list[Step] = []
        while (last := self._came[at]) is not None:
            at, step = last
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
