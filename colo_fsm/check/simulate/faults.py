"""When a fault strikes: in a state of one side, at a step there, and a moment later. And what it does."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from colo_fsm.fsm import MESSAGE_SIZE, Side

from .disk import Killed
from .net import Socket, fail
from .operator import Operator
from .process import Process, Watcher
from .schedule import Fault, Kind
from .service import Broken
from .tamper import tamper_with
from .witness import Strike
from .world import World


class Faults(Watcher):
    """The faults of one run."""

    def __init__(self, world: World, operator: Operator) -> None:
        self.under_way = 0
        """Faults that are on their way and have not struck."""
        self.over = False
        """Whether none strikes any more."""
        self._world = world
        self._kernel = world.kernel
        self._operator = operator
        self._visits: Counter[tuple[Side, str]] = Counter()
        self._waiting: dict[tuple[Side, str], list[Fault]] = {}
        for fault in world.schedule.faults:
            self._waiting.setdefault((fault.side, fault.state), []).append(fault)
        self._do: dict[Kind, Callable[[Fault, Process], bool]] = {
            Kind.CRASH: self._crash,
            Kind.POWER_FAILURE: self._crash,
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
            Kind.SLOW_HOOK: self._slow_hook,
            Kind.REFUSED: self._refused,
            Kind.FAILING_ACCEPT: self._failing_accept,
            Kind.CANCELLED: self._cancelled,
            **dict.fromkeys((Kind.CORRUPT, Kind.REORDER, Kind.DUPLICATE), self._tamper),
            Kind.INJECT: self._inject,
        }

    # -- when ---------------------------------------------------------------------------------

    def began(self, process: Process) -> None:
        """A side begins."""
        self._visits[process.role, process.state] += 1

    def entered(self, process: Process) -> None:
        """A side has moved. An observer that is to fail raises here."""
        key = process.role, process.state
        self._visits[key] += 1
        for fault in self._due(process, key):
            if fault.how == "observer":
                self._waiting[key].remove(fault)
                self.struck(fault)
                raise Broken("observer")

    def before_step(self, process: Process) -> None:
        """The script of this process is about to take a step."""
        key = process.role, process.state
        if key in self._waiting:
            for fault in self._due(process, key):
                if process.steps >= fault.op and fault.how != "observer":
                    self._waiting[key].remove(fault)
                    self.under_way += 1
                    if fault.delay:
                        self._kernel.after(fault.delay, partial(self._strike, fault))
                    else:
                        self._strike(fault)

    def _due(self, process: Process, key: tuple[Side, str]) -> list[Fault]:
        if self.over or self._world.current(key[0]) is not process:
            return []
        return [fault for fault in self._waiting.get(key, ()) if self._visits[key] >= fault.visit]

    def _strike(self, fault: Fault) -> None:
        self.under_way -= 1
        if not self.over and not self._act(fault):  # nothing there to strike: at another visit, perhaps
            self._waiting[fault.side, fault.state].append(fault)

    def _act(self, fault: Fault) -> bool:
        """Let it strike, or lie in wait for what it needs; False if it cannot. It is noted first."""
        return self._do[fault.kind](fault, self._world.current(fault.target))

    def struck(self, fault: Fault) -> bool:
        """Note it. True."""
        world = self._world
        states = world.state_of(Side.PRIMARY), world.state_of(Side.SECONDARY)
        self._kernel.note(f"fault {fault} strikes in {states[0]}/{states[1]}")
        world.witness.strikes.append(Strike(self._kernel.now, fault, *states))
        return True

    # -- what ---------------------------------------------------------------------------------

    def _crash(self, fault: Fault, target: Process) -> bool:
        power = fault.kind is Kind.POWER_FAILURE
        if not target.alive:
            return False
        if fault.how == "disk":
            target.machine.kill_power = power
            return self._at_call(fault, target, self._killed)
        self.struck(fault)
        target.die(power=power)
        return True

    def _at_call(self, fault: Fault, target: Process, fail: Callable[[], NoReturn]) -> bool:
        """At the so-manieth call of this machine's disk from now on, and at all that follow for a while."""
        if target.role is Side.PRIMARY:
            return False
        platter, kernel = target.machine.platter, self._kernel
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

    def _end(self, target: Process) -> Socket | None:
        """Its end of the link, when both sides have one and nothing has broken it."""
        peer = self._world.current(target.role.peer).link
        end = target.link or (peer and peer.peer)
        return end if end is not None and end.whole else None

    def _closed(self, fault: Fault, target: Process) -> bool:
        if (end := self._end(target)) is None:
            return False
        self.struck(fault)
        for each in end.ends:
            each.break_off(keep_tail=fault.how == "end", reset=fault.how == "reset")
        return True

    def _silent(self, fault: Fault, target: Process) -> bool:
        if (end := self._end(target)) is None:
            return False
        self.struck(fault)
        for each in end.ends if fault.how == "both" else (end,):
            each.silent = True
        return True

    def _delay(self, fault: Fault, target: Process) -> bool:
        if (end := self._end(target)) is None:
            return False
        self.struck(fault)
        for each in end.ends if fault.how == "both" else (end,):
            each.held_until = self._kernel.now + fault.seconds
        return True

    def _partial_write(self, fault: Fault, target: Process) -> bool:
        """The next write is cut short. Then it goes on, or the link breaks."""
        if (end := self._end(target)) is None:
            return False
        end.most = fault.count

        def goes_on() -> None:
            end.most = None
            for each in end.ends:
                if fault.how == "closed":
                    each.break_off(keep_tail=True, reset=False)
                elif fault.how == "silent":
                    each.silent = True
            end.poke()

        def limited() -> None:
            end.limited = lambda: None
            if not end.whole or self.over:
                end.most = None
                return
            self.struck(fault)
            self._kernel.after(fault.seconds, goes_on)

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
        return self._at_call(fault, target, partial(fail, errno.ENOSPC if fault.count % 2 else errno.EIO))

    def _restart(self, fault: Fault, target: Process) -> bool:
        if fault.how == "spare":
            if not self._operator.wants_spare:
                return False
            self.struck(fault)
            self._operator.spare(fault.seconds)
            return True
        self.struck(fault)
        if target.alive:
            target.die(power=fault.how == "power")
        self._operator.restart(target.machine, fault.seconds)
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
        if not target.alive or target.over or target.state in target.table.final:
            return False
        self.struck(fault)
        target.side.request_failover()
        return True

    def _freeze(self, fault: Fault, target: Process) -> bool:
        if not target.alive:
            return False
        self.struck(fault)
        target.freeze(fault.seconds)
        return True

    def _at_hook(self, fault: Fault, target: Process, strike: Callable[[str], float]) -> bool:
        """The next `count` calls of this hook, or one."""
        if not target.alive:
            return False
        left = max(1, fault.count)

        def on_hook(name: str) -> float:
            nonlocal left
            if name != fault.how or self.over:
                return 0.0
            if left == max(1, fault.count):
                self.struck(fault)
            left -= 1
            if not left:
                target.on_hook = lambda name: 0.0
            return strike(name)

        target.on_hook = on_hook
        return True

    def _guest_failure(self, fault: Fault, target: Process) -> bool:
        def broken(name: str) -> NoReturn:
            raise Broken(name)

        return self._at_hook(fault, target, broken)

    def _slow_hook(self, fault: Fault, target: Process) -> bool:
        return self._at_hook(fault, target, lambda name: fault.seconds)

    # -- before there is a link ---------------------------------------------------------------

    def _refused(self, fault: Fault, target: Process) -> bool:
        """Nobody listens for a while, from when somebody first tries to connect."""
        network = self._world.setting.network
        until: float | None = None

        def refusing() -> bool:
            nonlocal until
            if self.over:
                return False
            if until is None:
                self.struck(fault)
                until = self._kernel.now + fault.seconds
            return self._kernel.now < until

        network.refusing = refusing
        return True

    def _failing_accept(self, fault: Fault, target: Process) -> bool:
        """The next `count` calls of accept fail."""
        listener = self._world.current(Side.SECONDARY).listener
        if listener is None:
            return False
        left = fault.count

        def accepting() -> None:
            nonlocal left
            if not left or self.over:
                return
            if left == fault.count:
                self.struck(fault)
            left -= 1
            fail(errno.EMFILE if fault.how == "no-descriptors" else errno.ECONNABORTED)

        listener.accepting = accepting
        return True

    def _cancelled(self, fault: Fault, target: Process) -> bool:
        """Whoever starts a side gives it up before it runs."""
        if not target.alive or target.over or target.state != target.table.initial:
            return False
        self.struck(fault)
        target.side.give_up()
        return True

    # -- what a link never does ---------------------------------------------------------------

    def _inject(self, fault: Fault, target: Process) -> bool:
        if (end := self._end(target)) is None:
            return False
        self.struck(fault)
        end.inject(fault.count.to_bytes(MESSAGE_SIZE, "big"))
        return True

    def _tamper(self, fault: Fault, target: Process) -> bool:
        if (end := self._end(target)) is None:
            return False
        end.tamper = tamper_with(fault, end, partial(self.struck, fault))
        return True
