"""How a protocol table is written. The two tables are `primary.py` and `secondary.py`.

A table lists only what differs; `complete.py` adds the rest as ordinary rows, `validate.py` checks it.

There are five kinds of trigger: `recv(message)`, `begin.checkpoint` / `begin.leave`, `done(effect)`
for an effect whose completion the table awaits, `fault(kind)`, and the arbiter's `won` / `lost`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

import attrs

from .vocabulary import (
    COLOMessage,
    Condition,
    Do,
    Effect,
    Fault,
    OnlyIf,
    Send,
    Side,
    State,
    Variant,
)


class Kind(StrEnum):
    """The five kinds of trigger, and a word that stands for what is left over."""

    RECV = "recv"
    BEGIN = "begin"
    DONE = "done"
    FAULT = "fault"
    CLAIM = "claim"
    OTHERWISE = "otherwise"
    """Not a trigger: stands in a table for all that its state has no row for."""


@attrs.frozen(cache_hash=True)
class Trigger:
    """An input of a machine. `name` is its name as an event of the `transitions` machine."""

    kind: Kind
    name: str
    message: COLOMessage | None = None

    def __str__(self) -> str:
        return self.name


_RECV = {m: Trigger(Kind.RECV, f"recv_{m.name.lower()}", m) for m in COLOMessage}
_DONE = {e: Trigger(Kind.DONE, f"done_{e}") for e in Do}
_FAULT = {f: Trigger(Kind.FAULT, f"fault_{f}") for f in Fault}


class begin:
    """What the side itself begins."""

    checkpoint = Trigger(Kind.BEGIN, "begin_checkpoint")
    leave = Trigger(Kind.BEGIN, "begin_leave")


won = Trigger(Kind.CLAIM, "won")
lost = Trigger(Kind.CLAIM, "lost")
otherwise = Trigger(Kind.OTHERWISE, "otherwise")

send = Send


def recv(message: COLOMessage) -> Trigger:
    """This message has arrived, and its turn has come."""
    return _RECV[message]


def done(effect: Do) -> Trigger:
    """This effect has completed."""
    return _DONE[effect]


def fault(kind: Fault) -> Trigger:
    """The handshake is broken other than by a message."""
    return _FAULT[kind]


ALWAYS: tuple[Trigger, ...] = (
    *_RECV.values(),
    begin.checkpoint,
    begin.leave,
    *_FAULT.values(),
    won,
    lost,
)
"""The triggers that every machine knows; of `done`, it knows those that its rows await."""


@attrs.frozen
class Row:
    """One transition. `dest` None: the state stays as it is, and nothing happens.

    `implied` marks the rows that `complete()` added.
    """

    source: State
    trigger: Trigger
    dest: State | None
    effects: tuple[Effect, ...] = ()
    implied: bool = False

    def __str__(self) -> str:
        return f"{self.source} --{self.trigger}--> {self.dest or 'stays'}"


@attrs.frozen
class Line:
    """One line of a table as written: perhaps several sources, perhaps for some variants only."""

    sources: tuple[State, ...]
    trigger: Trigger
    dest: State | None
    effects: tuple[Effect | OnlyIf, ...]
    when: Condition | None

    def rows(self, variant: Variant) -> Iterator[Row]:
        """What this line says in this variant."""
        if variant.meets(self.when):
            effects = tuple(_effects(self.effects, variant))
            for source in self.sources:
                yield Row(source, self.trigger, self.dest, effects)


def _effects(written: Iterable[Effect | OnlyIf], variant: Variant) -> Iterator[Effect]:
    for effect in written:
        if not isinstance(effect, OnlyIf):
            yield effect
        elif variant.meets(effect.condition):
            yield effect.effect


def row(
    sources: State | tuple[State, ...],
    trigger: Trigger,
    dest: State | None,
    *effects: Effect | OnlyIf,
    when: Condition | None = None,
) -> Line:
    """A line of a table: in these states, on this trigger, go to `dest` and do this, in order."""
    sources = (sources,) if isinstance(sources, State) else sources
    return Line(sources, trigger, dest, effects, when)


SENDER: Mapping[COLOMessage, Side] = {
    COLOMessage.CHECKPOINT_READY: Side.SECONDARY,
    COLOMessage.CHECKPOINT_REQUEST: Side.PRIMARY,
    COLOMessage.CHECKPOINT_REPLY: Side.SECONDARY,
    COLOMessage.VMSTATE_SEND: Side.PRIMARY,
    COLOMessage.VMSTATE_SIZE: Side.PRIMARY,
    COLOMessage.VMSTATE_RECEIVED: Side.SECONDARY,
    COLOMessage.VMSTATE_LOADED: Side.SECONDARY,
}
"""Who sends each message."""


@attrs.frozen(eq=False)
class Table:
    """The protocol of one side, for all variants. `start` is what the driver does first, in `init`."""

    side: Side
    lines: tuple[Line, ...]
    start: tuple[Effect | OnlyIf, ...] = ()
    error: tuple[Effect | OnlyIf, ...] = ()
    """The effects of the error transition, to `failover`."""

    def rows(self, variant: Variant) -> tuple[Row, ...]:
        """The lines that this variant has, a row a source, as written."""
        return tuple(r for line in self.lines for r in line.rows(variant))

    def begins_with(self, variant: Variant) -> tuple[Effect, ...]:
        """What the driver does first, in `init`."""
        return tuple(_effects(self.start, variant))

    def on_error(self, variant: Variant) -> tuple[Effect, ...]:
        """What the error transition asks for."""
        return tuple(_effects(self.error, variant))
