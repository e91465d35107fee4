"""What the protocol's tests share: sessions driven without I/O, and tables compared with hand-written ones.

A `Driver` is the smallest driver there can be: it performs every effect at once, reads only what its
session wants, and knows nothing of the protocol. A `Pair` is two of them and the link between.
There are no bytes on the link but messages: with the profile `qemu` the state is taken as sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import attrs

from colo_fsm.colo import COLO, PrimarySession, Profile, SecondarySession, Variant
from colo_fsm.fsm import (
    CompleteTable,
    Do,
    Effect,
    Line,
    Row,
    Send,
    Session,
    Side,
    Table,
    TableError,
    begin,
    complete,
    done,
    lost,
    won,
)

T = TypeVar("T")

SESSIONS: Mapping[Side, Callable[[Variant], Session]] = {
    Side.PRIMARY: PrimarySession,
    Side.SECONDARY: SecondarySession,
}
PATCH = Variant(Profile.PATCH)


def wire(*values: int) -> bytes:
    """These messages as they stand on the wire, valid or not."""
    return b"".join(value.to_bytes(4, "big") for value in values)


def verdict(session: Session) -> tuple[type[Exception] | None, str]:
    """What was wrong, as a user sees it: the error's class and text."""
    return (type(session.error), str(session.error)) if session.error else (None, "")


def says(row: Row) -> str:
    """A row in the notation of the hand-written tables."""
    return f"{row.dest}: {', '.join(map(str, row.effects))}" if row.dest else "stays"


def differences(table: CompleteTable, by_hand: Mapping[str, str], rest: Mapping[str, str]) -> list[str]:
    """How a table differs from one written by hand; [] if every (state, trigger) is as it should be.

    `by_hand` has "state trigger" -> "dest: effects"; `rest` has what a state does with all others,
    "*" standing for the states it does not list.
    """
    found = {f"{r.source} {r.trigger}": says(r) for r in table.rows}
    expected = {key: rest.get(key.split()[0], rest["*"]) for key in found} | dict(by_hand)
    wrong = (key for key in expected if found.get(key) != expected[key])
    return [f"{key}: {found.get(key)}, not {expected[key]}" for key in wrong]


def mutants(table: Table) -> Iterator[tuple[str, Table]]:
    """The table without one line, one source of a line, or one effect of a line."""
    for i, line in enumerate(table.lines):
        less: list[tuple[Line, ...]] = [()]
        less += [(attrs.evolve(line, sources=without(line.sources, n)),) for n in range(len(line.sources))]
        less += [(attrs.evolve(line, effects=without(line.effects, n)),) for n in range(len(line.effects))]
        for lines in less:
            yield str(line), attrs.evolve(table, lines=table.lines[:i] + lines + table.lines[i + 1 :])


def without(items: tuple[T, ...], n: int) -> tuple[T, ...]:
    return items[:n] + items[n + 1 :]


def unnoticed_mutants(
    table: Table,
    by_hand: Callable[[Variant], Mapping[str, str]],
    rest: Callable[[Variant], Mapping[str, str]],
) -> tuple[list[str], int]:
    """The mutants that neither `complete()` nor `differences()` notices, and how many were tried."""
    unnoticed, tried = [], 0
    for name, mutant in mutants(table):
        for variant in Variant.all():
            if mutant.rows(variant) == table.rows(variant):
                continue  # what was lost belongs to other variants
            tried += 1
            try:
                if not differences(complete(mutant, variant), by_hand(variant), rest(variant)):
                    unnoticed.append(f"{variant}: {name}")
            except TableError:
                pass
    return unnoticed, tried


class Driver:
    """One session and what it has done. `claim`, if given, answers at once whether this side has won."""

    def __init__(
        self, session: Session, *, eager: bool = False, claim: Callable[[Side], bool] | None = None
    ) -> None:
        self.session = session
        self.eager = eager
        self.claim = claim
        self.sent: list[bytes] = []
        self.did: list[str] = []
        self.hung_up = False

    def start(self) -> None:
        self.perform(self.session.start())

    def read(self, data: bytes) -> None:
        self.perform(self.session.receive_data(data))

    def perform(self, effects: tuple[Effect, ...]) -> None:
        """Do these, and what follows from bytes already read; `eager` begins every checkpoint it may."""
        while effects:
            for effect in effects:
                self._do(effect)
            effects = self.session.next_effects()
        if self.eager and self.session.may(begin.checkpoint):
            self.perform(self.session.fire(begin.checkpoint))

    def _do(self, effect: Effect) -> None:
        self.did.append(str(effect))
        if isinstance(effect, Send):
            self.sent.append(COLO.encode(effect.message))
        elif effect is Do.disconnect:
            self.hung_up = True
        elif effect is Do.claim and self.claim is not None:
            granted = self.claim(self.session.side)
            self.perform(self.session.fire(won) if granted else self.session.fire(lost))
        elif self.session.awaits(effect):
            self.perform(self.session.fire(done(effect)))


class Pair:
    """Both sides and the link between them. The first to claim wins.

    `log` is all that crossed the link, in order, a line each: `"S 00000000"`.
    """

    def __init__(self, variant: Variant = PATCH) -> None:
        self.winner: Side | None = None
        self.log: list[str] = []
        self.primary = Driver(PrimarySession(variant), claim=self._claim)
        self.secondary = Driver(SecondarySession(variant), claim=self._claim)

    def _claim(self, side: Side) -> bool:
        self.winner = self.winner or side
        return self.winner is side

    def start(self) -> None:
        self.primary.start()
        self.secondary.start()
        self.settle()

    def checkpoint(self) -> None:
        """One whole round, begun by the Primary."""
        self.perform(self.primary, self.primary.session.fire(begin.checkpoint))

    def perform(self, driver: Driver, effects: tuple[Effect, ...]) -> None:
        """Let a side do these, and both sides all that follows."""
        driver.perform(effects)
        self.settle()

    def settle(self) -> None:
        """Carry what was sent to the other side until nothing moves; a link that one side cut ends."""
        moved = True
        while moved:
            moved = self._carry(self.primary, self.secondary) or self._carry(self.secondary, self.primary)

    def _carry(self, sender: Driver, receiver: Driver) -> bool:
        if not receiver.session.wants_data:
            return False
        data = b"".join(sender.sent)
        if not data and not sender.hung_up:
            return False
        sender.sent.clear()
        initial = sender.session.side[0].upper()
        self.log += [f"{initial} {data[i : i + 4].hex()}" for i in range(0, len(data), 4)]
        receiver.read(data)
        return True
