"""One run: two sides, their disks, a link, an arbiter, clients, an operator, and what strikes them."""

from __future__ import annotations

from pathlib import Path
from random import Random

from colo_fsm.arbiter import SqliteArbiter
from colo_fsm.colo import State
from colo_fsm.fsm import Side, Transition
from colo_fsm.replica.directory import DirectoryStore
from colo_fsm.replica.events import CheckpointTaken, ClaimAnswered, Event
from colo_fsm.replica.options import Options, deadlines
from colo_fsm.replica.pair import make_primary, make_secondary
from colo_fsm.replica.store import Checkpoint, MemoryStore, Store, StoreError

from .arbiter import ArbiterService
from .clients import Clients
from .faults import Faults
from .guest import state_in
from .kernel import Kernel
from .link import Link
from .machine import Machine
from .operator import SETTLED, TICK, Operator
from .process import Process
from .schedule import Schedule
from .witness import DOWN, Witness, Won

EPOCH = 1_700_000_000_000_000
"""Microseconds at which every run begins: a clock of its own for the numbers of generations."""
LONGEST = 120.0
"""Seconds after which a run is ended whatever happens."""
SETTLE = 30.0
"""Seconds in which everything must have come to an end when nothing strikes any more."""
LINGER = 0.3
"""Seconds that a survivor goes on working alone before a run ends."""

REPLICATING = frozenset(State) - {*SETTLED, State.FAILOVER, State.FINISHING, State.INIT}


class World:
    """A run under way. Use `run()` once, then look."""

    def __init__(self, schedule: Schedule, arbiter: SqliteArbiter) -> None:
        self.schedule = schedule
        self.kernel = kernel = Kernel()
        self.witness = Witness()
        self._random = [Random(schedule.noise * 8 + stream) for stream in range(4)]
        self.arbiter = ArbiterService(kernel, arbiter)
        self.clients = Clients(
            kernel, self._random[0], schedule.clients, pause=schedule.pause, delay=schedule.latency
        )
        self.processes: list[Process] = []
        self.opened: list[Link] = []
        """The link of every generation."""
        self.stores: dict[Process, Store] = {}
        self.last_stored: dict[Machine, tuple[int, int] | None] = {}
        """The checkpoint that each machine's disk must hold, or a later one."""
        self.faults = Faults(self)
        self.operator = Operator(self)
        self.ended_by_fault = False
        self._over_since: float | None = None
        self._settling = False
        self._stop = False
        self.options = Options(
            release_on=schedule.release_on,
            interval=schedule.interval,
            deadlines=deadlines(schedule.deadline),
            claim_retry=schedule.claim_retry,
        )

    # -- the run ------------------------------------------------------------------------------

    def run(self) -> None:
        """All of it."""
        first, second = (self.new_process(Machine(name)) for name in ("a", "b"))
        self.open_store(second)
        self.begin_pair(first, second)
        self.clients.start()
        self.kernel.after(TICK, self._tick)
        while not self._stop and self.kernel.step():
            pass

    def _tick(self) -> None:
        self.operator.look()
        self._check()
        self.kernel.after(TICK, self._tick)

    def _check(self) -> None:
        """End the run, or begin its end, when it is time."""
        if self._settling:
            self._stop = self._settled() or self.kernel.now > self._settle_by
        elif self._done():
            self._settle()

    def _done(self) -> bool:
        """Whether the run has shown what it can."""
        now = self.kernel.now
        if now > LONGEST:
            return True
        if self.faults.under_way or self.operator.busy:
            self._over_since = None
            return False
        if self.replicating:
            self._over_since = None
            return self.witness.checkpoints >= self.schedule.rounds
        if not all(p.state in SETTLED or not p.alive for p in self.pair):
            self._over_since = None
            return False
        self._over_since = now if self._over_since is None else self._over_since
        return now - self._over_since > LINGER

    def _settle(self) -> None:
        """Nothing strikes any more, and what can come to an end does."""
        self.kernel.note("settling")
        self.ended_by_fault = not self.replicating
        self.faults.over = True
        self.arbiter.heal()
        self.clients.stopping = True
        self._settling = True
        self._settle_by = self.kernel.now + SETTLE

    def _settled(self) -> bool:
        if any(p.alive and p.frozen for p in self.processes) or self.operator.busy:
            return False
        if self.replicating:
            return self.clients.idle
        if not all(p.state in SETTLED or not p.alive for p in self.pair):
            return False
        return self.clients.idle or not any(p.alive and p.state is State.ALONE for p in self.pair)

    # -- the pair -----------------------------------------------------------------------------

    @property
    def pair(self) -> tuple[Process, Process]:
        """The Primary's and the Secondary's process of the newest generation."""
        return self._pair

    @property
    def link(self) -> Link:
        """Theirs."""
        return self.opened[-1]

    @property
    def replicating(self) -> bool:
        """Whether the newest pair is well, as far as both sides know."""
        return all(p.alive and p.state in REPLICATING for p in self.pair)

    def current(self, side: Side) -> Process:
        """The newest process in this role."""
        return self._pair[0 if side is Side.PRIMARY else 1]

    def state_of(self, side: Side) -> str:
        """Where this side stands now."""
        process = self.current(side)
        return process.state if process.alive else DOWN

    def new_process(self, machine: Machine) -> Process:
        """Another process on this machine, for clients to find."""
        name = f"{machine.name}{sum(p.machine is machine for p in self.processes)}"
        process = Process(self, machine, name, Random(self._random[1].getrandbits(64)))
        self.processes.append(process)
        self.clients.servers.append(process)
        return process

    def open_store(self, process: Process) -> None:
        """The store of a process that will be a Secondary. Raises OSError, StoreError, Killed."""
        machine, fsync = process.machine, self.schedule.fsync
        if not self.schedule.directory:
            self.stores[process] = MemoryStore()
            return
        try:
            store = DirectoryStore(Path("/store"), fsync=fsync, disk=process.disk)
        except StoreError as error:
            if self._durable(machine):
                self.witness.broken.append(f"{process.name}: {error}")
            machine.wipe()  # as the error says: replicate from the start
            self.last_stored.pop(machine, None)
            raise
        self.stores[process] = store
        process.close_store = store.close
        newest = store.newest
        found = None if newest is None else (newest.generation, newest.number)
        if self._durable(machine):
            self._check_found(process, newest, found)
        machine.lost_power = False
        self.last_stored[machine] = found

    def _durable(self, machine: Machine) -> bool:
        """Whether the disk of this machine must hold what was stored on it."""
        return self.schedule.fsync or not machine.lost_power

    def _check_found(
        self, process: Process, newest: Checkpoint | None, found: tuple[int, int] | None
    ) -> None:
        wanted = self.last_stored.get(process.machine)
        if wanted is not None and (found is None or found < wanted):
            self.witness.broken.append(f"{process.name}: the disk holds {found}, it had stored {wanted}")
        if newest is not None and state_in(newest) not in self.witness.saved:
            self.witness.broken.append(f"{process.name}: the disk holds what nobody saved")

    def begin_pair(self, primary: Process, secondary: Process) -> None:
        """A new generation."""
        schedule = self.schedule
        link = Link(
            self.kernel,
            self._random[2],
            capacity=schedule.capacity,
            delay=schedule.latency,
            chop=schedule.chop,
        )
        self.opened.append(link)
        self._pair = primary, secondary
        self.kernel.note(f"{primary.name} begins with {secondary.name}")
        options, store = self.options, self.stores[secondary]
        primary.begin(Side.PRIMARY, link.primary, make_primary(primary.guest, primary.arbiter, options))
        secondary.begin(
            Side.SECONDARY,
            link.secondary,
            make_secondary(secondary.guest, secondary.arbiter, options, store),
        )
        primary.start()
        secondary.start()

    # -- what the sides tell ------------------------------------------------------------------

    def emitted(self, process: Process, event: Event) -> None:
        """An event of a replica."""
        match event:
            case Transition():
                self._moved(process, event)
            case CheckpointTaken(number):
                if process.role is Side.PRIMARY:
                    self.witness.checkpoints += 1
                    if self.witness.checkpoints >= self.schedule.rounds:
                        self.kernel.after(0.0, self._check)
                    self.kernel.note(f"{process.name} checkpoint {number}")
            case ClaimAnswered(claim, won):
                assert process.replica is not None
                assert process.replica.generation is not None
                if won:
                    self.witness.won.append(
                        Won(
                            process.name,
                            process.role,
                            process.replica.generation,
                            claim.token,
                            self._goes_on_from(process),
                        )
                    )
                else:
                    self.witness.claims_lost += 1

    def _goes_on_from(self, process: Process) -> int:
        """The checkpoint that a side which has won will run from."""
        assert process.replica is not None
        if process.role is Side.PRIMARY:
            return process.replica.checkpoint
        try:
            newest = self.stores[process].newest
        except ValueError:  # it is closed: its guest cannot load, and will not run
            newest = None
        return process.replica.checkpoint if newest is None else newest.number

    def _moved(self, process: Process, moved: Transition) -> None:
        self.kernel.note(f"{process.name} {moved.side} {moved.source} -> {moved.dest} ({moved.trigger})")
        replica = process.replica
        assert replica is not None
        if moved.dest is State.RECEIVED and moved.side is Side.SECONDARY:
            newest = self.stores[process].newest
            assert newest is not None
            self.last_stored[process.machine] = newest.generation, newest.number
        if moved.dest is State.READY and moved.side is Side.PRIMARY:
            assert replica.generation is not None
            self.witness.generations.append(replica.generation)
        elif moved.dest is State.ALONE:
            assert replica.generation is not None
            self.witness.alone.append((replica.generation, process))
        self.faults.entered(process, moved)
