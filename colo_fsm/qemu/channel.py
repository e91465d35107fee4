"""What passes between two real QEMUs, taken apart: messages, and the state that stands behind some of them.

Behind which message a state comes, the Secondary's table says. Any chunking gives the same events.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import attrs

from colo_fsm.fsm import MESSAGE_SIZE, SIZE_SIZE, Do, Side
from colo_fsm.replica.store import Store
from colo_fsm.stream import (
    DEVICE_LIMIT,
    Blocks,
    Buffer,
    DescriptionDecoder,
    PatchSink,
    StreamError,
    VmInitialDecoder,
    VmLiveDecoder,
    device_sections,
    pong,
)
from colo_fsm.stream.memory import ZERO_PAGE
from colo_fsm.stream.source import Decoder

from .checkpoint import END_MARK, meta_of
from .shadow import TABLES
from .standby import RoundDelta

CHANNELS = {Side.PRIMARY: "p2s", Side.SECONDARY: "s2p"}
"""The name of the channel on which a side sends."""

NO_LIMIT = 1 << 62
_STATE_BEHIND: dict[int, Do] = {
    row.trigger.message: effect
    for row in TABLES[Side.SECONDARY].written
    for effect in (Do.receive_live, Do.receive_state)
    if effect in row.effects and row.trigger.message is not None
}
_PONG = pong(0)[:MESSAGE_SIZE]


@attrs.frozen
class Message:
    """A message, valid or not; `start` and `end` count bytes of its channel."""

    value: int
    start: int
    end: int


@attrs.frozen
class Initial:
    """The initial stream, up to where the Secondary answers `checkpoint-ready`."""

    pages: int
    zero_pages: int
    devices: bytes = attrs.field(repr=False)
    """The device sections."""
    start: int
    end: int


@attrs.frozen
class Described:
    """The description behind the initial stream, or nothing: the next message begins at `end`."""

    start: int
    end: int


@attrs.frozen
class Live:
    """The live state of a round."""

    pages: int
    zero_pages: int
    start: int
    end: int


@attrs.frozen
class DeviceState:
    """The vmstate of a round; `start` is behind its size. The round has arrived whole."""

    start: int
    end: int


Event = Message | Initial | Described | Live | DeviceState


class Undecodable(Exception):
    """A channel holds what is not read here, or what is malformed. It is not decoded from there on."""

    def __init__(self, side: Side, offset: int, problem: str) -> None:
        super().__init__(side, offset, problem)
        self.side = side
        self.offset = offset
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem} (byte {self.offset} of {CHANNELS[self.side]})"


class Channel:
    """What one side sends."""

    side: Side

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._rest = memoryview(b"")
        self._offset = 0
        """Of `_rest`: of the first byte that was not taken."""
        self._parser = self._parse()

    def feed(self, data: Buffer) -> Sequence[Event]:
        """What these bytes complete. Raises Undecodable, and is of no use after that."""
        self._rest = memoryview(data)
        self._events = []
        next(self._parser)
        return self._events

    def _parse(self) -> Generator[None, None, None]:
        raise NotImplementedError

    def _take(self, size: int) -> Generator[None, None, bytes]:
        held = bytearray()
        while True:
            piece = self._rest[: size - len(held)]
            held += piece
            self._advance(len(piece))
            if len(held) == size:
                return bytes(held)
            yield

    def _advance(self, size: int) -> None:
        self._rest = self._rest[size:]
        self._offset += size

    def _message(self, raw: bytes) -> int:
        """These bytes, taken just now, are a message."""
        value = int.from_bytes(raw, "big")
        self._events.append(Message(value, self._offset - MESSAGE_SIZE, self._offset))
        return value


class Return(Channel):
    """What a Secondary sends: messages, and answers to pings."""

    side = Side.SECONDARY

    def _parse(self) -> Generator[None, None, None]:
        while True:
            raw = yield from self._take(MESSAGE_SIZE)
            if raw == _PONG:
                yield from self._take(len(pong(0)) - MESSAGE_SIZE)
            else:
                self._message(raw)


class Forward(Channel):
    """What a Primary sends. Its checkpoints go to `store`, if there is one, under generation 0."""

    side = Side.PRIMARY

    def __init__(self, store: Store | None = None) -> None:
        super().__init__()
        self._store = store
        self._initial = VmInitialDecoder(_drop if store is None else store.begin, limit=NO_LIMIT)
        self._delta: RoundDelta | None = None
        self._meta: dict[str, str] | None = None

    def _parse(self) -> Generator[None, None, None]:
        yield from self._receive_initial()
        while True:
            value = self._message((yield from self._take(MESSAGE_SIZE)))
            behind = _STATE_BEHIND.get(value)
            if behind is Do.receive_live:
                yield from self._receive_live()
            elif behind is Do.receive_state:
                yield from self._receive_state()

    def _receive_initial(self) -> Generator[None, None, None]:
        initial = self._initial
        yield from self._through(initial)
        self._events.append(Initial(initial.pages, initial.zero_pages, initial.devices, 0, self._offset))
        if self._store is not None:
            self._store.complete(0, initial.devices, self._meta_with(None))
        start = self._offset
        description = DescriptionDecoder()
        yield from self._through(description)
        self._events.append(Described(start, self._offset))
        self._meta = self._meta_with(description.description)

    def _meta_with(self, description: bytes | None) -> dict[str, str]:
        initial = self._initial
        return meta_of(initial.machine, initial.head, initial.ram.section, description)

    def _receive_live(self) -> Generator[None, None, None]:
        start = self._offset
        self._delta = None if self._store is None else RoundDelta(self._store)
        live = VmLiveDecoder(self._initial.ram, _Dropped() if self._delta is None else self._delta)
        yield from self._through(live)
        self._events.append(Live(live.pages, live.zero_pages, start, self._offset))

    def _receive_state(self) -> Generator[None, None, None]:
        size = int.from_bytes((yield from self._take(SIZE_SIZE)), "big")
        start = self._offset
        if size > DEVICE_LIMIT:
            raise Undecodable(self.side, start - SIZE_SIZE, f"a vmstate of {size} bytes")
        state = yield from self._take(size)
        try:
            device_sections(state)
        except StreamError as error:
            raise Undecodable(self.side, start + error.offset, error.problem) from None
        if self._store is not None and self._delta is not None:
            self._store.commit(self._delta, state.removesuffix(END_MARK), self._meta)
            self._delta = self._meta = None
        self._events.append(DeviceState(start, self._offset))

    def _through(self, decoder: Decoder) -> Generator[None, None, None]:
        """Until this decoder has all that is its own."""
        start = self._offset
        while True:
            if len(self._rest):
                try:
                    self._advance(decoder.feed(self._rest))
                except StreamError as error:
                    raise Undecodable(self.side, start + error.offset, error.problem) from None
            if decoder.complete:
                return
            yield


class _Dropped:
    """A sink for who only wants to count. What a change to a page makes of it does not matter."""

    def put(self, block: str, offset: int, data: Buffer, /) -> None:
        pass

    def get(self, block: str, offset: int, /) -> Buffer:
        return ZERO_PAGE


def _drop(_: Blocks) -> PatchSink:
    return _Dropped()
