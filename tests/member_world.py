"""The production's members under random schedules: two processes on virtual time, one seed a schedule.

A process is an event loop of its own with a `Member` on it. The member's code, the pairs under it, the
scripts, sessions, streams and stores are the production's; sockets are real ones inside this process, stores
are real directories. In the place of the threads of hooks and of the arbiter there are callbacks, which take
virtual time; in the place of the door `OneByOne`, which has no thread either.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest import mock

import attrs
from member_faults import Fault
from member_ledger import Ledger
from member_loop import Clock, LoopHooks
from member_process import NAMES, PACES, Process, Register

from colo_fsm.check.simulate.disk import Killed
from colo_fsm.membership import NotPossible
from colo_fsm.membership import seat as seat_module
from colo_fsm.membership.machine import S
from colo_fsm.membership.record import Phase, Record
from colo_fsm.replica import aio, life, link
from colo_fsm.replica.door import OneByOne
from colo_fsm.replica.guest import state_in
from colo_fsm.replica.script import Replica

LONG = 120.0
"""Virtual seconds in which whatever was broken heals."""
MOST_STEPS = 200_000
TMPFS = Path("/dev/shm")  # noqa: S108 - what it holds is a folder of our own


@attrs.define
class Outcome:
    """What a schedule came to."""

    seed: int
    counts: Counter[str]
    problems: list[str]
    trace: list[str]


class World:
    """Two members, what they share, and what happens to them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.folder = folder
        self.random = Random(seed)
        self.clock = Clock()
        self.register = Register()
        self.ledger = Ledger()
        self.steps = 0
        self.processes: dict[str, Process] = {}
        self.starts: dict[str, float] = {}
        """Who is down, and when it is started again."""
        self.counts: Counter[str] = Counter()
        self.trace: list[str] = []
        self.current: Process | None = None
        self.pace = self.random.choices(PACES, (3, 1))[0]
        self._states: dict[str, S] = {}
        self._moves = self._at = 0

    def note(self, what: str) -> None:
        self.trace.append(f"{self.clock.now:8.3f} {self.steps:6} {what}")

    def delay(self) -> float:
        """How long a hook, or a question to the arbiter, takes."""
        return self.random.random() * 0.05 if self.random.random() < self.pace.slow else 0.0

    def number(self, after: int) -> int:
        """In the place of `fresh_number`."""
        self._at += 1
        return max(after + 1, self._at)

    def id(self, size: int) -> str:
        """In the place of `secrets.token_hex`."""
        return self.random.randbytes(size).hex()

    def keep(self, sock: socket.socket) -> None:
        """A socket belongs to the process that makes it."""
        if self.current is not None:
            self.current.sockets.append(sock)

    def recorded(self, process: Process, value: str) -> None:
        """This one has changed the record: the store that counts by it must have all that is known."""
        self.note(f"{process.name}: {value}")
        record = Record.decode(value)
        with_mate = record.phase is Phase.PAIRED or (record.phase is Phase.ALONE and not record.stored)
        counts = record.mate if with_mate else record.holder
        if record.phase is not Phase.NEW and counts is not None:
            other = self.processes.get(counts.name)
            there = other is not None and not other.dead and other.member.state is not S.ENDED
            if there and other is not None and other.seat.store.newest is not None:
                self.ledger.compare(
                    state_in(other.seat.store.newest) or b"", f"{counts}'s store, which counts,"
                )

    # -- going on -----------------------------------------------------------------------------------

    def start(self, name: str, dies_at: int | None = None) -> None:
        self.starts.pop(name, None)
        self.note(f"{name}: starts")
        self.counts["starts"] += 1
        self._states[name] = S.LOOKING
        try:
            self.processes[name] = Process(self, name, dies_at=dies_at)
        except Killed:
            self.down(name, "dies as it starts")

    def down(self, name: str, why: str) -> None:
        """It is gone; somebody starts it again: soon, or after the other has lost its patience."""
        self.note(f"{name}: {why}")
        if (process := self.processes.pop(name, None)) is not None:
            process.die()
        late = self.random.random() < 0.4
        self.starts[name] = self.clock.now + self.random.uniform(*((2.5, 6.0) if late else (0.01, 0.8)))

    def _look_after(self, process: Process) -> None:
        """What has come of a process in its last step."""
        name = process.name
        if process.dead:
            inside = process.disk.left is not None and process.disk.left < 0
            self.counts["crashes inside a write"] += inside
            self.down(name, "dies inside a write" if inside else "is gone")
            return
        self.ledger.problems += [f"{name}: {trouble}" for trouble in process.loop.troubles]
        process.loop.troubles.clear()
        if (state := process.member.state) is not self._states[name]:
            self._moved(name, self._states[name], state)
        if process.ended:
            if process.error is not None:
                self.ledger.problems.append(f"{name} has ended with {process.error!r}")
            self.down(name, f"has ended: {process.error!r}")

    def _moved(self, name: str, before: S, state: S) -> None:
        self.note(f"{name}: {before} -> {state}")
        self._states[name] = state
        self._moves += 1
        self.counts[f"to {state}"] += 1
        if (before, state) == (S.ALONE, S.PRIMARY):
            self.counts["rejoins"] += 1
        if (before, state) == (S.SECONDARY, S.ALONE):
            self.counts["take-overs"] += 1

    def burst(self) -> bool:
        """A few steps of some process; False: nobody has anything to do now."""
        self._restart()
        awake = [p for p in self.processes.values() if p.frozen_until <= self.clock.now]
        self.random.shuffle(awake)
        return any(self._steps_of(process, self.random.choice((1, 1, 2, 5, 20))) for process in awake)

    def _steps_of(self, process: Process, most: int) -> bool:
        ran = False
        self.current = process
        with process.loop.running():
            for _ in range(most):
                if not process.loop.step():
                    break
                ran = True
                self.steps += 1
                if process.dead or process.ended:
                    break
        self.current = None
        if ran:
            self._look_after(process)
        return ran

    def _restart(self) -> None:
        for name, at in sorted(self.starts.items()):
            if at <= self.clock.now:
                self.start(name)

    def jump(self) -> None:
        """To the next moment at which something happens by itself."""
        now = self.clock.now
        due = [max(p.loop.next_timer(), p.frozen_until) for p in self.processes.values()]
        due += [p.frozen_until for p in self.processes.values() if p.frozen_until > now]
        due += self.starts.values()
        self.clock.now = max(now, min(due, default=now))
        if min(due, default=float("inf")) == float("inf"):
            raise AssertionError("nothing will ever happen again")

    def go(self, steps: int, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Until so much has happened, or time has passed, or it is `done`; whether it is."""
        until, end = self.steps + steps, self.clock.now + seconds
        while self.steps < until and self.clock.now < end and not self.ledger.problems:
            if not self.burst():
                self.jump()
            if done():
                return True
        return False

    # -- a schedule -----------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Start both, break them, let them heal, and compare what they have with what clients were told."""
        for name in NAMES:
            self.starts[name] = self.random.choice((0.0, 0.0, self.random.uniform(0.0, 3.0)))
        for _ in range(self.random.randint(3, 10)):
            if self.random.random() < 0.4:  # soon after one of them has become something else
                moves = self._moves
                self.go(3000, 10.0, lambda moves=moves: self._moves > moves)  # type: ignore[misc]
                self.go(int(self.random.expovariate(1 / 20)) + 1, 5.0)
            else:
                self.go(int(self.random.expovariate(1 / self.random.choice((30, 300, 1500)))) + 1, 5.0)
            Fault(self).strike()
        if not self.ledger.problems:
            self._heal()
        self.counts["acknowledged"] += len(self.ledger.acknowledged)
        for process in self.processes.values():
            process.die()
        return Outcome(self.seed, self.counts, self.ledger.problems, self.trace)

    def _heal(self) -> None:
        self.note("nothing more is broken")
        self.register.away_until = 0.0
        for process in self.processes.values():
            process.frozen_until, process.disk.left, process.register.next_swap = 0.0, None, None
        if not (self.go(MOST_STEPS, LONG, self._protected) or self.ledger.problems):
            self.ledger.problems.append(f"it does not heal: {self._states}, {self.register.entry}")
            return
        before = len(self.ledger.acknowledged)
        answered = self.go(MOST_STEPS, LONG, lambda: len(self.ledger.acknowledged) > before)
        if not (answered or self.ledger.problems):
            self.ledger.problems.append("nobody is answered any more")
        if self.go(MOST_STEPS, LONG, self._protected):
            self._compare()
        elif not self.ledger.problems:
            self.ledger.problems.append(f"it does not stay healed: {self._states}")

    def _protected(self) -> bool:
        """Whether both are up, and one has what the other acknowledges."""
        states = {name: p.member.state for name, p in self.processes.items()}
        return sorted(states.values()) == [S.PRIMARY, S.SECONDARY]

    def _compare(self) -> None:
        for process in self.processes.values():
            newest = process.seat.store.newest
            if process.member.state is S.PRIMARY:
                self.ledger.compare(process.guest.keys, "the Primary")
            elif newest is not None:
                self.ledger.compare(state_in(newest) or b"", "the Secondary's store")

    def switch_over(self, process: Process) -> None:
        """As `colo-fsm ctl` asks for it."""

        async def switch() -> None:
            with contextlib.suppress(NotPossible):
                await process.member.switchover()
                self.counts["switchovers"] += 1

        with process.loop.running():
            process.loop.create_task(switch())


@contextlib.contextmanager
def simulated(world: World) -> Iterator[None]:
    """Inside this the production's code is on virtual time, without a thread."""
    clocks = Replica.__init__.__kwdefaults__
    with (
        mock.patch.object(aio, "Hooks", LoopHooks),
        mock.patch.object(life, "Door", lambda listener, *_, **__: OneByOne(listener)),
        mock.patch.object(link, "keep_from_children", world.keep),
        mock.patch.object(seat_module, "fresh_number", world.number),
        mock.patch.object(seat_module, "secrets", SimpleNamespace(token_hex=world.id)),
        mock.patch.dict(clocks, clock=lambda: world.clock.now),
    ):
        yield


def run(seed: int) -> Outcome:
    """The schedule of this seed; the same each time, to the last line of its trace."""
    logging.disable()  # a lost link is no news here
    folder = Path(tempfile.mkdtemp(prefix="colo-fsm-", dir=TMPFS if TMPFS.is_dir() else None))
    world = World(seed, folder)
    try:
        with simulated(world):
            return world.run()
    finally:
        shutil.rmtree(folder)
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    outcome = run(int(sys.argv[1]))
    print(*outcome.trace, *outcome.problems, sep="\n")
