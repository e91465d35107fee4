"""Many schedules, on as many processes as asked for; a failing one is made short."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

import attrs

from .coverage import Coverage
from .generate import generate
from .run import Bench, Outcome
from .schedule import Kind, Schedule
from .shrink import shrink

BATCH = 50
"""Seeds that a process runs at a time."""
MOST_FAILURES = 5
"""Failing schedules to keep; the rest are counted."""


@attrs.define
class Result:
    """What many runs came to; `failures` have their traces."""

    coverage: Coverage = attrs.field(factory=Coverage)
    failures: list[Outcome] = attrs.field(factory=list)


def run_seeds(seeds: Iterable[int], kinds: Sequence[Kind]) -> Result:
    """Run these seeds here, one after the other."""
    result = Result()
    with Bench() as bench:
        for seed in seeds:
            outcome = bench.run(generate(seed, kinds))
            result.coverage.add(outcome)
            if not outcome.ok and len(result.failures) < MOST_FAILURES:
                result.failures.append(outcome)
    return result


def run_many(
    first: int,
    kinds: Sequence[Kind],
    *,
    seeds: int | None = None,
    seconds: float | None = None,
    jobs: int = 1,
    progress: Callable[[Coverage], object] = lambda coverage: None,
) -> Result:
    """Run `seeds` seeds from `first` on, or as many as `seconds` allow, in `jobs` processes."""
    deadline = None if seconds is None else time.monotonic() + seconds
    total = Result()
    batches = _batches(first, seeds)
    with ProcessPoolExecutor(jobs) as pool:
        running: set[Future[Result]] = set()
        while True:
            in_time = deadline is None or time.monotonic() < deadline
            room = 2 * jobs - len(running) if in_time else 0
            running |= {pool.submit(run_seeds, batch, kinds) for batch in itertools.islice(batches, room)}
            if not running:
                return total
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                total.coverage += result.coverage
                total.failures += result.failures[: MOST_FAILURES - len(total.failures)]
            progress(total.coverage)


def _batches(first: int, seeds: int | None) -> Iterator[range]:
    for start in itertools.count(first, BATCH):
        end = start + BATCH if seeds is None else min(start + BATCH, first + seeds)
        if start >= end:
            return
        yield range(start, end)


def shortest(outcome: Outcome) -> Outcome:
    """The shortest run found that shows the first problem of this one, with its trace."""
    wanted = outcome.problems[0].kind
    with Bench() as bench:

        def fails(schedule: Schedule) -> bool:
            return any(problem.kind == wanted for problem in bench.run(schedule).problems)

        return bench.run(shrink(outcome.schedule, fails), trace=True)
