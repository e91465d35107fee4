"""Pictures as Mermaid, the text that GitHub draws.

A side is a state diagram. A pair is a sequence diagram: in Mermaid's state diagrams no arrow may lead from
inside one composite state into another, and that is just where the messages are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from colo_fsm.fsm import CompleteTable, Effect, Kind, Message, Send, Side, recv

from .arrows import (
    NEXT,
    REST,
    REST_MEANS,
    Arrow,
    among,
    arrows,
    asked,
    said,
    sent,
    titled,
)
from .course import Step, course


def side(table: CompleteTable) -> str:
    """One side's machine as a `stateDiagram-v2`: every written row, with its trigger and its effects."""
    lines = [f"%% {titled(table, table.side.title())}. {REST}: {REST_MEANS}", "stateDiagram-v2"]
    lines += [f'    state "{state}" as {_id(state)}' for state in table.states if state != _id(state)]
    lines.append(f"    [*] --> {_id(table.initial)}{_words(asked(table.start))}")
    for arrow in arrows(table):
        dest = _id(arrow.dest)
        if arrow.is_rest and len(arrow.sources) > 1:
            note = f"{REST} in {among(arrow.sources, table.states)}"
            rest = f"rest_{_id(arrow.sources[0])}"
            lines += [f'    state "{note}" as {rest}', f"    {rest} --> {dest}{_words(asked(arrow.effects))}"]
        else:
            words = _words(_why(arrow), asked(arrow.effects))
            lines += [f"    {_id(source)} --> {dest}{words}" for source in arrow.sources]
    lines += [f"    {_id(state)} --> [*]" for state in table.states if state in table.final]
    return "\n".join(lines) + "\n"


def pair(primary: CompleteTable, secondary: CompleteTable) -> str:
    """What passes between the sides as a `sequenceDiagram`: the beginning, one checkpoint, and breaks."""
    lines = [f"%% {titled(primary)}. {REST}: {REST_MEANS}", "sequenceDiagram"]
    tables = (primary, secondary)
    lines += [f"    participant {table.side} as {table.side.title()}" for table in tables]
    for table in tables:
        if table.start:
            lines += _moment(table.side, str(table.initial), table.start)
    way = course(primary, secondary)
    lines += [line for step in way.beginning for line in _step(step)]
    after = [line for step in way.loop for line in _step(step)]
    passed = {m for table in tables for m in sent(table.start)}
    passed |= {m for step in (*way.beginning, *way.loop) for m in sent(step.row.effects)}
    for message, sender in primary.words.sender.items():
        if message not in passed:
            after += _aside(message, *(tables if sender is Side.PRIMARY else tables[::-1]))
    after += [line for table in tables for line in _breaks(table)]
    if way.loop:
        after = [f"    loop {NEXT}", *(f"    {line}" for line in after), "    end"]
    return "\n".join(lines + after) + "\n"


def _id(state: StrEnum) -> str:
    """A state for Mermaid, which takes no spaces: its text is declared where it is another."""
    return state.name.lower()


def _why(arrow: Arrow) -> str:
    return " or ".join(map(said, arrow.triggers)) or REST


def _words(*parts: str) -> str:
    words = " / ".join(p for p in parts if p)
    return f" : {words}" if words else ""


def _note(side: Side, text: str) -> str:
    where = "left" if side is Side.PRIMARY else "right"
    return f"    Note {where} of {side}: {text}"


def _moment(side: Side, text: str, effects: Iterable[Effect]) -> Iterator[str]:
    """What a side does and sends, under these words."""
    own = asked(e for e in effects if not isinstance(e, Send))
    yield _note(side, f"{text}: {own}" if own else text)
    for message in sent(effects):
        yield f"    {side}->>{side.peer}: {message.text}"


def _step(step: Step) -> Iterator[str]:
    row = step.row
    cause = "" if row.trigger.kind is Kind.RECV else f"{said(row.trigger)} → "
    yield from _moment(step.side, f"{cause}{row.dest or row.source}", row.effects)


def _aside(message: Message, sender: CompleteTable, receiver: CompleteTable) -> Iterator[str]:
    """A message that no round has: why it is sent, and what it brings about."""
    for arrow in arrows(sender):
        if message in sent(arrow.effects) and not arrow.is_rest:
            yield f"    break {sender.side.title()}: {_why(arrow)} in {among(arrow.sources, sender.states)}"
            yield from ("    " + line for line in _moment(sender.side, str(arrow.dest), arrow.effects))
            for taken in arrows(receiver):
                if recv(message) in taken.triggers:
                    text = f"{taken.dest} (in {among(taken.sources, receiver.states)})"
                    yield from ("    " + line for line in _moment(receiver.side, text, taken.effects))
            yield "    end"


def _breaks(table: CompleteTable) -> Iterator[str]:
    drawn = arrows(table)
    for arrow in drawn:
        if arrow.is_rest and arrow.dest not in table.final:
            yield f"    break {table.side.title()}: {REST} in {among(arrow.sources, table.states)}"
            after = [_outcome(a) for a in drawn if a.sources == (arrow.dest,)]
            text = "<br/>".join([f"{arrow.dest}: {asked(arrow.effects)}", *after])
            yield "    " + _note(table.side, text)
            yield from (f"        {table.side}->>{table.side.peer}: {m.text}" for m in sent(arrow.effects))
            yield "    end"


def _outcome(arrow: Arrow) -> str:
    return f"{_why(arrow)} → {arrow.dest}: {asked(arrow.effects)}"
