"""Many schedules, on as many processes as asked for."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

import attrs

from .coverage import Coverage
from .generate import generate
from .run import Bench, Outcome
from .schedule import Kind
from .tables import Tables

BATCH = 50
"""Seeds that a process runs at a time."""
MOST_FAILURES = 5
"""Failing schedules to keep; the rest are counted."""


@attrs.define
class Result:
    """What many runs came to; `failures` have their traces."""

    coverage: Coverage = attrs.field(factory=Coverage)
    failures: list[Outcome] = attrs.field(factory=list)


def run_seeds(
    seeds: Iterable[int],
    kinds: Sequence[Kind],
    tables: Tables = Tables(),  # noqa: B008 - frozen
) -> Result:
    """Run these seeds here, one after the other."""
    result = Result()
    with Bench(tables) as bench:
        for seed in seeds:
            outcome = bench.run(generate(seed, kinds, tables))
            result.coverage.add(outcome)
            if not outcome.ok and len(result.failures) < MOST_FAILURES:
                result.failures.append(outcome)
    return result


_tables: list[Tables] = []
"""Of a process of `run_many`: tables are inherited, for they hold words that cannot be copied."""


def _run_batch(seeds: Iterable[int], kinds: Sequence[Kind]) -> Result:
    return run_seeds(seeds, kinds, *_tables)


def run_many(
    first: int,
    kinds: Sequence[Kind],
    tables: Tables = Tables(),  # noqa: B008 - frozen
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
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, fork, _tables.append, (tables,)) as pool:
        running: set[Future[Result]] = set()
        while True:
            in_time = deadline is None or time.monotonic() < deadline
            room = 2 * jobs - len(running) if in_time else 0
            running |= {pool.submit(_run_batch, batch, kinds) for batch in itertools.islice(batches, room)}
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
