"""What a picture shows of a complete table: its rows as few arrows, and the words on them.

Rows that differ in their source or their trigger only become one arrow, and the rows that `complete()`
added become one arrow for each way out: that is what keeps a table of a hundred rows readable.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import groupby
from typing import TypeVar

import attrs

from colo_fsm.fsm import CompleteTable, Effect, Kind, Message, Row, Send, Side, Trigger, begin

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
    """A message of the handshake, with the states of each side that have sent it or taken it.

    The first of them is its sync point where the rows lead there: it stands at the message's height.
    """

    message: Message
    sender: Side
    ends: Mapping[Side, tuple[StrEnum, ...]]


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
    """The states that a side goes through as long as nothing breaks, in the order of the protocol."""
    passed = {table.initial}
    while ahead := {r.dest for r in table.written if r.source in passed and r.dest and _goes_on(r)} - passed:
        passed |= ahead
    return tuple(s for s in table.states if s in passed - table.final)


def _goes_on(row: Row) -> bool:
    return row.trigger.kind in (Kind.RECV, Kind.DONE) or row.trigger is begin.checkpoint


def crossings(*tables: CompleteTable) -> tuple[Crossing, ...]:
    """Every message that passes between these two as long as nothing breaks; the topmost comes first."""
    found = [
        Crossing(message, sender, {table.side: _ends(table, message) for table in tables})
        for message, sender in tables[0].words.sender.items()
    ]
    order, side = tables[0].states.index, tables[0].side
    passing = (crossing for crossing in found if all(crossing.ends.values()))
    return tuple(sorted(passing, key=lambda crossing: order(crossing.ends[side][0])))


def _ends(table: CompleteTable, message: Message) -> tuple[StrEnum, ...]:
    spine, mirror = handshake(table), table.words.mirror[message]
    ends = [table.initial] if message in sent(table.start) else []
    ends += [
        r.dest or r.source
        for r in table.written
        if r.trigger.message is message or message in sent(r.effects)
    ]
    return tuple(sorted(dict.fromkeys(s for s in ends if s in spine), key=lambda state: state is not mirror))


def sent(effects: Iterable[Effect]) -> tuple[Message, ...]:
    """The messages among these effects."""
    return tuple(e.message for e in effects if isinstance(e, Send))


def titled(table: CompleteTable, whose: str = "") -> str:
    """What a picture is of: whose part of it, the protocol, and the variant if there is a choice."""
    name = f"{whose} of {table.words.name}" if whose else table.words.name
    return f"{name}, {table.variant}" if table.variant else name


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


def _gather(items: Iterable[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    """Items with the same key together, in the order in which the keys are first met."""
    groups: dict[Hashable, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
