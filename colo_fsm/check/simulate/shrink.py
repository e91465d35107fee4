"""Makes a failing schedule short: fewer faults first, then plainer ones, then plainer surroundings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import attrs

from .run import Bench, Outcome
from .schedule import Fault, Schedule
from .tables import Tables

MOST_RUNS = 400

PLAIN = Schedule()


def shortest(outcome: Outcome, tables: Tables = Tables()) -> Outcome:  # noqa: B008 - frozen
    """The shortest run found that shows the first problem of this one, with its trace."""
    wanted = outcome.problems[0].kind
    with Bench(tables) as bench:

        def fails(schedule: Schedule) -> bool:
            return any(problem.kind == wanted for problem in bench.run(schedule).problems)

        return bench.run(shrink(outcome.schedule, fails), trace=True)


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """A schedule no longer and no less plain than this one that still `fails`.

    `fails` runs a schedule, and says whether it shows the same kind of problem. It is asked at most
    MOST_RUNS times; every answer has to be the same for equal schedules.
    """
    left = MOST_RUNS
    improved = True
    while improved:
        improved = False
        for candidate in _plainer(schedule):
            if not left:
                return schedule
            left -= 1
            if fails(candidate):
                schedule, improved = candidate, True
                break
    return schedule


def _plainer(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules that are plainer in one thing, what helps most first."""
    faults = schedule.faults
    for size in range(len(faults)):
        for some in itertools.combinations(faults, size):
            yield attrs.evolve(schedule, faults=some)
    for field in attrs.fields(Schedule):
        plain = getattr(PLAIN, field.name)
        if field.name not in ("seed", "noise", "faults") and getattr(schedule, field.name) != plain:
            yield attrs.evolve(schedule, **{field.name: plain})
    for at, fault in enumerate(faults):
        for plainer in _plainer_fault(fault):
            yield attrs.evolve(schedule, faults=(*faults[:at], plainer, *faults[at + 1 :]))


def _plainer_fault(fault: Fault) -> Iterator[Fault]:
    for name in ("visit", "op", "delay", "count"):
        now = getattr(fault, name)
        least = 1 if name == "visit" else 0
        for smaller in dict.fromkeys((least, now // 2, now - 1) if name != "delay" else (0.0,)):
            if least <= smaller < now:
                yield attrs.evolve(fault, **{name: smaller})
