"""Many schedules, on as many processes as asked for; a failing one is made short."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import attrs

from .generate import generate
from .report import Coverage
from .run import Bench, Outcome, in_memory
from .schedule import Fault, Kind, Schedule
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
    within: Path | None = None,
) -> Result:
    """Run these seeds here, one after the other. `within`: see `Bench`."""
    result = Result()
    with Bench(tables, within) as bench:
        for seed in seeds:
            outcome = bench.run(generate(seed, kinds, tables))
            result.coverage.add(outcome)
            if not outcome.ok and len(result.failures) < MOST_FAILURES:
                result.failures.append(outcome)
    return result


_place: list[tuple[Tables, Path]] = []
"""Of a process of `run_many`: tables are inherited, for they hold words that cannot be copied."""


def _run_batch(seeds: Iterable[int], kinds: Sequence[Kind]) -> Result:
    return run_seeds(seeds, kinds, *_place[0])


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
    with _workers(jobs, tables) as pool:
        running: set[Future[Result]] = set()
        while True:
            in_time = deadline is None or time.monotonic() < deadline
            room = 2 * jobs - len(running) if in_time else 0
            with _no_interrupt():  # the first one makes the workers
                running |= {
                    pool.submit(_run_batch, batch, kinds) for batch in itertools.islice(batches, room)
                }
            if not running:
                return total
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                result = future.result()
                total.coverage += result.coverage
                total.failures += result.failures[: MOST_FAILURES - len(total.failures)]
            progress(total.coverage)


@contextmanager
def _workers(jobs: int, tables: Tables) -> Iterator[ProcessPoolExecutor]:
    """So many processes. On an error, ^C say, nobody waits for what they are at: that may take long."""
    others = set(multiprocessing.active_children())
    fork = multiprocessing.get_context("fork")
    with (
        tempfile.TemporaryDirectory(dir=in_memory()) as folder,
        ProcessPoolExecutor(jobs, fork, _place.append, ((tables, Path(folder)),)) as pool,
    ):
        try:
            yield pool
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """What is forked here is never interrupted: on ^C we end it. If it ended by itself it had failed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _batches(first: int, seeds: int | None) -> Iterator[range]:
    for start in itertools.count(first, BATCH):
        end = start + BATCH if seeds is None else min(start + BATCH, first + seeds)
        if start >= end:
            return
        yield range(start, end)


# -- made short: fewer faults first, then plainer ones, then plainer surroundings

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
