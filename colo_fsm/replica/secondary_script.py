"""What only a Secondary does: receives a checkpoint, stores it whole, and loads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from colo_fsm.arbiter import GenerationClaimed, UnknownGeneration
from colo_fsm.fsm import (
    SIGN_OF_LIFE,
    SIZE_SIZE,
    Do,
    FailoverRequested,
    GuestFailed,
    Inbox,
    InvalidState,
    ProtocolError,
    Truncated,
)
from colo_fsm.fsm.wire import MOST_WORDS
from colo_fsm.stream import (
    Blocks,
    Decoder,
    Delta,
    InitialDecoder,
    LiveDecoder,
    PatchSink,
    Ram,
    StreamError,
    decode_device_state,
)

from .door import Visitors
from .events import CheckpointTaken, Refused
from .outside import FIRST_COPY
from .round import Round
from .script import Replica, Step
from .store.base import Checkpoint, MemoryStore, Store
from .wish import Script

LEAST = 64 << 10
"""Bytes that must arrive in a deadline of the first copy: a byte now and then is no progress."""

LARGE = 64 << 10
"""Bytes of a first copy that are decoded and stored where hooks are called: a disk may take its time."""

QUICK_PAGES = 64
"""So many are copied into memory in less time than another thread takes to begin with it."""


def _forget(error: BaseException | None) -> None:
    """Let go of what has arrived, which the frames of this error hold: now, not when the collector comes."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


@attrs.define
class ReceivedRound(Round):
    """A round of the Secondary: what has arrived of it, on top of the checkpoint before."""

    delta: Delta = attrs.Factory(Delta)
    device: bytes = b""

    def taken(self, now: float) -> CheckpointTaken:
        return CheckpointTaken(self.number, len(self.delta), self.sent, 0.0, 0.0)


class SecondaryReplica(Replica):
    """The Secondary at work. `checkpoint` is the newest one that its guest holds."""

    round: ReceivedRound

    def __init__(self, *args: Any, store: Store, **kwargs: Any) -> None:
        self.store = store
        self._in_memory = type(store) is MemoryStore
        self.visitors: Visitors | None = None
        """Where the next link comes from when this one was the wrong one; None: there is only this one."""
        self.ram: Ram | None = None
        self._arrived = 0
        self._came = 0.0
        """When this link's Primary was let in."""
        self._begun = False
        """Whether it sends its memory, and has not said since that its guest is still at it."""
        self._loaded: tuple[int, int] | None = None
        super().__init__(*args, **kwargs)

    def effects(self) -> Mapping[Do, Step]:
        return {
            **super().effects(),
            Do.receive_initial: self.receive_first,
            Do.receive_live: self.receive_live,
            Do.receive_state: self._receive_state,
            Do.store: self.store_round,
            Do.load: self.load,
            Do.discard: self._discard,
        }

    def new_round(self) -> ReceivedRound:
        return ReceivedRound(self.clock())

    # -- who comes ----------------------------------------------------------------------------

    def come_from(self, visitors: Visitors) -> None:
        self.visitors = visitors

    def _moved_on(self, size: int) -> None:
        """In the first copy only so many bytes are progress."""
        if self._first_copy:
            self._arrived += size
            if self._arrived < self._least:
                return
        self._arrived = 0
        self._progress()

    @property
    def _least(self) -> int:
        """Bytes a deadline; of signs of life, for as long as a save may take, one in each usual deadline."""
        saving = self.session.signs and self.clock() < self._came + FIRST_COPY * self.options.hook_deadline
        return FIRST_COPY * len(SIGN_OF_LIFE) if saving and not self._begun else LEAST

    def receive_first(self) -> Script[None]:
        """The initial state of the first visitor who has a whole one; the others are shown out."""
        while True:
            self._arrived, self._begun, self._came = 0, False, self.clock()
            self._progress()
            try:
                yield from self.receive_initial()
                break
            except FailoverRequested:
                raise
            except ProtocolError as error:
                if self.visitors is None or self.fails_here(error):
                    raise
                yield from self._show_out(self.visitors, error)
        if self.visitors is not None:
            self.visitors.engaged()

    def fails_here(self, error: ProtocolError) -> bool:
        """Whether this side can keep nobody's state: its store, or who answers claims, does not work.

        That a generation is over is an answer, and about the visitor.
        """
        if not isinstance(error, GuestFailed) or error.hook not in ("store", "arbiter"):
            return False
        return not isinstance(error.cause, GenerationClaimed | UnknownGeneration)

    def _show_out(self, visitors: Visitors, error: ProtocolError) -> Script[None]:
        """Whoever this was is told why, all that it brought is dropped, and the next one comes in."""
        why = self.refusal(error)[:MOST_WORDS]
        if why:
            self.events.put(Refused(why))
        link, self.link = self.link, None
        if link is not None:
            visitors.dismiss(link, why)
        self._outgoing.clear()
        self._torn = False
        self.session.unread()
        self.round = self.new_round()
        _forget(error)
        yield from self.call("store", self.store.abort)
        self.link = yield from visitors.next(lambda: self.given_up)
        self._heed()

    def refusal(self, error: ProtocolError) -> str:
        """Why this visitor is shown out, in words for it; none if that was said already."""
        return str(error.worded(self.table.words.texts))

    def hang_up(self) -> None:
        super().hang_up()
        if self.visitors is not None:
            self.visitors.parted()

    # -- what arrives -------------------------------------------------------------------------

    def receive_initial(self) -> Script[None]:
        """The initial state, and the generation with it: stored, and loaded."""
        limit = max(self.options.state_limit, sum(self.guest.blocks.values()))
        decoder = InitialDecoder(self.new_image, limit=limit, on_sign=self._still_saving)
        try:  # a device state is held in memory: none of a generation that is over
            yield from self.decode(decoder, lambda: decoder.generation is not None)
            yield from self.call("arbiter", self.arbiter.check, decoder.generation)
            self._progress()
            yield from self.decode(decoder)
        except BaseException:
            self.after_hooks(decoder.close)
            raise
        self.ram, self.generation = decoder.ram, decoder.generation
        first = decoder.generation, decoder.device
        yield from self.call("store", self.store.complete, *first, quick=self._in_memory)
        yield from self.load()

    def _still_saving(self) -> None:
        self._begun = False

    def new_image(self, blocks: Blocks) -> PatchSink:
        """Where the pages of an initial state go. Raises InvalidState."""
        self._begun = True
        if dict(blocks) != dict(self.guest.blocks):
            raise InvalidState(
                ValueError(
                    f"the Primary's guest has the RAM blocks {dict(blocks)}, this side's has "
                    f"{dict(self.guest.blocks)}: start both with the same guest and capacity"
                )
            )
        return self.store.begin(blocks)

    def receive_live(self) -> Script[None]:
        """The pages of a round."""
        assert self.ram is not None
        decoder = LiveDecoder(self.ram, self.round.delta)
        yield from self.decode(decoder)
        self.round.sent = decoder.bytes

    def _receive_state(self) -> Script[None]:
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
            self.round.device = self.device_state(inbox.take(size))
        except StreamError as cause:
            raise InvalidState(cause) from cause
        self.round.sent += size
        self.session.give_back(inbox.take())

    def device_state(self, data: bytes) -> bytes:
        """What to store of the bytes behind a size. Raises StreamError, InvalidState."""
        return decode_device_state(data)

    def decode(self, decoder: Decoder, enough: Callable[[], bool] = lambda: False) -> Script[None]:
        """Feed this with what arrives, until it is complete or has `enough`; what follows is given back."""
        try:
            while not (decoder.complete or enough()):
                data = yield from self._some()
                if self._first_copy and len(data) >= LARGE:
                    used = yield from self.call("store", self._fed, decoder, data)
                else:
                    used = self._fed(decoder, data)
                if used < len(data):
                    self.session.give_back(memoryview(data)[used:])
        except BaseException:
            self.after_hooks(decoder.close)
            raise

    @staticmethod
    def _fed(decoder: Decoder, data: bytes) -> int:
        try:
            return decoder.feed(data)
        except StreamError as cause:
            raise InvalidState(cause) from cause
        except ProtocolError:
            raise
        except Exception as cause:
            raise GuestFailed("store", cause) from cause

    def _some(self) -> Script[bytes]:
        data = yield from self.receive()
        if not data:
            raise Truncated
        return data

    # -- what becomes of it -------------------------------------------------------------------

    def store_round(self) -> Script[None]:
        """Make the round the newest checkpoint."""
        yield from self.call("store", self._commit, quick=self._few)

    @property
    def _few(self) -> bool:
        """Whether the store is quick in this round."""
        return self._in_memory and len(self.round.delta) <= QUICK_PAGES

    def _commit(self) -> None:
        self.store.commit(self.round.delta, self.round.device)
        self.round.number = self._newest().number

    def load(self) -> Script[None]:
        """Load the newest checkpoint, unless the guest holds it already."""
        few = self._few
        if not (few or self.awaited(self.guest.load)):
            yield from self.call("guest.load", self._load_here)
        else:
            newest = yield from self.call("store", self._newest, quick=few)
            if (wanted := self._wanted(newest)) is not None:
                yield from self.call("guest.load", self.guest.load, wanted)
            self._held(newest)

    def _load_here(self) -> None:
        newest = self.named("store", self._newest)
        if (wanted := self._wanted(newest)) is not None:
            self.named("guest.load", self.guest.load, wanted)
        self._held(newest)

    def _newest(self) -> Checkpoint:
        newest = self.store.newest
        assert newest is not None
        return newest

    def _wanted(self, newest: Checkpoint) -> Checkpoint | None:
        """What the guest is to load; None: it holds it. From now on it holds nothing that counts."""
        loaded, self._loaded = self._loaded, None
        if loaded == (newest.generation, newest.number):
            return None
        if loaded == (newest.generation, newest.number - 1):  # so the newest is the round under way
            place = newest.generation, newest.number
            changed = self.round.delta.ranges()
            return Checkpoint(*place, newest.blocks, newest.device, newest.meta, changed)
        return newest

    def _held(self, newest: Checkpoint) -> None:
        self._loaded = newest.generation, newest.number
        self.checkpoint = self.round.number = newest.number

    def _discard(self) -> Script[None]:
        """Drop a part of a checkpoint that has arrived, too."""
        yield from self.call("store", self.store.abort)
        self._at_once(self.outbox.discard)()
