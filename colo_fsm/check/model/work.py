"""What a side does by itself: reads what has come, and goes on with the effect under way."""

from __future__ import annotations

from collections.abc import Iterator

from colo_fsm.fsm import Do, Fault, Side

from .effects import Draft, Full
from .scenario import Arbiter, Policy, Strike
from .taking import Kind, Step, Taking
from .world import NEVER, End, Put, Take


class Work(Taking):
    """A side that reads and works. A step is None where it must wait for room on the wire."""

    def reads(self) -> Iterator[Step | None]:
        """The next message, or the end of the link, where the session looks at it."""
        item = self.inc.first
        if item is not None:
            wire = self.rules.wire
            value = item.value if item.value in wire.values else wire.invalid  # a state, not a message
            reaction = self.control.read(self.own.state, value)
            if reaction is None:
                return
            draft = self.draft()
            comes_with_it = wire.bare and wire.has_state(item.value)
            if comes_with_it and self.side is Side.SECONDARY:
                draft.fact(received=item.lag, intact=item.sound)
            yield self.fires(f"reads {wire.names[item.value]}", reaction, draft, take=True)
        elif self.inc.end is End.CLOSED:
            reaction = self.control.end_of_link(self.own.state)
            if reaction is not None:
                yield self.fires("reads the end of the link", reaction)

    def _receives(self, wanted: int) -> Iterator[Step | None]:
        """The state that is awaited, or whatever stands in its place."""
        item, wire = self.inc.first, self.rules.wire
        if item is None:
            if self.inc.end is End.CLOSED:
                yield self.fault("reads the end of the link", Fault.EOF)
            return
        if item.value != wanted:
            yield self.fault(
                f"reads {wire.names[item.value]}, not {wire.names[wanted]}",
                Fault.INVALID,
                take=True,
            )
            return
        draft = self.draft()
        draft.take = Take.FIRST
        draft.fact(received=item.lag, intact=item.sound and (wanted != wire.state or self.facts.intact))
        if wanted == wire.initial:
            draft.set(half=True)
            yield self.done(draft, f"receives {wire.names[wanted]}", again=False)
        else:
            yield self._completes(f"receives {wire.names[wanted]}", draft)
        if not item.sound:
            yield self.fault(f"finds {wire.names[wanted]} damaged", Fault.INVALID, take=True)

    # -- working --------------------------------------------------------------------------------

    def works(self) -> Iterator[Step | None]:
        """The effect under way goes on."""
        wire = self.rules.wire
        match self.head:
            case Do.receive_initial if not self.own.half and not wire.bare:
                yield from self._receives(wire.initial)
            case Do.receive_initial if not self.own.half:
                draft = self.draft()
                draft.set(half=True)
                draft.fact(received=0)
                yield self.done(draft, "receives the initial state", again=False)
            case Do.receive_initial:
                yield from self._takes_initial()
            case Do.receive_live:
                yield from self._receives(wire.live)
            case Do.receive_state:
                yield from self._receives(wire.state)
            case Do.store:
                yield self._stores()
            case Do.load:
                yield from self._loads()
            case Do.claim:
                yield from self._claims()
            case Do.save:
                yield self._saves()
            case Do.send_initial:
                yield self._sends(wire.initial)
            case Do.send_live:
                yield self._sends(wire.live)
            case Do.suspend:
                draft = self.draft()
                draft.suspend()
                yield self._completes("suspends", draft)

    def _completes(self, text: str, draft: Draft) -> Step | None:
        """The effect under way is done: its row goes on, behind what its completion asks for."""
        effect = self.head
        assert effect is not None
        draft.set(todo=draft.own.todo[1:], half=False)
        if not self.control.table.awaits(self.own.state, effect):
            return self.done(draft, text)
        return self.fires(text, self.control.done(self.own.state, effect), draft, follow=True)

    def _takes_initial(self) -> Iterator[Step | None]:
        if not self.facts.intact:
            yield self.fault("cannot load the initial state", Fault.GUEST_FAILED)
            return
        draft = self.draft()
        draft.fact(stored=self.facts.received, loaded=self.facts.received, loadable=True, received=NEVER)
        yield self._completes("stores and loads the initial state", draft)

    def _stores(self) -> Step | None:
        if self.own.half:
            return self._completes("has stored it", self.draft())
        draft = self.draft()
        draft.set(half=True)
        if self.facts.received != NEVER:
            draft.fact(stored=self.facts.received, loadable=self.facts.intact, received=NEVER, intact=True)
        return self.done(draft, "makes it the newest checkpoint", again=False)

    def _loads(self) -> Iterator[Step | None]:
        draft = self.draft()
        if self.own.half and not self.facts.loadable:
            yield self.fault("cannot load it", Fault.GUEST_FAILED)
        elif self.own.half:
            draft.set(torn=False)
            draft.fact(loaded=self.facts.stored)
            yield self._completes("has loaded it", draft)
        elif self.facts.loaded == self.facts.stored and not self.own.torn:
            yield self._completes("holds it already", draft)
        else:
            draft.set(half=True, torn=True)
            draft.fact(loaded=NEVER)
            yield self.done(draft, "begins to load", again=False)

    def _saves(self) -> Step | None:
        draft = self.draft()
        draft.facts = self.facts.aged()
        draft.put = Put(aged=True)
        if draft.policy is Policy.RELEASE_EARLY:
            draft.release()
        return self._completes("saves its guest", draft)

    def _sends(self, value: int) -> Step | None:
        draft = self.draft()
        try:
            draft.send(value)
        except Full:
            return None
        return self._completes(f"sends {self.rules.wire.names[value]}", draft)

    def _claims(self) -> Iterator[Step | None]:
        """The arbiter's answer, if there is one; a lost answer is asked for again."""
        draft, facts, policy = self.draft(), self.facts, self.rules.scenario.policy
        if self.rules.scenario.arbiter is Arbiter.NONE or policy is Policy.CLAIM_SKIPPED:
            yield self._answered(draft, True)
            return
        if not facts.arbiter_up:
            if policy is Policy.CACHED_CLAIM:
                yield self._answered(draft, True)
            return
        winner = facts.winner or self.side
        draft.fact(winner=winner)
        if Strike.ARBITER in self.rules.scenario.faults and facts.winner is None:
            lost = self.draft()
            lost.fact(winner=winner)
            text = "claims, and the answer is lost"
            yield self.done(lost, text, Kind.MAY, Strike.ARBITER, again=False)
        yield self._answered(draft, winner is self.side)

    def _answered(self, draft: Draft, granted: bool) -> Step | None:
        draft.set(todo=draft.own.todo[1:])
        reaction = self.control.claimed(self.own.state, granted)
        moved = reaction.dest is not reaction.source
        text = "wins its claim" if granted else "loses its claim"
        return self.fires(text, reaction, draft, follow=not moved)
