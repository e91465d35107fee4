"""A pair of two real sessions whose order of steps is chance's, and what an observer could see of it."""

from __future__ import annotations

import random

from colo_fsm.colo import PrimarySession, SecondarySession
from colo_fsm.fsm import Do, Effects, Message, Send, Session, Side, begin, done
from colo_fsm.qemu.watch.shadow import VARIANT, Act, Seen

PRIMARY, SECONDARY = Side.PRIMARY, Side.SECONDARY


class Pair:
    """Two real sessions on a perfect link; whose turn it is, chance says. `said` is what each one sent."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.sessions: dict[Side, Session] = {
            PRIMARY: PrimarySession(VARIANT),
            SECONDARY: SecondarySession(VARIANT),
        }
        self.inboxes: dict[Side, list[Message]] = {PRIMARY: [], SECONDARY: []}
        self.said: list[tuple[Side, Message]] = []
        self.acts: list[Seen] = []
        self.waiting: dict[Side, list[Do]] = {PRIMARY: [], SECONDARY: []}
        for side in Side:
            self.perform(side, self.sessions[side].start())

    def perform(self, side: Side, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.said.append((side, effect.message))
                self.acts.append(Seen(side, Act.SENT, effect.message))
                self.inboxes[side.peer].append(effect.message)
            elif effect in (Do.suspend, Do.resume):
                self.acts.append(Seen(side, Act.DID, effect))
            if effect in self.sessions[side].table.awaited:
                self.waiting[side].append(effect)

    def step(self) -> None:
        side = self.rng.choice(list(Side))
        session = self.sessions[side]
        if self.waiting[side]:
            self.perform(side, session.fire(done(self.waiting[side].pop())))
        elif self.inboxes[side] and session.awaits_message:
            message = self.inboxes[side].pop(0)
            self.acts.append(Seen(side, Act.RECEIVED, message))
            self.perform(side, session.fire(*session.table.arrival(message)))
        elif side is PRIMARY and session.may(begin.checkpoint):
            self.perform(side, session.fire(begin.checkpoint))
