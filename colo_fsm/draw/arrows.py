"""What a picture shows of a complete table: its rows as few arrows, and the words on them.

Rows that differ in their source or their trigger only become one arrow, and the rows that `complete()`
added become one arrow for each way out: that is what keeps a table of a hundred rows readable.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import StrEnum
from itertools import groupby
from typing import TypeVar

import attrs

from colo_fsm.colo import COLO
from colo_fsm.fsm import CompleteTable, Effect, Kind, Message, Row, Send, Side, Trigger

_T = TypeVar("_T")

REST = "anything else"
REST_MEANS = "any fault, and any message or order out of turn"
NEXT = "next checkpoint"


@attrs.frozen
class Arrow:
    """Rows drawn as one: from each of `sources` to `dest`. No `triggers`: all that has no other row."""

    sources: tuple[StrEnum, ...]
    triggers: tuple[Trigger, ...]
    dest: StrEnum
    effects: tuple[Effect, ...]

    @property
    def is_rest(self) -> bool:
        return not self.triggers


@attrs.frozen
class Crossing:
    """A message on its way: from the state in which it has been sent to the one in which it has come."""

    message: Message
    sent: StrEnum
    received: StrEnum

    @property
    def sender(self) -> Side:
        return COLO.sender[self.message]

    def end(self, side: Side) -> StrEnum:
        return self.sent if side is self.sender else self.received


def arrows(table: CompleteTable) -> tuple[Arrow, ...]:
    """The rows of this table that change something, as arrows; the rest arrows come last."""
    one_trigger = [
        Arrow(tuple(r.source for r in rows), (first.trigger,), first.dest or first.source, first.effects)
        for rows in _gather(table.written, lambda r: (r.trigger, r.dest or r.source, r.effects))
        for first in [rows[0]]
    ]
    written = [
        attrs.evolve(same[0], triggers=tuple(sorted((a.triggers[0] for a in same), key=said)))
        for same in _gather(one_trigger, lambda a: (a.sources, a.dest, a.effects))
    ]
    rest = [
        Arrow(tuple(dict.fromkeys(r.source for r in rows)), (), dest, rows[0].effects)
        for rows in _gather((r for r in table.rows if r.implied), lambda r: (r.dest, r.effects))
        if (dest := rows[0].dest) is not None
    ]
    return (*written, *rest)


def handshake(table: CompleteTable) -> tuple[StrEnum, ...]:
    """The states between which the messages pass, in the order of the protocol."""
    passing = [r for r in table.written if r.trigger.message is not None or _sent(r)]
    used = {r.source for r in passing} | {r.dest for r in passing}
    return tuple(s for s in table.states if s in used)


def crossings(primary: CompleteTable, secondary: CompleteTable) -> tuple[Crossing, ...]:
    """Every message of these tables that one side sends and the other awaits."""
    found = (
        Crossing(message, sent.dest or sent.source, received.dest or received.source)
        for sender, receiver in ((primary, secondary), (secondary, primary))
        for sent in sender.written
        for message in _sent(sent)
        for received in receiver.written
        if received.trigger.message is message
    )
    return tuple(dict.fromkeys(found))


def said(trigger: Trigger) -> str:
    """A trigger in a word or two: `save done`, `claim won`, `checkpoint-reply`."""
    if trigger.message is not None:
        return trigger.message.text
    name = trigger.name.removeprefix(f"{trigger.kind}_").replace("_", " ")
    match trigger.kind:
        case Kind.DONE:
            return f"{name} done"
        case Kind.CLAIM:
            return f"claim {name}"
        case _:
            return name


def asked(effects: Iterable[Effect]) -> str:
    """Effects, in their order: `suspend, save`."""
    return ", ".join(str(e).replace("_", " ") for e in effects)


def among(sources: Sequence[StrEnum], states: Sequence[StrEnum]) -> str:
    """Some of these states, a run of them as its ends: `ready … sized, loaded`."""
    where = [states.index(s) for s in sources]
    parts: list[str] = []
    for _, run in groupby(enumerate(where), key=lambda pair: pair[1] - pair[0]):
        here = [states[i] for _, i in run]
        parts += [f"{here[0]} … {here[-1]}"] if len(here) > 2 else here
    return ", ".join(parts)


def _sent(row: Row) -> tuple[Message, ...]:
    return tuple(e.message for e in row.effects if isinstance(e, Send))


def _gather(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    """Items with the same key together, in the order in which the keys are first met."""
    groups: dict[Hashable, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
