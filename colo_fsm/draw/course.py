"""What happens when nothing breaks: two tables walked together, from the beginning, round after round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain, islice

import attrs

from colo_fsm.fsm import CompleteTable, Effect, Kind, Message, Row, Side, begin

from .arrows import sent


@attrs.frozen
class Step:
    """A row that fires. `at` is when, if every step and every message takes 1 and nobody dawdles.

    `sent_at` is when the message was sent that it takes, if it takes one.
    """

    side: Side
    row: Row
    at: int
    sent_at: int | None = None


@attrs.frozen
class Course:
    """The steps before those that repeat, those, and the first round of them once more.

    The last is a round as any later one is: the guests do what they do between two checkpoints. Nothing
    repeats where no checkpoint begins, or where one never ends: `loop` and `again` are empty.
    """

    beginning: tuple[Step, ...]
    loop: tuple[Step, ...] = ()
    again: tuple[Step, ...] = ()


def course(primary: CompleteTable, secondary: CompleteTable) -> Course:
    """Walk a pair until a round repeats one before it. A round begins when nothing else can happen."""
    ends = (_End(primary), _End(secondary))
    for here, there in (ends, ends[::-1]):
        here.peer = there
        there.inbox += [(message, here.at) for message in sent(here.table.start)]
    rounds = [_settled(ends)]
    while (opening := _opening(ends)) is not None:
        rounds.append((opening, *_settled(ends)))
        *before, last = [[(s.side, s.row.trigger, s.row.dest, s.row.effects) for s in r] for r in rounds]
        if last in before:
            first = before.index(last)
            return Course(_joined(rounds[:first]), _joined(rounds[first:-1]), rounds[-1])
    return Course(_joined(rounds))


@attrs.define
class _End:
    """One side on its way."""

    table: CompleteTable
    peer: _End = attrs.field(init=False)
    inbox: list[tuple[Message, int]] = attrs.field(factory=list, init=False)
    at: int = attrs.field(default=0, init=False)
    _state: StrEnum = attrs.field(init=False)
    _asked: tuple[Effect, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._state, self._asked = self.table.initial, self.table.start

    def step(self) -> Step | None:
        """Take the next message, or end what was asked for, if there is such a row."""
        for row in self.table.written:
            if row.source is self._state:
                if row.trigger.kind is Kind.DONE and row.trigger.word in self._asked:
                    return self._take(row)
                if self.inbox and row.trigger.message is self.inbox[0][0]:
                    return self._take(row, self.inbox.pop(0)[1])
        return None

    def open(self, now: int) -> Step | None:
        """Begin a checkpoint, if that is in order in this state."""
        if not self.table.may(self._state, begin.checkpoint):
            return None
        self.at = now
        return self._take(self.table.by_input[self._state, begin.checkpoint])

    def _take(self, row: Row, came: int | None = None) -> Step:
        self.at = max(self.at, came or 0) + 1
        self._state, self._asked = row.dest or row.source, row.effects
        self.peer.inbox += [(message, self.at) for message in sent(row.effects)]
        return Step(self.table.side, row, self.at, came)


def _settled(ends: tuple[_End, _End]) -> tuple[Step, ...]:
    """The steps until both wait; cut where they would never end, as no round takes a row so often."""
    return tuple(islice(_settle(ends), sum(len(end.table.rows) for end in ends)))


def _settle(ends: tuple[_End, _End]) -> Iterator[Step]:
    moved = True
    while moved:
        moved = False
        for end in ends:
            step = end.step()
            if step is not None:
                moved = True
                yield step


def _opening(ends: tuple[_End, _End]) -> Step | None:
    """The step that begins a round, if both have read what was sent."""
    if any(end.inbox for end in ends):
        return None
    now = max(end.at for end in ends)
    return next((step for end in ends if (step := end.open(now)) is not None), None)


def _joined(rounds: Iterable[tuple[Step, ...]]) -> tuple[Step, ...]:
    return tuple(chain.from_iterable(rounds))
