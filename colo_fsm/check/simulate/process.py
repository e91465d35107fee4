"""One process on one machine: a side and its store, and the service that clients reach."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from pathlib import Path

from colo_fsm.fsm import CompleteTable, Side, Transition
from colo_fsm.replica.events import CheckpointTaken, ClaimAnswered, Event
from colo_fsm.replica.gate import NotRunning
from colo_fsm.replica.pair import session_for
from colo_fsm.replica.primary_script import PrimaryReplica
from colo_fsm.replica.script import Replica
from colo_fsm.replica.secondary_script import SecondaryReplica
from colo_fsm.replica.store.base import Checkpoint, MemoryStore, Store, StoreError
from colo_fsm.replica.store.directory import DirectoryStore
from colo_fsm.replica.wish import Call

from .clients import Answered
from .disk import Killed, SimulatedDisk
from .driver import Cancelled, DrivenPair, Host
from .net import Endpoint, Listener, Place, Socket
from .service import Broken, Request, SimulatedGuest, state_in
from .setting import ArbiterHandle, Machine, Setting
from .witness import Release, WatchedKeyValue, Won

ARBITER_LATENCY = 0.0005
"""Seconds to the arbiter, or to it and back, on average."""


class Watcher:
    """Is told what processes do. Whoever strikes at them overrides this."""

    def began(self, process: Process) -> None:
        """A process has become a side, in its initial state."""

    def entered(self, process: Process) -> None:
        """A side has moved. What this raises, an observer of the pair has raised."""

    def before_step(self, process: Process) -> None:
        """The script of this process has made a wish that is about to be served."""


class Process(Host):
    """One process, and in it one side after the other: a survivor becomes the next Primary."""

    def __init__(self, setting: Setting, machine: Machine, name: str, watcher: Watcher) -> None:
        self.machine = machine
        self.name = name
        self.alive = True
        self.frozen = 0
        self.role = Side.PRIMARY
        self.over = False
        """Whether its side has come to its end."""
        self.ran = False
        """Whether its guest has run, on this side."""
        self.store: Store | None = None
        self.service = WatchedKeyValue(setting.witness, name)
        self.guest = SimulatedGuest(self.service, self.hook)
        self.arbiter = ArbiterHandle(setting.arbiter, self._spend)
        self.steps = 0
        """Steps of the script in this state."""
        self.on_hook: Callable[[str], float] = lambda name: 0.0
        """Asked at every hook how many seconds longer it takes. May raise."""
        self.on_end: Callable[[Process], None] = lambda process: None
        """Called when a side of it is over."""
        self._random = setting.new_random()
        self._disk = SimulatedDisk(machine.platter, self._random, self._killed)
        self._setting = setting
        self._watcher = watcher
        self._kernel = setting.kernel
        self._opened: list[Endpoint] = []
        self._owed = 0.0
        self._queue: deque[tuple[Request, Answered]] = deque()
        self._thawing: list[Callable[[], object]] = []

    # -- what it is ---------------------------------------------------------------------------

    @property
    def table(self) -> CompleteTable:
        """The rows of its side."""
        return self.side.session.table

    @property
    def state(self) -> str:
        """Where its side stands."""
        return self.side.state

    @property
    def generation(self) -> int | None:
        """The replication generation, None until it is known."""
        return self.side.generation

    @property
    def alone(self) -> bool:
        """Whether it runs unreplicated."""
        return not self.over and self.state in self.table.alone

    @property
    def settled(self) -> bool:
        """Whether nothing more will come of it by itself."""
        return (self.over and not self.side.driver.at_work) or self.alone

    @property
    def left_open(self) -> bool:
        """Whether it has come to its end, no hook is at work any more, and it holds something still."""
        ended = self.over and not self.side.driver.at_work
        return ended and (any(each.open for each in self._opened) or self._disk.in_use)

    @property
    def link(self) -> Socket | None:
        """Its end of the link, or of what may become one."""
        return next((s for s in reversed(self._opened) if isinstance(s, Socket) and s.open), None)

    @property
    def listener(self) -> Listener | None:
        """Where it listens."""
        return next((s for s in self._opened if isinstance(s, Listener) and s.open), None)

    # -- life ---------------------------------------------------------------------------------

    def begin(self, role: Side, where: str) -> None:
        """Become a side, in its initial state; `start` runs it."""
        setting = self._setting
        self.role = self.arbiter.side = role
        self.over = self.ran = False
        self.steps = 0
        self._opened = []
        session = session_for(role, setting.tables.of(role), setting.options)
        parts = session, self.guest, self.arbiter, setting.options
        if role is Side.PRIMARY:
            replica: Replica = PrimaryReplica(*parts, clock=self._kernel.clock)
        else:
            assert self.store is not None
            replica = SecondaryReplica(*parts, clock=self._kernel.clock, store=self.store)
        place = Place(setting.network, where, self._opened)
        self.side = DrivenPair(replica, place, self._kernel, self)
        self._watcher.began(self)

    def do(self, action: Callable[[], object]) -> None:
        """Let the process do this, when it can: after a freeze, or never."""
        if self.frozen:
            self._thawing.append(action)
        elif self.alive:
            action()

    def die(self, *, power: bool = False) -> None:
        """SIGKILL; or the machine is gone, and nobody tells the peer."""
        self.alive = False
        self.frozen = 0
        self._thawing.clear()
        self._disk.kill()
        for each in self._opened:
            each.vanish() if power else each.close()
        if power:
            self.machine.lose_power(self._random)

    def _killed(self) -> None:
        self.die(power=self.machine.kill_power)

    def forget(self) -> None:
        """The run is over: what is left of the script must not run at some other time."""
        self._disk.kill()
        with contextlib.suppress(Exception, Killed):
            self.side.driver.forget()

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later. The clock goes on, and so does the kernel under it."""
        self.frozen += 1
        self._kernel.after(seconds, self._thaw)

    def _thaw(self) -> None:
        if self.frozen:
            self.frozen -= 1
        if not self.frozen:
            waiting, self._thawing = self._thawing, []
            for action in waiting:
                self.do(action)

    # -- what its driver asks -----------------------------------------------------------------

    def before_step(self) -> None:
        self._watcher.before_step(self)
        self.steps += 1

    def way(self, call: Call) -> float:
        """To the arbiter it takes time: whoever asks a little later may be there first."""
        return self._to_arbiter() if call.hook == self.arbiter.claim else 0.0

    def cost(self) -> float:
        """What the disk and the arbiter took, and the hook's own work."""
        work = self._setting.schedule.work
        own = self._random.expovariate(1 / work) if work and self._random.random() < 0.5 else 0.0
        owed, self._owed = self._owed, 0.0
        return own + owed + self._disk.time_taken()

    def ended(self, error: BaseException) -> None:
        if not self.alive:  # its disk has killed it while it wrote what arrived
            return
        self.over = True
        raised = None if isinstance(error, StopIteration) else error
        self._kernel.note(f"{self.name} over: {self.state}{f', {raised}' if raised else ''}")
        self.side.over(raised)
        if raised is not None and not isinstance(raised, OSError | Cancelled):
            self._setting.witness.bad_ends.append(f"{self.name} ended with {raised!r}")
        self.on_end(self)

    # -- hooks --------------------------------------------------------------------------------

    def hook(self, name: str) -> None:
        """A hook of the embedder's is called; it may be one that fails, or takes long."""
        self._owed += self.on_hook(name)
        if name == "resume":
            self.ran = True
            generation, witness = self.generation, self._setting.witness
            if self.role is Side.PRIMARY and generation is not None and generation not in witness.generations:
                witness.generations.append(generation)

    def _spend(self) -> None:
        """The way to the arbiter and back: whoever dies before the answer comes may have claimed."""
        self._owed += self._to_arbiter()

    def _to_arbiter(self) -> float:
        return ARBITER_LATENCY * self._random.uniform(0.2, 1.8)

    # -- the service --------------------------------------------------------------------------

    def request(self, request: Request, answered: Answered) -> None:
        """See `Server.request`: a dead process refuses, a dead machine says nothing."""
        if self.alive:
            self.do(lambda: self._arrived(request, answered))
        elif self.machine.up:
            answered(None)

    def _arrived(self, request: Request, answered: Answered) -> None:
        if self.ran:
            self._queue.append((request, answered))
            self._let_in()
        else:  # the service begins to listen when the guest runs
            answered(None)

    def _let_in(self) -> None:
        """Begin turns, in the order in which they were asked for, as far as the gate allows."""
        gate = self.side.replica.gate
        while self._queue:
            context = Context()  # one for each: inside a turn no other may begin
            try:
                turn = context.run(gate.enter, self._again)
            except NotRunning:
                self._queue.popleft()[1](None)
                continue
            if turn is None:
                return
            self._take_turn(partial(context.run, gate.leave, turn), *self._queue.popleft())

    def _again(self) -> None:
        self._kernel.after(0.0, lambda: self.do(self._let_in))

    def _take_turn(self, leave: Callable[[], object], request: Request, answered: Answered) -> None:
        """A turn of the service, which may take its time."""
        self.service.begin()
        most = self._setting.schedule.turn
        seconds = self._random.uniform(0.0, most) if most and self._random.random() < 0.5 else 0.0

        def end() -> None:
            self.end_turn(request, answered)
            leave()

        if seconds:
            self._kernel.after(seconds, lambda: self.do(end))
        else:
            end()

    def end_turn(self, request: Request, answered: Answered) -> None:
        """Make the change, and hold the answer until a checkpoint covers it."""
        answer = self.service.end(request)
        if answer is None:
            answered(None)
            return
        try:
            pair = self.side
            pair.outbox.hold(
                lambda: self._deliver(pair, request, answer, answered),
                lambda: answered(None) if self.alive else None,
            )
        except Broken:  # alone it is delivered here, and who delivers has failed: the service's affair
            answered(None)

    def _deliver(self, pair: DrivenPair, request: Request, answer: str, answered: Answered) -> None:
        self.hook("output")
        assert pair.generation is not None
        self._setting.witness.releases.append(
            Release(self._kernel.now, self.name, self.role, pair.generation, pair.checkpoint, request)
        )
        answered(answer)

    # -- what the side tells ------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """An event of the pair."""
        witness = self._setting.witness
        match event:
            case CheckpointTaken(number) if self.role is Side.PRIMARY:
                witness.checkpoints += 1
                self._kernel.note(f"{self.name} checkpoint {number}")
            case ClaimAnswered(claim, True):
                assert self.generation is not None
                witness.won.append(
                    Won(self.name, self.role, self.generation, claim.token, self._goes_on_from())
                )
            case ClaimAnswered():
                witness.claims_lost += 1

    def moved(self, moved: Transition) -> None:
        """See `Host.moved`."""
        self._kernel.note(f"{self.name} {moved.side} {moved.source} -> {moved.dest} ({moved.trigger})")
        self.steps = 0
        if self.role is Side.SECONDARY and (newest := self._newest()) is not None:
            self.machine.stored = _which(newest)
        if moved.dest in self.table.alone:
            assert self.generation is not None
            self._setting.witness.alone.append(self.generation)
        self._watcher.entered(self)

    def _newest(self) -> Checkpoint | None:
        """What its store holds, as long as it is open."""
        try:
            return self.store.newest if self.store is not None else None
        except ValueError:
            return None

    def _goes_on_from(self) -> int:
        """The checkpoint that a side which has won will run from."""
        newest = self._newest() if self.role is Side.SECONDARY else None
        return self.side.checkpoint if newest is None else newest.number

    # -- its store ----------------------------------------------------------------------------

    def open_store(self) -> None:
        """The store of a process that will be a Secondary. Raises OSError, StoreError, Killed."""
        machine, schedule = self.machine, self._setting.schedule
        if not schedule.directory:
            self.store = MemoryStore()
            return
        durable = schedule.fsync or not machine.lost_power
        broken = self._setting.witness.broken
        try:
            self.store = DirectoryStore(Path("/store"), fsync=schedule.fsync, disk=self._disk)
        except StoreError as error:
            if durable:
                broken.append(f"{self.name}: {error}")
            machine.wipe()  # as the error says: replicate from the start
            raise
        newest = self.store.newest
        found, wanted = _which(newest), machine.stored
        if durable and wanted is not None and (found is None or found < wanted):
            broken.append(f"{self.name}: the disk holds {found}, it had stored {wanted}")
        if durable and newest is not None and state_in(newest) not in self._setting.witness.saved:
            broken.append(f"{self.name}: the disk holds what nobody saved")
        machine.lost_power = False
        machine.stored = found


def _which(checkpoint: Checkpoint | None) -> tuple[int, int] | None:
    return None if checkpoint is None else (checkpoint.generation, checkpoint.number)
