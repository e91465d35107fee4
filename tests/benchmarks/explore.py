"""States that the explorer visits on one core, beside a loop that only keeps what is new in a set."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import attrs

from colo_fsm.check import Result, documented, explore

from .table import Row

NAME = "everything-loaded"
REPEAT = 2


def floor(states: int, steps: int) -> float:
    """States a second of a search that only looks up the end of each step, and keeps what is new."""
    number = random.Random(1)
    known = [number.getrandbits(68) for _ in range(states)]
    ends = known + [number.choice(known) for _ in range(steps - states)]
    number.shuffle(ends)
    began = time.perf_counter()
    came: dict[int, int] = {}
    found = []
    for end in ends:
        if end not in came:
            came[end] = end
            found.append(end)
    return len(found) / (time.perf_counter() - began)


def best(budget: int, repeat: int = REPEAT) -> Result:
    """The fastest of some searches of the scenario with this many disturbances in a run."""
    scenario = attrs.evolve(documented(NAME).scenario, budget=budget)
    return max((explore(scenario) for _ in range(repeat)), key=lambda result: result.states_per_second)


def rows(quick: bool) -> Iterator[Row]:
    """The more a run may hold, the faster: what a side can do is worked out once for each of its views."""
    for budget in (0,) if quick else (1, 2):
        result = best(budget, 1 if quick else REPEAT)
        least = floor(result.states, result.transitions)
        what = f"explorer, {budget} disturbance{'s' * (budget != 1)}"
        yield Row(what, result.states_per_second, "states/s", "a set alone", least)
