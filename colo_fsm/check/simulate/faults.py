"""When a fault strikes: in a state of one side, at a step there, and a moment later. And what it does."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from colo_fsm.fsm import MESSAGE_SIZE, Side
from colo_fsm.stream.memory import Buffer

from .disk import Killed
from .net import Socket, Tamper, fail
from .operator import Operator
from .process import Process, Watcher
from .schedule import PAYLOAD, Fault, Kind
from .service import Broken
from .witness import Strike
from .world import World


class Faults(Watcher):
    """The faults of one run. What a kind does is the method of its name."""

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
                self._struck(fault)
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
        act: Callable[[Fault, Process], bool] = getattr(self, f"_{fault.kind.name.lower()}")
        return act(fault, self._world.current(fault.target))

    def _struck(self, fault: Fault) -> None:
        world = self._world
        states = world.state_of(Side.PRIMARY), world.state_of(Side.SECONDARY)
        self._kernel.note(f"fault {fault} strikes in {states[0]}/{states[1]}")
        world.witness.strikes.append(Strike(self._kernel.now, fault, *states))

    def _at_once(self, fault: Fault, possible: bool, strike: Callable[[], object]) -> bool:
        if possible:
            self._struck(fault)
            strike()
        return possible

    def _ambush(
        self, fault: Fault, *, skip: int = 0, times: int = 1, seconds: float = 0.0
    ) -> Callable[[], bool]:
        """To be asked at every call: whether it strikes. It does so, after `skip` calls, `times` times at
        least, and for `seconds`."""
        struck, until = 0, 0.0

        def strikes() -> bool:
            nonlocal skip, struck, until
            if self.over or skip:
                skip -= not self.over
                return False
            if not struck:
                self._struck(fault)
                until = self._kernel.now + seconds
            elif struck >= times and self._kernel.now >= until:
                return False
            struck += 1
            return True

        return strikes

    # -- processes and machines ---------------------------------------------------------------

    def _crash(self, fault: Fault, target: Process, *, power: bool = False) -> bool:
        if fault.how != "disk":
            return self._at_once(fault, target.alive, lambda: target.die(power=power))
        target.machine.kill_power = power

        def kill() -> NoReturn:
            raise Killed

        return target.alive and self._at_disk(fault, target, kill, skip=fault.count)

    def _power_failure(self, fault: Fault, target: Process) -> bool:
        return self._crash(fault, target, power=True)

    def _restart(self, fault: Fault, target: Process) -> bool:
        operator = self._operator
        if fault.how == "spare":
            return self._at_once(fault, operator.wants_spare, lambda: operator.spare(fault.seconds))

        def strike() -> None:
            if target.alive:
                target.die(power=fault.how == "power")
            operator.restart(target.machine, fault.seconds)

        return self._at_once(fault, True, strike)

    def _timeout(self, fault: Fault, target: Process) -> bool:
        return self._at_once(fault, target.alive, lambda: target.freeze(fault.seconds))

    def _failover_request(self, fault: Fault, target: Process) -> bool:
        possible = target.alive and not target.over and target.state not in target.table.final
        return self._at_once(fault, possible, target.side.request_failover)

    def _cancelled(self, fault: Fault, target: Process) -> bool:
        """Whoever starts a side gives it up before it runs."""
        possible = target.alive and not target.over and target.state == target.table.initial
        return self._at_once(fault, possible, target.side.give_up)

    # -- disks, hooks, the arbiter ------------------------------------------------------------

    def _at_disk(
        self, fault: Fault, target: Process, strike: Callable[[], float],
        *, skip: int = 0, times: int = 1, seconds: float = 0.0,
    ) -> bool:  # fmt: skip
        """At calls of this machine's disk from now on."""
        strikes = self._ambush(fault, skip=skip, times=times, seconds=seconds)
        target.machine.platter.on_call = lambda: strike() if strikes() else 0.0
        return True

    def _slow_disk(self, fault: Fault, target: Process) -> bool:
        return self._at_disk(fault, target, lambda: fault.seconds, times=fault.count)

    def _failing_disk(self, fault: Fault, target: Process) -> bool:
        broken = partial(fail, errno.ENOSPC if fault.count % 2 else errno.EIO)
        return self._at_disk(fault, target, broken, skip=fault.count, seconds=fault.seconds)

    def _at_hook(self, fault: Fault, target: Process, strike: Callable[[], float]) -> bool:
        strikes = self._ambush(fault, times=fault.count)
        target.on_hook = lambda name: strike() if name == fault.how and strikes() else 0.0
        return target.alive

    def _guest_failure(self, fault: Fault, target: Process) -> bool:
        def broken() -> NoReturn:
            raise Broken(fault.how)

        return self._at_hook(fault, target, broken)

    def _slow_hook(self, fault: Fault, target: Process) -> bool:
        return self._at_hook(fault, target, lambda: fault.seconds)

    def _arbiter_loss(self, fault: Fault, target: Process) -> bool:
        arbiter = self._world.arbiter
        if fault.how == "answer":
            arbiter.loses_answer = self._ambush(fault, times=fault.count)
            return True
        sides = Side if fault.how == "both" else (fault.target,)
        return self._at_once(fault, True, lambda: arbiter.loss(sides, fault.seconds))

    # -- the link -----------------------------------------------------------------------------

    def _end(self, target: Process) -> Socket | None:
        """Its end of the link, when both sides have one and nothing has broken it."""
        peer = self._world.current(target.role.peer).link
        end = target.link or (peer and peer.peer)
        return end if end is not None and end.whole else None

    def _at_ends(self, fault: Fault, target: Process, both: bool, strike: Callable[[Socket], object]) -> bool:
        end = self._end(target)
        if end is not None:
            self._struck(fault)
            for each in end.ends if both else (end,):
                strike(each)
        return end is not None

    def _closed(self, fault: Fault, target: Process) -> bool:
        tail, reset = fault.how == "end", fault.how == "reset"
        return self._at_ends(fault, target, True, lambda end: end.break_off(keep_tail=tail, reset=reset))

    def _silent(self, fault: Fault, target: Process) -> bool:
        return self._at_ends(fault, target, fault.how == "both", Socket.fall_silent)

    def _delay(self, fault: Fault, target: Process) -> bool:
        return self._at_ends(fault, target, fault.how == "both", lambda end: end.hold(fault.seconds))

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
                    each.fall_silent()
            end.poke()

        def limited() -> None:
            end.limited = lambda: None
            if not end.whole or self.over:
                end.most = None
                return
            self._struck(fault)
            self._kernel.after(fault.seconds, goes_on)

        end.limited = limited
        return True

    def _refused(self, fault: Fault, target: Process) -> bool:
        """Nobody listens for a while, from when somebody first tries to connect."""
        self._world.setting.network.refuses = self._ambush(fault, seconds=fault.seconds)
        return True

    def _failing_accept(self, fault: Fault, target: Process) -> bool:
        strikes = self._ambush(fault, times=fault.count)
        number = errno.EMFILE if fault.how == "no-descriptors" else errno.ECONNABORTED
        if (listener := target.listener) is None:
            return False
        listener.accepting = lambda: fail(number) if strikes() else None
        return True

    # -- what a link never does ---------------------------------------------------------------

    def _inject(self, fault: Fault, target: Process) -> bool:
        forged = fault.count.to_bytes(MESSAGE_SIZE, "big")
        return self._at_ends(fault, target, False, lambda end: end.inject(forged))

    def _corrupt(self, fault: Fault, target: Process) -> bool:
        if (end := self._end(target)) is None:
            return False
        end.tamper = tamper_with(fault, end, partial(self._struck, fault))
        return True

    _reorder = _duplicate = _corrupt


def tamper_with(fault: Fault, end: Socket, struck: Callable[[], object]) -> Tamper:
    """What to install at the sender's end; it does its work once and takes itself away."""

    def once(change: Callable[[list[Buffer], int], list[Buffer]], wanted: Callable[[Buffer], bool]) -> Tamper:
        def tamper(buffers: list[Buffer]) -> list[Buffer]:
            at = next((at for at, buffer in enumerate(buffers) if wanted(buffer)), None)
            if at is None:
                return buffers
            end.tamper = None
            struck()
            return change(list(buffers), at)

        return tamper

    forged = fault.count.to_bytes(MESSAGE_SIZE, "big")
    if fault.kind is Kind.CORRUPT and fault.how == PAYLOAD:
        return once(lambda buffers, at: _flipped(buffers, at, fault.count), _is_payload)
    if fault.kind is Kind.CORRUPT:
        return once(lambda b, at: [*b[:at], forged, *b[at + 1 :]], _is_message)
    if fault.kind is Kind.DUPLICATE:
        return once(lambda b, at: b[: at + 1] + b[at:], _is_message)
    return once(lambda b, at: _swapped(b, at, end), _is_message)


def _is_message(buffer: Buffer) -> bool:
    return len(buffer) == MESSAGE_SIZE


def _is_payload(buffer: Buffer) -> bool:
    return len(buffer) > 2 * MESSAGE_SIZE


def _flipped(buffers: list[Buffer], at: int, place: int) -> list[Buffer]:
    changed = bytearray(buffers[at])
    changed[place % len(changed)] ^= 1 << place % 8
    return [*buffers[:at], bytes(changed), *buffers[at + 1 :]]


def _swapped(buffers: list[Buffer], at: int, end: Socket) -> list[Buffer]:
    """The message goes behind the next buffer: in this write, or else in the next one."""
    held = buffers.pop(at)
    if at < len(buffers):
        return [*buffers[: at + 1], held, *buffers[at + 1 :]]

    def later(following: list[Buffer]) -> list[Buffer]:
        end.tamper = None
        return [following[0], held, *following[1:]]

    end.tamper = later
    return buffers
