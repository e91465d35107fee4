"""One moment of the whole system, as a value: both sides, both directions of the link, what is true of them.

Checkpoints are numbered relative to the Primary's newest save: a *lag* of 0 is that one, 1 the one before
it, NEVER none at all. So the space is finite although rounds go on for ever. Lags stop counting at FAR,
which no sound table reaches.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

from colo_fsm.fsm import Effect, Side

from .wire import Wire

NEVER = -1
FAR = 3
ROOM = 6
"""How much fits on the wire in one direction: more than a round has, so only a disturbed one ever waits."""
KNOWN_ROOM = 3
"""How much room a writer looks for: no step sends more."""


class Output(IntEnum):
    """What has become of a side's packets."""

    NONE = 0
    """It never ran."""
    HELD = 1
    """They wait for a checkpoint."""
    THROUGH = 2
    """It runs alone: they leave at once."""
    DROPPED = 3


class End(IntEnum):
    """How one direction of the link ends, behind what is still in it."""

    OPEN = 0
    CLOSED = 1
    """The reader comes to the end of the link."""
    SILENT = 2
    """The reader waits for ever."""
    GONE = 3
    """Nobody reads any more."""


class Lone(IntEnum):
    """Whether a side runs without the other."""

    NEVER = 0
    NOW = 1
    WAS = 2


class Vcpu(IntEnum):
    """The Secondary's guest, as comparing sees it (mode `hybrid`)."""

    STOPPED = 0
    RUNS = 1
    LEFT = 2


class Local(NamedTuple):
    """One side. `todo`: the effects it has still to perform; the first is under way, `half` done or not.

    `torn`: its guest is half loaded.
    """

    state: StrEnum
    todo: tuple[Effect, ...] = ()
    half: bool = False
    connected: bool = True
    running: bool = False
    output: Output = Output.NONE
    torn: bool = False


MaybeDead = Local | None
"""A side; None: it has crashed."""


class Item(NamedTuple):
    """Something on the wire: a message, or a state with its lag; `sound` unless it was damaged."""

    value: int
    lag: int = 0
    sound: bool = True


class Channel(NamedTuple):
    """One direction of the link."""

    items: tuple[Item, ...] = ()
    end: End = End.OPEN

    @property
    def outgoing(self) -> Outgoing:
        """What its writer can tell of it."""
        return Outgoing(self.end, min(ROOM - len(self.items), KNOWN_ROOM))

    @property
    def incoming(self) -> Incoming:
        """What its reader can tell of it."""
        return Incoming(self.end, self.items[0] if self.items else None)


class Outgoing(NamedTuple):
    """What a side can tell of its way to the peer: how it ends, and the room in it (up to KNOWN_ROOM)."""

    end: End
    room: int


class Incoming(NamedTuple):
    """What a side can tell of its way from the peer."""

    end: End
    first: Item | None


class Put(NamedTuple):
    """What a step does to the way out: states on it grow older, items follow, it ends (if it is open)."""

    aged: bool = False
    items: tuple[int, ...] = ()
    end: End = End.OPEN

    def on(self, channel: Channel, wire: Wire) -> Channel:
        items, end = channel
        if self.aged:
            items = tuple(i._replace(lag=older(i.lag)) if wire.has_state(i.value) else i for i in items)
        if end is not End.OPEN:
            return Channel(items, end)
        return Channel((*items, *map(Item, self.items)), self.end)


class Take(IntEnum):
    """What a step does to the way in."""

    NOTHING = 0
    FIRST = 1
    """The first item is read."""
    HANG_UP = 2
    """Nobody reads any more, and the peer may notice."""
    VANISH = 3
    """Nobody reads any more, and nobody is told."""

    def on(self, channel: Channel) -> Channel:
        match self:
            case Take.FIRST:
                return channel._replace(items=channel.items[1:])
            case Take.HANG_UP:
                return Channel((), End.GONE)
            case Take.VANISH:
                return Channel((), End.SILENT)
        return channel


class Facts(NamedTuple):
    """What is true of both sides, and what the environment knows."""

    released: int = 0
    """The newest checkpoint whose packets are out, as a lag."""
    stored: int = NEVER
    """The Secondary's newest checkpoint, as a lag."""
    loadable: bool = True
    """Whether it can be loaded."""
    loaded: int = NEVER
    """What the Secondary's guest holds, as a lag."""
    received: int = NEVER
    """What the Secondary has received and not stored, as a lag."""
    intact: bool = True
    """Whether that is undamaged."""
    winner: Side | None = None
    """What the arbiter has recorded."""
    arbiter_up: bool = True
    primary_alone: Lone = Lone.NEVER
    secondary_alone: Lone = Lone.NEVER
    comparing: bool = False
    svm: Vcpu = Vcpu.STOPPED
    heard: bool = False
    """Whether the Primary's guest runs, not yet alone, and what it says comes to the Secondary's gate."""
    sealed: int = NEVER
    """The newest checkpoint whose packets wait at the gate apart from those that come, as a lag."""

    def alone(self, side: Side) -> Lone:
        return self.primary_alone if side is Side.PRIMARY else self.secondary_alone

    def with_alone(self, side: Side, alone: Lone) -> Facts:
        if side is Side.PRIMARY:
            return self._replace(primary_alone=alone)
        return self._replace(secondary_alone=alone)

    def aged(self) -> Facts:
        """After the Primary has saved once more."""
        return self._replace(
            released=older(self.released),
            stored=older(self.stored),
            loaded=older(self.loaded),
            received=older(self.received),
            sealed=older(self.sealed),
        )


class World(NamedTuple):
    """One moment. `forward` leads to the Secondary, `back` to the Primary.

    `budget`: how many disturbances of the wire may still strike.
    """

    primary: MaybeDead
    secondary: MaybeDead
    forward: Channel
    back: Channel
    facts: Facts
    budget: int


def older(lag: int) -> int:
    """The same checkpoint after one more save."""
    return lag if lag == NEVER else min(lag + 1, FAR)
