"""How many states a second the explorer visits on one core, against the floor of any search with a set."""

from __future__ import annotations

import random
import time

import attrs

from colo_fsm.check import Result, documented, explore

NAME = "everything-loaded"
TARGET = 100_000
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


def best(budget: int) -> Result:
    """The fastest of some searches of the scenario with this many disturbances in a run."""
    scenario = attrs.evolve(documented(NAME).scenario, budget=budget)
    return max((explore(scenario) for _ in range(REPEAT)), key=lambda result: result.states_per_second)


def main() -> None:
    """Print both, and whether the target is met."""
    print(f"explorer, {NAME}, one core, best of {REPEAT}")
    for budget in (1, 2):
        result = best(budget)
        rate, least = result.states_per_second, floor(result.states, result.transitions)
        size = f"{result.states:9,} states {result.transitions:10,} steps"
        print(
            f"  {budget} on the wire {size} {rate:9,.0f} states/s   floor {least:9,.0f}, 1/{least / rate:.1f}"
        )
    print(f"  target {TARGET:,} states/s: {'met' if rate >= TARGET else 'MISSED'}")
    print(
        "  where the time goes: working out what a side can do, once for each view (about half at this size,"
    )
    print("  most of it in small systems); then for each step one addition and one look-up")
