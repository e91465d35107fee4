"""Pictures as Mermaid, the text that GitHub draws.

A side is a state diagram. A pair is a sequence diagram: in Mermaid's state diagrams no arrow may lead from
inside one composite state into another, and that is just where the messages are.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import attrs

from colo_fsm.fsm import CompleteTable, Kind, Message, Row, Send, Side

from .arrows import NEXT, REST, REST_MEANS, Arrow, among, arrows, asked, handshake, said


def side(table: CompleteTable) -> str:
    """One side's machine as a `stateDiagram-v2`: every written row, with its trigger and its effects."""
    lines = [f"%% {table.side.title()}, {table.variant}. {REST}: {REST_MEANS}", "stateDiagram-v2"]
    lines.append(f"    [*] --> {table.initial}{_words(asked(table.start))}")
    for arrow in arrows(table):
        if arrow.is_rest and len(arrow.sources) > 1:
            note = f"{REST} in {among(arrow.sources, table.states)}"
            lines.append(f'    state "{note}" as rest_{arrow.sources[0]}')
            lines.append(f"    rest_{arrow.sources[0]} --> {arrow.dest}{_words(asked(arrow.effects))}")
        else:
            words = _words(" or ".join(map(said, arrow.triggers)) or REST, asked(arrow.effects))
            lines += [f"    {source} --> {arrow.dest}{words}" for source in arrow.sources]
    lines += [f"    {state} --> [*]" for state in table.states if state in table.final]
    return "\n".join(lines) + "\n"


def pair(primary: CompleteTable, secondary: CompleteTable) -> str:
    """What passes between the sides as a `sequenceDiagram`: the beginning, one checkpoint, and breaks."""
    lines = [f"%% COLO, {primary.variant}. {REST}: {REST_MEANS}", "sequenceDiagram"]
    for table in (primary, secondary):
        lines.append(f"    participant {table.side} as {table.side.title()}")
    for table in (primary, secondary):
        if table.start:
            lines.append(_note(table.side, f"{table.initial}: {asked(table.start)}"))
    indent = ""
    for table, row in _exchange(primary, secondary):
        if not indent and _comes_again(table, row):
            lines.append(f"    loop {NEXT}")
            indent = "    "
        lines += [indent + line for line in _step(table, row)]
    lines += [indent + line for table in (primary, secondary) for line in _breaks(table)]
    return "\n".join(lines + ["    end"] * bool(indent)) + "\n"


def _words(*parts: str) -> str:
    said = " / ".join(p for p in parts if p)
    return f" : {said}" if said else ""


def _note(side: Side, text: str) -> str:
    where = "left" if side is Side.PRIMARY else "right"
    return f"    Note {where} of {side}: {text}"


def _exchange(primary: CompleteTable, secondary: CompleteTable) -> Iterator[tuple[CompleteTable, Row]]:
    """The rows that fire, in turn, from the beginning until both would go back to an earlier state."""
    ends = (_End(primary), _End(secondary))
    moved = True
    while moved:
        moved = False
        for here, there in (ends, ends[::-1]):
            row = here.next_row()
            if row is not None:
                moved = True
                there.inbox += [e.message for e in row.effects if isinstance(e, Send)]
                yield here.table, row


@attrs.define
class _End:
    """One side of the exchange that is drawn."""

    table: CompleteTable
    inbox: list[Message] = attrs.Factory(list)
    _state: StrEnum = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._state = self.table.initial

    def next_row(self) -> Row | None:
        """Take the next step along the handshake, if there is one now."""
        spine = handshake(self.table)
        for row in self.table.written:
            if row.source is not self._state or row.dest not in spine:
                continue
            if spine.index(row.dest) > spine.index(row.source) and self._is_due(row):
                self._state = row.dest
                return row
        return None

    def _is_due(self, row: Row) -> bool:
        if row.trigger.message is None:
            return True
        if self.inbox[:1] != [row.trigger.message]:
            return False
        self.inbox.pop(0)
        return True


def _comes_again(table: CompleteTable, row: Row) -> bool:
    """Whether a later state takes this step too: the round begins here."""
    again = (r.source for r in table.written if (r.trigger, r.dest) == (row.trigger, row.dest))
    return any(table.states.index(source) > table.states.index(row.source) for source in again)


def _step(table: CompleteTable, row: Row) -> Iterator[str]:
    own = asked(e for e in row.effects if not isinstance(e, Send))
    cause = "" if row.trigger.kind is Kind.RECV else f"{said(row.trigger)} → "
    yield _note(table.side, f"{cause}{row.dest}" + (f": {own}" if own else ""))
    for effect in row.effects:
        if isinstance(effect, Send):
            yield f"    {table.side}->>{table.side.peer}: {effect.message.text}"


def _breaks(table: CompleteTable) -> Iterator[str]:
    drawn = arrows(table)
    for arrow in drawn:
        if arrow.is_rest and arrow.dest not in table.final:
            yield f"    break {table.side.title()}: {REST} in {among(arrow.sources, table.states)}"
            after = [_outcome(a) for a in drawn if a.sources == (arrow.dest,)]
            yield "    " + _note(table.side, "<br/>".join([f"{arrow.dest}: {asked(arrow.effects)}", *after]))
            yield "    end"


def _outcome(arrow: Arrow) -> str:
    return f"{' or '.join(map(said, arrow.triggers))} → {arrow.dest}: {asked(arrow.effects)}"
