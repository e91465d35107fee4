"""Runs schedules: one, and what it came to."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import attrs

from colo_fsm.arbiter import SqliteArbiter

from .schedule import Schedule
from .verdict import Problem, problems, promised, survivor
from .witness import Strike
from .world import EPOCH, World


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
    seconds: float
    checkpoints: int
    generations: int
    won: int
    lost_claims: int
    operations: int
    digest: str
    trace: tuple[str, ...] = attrs.field(default=(), repr=False)

    @property
    def ok(self) -> bool:
        """Whether all holds that is promised."""
        return not self.problems


class Bench:
    """Where runs take place: a folder for the arbiter's database, in memory where that can be."""

    def __enter__(self) -> Self:
        memory = Path("/dev/shm")
        self._folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, schedule: Schedule, *, trace: bool = False) -> Outcome:
        """Run this schedule; `trace`: keep what happened, a line each."""
        for name in os.listdir(self._folder):
            os.unlink(self._folder / name)
        with _quiet():
            world = World(
                schedule,
                SqliteArbiter(self._folder / "claim.db", clock=lambda: EPOCH + round(world.kernel.now * 1e6)),
            )
            world.run()
        return _outcome(world, trace)


def _outcome(world: World, trace: bool) -> Outcome:
    witness = world.witness
    found = problems(world)
    must_not = promised(world.schedule)
    lines = [*world.kernel.trace, *map(str, found)]
    return Outcome(
        schedule=world.schedule,
        problems=tuple(problem for problem in found if problem.kind in must_not),
        documented=tuple(problem for problem in found if problem.kind not in must_not),
        strikes=tuple(witness.strikes),
        survived=survivor(world) is not None,
        ended_by_fault=world.ended_by_fault,
        seconds=world.kernel.now,
        checkpoints=witness.checkpoints,
        generations=len(world.opened),
        won=len(witness.won),
        lost_claims=witness.claims_lost,
        operations=sum(asked.answer is not None for asked in world.clients.asked),
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
