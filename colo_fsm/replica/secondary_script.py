"""What only a Secondary does: receives a checkpoint, stores it whole, and loads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from colo_fsm.colo import State
from colo_fsm.fsm import SIZE_SIZE, Do, Effects, GuestFailed, Inbox, InvalidState, ProtocolError, Truncated
from colo_fsm.stream import (
    Blocks,
    Decoder,
    Delta,
    InitialDecoder,
    LiveDecoder,
    Ram,
    Sink,
    StreamError,
    decode_device_state,
)

from .events import CheckpointTaken
from .script import Replica, Script
from .store import Store


class SecondaryReplica(Replica):
    """The Secondary at work. `checkpoint` is the newest one that its guest holds."""

    def __init__(self, *args: Any, store: Store, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.store = store

    def own_effects(self) -> Mapping[Do, Callable[[], Script[Effects]]]:
        self._ram: Ram | None = None
        self._delta = Delta()
        self._device = b""
        self._received = 0
        self._loaded: tuple[int, int] | None = None
        return {
            Do.receive_initial: self._receive_initial,
            Do.receive_live: self._receive_live,
            Do.receive_state: self._receive_state,
            Do.store: self._store,
            Do.load: self._load,
        }

    def begin(self) -> Script[Effects]:
        """The generation comes with the initial state."""
        yield from ()
        return ()

    def _receive_initial(self) -> Script[Effects]:
        limit = max(self.options.state_limit, sum(self.guest.blocks.values()))
        decoder = InitialDecoder(self._new_image, limit=limit)
        yield from self._decode(decoder)
        self._ram, self.generation = decoder.ram, decoder.generation
        yield from self.call("arbiter", self.arbiter.check, decoder.generation)
        yield from self.call("store", self.store.complete, decoder.generation, decoder.device)
        return (yield from self._load())

    def _new_image(self, blocks: Blocks) -> Sink:
        if dict(blocks) != dict(self.guest.blocks):
            raise InvalidState(
                ValueError(
                    f"the Primary's guest has the RAM blocks {dict(blocks)}, this side's has "
                    f"{dict(self.guest.blocks)}: start both with the same guest and capacity"
                )
            )
        return self.store.begin(blocks)

    def _receive_live(self) -> Script[Effects]:
        assert self._ram is not None
        self._delta = Delta()
        decoder = LiveDecoder(self._ram, self._delta)
        yield from self._decode(decoder)
        self._received = decoder.bytes
        return ()

    def _receive_state(self) -> Script[Effects]:
        """A size, then that many bytes; a size over the limit is refused before room is made."""
        inbox = Inbox()
        while len(inbox) < SIZE_SIZE:
            inbox.feed((yield from self._some()))
        size = inbox.take_size() or 0
        if size > self.options.state_limit:
            limit = self.options.state_limit
            raise InvalidState(ValueError(f"a device state of {size} bytes is over the limit of {limit}"))
        while len(inbox) < size:
            inbox.feed((yield from self._some()))
        try:
            self._device = self.device_state(inbox.take(size))
        except StreamError as cause:
            raise InvalidState(cause) from cause
        self._received += size
        if rest := inbox.take():
            self.session.give_back(rest)
        return ()

    def device_state(self, data: bytes) -> bytes:
        """What to store of the bytes behind vmstate-size. Raises StreamError."""
        return decode_device_state(data)

    def _decode(self, decoder: Decoder) -> Script[None]:
        while not decoder.complete:
            data = yield from self._some()
            try:
                used = decoder.feed(data)
            except StreamError as cause:
                raise InvalidState(cause) from cause
            except ProtocolError:
                raise
            except Exception as cause:
                raise GuestFailed("store", cause) from cause
            if used < len(data):
                self.session.give_back(memoryview(data)[used:])

    def _some(self) -> Script[bytes]:
        data = yield from self.receive()
        if not data:
            raise Truncated
        return data

    def _store(self) -> Script[Effects]:
        yield from self.call("store", self.store.commit, self._delta, self._device)
        return ()

    def _load(self) -> Script[Effects]:
        """Load the newest checkpoint, unless the guest holds it already."""
        newest = yield from self.call("store", lambda: self.store.newest)
        assert newest is not None
        which = newest.generation, newest.number
        if self._loaded != which:
            self._loaded = None
            yield from self.call("guest.load", self.guest.load, newest)
            self._loaded = which
            self.checkpoint = newest.number
        if self.session.state is State.RECEIVED:
            self._emit(self.taken(newest.number))
        return ()

    def taken(self, number: int) -> CheckpointTaken:
        """What to tell of the round that is complete now."""
        return CheckpointTaken(number, len(self._delta), self._received, 0.0, 0.0)

    def _discard(self) -> Script[Effects]:
        """Drop a part of a checkpoint that has arrived, too."""
        yield from self.call("store", self.store.abort)
        return (yield from super()._discard())
