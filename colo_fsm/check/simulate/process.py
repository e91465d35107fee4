"""One process on one machine: serves the script of a replica on virtual time, as the drivers do on real."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Any

from colo_fsm.colo import State
from colo_fsm.fsm import Side
from colo_fsm.replica.events import Event
from colo_fsm.replica.script import Call, Disconnect, Op, OpenReturnPath, Read, Replica, Write
from colo_fsm.stream.memory import Buffer

from .arbiter import ArbiterHandle
from .clients import Answered
from .disk import Killed, SimulatedDisk
from .gate import Gate
from .guest import Broken, SimulatedGuest
from .kernel import Timer
from .link import End
from .machine import Machine
from .service import Request
from .witness import Release, WatchedKeyValue

if TYPE_CHECKING:
    from .world import World

Outcome = tuple[Callable[[Any], Op], Any]
"""How a script goes on, and with what: `send` and a result, or `throw` and an exception."""

ARBITER_LATENCY = 0.0005
"""Seconds to the arbiter, and back, on average: whoever asks a little later may be there first."""


class Process:
    """One process, and in it one replica after the other: a survivor becomes the next Primary."""

    def __init__(self, world: World, machine: Machine, name: str, random: Random) -> None:
        self.world = world
        self.machine = machine
        self.name = name
        self.alive = True
        self.frozen = 0
        self.role = Side.PRIMARY
        self.replica: Replica | None = None
        self.service = WatchedKeyValue(world.witness, name)
        self.guest = SimulatedGuest(self.service, self.hook)
        self.arbiter = ArbiterHandle(world.arbiter)
        self.disk = SimulatedDisk(machine.platter, random)
        self.steps = 0
        """Steps of the script in this state."""
        self.fail_hook: Callable[[str], None] = lambda name: None
        self.ended: Callable[[Process], None] = lambda process: None
        """Called when a replica of it is over."""
        self.close_store: Callable[[], None] = lambda: None
        self.end: End | None = None
        self.gate = Gate(self)
        self._random = random
        self._kernel = world.kernel
        self._woken = False
        self._parked: Op | None = None
        self._left: list[Buffer] = []
        self._patience: Timer | None = None
        self._thawing: list[Callable[[], object]] = []

    @property
    def state(self) -> StrEnum:
        """Where its replica stands."""
        return State.INIT if self.replica is None else self.replica.session.state

    def hook(self, name: str) -> None:
        """A hook of the embedder's is called; it may be one that fails."""
        self.fail_hook(name)

    # -- life ---------------------------------------------------------------------------------

    def begin(self, role: Side, end: End, make: Callable[..., Replica]) -> None:
        """Become a side, in `init`; `start` runs it."""
        self.role = self.arbiter.side = role
        self.gate = Gate(self)
        self.end = end
        self.steps = 0
        self._woken = False
        end.poke = self.poke
        self.replica = make(gate=self.gate, emit=self._emit, clock=self._kernel.clock)
        self._script = self.replica.run()
        self.world.faults.began(self)

    def start(self) -> None:
        """Run the replica, to its end."""
        self.do(lambda: self._go(self._script.send, None))

    def _emit(self, event: Event) -> None:
        self.world.emitted(self, event)

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
        self.disk.kill()
        if self.end is not None:
            self.end.vanish() if power else self.end.close()
        if power:
            self.machine.lose_power(self._random)

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

    def wake(self) -> None:
        """Somebody has made a request of the replica."""
        self._woken = True
        self.poke()

    def poke(self) -> None:
        """Something may have changed for what it waits for."""
        if self._parked is not None:
            self.do(self._retry)

    # -- the script ---------------------------------------------------------------------------

    def _go(self, step: Callable[[Any], Op], answer: Any) -> None:
        """Serve the script until it has to wait."""
        while True:
            try:
                op = step(answer)
            except StopIteration:
                self._over()
                return
            except Killed:  # the initial state is written as it arrives, not in a hook's place
                self.world.faults.killed(self)
                return
            self.world.faults.before_step(self)
            self.steps += 1
            if self.frozen:
                self.do(lambda op=op: self._serve_later(op))  # type: ignore[misc]
                return
            if not self.alive:
                return
            outcome = self._serve(op)
            if outcome is None:
                return
            step, answer = outcome

    def _serve_later(self, op: Op) -> None:
        outcome = self._serve(op)
        if outcome is not None:
            self._go(*outcome)

    def _over(self) -> None:
        """What the drivers do in the end."""
        assert self.replica is not None
        self._kernel.note(f"{self.name} over: {self.state}")
        if self.end is not None:
            self.end.close()
            self.end = None
        self.replica.outbox.discard()
        self.gate.shut()
        with contextlib.suppress(OSError, Killed):
            self.close_store()
        self.ended(self)

    def _serve(self, op: Op) -> Outcome | None:
        """What the script asks for; None when it has to wait."""
        match op:
            case Call():
                return self._call(op)
            case Read(timeout):
                return self._wait(op, timeout)
            case Write(buffers, timeout):
                assert self.end is not None
                self._left = buffers
                if self.end.tamper is not None:
                    self._left = self.end.tamper(buffers)
                return self._wait(op, timeout)
            case OpenReturnPath():
                if self.end is None or not self.end.usable:
                    return self._script.throw, OSError(errno.ENOTCONN, "not connected")
            case Disconnect():
                if self.end is not None:
                    self.end.close()
                    self.end = None
        return self._script.send, None

    def _wait(self, op: Op, timeout: float | None) -> Outcome | None:
        outcome = self._try(op)
        if outcome is None:
            self._parked = op
            self._patience = self._timer(op, timeout)
        return outcome

    def _timer(self, op: Op, timeout: float | None) -> Timer | None:
        if timeout is None:
            return None
        return self._kernel.after(timeout, lambda: self.do(lambda: self._expire(op)))

    def _try(self, op: Op) -> Outcome | None:
        try:
            return self._read(op) if isinstance(op, Read) else self._write()
        except OSError as error:
            return self._script.throw, error

    def _read(self, op: Read) -> Outcome | None:
        if self._woken:
            self._woken = False
            return self._script.send, None
        data = self.end.read() if op.from_link and self.end is not None else None
        return None if data is None else (self._script.send, data)

    def _write(self) -> Outcome | None:
        assert self.end is not None
        self._left = self.end.write(self._left)
        if not self._left:
            return self._script.send, None
        if self._woken:
            self._woken = False
            return self._script.send, self._left
        return None

    def _retry(self) -> None:
        op = self._parked
        if op is None:
            return
        before = sum(map(len, self._left))
        outcome = self._try(op)
        if outcome is not None:
            self._unpark()
            self._go(*outcome)
        elif isinstance(op, Write) and sum(map(len, self._left)) < before:
            self._unpark()
            self._parked, self._patience = op, self._timer(op, op.timeout)

    def _expire(self, op: Op) -> None:
        if self._parked is not op:
            return
        outcome = self._try(op) or (self._script.throw, TimeoutError())
        self._unpark()
        self._go(*outcome)

    def _unpark(self) -> None:
        self._parked = None
        if self._patience is not None:
            self._patience.cancel()

    def _call(self, op: Call) -> Outcome | None:
        if getattr(op.hook, "__self__", None) is self.arbiter:
            # a question and an answer, and whoever dies between them may have claimed
            self._kernel.after(self._to_arbiter(), lambda: self.do(lambda: self._ask(op)))
            return None
        try:
            answer = op.hook(*op.args)
        except Killed:
            self.world.faults.killed(self)
            return None
        except Exception as error:  # noqa: BLE001 - the script decides what it means
            return self._later(self._cost(), (self._script.throw, error))
        if isinstance(answer, Gate):
            answer.emptied = lambda: self._go(self._script.send, None)
            return None
        return self._later(self._cost(), (self._script.send, answer))

    def _ask(self, op: Call) -> None:
        outcome: Outcome
        try:
            outcome = self._script.send, op.hook(*op.args)
        except Exception as error:  # noqa: BLE001 - the script decides what it means
            outcome = self._script.throw, error
        self._later(self._to_arbiter(), outcome)

    def _to_arbiter(self) -> float:
        return ARBITER_LATENCY * self._random.uniform(0.2, 1.8)

    def _cost(self) -> float:
        """How long the hook has taken: what the disk took, and its own work."""
        work = self.world.schedule.work
        own = self._random.expovariate(1 / work) if work and self._random.random() < 0.5 else 0.0
        return own + self.disk.time_taken()

    def _later(self, seconds: float, outcome: Outcome) -> Outcome | None:
        if not seconds:
            return outcome
        self._kernel.after(seconds, lambda: self.do(lambda: self._go(*outcome)))
        return None

    # -- the service --------------------------------------------------------------------------

    def request(self, request: Request, answered: Answered) -> None:
        """See `Server.request`: a dead process refuses, a dead machine says nothing."""
        if self.alive:
            self.do(lambda: self.gate.arrived(request, answered))
        elif self.machine.up:
            answered(None)

    def turn(self, gate: Gate, request: Request, answered: Answered) -> None:
        """A turn of the service, which may take its time."""
        gate.turns += 1
        self.service.begin()
        most = self.world.schedule.turn
        if most and self._random.random() < 0.5:
            end = lambda: self.do(lambda: self._end_turn(gate, request, answered))  # noqa: E731
            self._kernel.after(self._random.uniform(0.0, most), end)
        else:
            self._end_turn(gate, request, answered)

    def _end_turn(self, gate: Gate, request: Request, answered: Answered) -> None:
        answer = self.service.end(request)
        replica = self.replica
        assert replica is not None
        if answer is None:
            answered(None)
        else:
            try:
                replica.outbox.hold(
                    lambda: self._deliver(replica, request, answer, answered), lambda: answered(None)
                )
            except Broken:  # alone it is delivered here, and who delivers has failed: the service's affair
                answered(None)
        gate.left()

    def _deliver(self, replica: Replica, request: Request, answer: str, answered: Answered) -> None:
        self.hook("output")
        assert replica.generation is not None
        self.world.witness.releases.append(
            Release(self._kernel.now, self.name, self.role, replica.generation, replica.checkpoint, request)
        )
        answered(answer)
