"""Both machines of a pair, driven from outside by what is seen of them.

A `Position` is where the two machines stand, with the messages that are on their way. The tables say
which positions there are and how one leads to the next. A `Shadow` holds all the positions that agree with
what was seen so far: one, mostly, if it looks from the start, many if it comes in the middle.
When none is left, what was seen last is the deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, StrEnum
from functools import cache

import attrs

from colo_fsm.colo import COLO, Mode, Profile, ReleaseOn, Variant, colo_machine
from colo_fsm.fsm import Do, Kind, Message, Row, Send, Side, begin

VARIANT = Variant(Profile.QEMU, Mode.HYBRID, ReleaseOn.RECEIVED)
"""What real QEMUs do: the Secondary's guest runs between checkpoints, too."""

TABLES = {side: colo_machine(side, VARIANT).table for side in Side}
_ROWS = {
    (side, state): tuple(
        r
        for r in table.written
        if r.source is state
        and r.trigger.kind in (Kind.RECV, Kind.DONE, Kind.BEGIN)
        and r.trigger != begin.leave
    )
    for side, table in TABLES.items()
    for state in table.states
}


class Act(StrEnum):
    """What one side can be seen to do."""

    SENT = "sent"
    RECEIVED = "received"
    DID = "did"


class Sight(Enum):
    """How much of a side's acts is seen: all of its log, only what it sends, or nothing."""

    NOTHING = "nothing"
    SENDS = "sends"
    ALL = "all"


@attrs.frozen
class Seen:
    """One thing that was seen. `what` is the message, an invalid one as a number; for `DID` an effect."""

    side: Side
    act: Act
    what: Message | Do | int
    place: str = attrs.field(default="", eq=False)


@attrs.frozen
class Deviation:
    """A side has done what its machine cannot do now.

    `state` is where it stood, None if that is not known for sure. `expected` are the messages it could
    have sent there, or if there were none, those it had to wait for. `place` is the observer's.
    """

    side: Side
    act: Act
    state: StrEnum | None
    message: Message | Do | int
    expected: frozenset[Message]
    place: str

    def __str__(self) -> str:
        where = f" in '{self.state}'" if self.state else ""
        text = f"the {self.side} {self.act} {_named(self.message)}{where}"
        if self.expected:
            verb = "sends" if COLO.sender[min(self.expected)] is self.side else "awaits"
            text += f", where it {verb} {' or '.join(m.text for m in sorted(self.expected))}"
        return f"{self.place}: {text}" if self.place else text


def _named(what: Message | Do | int) -> str:
    if isinstance(what, Message):
        return what.text
    return f"'{what}'" if isinstance(what, Do) else f"the invalid message {what}"


@attrs.frozen(cache_hash=True)
class Position:
    """Where the machines stand, and what has been sent to the Primary and to the Secondary."""

    primary: StrEnum
    secondary: StrEnum
    to_primary: tuple[Message, ...] = ()
    to_secondary: tuple[Message, ...] = ()

    def state(self, side: Side) -> StrEnum:
        return self.primary if side is Side.PRIMARY else self.secondary

    def inbox(self, side: Side) -> tuple[Message, ...]:
        return self.to_primary if side is Side.PRIMARY else self.to_secondary


@attrs.frozen
class Move:
    """A step of one side by a row of its table: what it takes from its inbox, what it sends."""

    side: Side
    taken: Message | None
    sent: Message | None
    dest: Position

    def shows(self, sight: Sight) -> bool:
        """Whether somebody with this sight of the side sees it."""
        if self.taken is not None and sight is Sight.ALL:
            return True
        return self.sent is not None and sight is not Sight.NOTHING

    def is_what(self, seen: Seen) -> bool:
        moved = self.sent if seen.act is Act.SENT else self.taken
        return self.side is seen.side and moved is not None and moved == seen.what


Positions = frozenset[Position]
START = Position(COLO.initial, COLO.initial)


@cache
def _moves(position: Position) -> tuple[Move, ...]:
    found = []
    for side in Side:
        inbox = position.inbox(side)
        for row in _ROWS[side, position.state(side)]:
            message = row.trigger.message
            if message is None or inbox[:1] == (message,):
                found.append(_move(position, side, row))
    return tuple(found)


def _move(position: Position, side: Side, row: Row) -> Move:
    assert row.dest is not None
    taken = row.trigger.message
    sent = next((e.message for e in row.effects if isinstance(e, Send)), None)
    inbox = position.inbox(side)[0 if taken is None else 1 :]
    outbox = position.inbox(side.peer) + (() if sent is None else (sent,))
    if side is Side.PRIMARY:
        dest = Position(row.dest, position.secondary, inbox, outbox)
    else:
        dest = Position(position.primary, row.dest, outbox, inbox)
    return Move(side, taken, sent, dest)


def _closure(start: Iterable[Position], may: Callable[[Move], bool]) -> Positions:
    """`start`, and where moves lead from there that `may` be made."""
    found = set(start)
    ahead = list(found)
    while ahead:
        new = {move.dest for move in _moves(ahead.pop()) if may(move)} - found
        found |= new
        ahead += new
    return frozenset(found)


ANYWHERE = _closure([START], lambda _: True)
"""Every position of a pair in order: where to start without knowing when."""

Sights = tuple[Sight, Sight]
"""Of the Primary and of the Secondary."""


def _sight(sights: Sights, side: Side) -> Sight:
    return sights[0 if side is Side.PRIMARY else 1]


@cache
def _before(positions: Positions, sights: Sights) -> Positions:
    """Where they may have come to meanwhile, unseen."""
    return _closure(positions, lambda move: not move.shows(_sight(sights, move.side)))


@cache
def _after(positions: Positions, seen: Seen, sights: Sights) -> Positions:
    """Where they are when this was seen; empty if it cannot be."""
    before = _before(positions, sights)
    if seen.act is Act.DID:
        return frozenset(p for p in before if _in_place(seen.side, p.state(seen.side), seen.what))
    return frozenset(move.dest for p in before for move in _moves(p) if move.is_what(seen))


@cache
def _in_place(side: Side, state: StrEnum, what: Do) -> bool:
    """Whether a row with this effect was the last one, or is the next.

    QEMU does the effects of a row in an order of its own; and its Secondary starts its guest before
    `checkpoint-ready`, of which the table knows nothing.
    """
    rows = (r for (of, _), found in _ROWS.items() if of is side for r in found)
    near = (r for r in rows if state in (r.source, r.dest))
    return (state, what) == (COLO.initial, Do.resume) or any(what in r.effects for r in near)


class Shadow:
    """Follows a pair. `deviation` is the first one; nothing is looked at after it.

    Without `start` it has seen the pair from its beginning. `sight` may be changed at any time, say
    when a log ends. By default what both send is seen, in an order in which no answer comes before what
    it answers.
    """

    def __init__(
        self, start: Iterable[Position] = (START,), sights: Sights = (Sight.SENDS, Sight.SENDS)
    ) -> None:
        self.positions: Positions = frozenset(start)
        self.deviation: Deviation | None = None
        self._sights = sights

    def saw(self, side: Side, message: int, place: str = "") -> Deviation | None:
        """This side has sent this message. The deviation, if there is one now."""
        return self.see(Seen(side, Act.SENT, COLO.by_value.get(message, message), place))

    def see(self, seen: Seen) -> Deviation | None:
        """The same for anything that can be seen."""
        if self.deviation is None:
            after = _after(self.positions, seen, self._sights)
            if after:
                self.positions = after
            else:
                self.deviation = self._deviation(seen)
        return self.deviation

    def allows(self, seen: Seen) -> bool:
        """Whether `see` would find this in order."""
        return bool(_after(self.positions, seen, self._sights))

    def look(self, side: Side, sight: Sight) -> None:
        """From now on so much of this side is seen."""
        self.positions = _before(self.positions, self._sights)
        primary, secondary = self._sights
        self._sights = (sight, secondary) if side is Side.PRIMARY else (primary, sight)

    @property
    def between_rounds(self) -> bool:
        """Whether both may stand where a side may leave in order."""
        return any(all(p.state(side) in TABLES[side].idle for side in Side) for p in self._settled())

    def states(self, side: Side) -> frozenset[StrEnum]:
        """Where this side may stand, if all has arrived that was sent to it."""
        return frozenset(p.state(side) for p in self._settled())

    def _settled(self) -> Positions:
        """The positions that nothing unseen leads out of; all, if there is no end to that."""
        before = _before(self.positions, self._sights)
        shows = {p: all(m.shows(_sight(self._sights, m.side)) for m in _moves(p)) for p in before}
        return frozenset(p for p in before if shows[p]) or before

    def _deviation(self, seen: Seen) -> Deviation:
        settled = self._settled()
        states = {p.state(seen.side) for p in settled}
        sends = {m.sent for p in settled for m in _moves(p) if m.side is seen.side and m.sent is not None}
        awaits = {message for state in states for message in TABLES[seen.side].accepts[state]}
        state = states.pop() if len(states) == 1 else None
        return Deviation(seen.side, seen.act, state, seen.what, frozenset(sends or awaits), seen.place)
