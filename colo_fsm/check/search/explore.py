"""The search: every moment that a scenario can come to, breadth first: counterexamples are shortest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, NamedTuple

import attrs

from colo_fsm.fsm import Side

from ..found import Found, TooLarge, without_collector
from ..model.control import Reaction
from ..model.properties import Property
from ..model.rest import at_rest, healthy, unfinished_round
from ..model.scenario import BREAKS, Arbiter, Scenario
from ..model.steps import Kind, Step
from ..model.world import World
from .loops import on_a_cycle
from .space import AnyStep, Memo, Moves, Space


class Trail(NamedTuple):
    """The shortest way to something: the worlds, and the step that leads out of each of them but the last."""

    worlds: tuple[World, ...]
    steps: tuple[tuple[Side | None, AnyStep], ...]
    end: str
    """What is wrong at the end, in words."""
    rests: bool
    """Whether the moment at the end is what is wrong; else it is the last step."""


@attrs.frozen(kw_only=True)
class Result(Found[Property, Trail]):
    """What a search of a pair has found. `fired` are the transitions that any reachable step takes."""

    properties: ClassVar[tuple[Property, ...]] = tuple(Property)
    scenario: Scenario
    fired: frozenset[tuple[Side, Reaction]]


def explore(scenario: Scenario, *, limit: int = 5_000_000, stop_at_first: bool = False) -> Result:
    """Explore all of a scenario; with `stop_at_first`, only until something is broken.

    Raises TooLarge beyond `limit` states: then nothing is proved.
    """
    with without_collector():
        return Search(scenario, limit, stop_at_first).run()


def moments(scenario: Scenario, *, limit: int = 5_000_000) -> Iterator[World]:
    """Every moment that a scenario can come to. Raises TooLarge beyond `limit` of them."""
    with without_collector():
        search = Search(scenario, limit, stop_at_first=False)
        search.run()
    return map(search.space.unpack, search.came)


class Search:
    """One exploration."""

    def __init__(self, scenario: Scenario, limit: int, stop_at_first: bool) -> None:
        self.space = Space(scenario)
        self._scenario = scenario
        self._limit = limit
        self._stop_at_first = stop_at_first
        space = self.space
        self._moves: dict[Side, dict[int, Moves]] = {side: {} for side in Side}
        self._arbiter_lost = Memo(space.arbiter_lost)
        self.came: dict[int, int] = {}
        """Each state found, and the one it was found from."""
        self._transitions = 0
        self._broken: dict[Property, Trail] = {}

    def run(self) -> Result:
        """Explore. Raises TooLarge."""
        began = time.perf_counter()
        start = self.space.pack(self.space.steps.start())
        self.came[start] = start
        for broken in self.space.steps.broken_by_start():
            self._broken[broken] = self._trail(self.came, start, broken.meaning)
        self._progress(start)
        level = [start]
        while level and not self._enough:
            level = self._next_level(level)
            if len(self.came) > self._limit:
                raise TooLarge.beyond(self._limit)
        if not self._enough:
            self._livelock()
            self._unreached(start)
        seconds = time.perf_counter() - began
        fired = frozenset(self.space.fired)
        return Result(
            scenario=self._scenario,
            states=len(self.came),
            transitions=self._transitions,
            seconds=seconds,
            broken=self._broken,
            fired=fired,
        )

    @property
    def _enough(self) -> bool:
        return self._stop_at_first and bool(self._broken)

    def _next_level(self, level: list[int]) -> list[int]:
        """The states behind these that are new. The hot loop: all that it needs is a local."""
        space, came, transitions = self.space, self.came, 0
        found: list[int] = []
        primary, secondary = self._moves[Side.PRIMARY], self._moves[Side.SECONDARY]
        on_f, on_b, on_x = space.forward.mask, space.back.mask, space.facts.mask
        on_budget, spent, breaks = space.budget.mask, space.spent, space.breaks
        disturbed, quiet = space.on_the_way[True], space.on_the_way[False]
        on_p, on_s = space.primary.mask | on_x, space.secondary.mask | on_x
        f_out, b_out = space.out_of[space.forward], space.out_of[space.back]
        f_in, b_in = space.into[space.forward], space.into[space.back]
        arbiter = self._arbiter_lost
        for state in level:
            f, b = state & on_f, state & on_b
            key = (state & on_p) + f_out[f] + b_in[b]
            p = primary.get(key) or self._expand(Side.PRIMARY, key, state)
            key = (state & on_s) + b_out[b] + f_in[f]
            s = secondary.get(key) or self._expand(Side.SECONDARY, key, state)
            for difference, put, take in p.go:
                there = state + difference + put[f] + take[b]
                if there not in came:
                    came[there] = state
                    found.append(there)
            for difference, put, take in s.go:
                there = state + difference + put[b] + take[f]
                if there not in came:
                    came[there] = state
                    found.append(there)
            f_way, b_way = quiet if state & on_budget == spent else disturbed
            around = [d for f_break, b_break in breaks if (d := f_break[f] + b_break[b])]
            around += f_way[f] + b_way[b] + arbiter[state & on_x]
            for difference in around:
                there = state + difference
                if there not in came:
                    came[there] = state
                    found.append(there)
            transitions += len(p.go) + len(s.go) + len(around)
            if p.wrong or s.wrong:
                self._breaks(state, p, s)
            if not (p.must or s.must):
                self._comes_to_rest(state)
        self._transitions += transitions
        return found

    def _expand(self, side: Side, key: int, state: int) -> Moves:
        moves = self._moves[side][key] = self.space.moves(state, side)
        return moves

    # -- what is wrong --------------------------------------------------------------------------

    def _breaks(self, state: int, *moves: Moves) -> None:
        for side, each in zip(Side, moves, strict=True):
            for broken, number in each.wrong:
                if broken not in self._broken:
                    self._broken[broken] = self._trail(self.came, state, broken.meaning, (side, number))

    def _comes_to_rest(self, state: int) -> None:
        for broken, why in at_rest(self.space.unpack(state), self._scenario):
            if broken not in self._broken:
                self._broken[broken] = self._trail(self.came, state, why)

    def _progress(self, start: int) -> None:
        """Where MUST steps alone lead: without faults every round must complete, as it should."""
        came, level, rounds = {start: start}, [start], 0
        while level:
            found = []
            for state in level:
                steps = self._musts(state)
                if why := self._unhealthy(state, bool(steps)):
                    self._broken[Property.PROGRESS] = self._trail(came, state, why)
                    return
                for side, number, step, there in steps:
                    rounds += step.round
                    self._expected(came, state, side, number, step)
                    if step.round and (why := unfinished_round(step, self._scenario)):
                        self._broken[Property.PROGRESS] = self._trail(came, state, why, (side, number))
                        return
                    if there not in came:
                        came[there] = state
                        found.append(there)
            level = found
        if not rounds:
            self._broken[Property.PROGRESS] = self._trail(came, start, "no round is ever completed")

    def _expected(self, came: dict[int, int], state: int, side: Side, number: int, step: Step) -> None:
        """Without faults a message that comes must have a row of its own."""
        table = self._scenario.law.table(side)
        for moved in step.fired:
            if moved.trigger.message is not None and not table.may(moved.source, moved.trigger):
                why = (
                    f"{moved.trigger.message.text} comes to the {side} in '{moved.source}', which has no row"
                )
                trail = self._trail(came, state, why, (side, number))
                self._broken.setdefault(Property.UNEXPECTED, trail)

    def _unreached(self, start: int) -> None:
        """With every break and an arbiter that grants and denies, each written row must come to fire."""
        scenario = self._scenario
        if scenario.arbiter is not Arbiter.CLAIM or not scenario.faults >= BREAKS:
            return
        fired = {(side, moved.source, moved.trigger) for side, moved in self.space.fired}
        missing = [
            f"{side}: {r}"
            for side in Side
            for r in scenario.law.table(side).written
            if (side, r.source, r.trigger) not in fired
        ]
        if missing:
            why = "nothing leads to " + "; ".join(missing)
            self._broken[Property.REACHED] = self._trail(self.came, start, why)

    def _unhealthy(self, state: int, goes_on: bool) -> str:
        if not goes_on:
            return "nothing more happens, and nothing was wrong"
        return healthy(self.space.unpack(state), self._scenario.law)

    def _musts(self, state: int) -> list[tuple[Side, int, Step, int]]:
        return [
            (side, number, step, there)
            for side in Side
            for number, step, there in self.space.of_side(state, side)
            if step.kind is Kind.MUST and there != state
        ]

    def _livelock(self) -> None:
        """Whether steps can go on for ever without a round being completed."""
        if not self.space.loops.may_exist():
            return
        state = on_a_cycle(self.came, lambda s: [to for *_, step, to in self._musts(s) if not step.round])
        if state is not None:
            why = "from here steps can go on for ever, and no round is completed"
            self._broken.setdefault(Property.SETTLES, self._trail(self.came, state, why))

    # -- how one gets there ---------------------------------------------------------------------

    def _trail(
        self, came: dict[int, int], state: int, why: str, last: tuple[Side, int] | None = None
    ) -> Trail:
        """The way to `state`, and the step out of it that breaks something, if it is a step that does."""
        path = [state]
        while came[path[-1]] != path[-1]:
            path.append(came[path[-1]])
        path.reverse()
        steps = [self._between(here, there) for here, there in pairwise(path)]
        if last is not None:
            side, number = last
            _, step, there = list(self.space.of_side(state, side))[number]
            steps.append((side, step))
            path.append(there)
        return Trail(tuple(map(self.space.unpack, path)), tuple(steps), why, rests=last is None)

    def _between(self, here: int, there: int) -> tuple[Side | None, AnyStep]:
        return next((side, step) for side, _, step, to in self.space.successors(here) if to == there)
