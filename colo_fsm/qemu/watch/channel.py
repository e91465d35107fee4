"""What passes between two real QEMUs, taken apart: messages, and the state that stands behind some of them.

Behind which message a state comes, the Secondary's table says. Any chunking gives the same events.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import attrs

from colo_fsm.fsm import MESSAGE_SIZE, Do, Side
from colo_fsm.replica.store import Store
from colo_fsm.stream import DEVICE_LIMIT, Buffer, StreamError, device_sections, pong, shut
from colo_fsm.stream.source import Decoder, Parsing, within

from ..incoming import IncomingVm
from .shadow import TABLES

CHANNELS = {Side.PRIMARY: "p2s", Side.SECONDARY: "s2p"}
"""The name of the channel on which a side sends."""

_STATE_BEHIND: dict[int, Do] = {
    row.trigger.message: effect
    for row in TABLES[Side.SECONDARY].written
    for effect in (Do.receive_live, Do.receive_state)
    if effect in row.effects and row.trigger.message is not None
}
_NO_MESSAGES = {
    int.from_bytes(said[:MESSAGE_SIZE], "big"): len(said) - MESSAGE_SIZE for said in (pong(0), shut())
}
"""How what a Secondary says on QEMU's return path begins, and how many bytes follow."""


@attrs.frozen
class Event:
    """Something whole that has passed: where it lies in its channel, counted in bytes."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.start


@attrs.frozen
class Said(Event):
    """A message, valid or not."""

    value: int


@attrs.frozen
class Live(Event):
    """The live state of a round, its end mark included."""

    pages: int
    zero_pages: int


@attrs.frozen
class Initial(Live):
    """The initial stream, up to where the Secondary answers `checkpoint-ready`."""

    devices: bytes = attrs.field(repr=False)
    """The device sections."""


@attrs.frozen
class Described(Event):
    """The description behind the initial stream, or nothing: the next message begins at `end`."""


@attrs.frozen
class DeviceState(Event):
    """The vmstate of a round, behind its size. The round has arrived whole."""


class Undecodable(Exception):
    """A channel holds what is not read here, or what is malformed. It is not decoded from there on."""

    def __init__(self, side: Side, offset: int, problem: str) -> None:
        super().__init__(side, offset, problem)
        self.side = side
        self.offset = offset
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem} (byte {self.offset} of {CHANNELS[self.side]})"


class Channel(Decoder):
    """What one side sends: an endless stream of `events`."""

    side: Side

    def __init__(self) -> None:
        super().__init__()
        self.whole = 0
        """How many of its `bytes` are whole: messages, with the states that belong behind them."""
        self._events: list[Event] = []

    def events(self, data: Buffer) -> Iterator[Event]:
        """What these bytes complete; behind that raises Undecodable, and is of no use any more."""
        failure: Exception | None = None
        try:
            self.feed(data)
        except StreamError as error:
            failure = Undecodable(self.side, error.offset, error.problem)
        except Exception as error:  # noqa: BLE001 - the store's: what was whole before it counts
            failure = error
        events, self._events = self._events, []
        yield from events
        if failure is not None:
            raise failure

    def _message(self, value: int) -> None:
        """What has been read just now is this message."""
        end = self._source.offset
        self._events.append(Said(end - MESSAGE_SIZE, end, value))


class Return(Channel):
    """What a Secondary sends: messages, and what belongs to QEMU's return path."""

    side = Side.SECONDARY

    def _parse(self) -> Parsing[None]:
        while True:
            value = yield from self._source.u32()
            if value in _NO_MESSAGES:
                yield from self._source.skip(_NO_MESSAGES[value])
            else:
                self._message(value)
            self.whole = self._source.offset


class Forward(Channel):
    """What a Primary sends. Its checkpoints go to `store`, if there is one, under generation 0."""

    side = Side.PRIMARY

    def __init__(self, store: Store | None = None) -> None:
        super().__init__()
        self._vm = IncomingVm(store, limit=sys.maxsize)

    @property
    def answers(self) -> Sequence[bytes]:
        """What a Secondary has to say on QEMU's return path, in order, before `checkpoint-ready`."""
        return self._vm.initial.vm.answers

    def _parse(self) -> Parsing[None]:
        yield from self._receive_initial()
        while True:
            self.whole = self._source.offset
            value = yield from self._source.u32()
            self._message(value)
            behind = _STATE_BEHIND.get(value)
            if behind is Do.receive_live:
                yield from self._receive_live()
            elif behind is Do.receive_state:
                yield from self._receive_state()

    def _receive_initial(self) -> Parsing[None]:
        state = self._vm.initial
        yield from within(self._source, state, lambda: state.complete)
        vm = state.vm
        self._events.append(Initial(0, vm.bytes, vm.pages, vm.zero_pages, vm.devices))
        self._vm.complete()
        self.whole = vm.bytes
        yield from within(self._source, state, lambda: state.over)
        self._events.append(Described(vm.bytes, state.bytes))

    def _receive_live(self) -> Parsing[None]:
        start = self._source.offset
        live = self._vm.live()
        yield from within(self._source, live)
        self._events.append(Live(start, self._source.offset, live.pages, live.zero_pages))

    def _receive_state(self) -> Parsing[None]:
        at = self._source.offset
        size = yield from self._source.u64()
        if size > DEVICE_LIMIT:
            raise StreamError(at, f"a vmstate of {size} bytes")
        start = self._source.offset
        vmstate = bytes((yield from self._source.take(size)))
        try:
            device_sections(vmstate, self._vm.initial.layout)
        except StreamError as error:
            raise StreamError(start + error.offset, error.problem) from None
        self._vm.commit(vmstate)
        self._events.append(DeviceState(start, self._source.offset))
