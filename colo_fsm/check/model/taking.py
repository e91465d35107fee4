"""How a step is taken: a transition of a side's session, its effects, and what they change.

MUST steps are those that happen if one waits long enough; MAY steps (faults, an operator's wish, bytes lost
behind a break) may never happen. Only MUST steps count where a system is to come to rest.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import NamedTuple

import attrs

from colo_fsm.fsm import Do, Fault, Side

from .control import Control, Reaction
from .effects import Draft, Full
from .properties import Property
from .scenario import Policy, Scenario, Strike
from .world import NEVER, Facts, Incoming, Local, MaybeDead, Outgoing, Put, Take


class Kind(IntEnum):
    MUST = 0
    MAY = 1


class Step(NamedTuple):
    """One step of a side: what it is called, and all that it may change."""

    kind: Kind
    text: str
    own: MaybeDead
    put: Put
    take: Take
    facts: Facts
    sent: tuple[int, ...] = ()
    broken: frozenset[Property] = frozenset()
    fired: tuple[Reaction, ...] = ()
    round: bool = False
    """Whether it completes a round."""
    strike: Strike | None = None


class Rules:
    """What steps are taken by: the scenario, and the sessions of its two sides."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.law = scenario.law
        self.wire = self.law.wire
        self.control = {side: Control(side, self.law.table(side)) for side in Side}


@attrs.frozen
class Taking:
    """One side at one moment, about to take a step."""

    rules: Rules
    side: Side
    own: Local
    out: Outgoing
    inc: Incoming
    facts: Facts

    @property
    def control(self) -> Control:
        return self.rules.control[self.side]

    @property
    def head(self) -> Do | None:
        """The effect under way."""
        head = self.own.todo[0] if self.own.todo else None
        assert head is None or isinstance(head, Do)
        return head

    @property
    def idle(self) -> bool:
        return not self.own.todo

    def draft(self) -> Draft:
        scenario = self.rules.scenario
        return Draft(
            self.side, scenario.variant, self.rules.law, self.own, self.out, self.facts, scenario.policy
        )

    def fires(
        self,
        text: str,
        reaction: Reaction,
        draft: Draft | None = None,
        *,
        kind: Kind = Kind.MUST,
        strike: Strike | None = None,
        follow: bool = False,
        take: bool = False,
    ) -> Step | None:
        """A transition, with all of its effects that wait for nobody; `take`: it reads the first item.

        `follow`: an effect has completed (it is gone from `todo`), so the rest of its row comes first.
        Otherwise a change of state drops the rest of the row, as in the drivers' script.
        """
        draft = draft or self.draft()
        if take:
            draft.take = Take.FIRST
        draft.broken.update(self.rules.law.broken_by(self.side, reaction))
        moved = reaction.dest is not reaction.source
        rest = draft.own.todo if follow or not moved else ()
        goes_on = bool(rest) and not follow
        draft.set(state=reaction.dest, todo=(*rest, *reaction.effects), half=draft.own.half and goes_on)
        return self.done(draft, f"{text} {_says(reaction)}", kind, strike, (reaction,), again=not goes_on)

    def done(
        self,
        draft: Draft,
        text: str,
        kind: Kind = Kind.MUST,
        strike: Strike | None = None,
        fired: tuple[Reaction, ...] = (),
        again: bool = True,
    ) -> Step | None:
        if again:
            try:
                draft.perform(self.control.table.awaited)
            except Full:
                return None
        completes = any(self.rules.law.completes_round(self.side, reaction) for reaction in fired)
        return Step(
            kind, text, draft.own, draft.put, draft.take, draft.facts,
            tuple(draft.sent), frozenset(draft.broken) & self.rules.law.judged, fired, completes, strike,
        )  # fmt: skip

    def fault(
        self,
        text: str,
        kind: Fault,
        *,
        how: Kind = Kind.MUST,
        strike: Strike | None = None,
        take: bool = False,
    ) -> Step | None:
        draft = self.draft()
        self._keeps_half(draft)
        reaction = self.control.fault(self.own.state, kind)
        return self.fires(text, reaction, draft, kind=how, strike=strike, take=take)

    def _keeps_half(self, draft: Draft) -> None:
        """The seeded bug `load-half`: a part of a checkpoint is made the newest."""
        receiving = draft.facts.received != NEVER or self.head in (Do.receive_live, Do.receive_state)
        mine = self.side is Side.SECONDARY and self.own.state in self.rules.law.handshake
        if draft.policy is Policy.LOAD_HALF and mine and receiving:
            draft.set(torn=True)
            draft.fact(stored=0, loaded=0)


@cache
def _says(reaction: Reaction) -> str:
    effects = ", ".join(map(str, reaction.effects))
    moved = "" if reaction.dest is reaction.source else f"→ {reaction.dest}"
    return ": ".join(part for part in (moved, effects) if part)
