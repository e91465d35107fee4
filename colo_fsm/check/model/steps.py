"""Every step that can be taken from a moment by a side.

A side's step depends on that side, on what it can tell of the two directions of the link, and on the facts,
never on the other side. The search lives on that.
"""

from __future__ import annotations

from collections.abc import Iterator

from colo_fsm.fsm import Do, Fault, Side

from .effects import Draft
from .properties import Property
from .scenario import Strike
from .taking import Kind, Rules, Step
from .work import Work
from .world import Channel, End, Facts, Incoming, Local, MaybeDead, Outgoing, World

__all__ = ["Kind", "SideSteps", "Step", "Steps"]


class SideSteps(Work):
    """What one side can do at one moment, and what can happen to it."""

    def all(self) -> Iterator[Step | None]:
        """Every step, None for one that must wait for room on the wire."""
        yield from self.reads() if self.idle else self.works()
        if self.idle and (reaction := self.control.begin_checkpoint(self.own.state)):
            yield self.fires("begins a checkpoint", reaction)
        yield from self._notices()
        yield from self._suffers()

    @property
    def receiving(self) -> bool:
        return self.head in (Do.receive_live, Do.receive_state) or (
            self.head is Do.receive_initial and not self.own.half
        )

    @property
    def _awaits(self) -> bool:
        """Whether it waits for the peer: where deadlines apply."""
        return self.receiving or (self.idle and self.control.awaits_message(self.own.state))

    def _notices(self) -> Iterator[Step | None]:
        """What a side comes to know of a broken link other than by reading."""
        state = self.own.state
        if self.inc.end is End.SILENT and self.inc.first is None and self._awaits:
            if state not in self.control.table.timed:
                yield self.fault("is told by its watcher to fail over", Fault.FAILOVER_REQUEST)
            else:
                yield self.fault("runs out of time", Fault.TIMEOUT)
        if self.out.end in (End.CLOSED, End.GONE) and self.own.connected and self._may_have_sent:
            yield self.fault("cannot send", Fault.SEND_FAILED, how=Kind.MAY)
        no_way_back = self.head is Do.send_initial or (self.idle and state is self.control.table.initial)
        if self.side is Side.PRIMARY and no_way_back and Strike.CLOSED in self.rules.scenario.faults:
            yield self.fault("finds no return path", Fault.NO_RETURN_PATH, how=Kind.MAY, strike=Strike.CLOSED)

    @property
    def _may_have_sent(self) -> bool:
        if self.own.state not in self.rules.law.handshake:
            return self.own.state is self.control.table.initial and self.side is Side.PRIMARY
        return not (self.idle and self.control.begin_checkpoint(self.own.state))

    def _suffers(self) -> Iterator[Step | None]:
        faults = self.rules.scenario.faults
        if Strike.REQUEST in faults:
            text = "is told to fail over"
            yield self.fault(text, Fault.FAILOVER_REQUEST, how=Kind.MAY, strike=Strike.REQUEST)
        if Strike.TIMEOUT in faults and self._awaits:
            text = "runs out of time too early"
            yield self.fault(text, Fault.TIMEOUT, how=Kind.MAY, strike=Strike.TIMEOUT)
        if Strike.GUEST in faults and self._may_fail:
            yield self.fault("fails in a hook", Fault.GUEST_FAILED, how=Kind.MAY, strike=Strike.GUEST)
        if Strike.LEAVE in faults and self._may_leave:
            yield self._leaves()
        if Strike.CRASH in faults:
            yield self._crashes(End.CLOSED)
            yield self._crashes(End.SILENT)

    @property
    def _may_fail(self) -> bool:
        loading = self.head is Do.receive_initial and self.own.half
        return self.idle or loading or self.head in (Do.save, Do.store, Do.load)

    @property
    def _may_leave(self) -> bool:
        waits = self.idle or self.head is Do.claim or self.receiving
        return waits and self.own.state in self.rules.law.leaving

    def _leaves(self) -> Step | None:
        text = "is told to leave"
        reaction = self.control.leave(self.own.state)
        if reaction is None:
            draft = self.draft()
            draft.broken.add(Property.ORDERLY)
            return self.done(draft, f"{text}, and may not", Kind.MAY, Strike.LEAVE, again=False)
        return self.fires(text, reaction, kind=Kind.MAY, strike=Strike.LEAVE)

    def _crashes(self, seen: End) -> Step:
        draft = self.draft()
        draft.crash(seen)
        text = "dies" if seen is End.CLOSED else "dies with its machine"
        return Step(Kind.MAY, text, None, draft.put, draft.take, draft.facts, strike=Strike.CRASH)


class Steps(Rules):
    """The steps of one scenario."""

    def start(self) -> World:
        """Before anything has happened: each side is about to begin with its first effect."""
        primary = self._at_start(Side.PRIMARY, Facts())
        secondary = self._at_start(Side.SECONDARY, primary.facts)
        forward, back = primary.put.on(Channel(), self.wire), secondary.put.on(Channel(), self.wire)
        return World(primary.own, secondary.own, forward, back, secondary.facts, self.scenario.disturbances)

    def broken_by_start(self) -> frozenset[Property]:
        """What the effects break that a table starts with and that wait for nobody."""
        primary = self._at_start(Side.PRIMARY, Facts())
        return frozenset(primary.broken | self._at_start(Side.SECONDARY, primary.facts).broken)

    def _at_start(self, side: Side, facts: Facts) -> Draft:
        table = self.control[side].table
        own = Local(table.initial, table.start)
        draft = Draft(side, self.scenario.variant, self.law, own, Channel().outgoing, facts)
        draft.perform(table.awaited)
        return draft

    def of_side(self, side: Side, own: MaybeDead, out: Outgoing, inc: Incoming, facts: Facts) -> list[Step]:
        """What this side can do now, `out` being its way to the peer."""
        if own is None:
            return []
        at = SideSteps(self, side, own, out, inc, facts)
        return [step for step in at.all() if step is not None]
