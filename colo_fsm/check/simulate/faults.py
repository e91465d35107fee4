"""When a fault strikes: in a state of one side, at a step there, and a moment later. And what it does."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from colo_fsm.colo import State
from colo_fsm.fsm import MESSAGE_SIZE, Side, Transition

from .disk import Killed
from .guest import Broken
from .process import Process
from .schedule import Fault, Kind
from .tamper import tamper_with
from .witness import Strike

if TYPE_CHECKING:
    from .world import World


class Faults:
    """The faults of one run."""

    def __init__(self, world: World) -> None:
        self.under_way = 0
        """Faults that are on their way and have not struck."""
        self.over = False
        """Whether none strikes any more."""
        self._world = world
        self._visits: Counter[tuple[Side, StrEnum]] = Counter()
        self._waiting: dict[tuple[Side, StrEnum], list[Fault]] = {}
        for fault in world.schedule.faults:
            self._waiting.setdefault((fault.side, fault.state), []).append(fault)
        self._do = {
            Kind.CRASH: self._crash,
            Kind.POWER_FAILURE: self._power_failure,
            Kind.CLOSED: self._closed,
            Kind.SILENT: self._silent,
            Kind.DELAY: self._delay,
            Kind.PARTIAL_WRITE: self._partial_write,
            Kind.SLOW_DISK: self._slow_disk,
            Kind.FAILING_DISK: self._failing_disk,
            Kind.RESTART: self._restart,
            Kind.ARBITER_LOSS: self._arbiter_loss,
            Kind.FAILOVER_REQUEST: self._failover_request,
            Kind.TIMEOUT: self._freeze,
            Kind.GUEST_FAILURE: self._guest_failure,
        }

    # -- when ---------------------------------------------------------------------------------

    def began(self, process: Process) -> None:
        """A side is in `init`."""
        self._visits[process.role, State.INIT] += 1

    def entered(self, process: Process, moved: Transition) -> None:
        """A side has moved. An observer that is to fail raises here."""
        process.steps = 0
        key = moved.side, moved.dest
        self._visits[key] += 1
        for fault in self._due(process, key):
            if fault.how == "observer":
                self._waiting[key].remove(fault)
                self.struck(fault)
                raise Broken("observer")

    def before_step(self, process: Process) -> None:
        """The script of this process is about to take a step."""
        replica = process.replica
        if replica is None:
            return
        key = process.role, replica.session.state
        if key in self._waiting:
            for fault in self._due(process, key):
                if process.steps >= fault.op and fault.how != "observer":
                    self._waiting[key].remove(fault)
                    self.under_way += 1
                    if fault.delay:
                        self._world.kernel.after(fault.delay, partial(self._strike, fault))
                    else:
                        self._strike(fault)

    def _due(self, process: Process, key: tuple[Side, StrEnum]) -> list[Fault]:
        if self.over or self._world.current(key[0]) is not process:
            return []
        return [fault for fault in self._waiting.get(key, ()) if self._visits[key] >= fault.visit]

    def _strike(self, fault: Fault) -> None:
        self.under_way -= 1
        if not self.over and not self._act(fault):  # nothing there to strike: at another visit, perhaps
            self._waiting[fault.side, fault.state].append(fault)

    def _act(self, fault: Fault) -> bool:
        """Let it strike, or lie in wait for what it needs; False if it cannot. It is noted first."""
        target = self._world.current(fault.target)
        if fault.kind in self._do:
            return self._do[fault.kind](fault, target)
        return self._tamper(fault, target)

    def struck(self, fault: Fault) -> bool:
        """Note it. True."""
        world = self._world
        states = world.state_of(Side.PRIMARY), world.state_of(Side.SECONDARY)
        world.kernel.note(f"fault {fault} strikes in {states[0]}/{states[1]}")
        world.witness.strikes.append(Strike(world.kernel.now, fault, *states))
        return True

    def killed(self, process: Process) -> None:
        """The disk has killed it in the middle of a call."""
        process.die(power=process.machine.kill_power)
        self._world.operator.died(process)

    # -- what ---------------------------------------------------------------------------------

    def _crash(self, fault: Fault, target: Process, *, power: bool = False) -> bool:
        if not target.alive:
            return False
        if fault.how == "disk":
            target.machine.kill_power = power
            return self._at_call(fault, target, self._killed)
        self.struck(fault)
        target.die(power=power)
        self._world.operator.died(target)
        return True

    def _power_failure(self, fault: Fault, target: Process) -> bool:
        return self._crash(fault, target, power=True)

    def _at_call(self, fault: Fault, target: Process, fail: Callable[[], NoReturn]) -> bool:
        """At the so-manieth call of this machine's disk from now on, and at all that follow for a while."""
        if target.role is Side.PRIMARY:
            return False
        platter, kernel = target.machine.platter, self._world.kernel
        left = fault.count
        until = -1.0

        def on_call() -> float:
            nonlocal left, until
            left -= 1
            if left < 0 and until < 0 and not self.over:
                self.struck(fault)
                until = kernel.now + fault.seconds
                fail()
            if left < 0:
                if self.over or kernel.now >= until:
                    platter.on_call = lambda: 0.0
                else:
                    fail()
            return 0.0

        platter.on_call = on_call
        return True

    def _killed(self) -> NoReturn:
        raise Killed

    def _closed(self, fault: Fault, _: Process) -> bool:
        link = self._world.link
        if not link.whole:
            return False
        self.struck(fault)
        for end in link.ends:
            end.break_off(keep_tail=fault.how == "end", reset=fault.how == "reset")
        return True

    def _silent(self, fault: Fault, target: Process) -> bool:
        if target.end is None or not self._world.link.whole:
            return False
        self.struck(fault)
        target.end.silent = True
        if fault.how == "both":
            target.end.peer.silent = True
        return True

    def _delay(self, fault: Fault, target: Process) -> bool:
        if target.end is None or not self._world.link.whole:
            return False
        self.struck(fault)
        until = self._world.kernel.now + fault.seconds
        target.end.held_until = until
        if fault.how == "both":
            target.end.peer.held_until = until
        return True

    def _partial_write(self, fault: Fault, target: Process) -> bool:
        """The next write is cut short. Then it goes on, or the link breaks."""
        end = target.end
        if end is None or not self._world.link.whole:
            return False
        end.most = fault.count

        def goes_on() -> None:
            end.most = None
            if fault.how == "closed":
                for each in end.link.ends:
                    each.break_off(keep_tail=True, reset=False)
            elif fault.how == "silent":
                end.silent = end.peer.silent = True
            end.poke()

        def limited() -> None:
            end.limited = lambda: None
            if not end.link.whole or self.over:
                end.most = None
                return
            self.struck(fault)
            self._world.kernel.after(fault.seconds, goes_on)

        end.limited = limited
        return True

    def _slow_disk(self, fault: Fault, target: Process) -> bool:
        if target.role is Side.PRIMARY:
            return False
        platter = target.machine.platter
        left = fault.count

        def on_call() -> float:
            nonlocal left
            if self.over or not left:
                platter.on_call = lambda: 0.0
                return 0.0
            if left == fault.count:
                self.struck(fault)
            left -= 1
            return fault.seconds

        platter.on_call = on_call
        return True

    def _failing_disk(self, fault: Fault, target: Process) -> bool:
        number = errno.ENOSPC if fault.count % 2 else errno.EIO

        def fail() -> NoReturn:
            raise OSError(number, os.strerror(number))

        return self._at_call(fault, target, fail)

    def _restart(self, fault: Fault, target: Process) -> bool:
        operator = self._world.operator
        if fault.how == "spare":
            if not operator.wants_spare:
                return False
            self.struck(fault)
            operator.spare(fault.seconds)
            return True
        self.struck(fault)
        if target.alive:
            target.die(power=fault.how == "power")
            operator.died(target)
        operator.restart(target.machine, fault.seconds)
        return True

    def _arbiter_loss(self, fault: Fault, target: Process) -> bool:
        arbiter = self._world.arbiter
        if fault.how == "answer":
            arbiter.answers_to_lose = fault.count
            first = partial(self.struck, fault)

            def lost() -> None:
                arbiter.answer_lost = lambda: None
                first()

            arbiter.answer_lost = lost
            return True
        self.struck(fault)
        arbiter.loss(fault.target, fault.seconds)
        if fault.how == "both":
            arbiter.loss(fault.target.peer, fault.seconds)
        return True

    def _failover_request(self, fault: Fault, target: Process) -> bool:
        if not target.alive or target.replica is None or target.replica.session.over:
            return False
        self.struck(fault)
        target.replica.failover_requested = True
        target.wake()
        return True

    def _freeze(self, fault: Fault, target: Process) -> bool:
        if not target.alive:
            return False
        self.struck(fault)
        target.freeze(fault.seconds)
        return True

    def _guest_failure(self, fault: Fault, target: Process) -> bool:
        if not target.alive:
            return False
        left = fault.count

        def fail(name: str) -> None:
            nonlocal left
            if name != fault.how or self.over:
                return
            if left == fault.count:
                self.struck(fault)
            left -= 1
            if not left:
                target.fail_hook = lambda name: None
            raise Broken(name)

        target.fail_hook = fail
        return True

    def _tamper(self, fault: Fault, target: Process) -> bool:
        if target.end is None or not self._world.link.whole:
            return False
        if fault.kind is Kind.INJECT:
            self.struck(fault)
            target.end.inject(fault.count.to_bytes(MESSAGE_SIZE, "big"))
            return True
        target.end.tamper = tamper_with(fault, target.end, partial(self.struck, fault))
        return True
