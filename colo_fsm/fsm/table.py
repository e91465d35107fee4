"""How a protocol table is written. COLO's two are in `colo_fsm/colo/`.

A table lists only what differs; `complete.py` adds the rest as ordinary rows, `validate.py` checks it.

There are five kinds of trigger: `recv(message)`, `begin.checkpoint` / `begin.leave`, `done(effect)`
for an effect whose completion the row awaits, `fault(kind)`, and the arbiter's `won` / `lost`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from enum import StrEnum

import attrs

from .terms import Do, Effect, Fault, Message, OnlyIf, Send, Side
from .words import Words

Variant = Container[object]
"""Which of a table's choices are meant: what `when=` or `do.x(CHOICE)` names is in it, or left out."""


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
    """An input of a machine. `name` is its name as an event of the `transitions` machine.

    `word` is what it is about: the message, effect or fault.
    """

    kind: Kind
    name: str
    word: object = None

    @property
    def message(self) -> Message | None:
        """The message, where it is about one."""
        return self.word if isinstance(self.word, Message) else None

    def __str__(self) -> str:
        return self.name


def _about(kind: Kind, word: object) -> Trigger:
    """Any word is taken here: `validate()` names the foreign ones, all at once."""
    name = word.name.lower() if isinstance(word, Message) else word
    return Trigger(kind, f"{kind}_{name}", word)


_DONE = {effect: _about(Kind.DONE, effect) for effect in Do}
_FAULT = {kind: _about(Kind.FAULT, kind) for kind in Fault}


class begin:
    """What the side itself begins."""

    checkpoint = Trigger(Kind.BEGIN, "begin_checkpoint")
    leave = Trigger(Kind.BEGIN, "begin_leave")


won = Trigger(Kind.CLAIM, "won")
lost = Trigger(Kind.CLAIM, "lost")
otherwise = Trigger(Kind.OTHERWISE, "otherwise")

send = Send


def recv(message: Message) -> Trigger:
    """This message has arrived, and its turn has come."""
    return _about(Kind.RECV, message)


def done(effect: Do) -> Trigger:
    """This effect has completed."""
    return _DONE.get(effect) or _about(Kind.DONE, effect)


def fault(kind: Fault) -> Trigger:
    """The handshake is broken other than by a message."""
    return _FAULT.get(kind) or _about(Kind.FAULT, kind)


def always(words: Words) -> tuple[Trigger, ...]:
    """The triggers that every machine of these words knows; of `done`, it knows those its rows await."""
    messages = (recv(point.message) for point in words.points)
    return (*messages, begin.checkpoint, begin.leave, *_FAULT.values(), won, lost)


@attrs.frozen
class Row:
    """One transition. `dest` None: the state stays as it is, and nothing happens.

    `implied` marks the rows that `complete()` added.
    """

    source: StrEnum
    trigger: Trigger
    dest: StrEnum | None
    effects: tuple[Effect, ...] = ()
    implied: bool = False

    def __str__(self) -> str:
        return f"{self.source} --{self.trigger}--> {self.dest or 'stays'}"


@attrs.frozen
class Line:
    """One line of a table as written: perhaps several sources, perhaps for some variants only."""

    sources: tuple[StrEnum, ...]
    trigger: Trigger
    dest: StrEnum | None
    effects: tuple[Effect | OnlyIf, ...] = ()
    when: object = None

    def rows(self, variant: Variant) -> Iterator[Row]:
        """What this line says in this variant."""
        if self.when is None or self.when in variant:
            effects = tuple(_effects(self.effects, variant))
            for source in self.sources:
                yield Row(source, self.trigger, self.dest, effects)


def _effects(written: Iterable[Effect | OnlyIf], variant: Variant) -> Iterator[Effect]:
    for effect in written:
        if not isinstance(effect, OnlyIf):
            yield effect
        elif effect.condition in variant:
            yield effect.effect


def row(
    sources: StrEnum | tuple[StrEnum, ...],
    trigger: Trigger,
    dest: StrEnum | None,
    *effects: Effect | OnlyIf,
    when: object = None,
) -> Line:
    """A line of a table: in these states, on this trigger, go to `dest` and do this, in order."""
    sources = sources if isinstance(sources, tuple) else (sources,)
    return Line(sources, trigger, dest, effects, when)


@attrs.frozen(eq=False)
class Table:
    """The protocol of one side, for all variants. `start` is what the driver does first."""

    side: Side
    words: Words
    lines: tuple[Line, ...]
    start: tuple[Effect | OnlyIf, ...] = ()
    error: tuple[Effect | OnlyIf, ...] = ()
    """The effects of the error transition, to `words.failover`."""

    def rows(self, variant: Variant) -> tuple[Row, ...]:
        """The lines that this variant has, a row a source, as written."""
        return tuple(r for line in self.lines for r in line.rows(variant))

    def begins_with(self, variant: Variant) -> tuple[Effect, ...]:
        """What the driver does first."""
        return tuple(_effects(self.start, variant))

    def on_error(self, variant: Variant) -> tuple[Effect, ...]:
        """What the error transition asks for."""
        return tuple(_effects(self.error, variant))
