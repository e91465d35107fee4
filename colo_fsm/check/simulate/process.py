"""One process on one machine: serves the script of a pair on virtual time, as the drivers do on real."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from typing import Any

from colo_fsm.colo import Variant
from colo_fsm.fsm import CompleteTable, Session, Side, Transition, machine_for
from colo_fsm.replica.events import CheckpointTaken, ClaimAnswered, Event, EventQueue
from colo_fsm.replica.gate import Gate, NotRunning
from colo_fsm.replica.pair import PairBase
from colo_fsm.replica.primary import PrimaryReplica
from colo_fsm.replica.script import Replica
from colo_fsm.replica.secondary import SecondaryReplica
from colo_fsm.replica.store.base import Checkpoint, MemoryStore, Store, StoreError
from colo_fsm.replica.store.directory import DirectoryStore
from colo_fsm.replica.wish import Call, Script, Wait, Wish

from .arbiter import ArbiterHandle
from .clients import Answered
from .disk import Killed, SimulatedDisk
from .kernel import Timer
from .net import Endpoint, Listener, Place, Socket
from .service import Broken, Request, SimulatedGuest, state_in
from .setting import Machine, Setting
from .witness import Release, WatchedKeyValue, Won

Outcome = tuple[Callable[[Any], Wish], Any]
"""How a script goes on, and with what: `send` and a result, or `throw` and an exception."""

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


class Told(EventQueue):
    """Hands on the events of a pair as they happen."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        super().__init__()
        self.put = tell  # type: ignore[method-assign]


class Pair(PairBase):
    """One side, for a process to drive."""

    def __init__(self, process: Process, replica: Replica, place: Place) -> None:
        store = process.store if replica.session.side is Side.SECONDARY else None
        super().__init__(replica, place, lambda: store and store.close())
        self.replica = replica
        self._told = replica.events.follow(Told(process.tell))
        self._driven_by(process)

    def script(self) -> Script[None]:
        """Its life, to be served."""
        return self._life.run()

    def give_up(self) -> None:
        """Who began it wants it no more."""
        self._abandon(Cancelled())


class Cancelled(BaseException):
    """The start of a side was cancelled."""


class Process:
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
        self.ended: Callable[[Process], None] = lambda process: None
        """Called when a side of it is over."""
        self._random = setting.new_random()
        self._disk = SimulatedDisk(machine.platter, self._random, self._killed)
        self._setting = setting
        self._watcher = watcher
        self._kernel = setting.kernel
        self._opened: list[Endpoint] = []
        self._owed = 0.0
        self._woken = False
        self._parked: Wait | None = None
        self._wish: Wish | None = None
        self._at_work = 0
        self._patience: Timer | None = None
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
        return (self.over and not self._at_work) or self.alone

    @property
    def left_open(self) -> bool:
        """Whether it has come to its end, and holds something still."""
        return self.over and (any(each.open for each in self._opened) or self._disk.in_use)

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
        self.over = self.ran = self._woken = False
        self.steps = 0
        self._opened = []
        session = Session(
            machine_for(setting.tables.of(role), Variant(release_on=setting.options.release_on))
        )
        parts = session, self.guest, self.arbiter, setting.options
        if role is Side.PRIMARY:
            replica: Replica = PrimaryReplica(*parts, clock=self._kernel.clock)
        else:
            replica = SecondaryReplica(*parts, clock=self._kernel.clock, store=self.store)
        self.side = Pair(self, replica, Place(setting.network, where, self._opened))
        self._script = self.side.script()
        self._watcher.began(self)

    def start(self) -> None:
        """Run the side, to its end."""
        self.do(lambda: self._go(self._script.send, None))

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
        with contextlib.suppress(Exception, Killed):
            self._script.close()

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

    # -- the script ---------------------------------------------------------------------------

    def _go(self, step: Callable[[Any], Wish], answer: Any) -> None:
        """Serve the script until it has to wait."""
        while True:
            try:
                self._wish = wish = step(answer)
            except (StopIteration, Exception, Cancelled, Killed) as error:
                if self.alive:  # else its disk has killed it while it wrote what arrived
                    self._end(None if isinstance(error, StopIteration) else error)
                return
            self._watcher.before_step(self)
            self.steps += 1
            if self.frozen:
                self.do(lambda: self._resume(self._serve(wish) if self._wish is wish else None))
                return
            outcome = self._serve(wish) if self.alive and self._wish is wish else None
            if outcome is None:
                return
            step, answer = outcome

    def _resume(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._go(*outcome)

    def _end(self, error: BaseException | None) -> None:
        """Nothing is served any more."""
        self.over = True
        self._kernel.note(f"{self.name} over: {self.state}{f', {error}' if error else ''}")
        self.side._end(error)
        if error is not None and not isinstance(error, OSError | Cancelled):
            self._setting.witness.bad_ends.append(f"{self.name} ended with {error!r}")
        self.ended(self)

    def interrupt(self, error: BaseException) -> None:
        """Throw this into the script, also in the middle of a wish."""
        self._unpark()
        self._go(self._script.throw, error)

    def _serve(self, wish: Wish) -> Outcome | None:
        """What the script wishes; None when it has to wait."""
        if isinstance(wish, Call):
            return self._call(wish)
        if self._answers(wish):
            return self._script.send, None
        self._parked = wish
        if wish.socket is not None:
            wish.socket.poke = self.poke
        if wish.timeout is not None:
            self._patience = self._kernel.after(wish.timeout, lambda: self.do(lambda: self._expire(wish)))
        return None

    def _answers(self, wish: Wait) -> bool:
        if self._woken:
            self._woken = False
            return True
        return wish.socket is not None and bool(wish.socket.ready(wish.writing))

    def wake(self) -> None:
        """Somebody has made a request of the pair."""
        self._woken = True
        self.poke()

    def poke(self) -> None:
        """Something may have changed for what it waits for."""
        if self._parked is not None:
            self.do(self._retry)

    def _retry(self) -> None:
        if self._parked is not None and self._answers(self._parked):
            self._unpark()
            self._go(self._script.send, None)

    def _expire(self, wish: Wait) -> None:
        if self._parked is wish:
            step = self._script.send if self._answers(wish) else self._script.throw
            self._unpark()
            self._go(step, None if step == self._script.send else TimeoutError())

    def _unpark(self) -> None:
        self._parked = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    # -- hooks --------------------------------------------------------------------------------

    def hook(self, name: str) -> None:
        """A hook of the embedder's is called; it may be one that fails, or takes long."""
        self._owed += self.on_hook(name)
        if name == "resume":
            self.ran = True
            generation, witness = self.generation, self._setting.witness
            if self.role is Side.PRIMARY and generation is not None and generation not in witness.generations:
                witness.generations.append(generation)

    def _call(self, call: Call) -> Outcome | None:
        if call.hook == self.arbiter.claim:  # whoever asks a little later may be there first
            self._kernel.after(self._to_arbiter(), lambda: self.do(lambda: self._resume(self._called(call))))
            return None
        return self._called(call)

    def _called(self, call: Call) -> Outcome | None:
        """Call it, and let its answer come when its time has passed."""
        outcome: Outcome
        try:
            outcome = self._script.send, call.hook(*call.args)
        except Killed:
            return None
        except Exception as error:  # noqa: BLE001 - the script decides what it means
            outcome = self._script.throw, error
        seconds = self._cost()
        if not seconds:
            call.settle()
            return outcome

        def returned() -> None:
            self._at_work -= 1
            call.settle()
            self._answered(call, outcome)

        self._at_work += 1
        self._kernel.after(seconds, lambda: self.do(returned))
        if call.timeout is not None and seconds > call.timeout:
            late = self._script.throw, TimeoutError()
            self._kernel.after(call.timeout, lambda: self.do(lambda: self._answered(call, late)))
        return None

    def _answered(self, call: Call, outcome: Outcome) -> None:
        """Go on with this, unless nobody waits for it any more."""
        if self._wish is call:
            self._go(*outcome)

    def _spend(self) -> None:
        """The way to the arbiter and back: whoever dies before the answer comes may have claimed."""
        self._owed += self._to_arbiter()

    def _to_arbiter(self) -> float:
        return ARBITER_LATENCY * self._random.uniform(0.2, 1.8)

    def _cost(self) -> float:
        """How long the call has taken: what the disk or the arbiter took, and its own work."""
        work = self._setting.schedule.work
        own = self._random.expovariate(1 / work) if work and self._random.random() < 0.5 else 0.0
        owed, self._owed = self._owed, 0.0
        return own + owed + self._disk.time_taken()

    # -- the service --------------------------------------------------------------------------

    def request(self, request: Request, answered: Answered) -> None:
        """See `Server.request`: a dead process refuses, a dead machine says nothing."""
        if self.alive:
            self.do(lambda: self._arrived(request, answered))
        elif self.machine.up:
            answered(None)

    def _arrived(self, request: Request, answered: Answered) -> None:
        if self.ran:
            self._attempt(self.side.replica.gate, Context(), request, answered)
        else:  # the service begins to listen when the guest runs
            answered(None)

    def _attempt(self, gate: Gate, context: Context, request: Request, answered: Answered) -> None:
        """Begin a turn as soon as the gate lets it in."""

        def again() -> None:
            self._kernel.after(0.0, lambda: self.do(lambda: self._attempt(gate, context, request, answered)))

        try:
            turn = context.run(gate.enter, again)
        except NotRunning:
            answered(None)
            return
        if turn is not None:
            self._take_turn(lambda: context.run(gate.leave, turn), request, answered)

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

    def _deliver(self, pair: Pair, request: Request, answer: str, answered: Answered) -> None:
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
            case Transition():
                self._moved(event)
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

    def _moved(self, moved: Transition) -> None:
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
