"""Runs schedules: one, until it has shown what it can, and what it came to."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import attrs

from colo_fsm.arbiter import SqliteArbiter

from .faults import Faults
from .operator import TICK, Operator
from .process import Watcher
from .schedule import Schedule
from .tables import Tables
from .verdict import Problem, problems, promised, survivor
from .witness import Strike
from .world import World

EPOCH = 1_700_000_000_000_000
"""Microseconds at which every run begins: a clock of its own for the numbers of generations."""
LONGEST = 120.0
"""Seconds after which a run is ended whatever happens."""
SETTLE = 30.0
"""Seconds in which everything must have come to an end when nothing strikes any more."""
LINGER = 0.3
"""Seconds that a survivor goes on working alone before a run ends."""


class Run:
    """A run under way: a world, what strikes it, and who looks after it."""

    def __init__(self, schedule: Schedule, arbiter: SqliteArbiter, tables: Tables) -> None:
        self.world = World(schedule, arbiter, tables)
        self.operator = Operator(self.world)
        self.faults = Faults(self.world, self.operator)
        self.ended_by_fault = False
        self._over_since: float | None = None
        self._settle_by: float | None = None
        self._stop = False

    def to_the_end(self, watcher: Watcher | None = None) -> None:
        """All of it. `watcher` is told in place of the faults, and tells them."""
        world, kernel = self.world, self.world.kernel
        world.watcher = watcher or self.faults
        world.begin()
        kernel.after(TICK, self._tick)
        while not self._stop and kernel.step():
            if self._settle_by is None and world.witness.checkpoints >= world.schedule.rounds:
                self._check()

    def _tick(self) -> None:
        self.operator.look()
        self._check()
        self.world.kernel.after(TICK, self._tick)

    def _check(self) -> None:
        """End the run, or begin its end, when it is time."""
        if self._settle_by is not None:
            self._stop = self._settled() or self.world.kernel.now > self._settle_by
        elif self._done():
            self._settle()

    def _done(self) -> bool:
        """Whether the run has shown what it can."""
        world = self.world
        now = world.kernel.now
        if now > LONGEST:
            return True
        under_way = self.faults.under_way or self.operator.busy
        if under_way or world.replicating or not world.settled:
            self._over_since = None
            return not under_way and world.replicating and world.witness.checkpoints >= world.schedule.rounds
        self._over_since = now if self._over_since is None else self._over_since
        return now - self._over_since > LINGER

    def _settle(self) -> None:
        """Nothing strikes any more, and what can come to an end does."""
        world = self.world
        world.kernel.note("settling")
        self.ended_by_fault = not world.replicating
        self.faults.over = True
        world.arbiter.heal()
        world.clients.stopping = True
        self._settle_by = world.kernel.now + SETTLE

    def _settled(self) -> bool:
        world = self.world
        if any(p.alive and p.frozen for p in world.processes) or self.operator.busy:
            return False
        if world.replicating:
            return world.clients.idle
        return world.settled and (world.clients.idle or survivor(world) is None)


@attrs.frozen
class Outcome:
    """What one run came to."""

    schedule: Schedule
    problems: tuple[Problem, ...]
    """What must not be."""
    documented: tuple[Problem, ...]
    """What docs/simulation.md says can happen under such faults."""
    strikes: tuple[Strike, ...]
    survived: bool
    ended_by_fault: bool
    counts: Counter[str]
    """What happened how often, and for how many milliseconds."""
    digest: str
    trace: tuple[str, ...] = attrs.field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether all holds that is promised."""
        return not self.problems


def in_memory() -> Path | None:
    """Where a temporary folder is in memory; None: nowhere, so that any will do."""
    memory = Path("/dev/shm")  # noqa: S108 - folders of a random name are made in it
    return memory if os.access(memory, os.W_OK) else None


class Bench:
    """Where runs of these tables take place: a folder for the arbiter's database, in memory if it can be.

    `within`: the folder to make it in, whose owner removes what a process that was killed has left there.
    """

    def __init__(self, tables: Tables = Tables(), within: Path | None = None) -> None:  # noqa: B008 - frozen
        self.tables = tables
        self._within = within

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(dir=self._within or in_memory()))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(
        self, schedule: Schedule, *, trace: bool = False, watch: Callable[[Run], Watcher] | None = None
    ) -> Outcome:
        """Run this schedule. `trace`: keep what happened, a line each. `watch`: see `Run.to_the_end`."""
        for name in os.listdir(self._folder):
            os.unlink(self._folder / name)
        run: Run
        arbiter = SqliteArbiter(
            self._folder / "claim.db", clock=lambda: EPOCH + round(run.world.kernel.now * 1e6)
        )
        run = Run(schedule, arbiter, self.tables)
        with _quiet():
            try:
                run.to_the_end(watch and watch(run))
                return _outcome(run, trace)
            finally:
                for process in run.world.processes:
                    process.forget()


def _outcome(run: Run, trace: bool) -> Outcome:
    world = run.world
    witness = world.witness
    found = problems(world)
    must_not = promised(world)
    lines = [*world.kernel.trace, *map(str, found)]
    return Outcome(
        schedule=world.schedule,
        problems=tuple(problem for problem in found if problem.kind in must_not),
        documented=tuple(problem for problem in found if problem.kind not in must_not),
        strikes=tuple(witness.strikes),
        survived=survivor(world) is not None,
        ended_by_fault=run.ended_by_fault,
        counts=Counter(
            milliseconds=round(world.kernel.now * 1000),
            checkpoints=witness.checkpoints,
            generations=world.generations,
            won=len(witness.won),
            lost_claims=witness.claims_lost,
            operations=sum(asked.answer is not None for asked in world.clients.asked),
        ),
        digest=hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest(),
        trace=tuple(lines) if trace else (),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """What the sides log of their faults is what this is about: not on the terminal."""
    log = logging.getLogger("colo_fsm")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
