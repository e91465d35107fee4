"""What effects do to the world: the driver's part of a row, reduced to what the properties are about.

Effects that wait for nobody are performed at once, in their order, up to the first one that takes time or
waits for something; that one stays in `todo` and is a step of its own (`steps.py`).
"""

from __future__ import annotations

from enum import StrEnum

import attrs

from colo_fsm.colo import Profile, ReleaseOn, Variant
from colo_fsm.fsm import Do, Effect, Send, Side

from ..found import TooLarge
from .law import Law
from .properties import Property
from .scenario import Policy
from .world import (
    KNOWN_ROOM,
    NEVER,
    End,
    Facts,
    Local,
    Lone,
    Outgoing,
    Output,
    Put,
    Take,
    Vcpu,
)

SLOW = frozenset(
    {
        Do.send_initial,
        Do.save,
        Do.send_live,
        Do.receive_initial,
        Do.receive_live,
        Do.receive_state,
        Do.store,
        Do.load,
        Do.claim,
    }
)
"""Effects that take time or wait for something, besides those whose completion a table awaits."""


class Full(Exception):
    """The wire takes no more: the side waits."""


@attrs.define
class Draft:
    """A side at work: what it is, the link as it sees it, what is true; and what it has broken."""

    side: Side
    variant: Variant
    law: Law
    own: Local
    way_out: Outgoing
    facts: Facts
    policy: Policy = Policy.SOUND
    put: Put = attrs.Factory(Put)
    take: Take = Take.NOTHING
    sent: list[int] = attrs.Factory(list)
    broken: set[Property] = attrs.Factory(set)

    def set(self, **changes: object) -> None:
        """Change the side."""
        self.own = self.own._replace(**changes)  # type: ignore[arg-type]

    def fact(self, **changes: object) -> None:
        """Change what is true."""
        self.facts = self.facts._replace(**changes)  # type: ignore[arg-type]

    @property
    def hybrid(self) -> bool:
        return self.variant.mode == "hybrid"

    # -- running effects ------------------------------------------------------------------------

    def perform(self, awaited: frozenset[Do]) -> None:
        """Perform what is to do, up to an effect that takes time."""
        while self.own.todo:
            effect = self.own.todo[0]
            if not isinstance(effect, Send) and (effect in SLOW or effect in awaited):
                self._begins(effect)
                break
            self.set(todo=self.own.todo[1:])
            self._at_once(effect)
        self._check_side()

    def _at_once(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            self.send(int(effect.message))
            return
        match effect:
            case Do.suspend:
                self.suspend()
            case Do.resume:
                self._resume()
            case Do.send_state:
                self.send(self.law.wire.state)
            case Do.release:
                self.release()
            case Do.release_all:
                self._release_all()
            case Do.compare:
                self._compare()
            case Do.stop_comparing:
                self.fact(comparing=False)
            case Do.disconnect:
                self._disconnect()
            case Do.discard:
                self._discard()
            case _:
                raise AssertionError(f"an effect that nobody performs: {effect}")

    def send(self, value: int) -> None:
        """Send something. What a side sends after it has hung up, or to nobody, is gone."""
        self.sent.append(value)
        if not self.own.connected or self.way_out.end is not End.OPEN:
            return
        items = (*self.put.items, value)
        if len(items) > KNOWN_ROOM:
            raise TooLarge(f"the {self.side} sends more than {KNOWN_ROOM} things in one step")
        if len(items) > self.way_out.room:
            raise Full
        self.put = self.put._replace(items=items)

    def suspend(self) -> None:
        """Stop the guest."""
        if self.facts.comparing and self.own.running and self.own.connected:
            self.broken.add(Property.COMPARING)
        self.set(running=False)
        self._speaks(False)
        self._not_alone()
        self._svm(Vcpu.STOPPED)

    def _resume(self) -> None:
        facts = self.facts
        self.set(running=True)
        self._speaks(True)
        if self.own.output is Output.NONE:
            self.set(output=Output.HELD)
        if self.side is Side.SECONDARY and (self.own.torn or facts.loaded != facts.stored):
            self.broken.add(Property.WHOLE)
        if self.own.state in self.law.alone:
            self._goes_alone()
        self._svm(Vcpu.RUNS)

    def _goes_alone(self) -> None:
        other = self.facts.alone(self.side.peer)
        if other is Lone.NOW:
            self.broken.add(Property.NO_SPLIT)
        if other is Lone.WAS:
            self.broken.add(Property.NO_STALE)
        if self.side is Side.SECONDARY and not _covers(self.facts.loaded, self.facts.released):
            self.broken.add(Property.TAKEOVER)
        self.facts = self.facts.with_alone(self.side, Lone.NOW)

    def _not_alone(self) -> None:
        if self.facts.alone(self.side) is Lone.NOW:
            self.facts = self.facts.with_alone(self.side, Lone.WAS)

    def release(self) -> None:
        """Let out what the newest save covers; a gate what was there when the state began to come."""
        facts = self.facts
        out = facts.sealed if self.side is Side.SECONDARY else 0
        if out == NEVER or not _covers(facts.stored, out):
            self.broken.add(Property.OUTPUT_COMMIT)
        elif not facts.loadable:
            self.broken.add(Property.LOADABLE)
        if facts.secondary_alone is not Lone.NEVER and facts.loaded != 0:
            self.broken.add(Property.TAKEOVER)
        self.fact(released=0 if out == NEVER else out)  # all that came is out

    def _release_all(self) -> None:
        if not (self.own.running and self.own.state in self.law.alone):
            self.broken.add(Property.CLAIMED)
        self.set(output=Output.THROUGH)

    def _compare(self) -> None:
        if not (self.own.running and self.facts.svm in (Vcpu.RUNS, Vcpu.LEFT)):
            self.broken.add(Property.COMPARING)
        self.fact(comparing=True)

    def _disconnect(self) -> None:
        self.set(connected=False)
        self.take = Take.HANG_UP
        self._ends(End.CLOSED)
        if self.side is Side.SECONDARY and self.facts.stored != NEVER:
            self.fact(received=NEVER, intact=True)  # a part of a round is nothing without the rest
        self._svm(Vcpu.LEFT)

    def _discard(self) -> None:
        if self.own.running or self.own.state not in self.law.over:
            self.broken.add(Property.ORDERLY)  # who goes on still owes these packets, and what it says next
        if self.own.output is Output.HELD:
            self.set(output=Output.DROPPED)
        if self.side is Side.SECONDARY:
            self.fact(received=NEVER, intact=True)

    @property
    def _gate(self) -> bool:
        return self.variant.release_on is ReleaseOn.GATE

    def _speaks(self, runs: bool) -> None:
        if self.side is Side.PRIMARY and self._gate:
            self.fact(heard=runs and self.own.state not in self.law.alone)

    def _svm(self, svm: Vcpu) -> None:
        if self.hybrid and self.side is Side.SECONDARY:
            left = self.facts.svm is Vcpu.LEFT or not self.own.connected
            self.fact(svm=Vcpu.LEFT if left else svm)

    def crash(self, seen: End) -> None:
        """The side is gone; its peer comes to the end of the link, or (SILENT) to nothing at all."""
        self.take = Take.HANG_UP if seen is End.CLOSED else Take.VANISH
        self._ends(seen)
        self._speaks(False)
        self._not_alone()
        if self.hybrid and self.side is Side.SECONDARY:
            self.fact(svm=Vcpu.LEFT)

    def _ends(self, end: End) -> None:
        if self.way_out.end is End.OPEN:
            self.put = self.put._replace(end=end)

    # -- what must be true ----------------------------------------------------------------------

    def _begins(self, effect: Do) -> None:
        """An effect that takes time begins."""
        own, later, facts = self.own, self.own.todo[1:], self.facts
        first = Do.receive_live if self.variant.profile is Profile.QEMU else Do.store
        if self._gate and effect is first:  # the gate's mark: what has come is the round's
            self.fact(sealed=NEVER if facts.heard else 0)
        if effect in (Do.save, Do.load) and own.running:
            self.broken.add(Property.SUSPENDED)
        if any(isinstance(each, Send) for each in later):
            self.broken.add(Property.SYNC_POINTS)
        if own.connected and own.state not in self._hangs_on:
            self.broken.add(Property.HUNG_UP)
        fit = own.state is self.law.words.failover and not own.running and not own.torn and self._has_state()
        if effect is Do.claim and not fit:
            self.broken.add(Property.FIT_CLAIM)

    @property
    def _hangs_on(self) -> frozenset[StrEnum]:
        """Where a side may still hold its link while it works."""
        return self.law.handshake | self.law.finishing | {self.law.words.initial}

    def _has_state(self) -> bool:
        """Whether there is something to go on from: it ran, or it holds a checkpoint that can be loaded."""
        if self.side is Side.PRIMARY:
            return self.own.output is not Output.NONE
        return self.facts.stored != NEVER and self.facts.loadable

    def _check_side(self) -> None:
        """Where this side stands now."""
        own, facts = self.own, self.facts
        paired = own.connected and own.state in self.law.handshake
        if own.running and own.state not in self.law.alone and not paired and Do.suspend not in own.todo:
            self.broken.add(Property.CLAIMED)
        if self.side is Side.PRIMARY and facts.comparing and own.state not in self.law.handshake:
            self.broken.add(Property.COMPARING)
        holds = own.running or own.connected or own.output is Output.HELD
        holds |= self.side is Side.SECONDARY and facts.received != NEVER
        if own.state in self.law.over and not own.todo and holds:
            self.broken.add(Property.ORDERLY)


def _covers(lag: int, other: int) -> bool:
    """Whether a checkpoint of this lag is the other or a newer one."""
    return lag != NEVER and lag <= other
