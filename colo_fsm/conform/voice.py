"""How the tester speaks as the peer of a side under test: the bytes that go with messages, both ways.

What stands behind which message the declared table says. `TableVoice` is for guests whose state travels
as that of this package's own; `targets/qemu.py` has the voices for virtual machines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from colo_fsm.fsm import SIGN_OF_LIFE, CompleteTable, Do, Message, Send, Words, encode_size
from colo_fsm.fsm.wire import MOST_WORDS, REFUSED
from colo_fsm.stream import (
    DEFAULT_LIMIT,
    DEVICE_LIMIT,
    PAGE_SIZE,
    ZERO_PAGE,
    Blocks,
    Buffer,
    Decoder,
    Delta,
    InitialDecoder,
    LiveDecoder,
    Page,
    Ram,
    StreamError,
    decode_device_state,
    device_state,
    initial,
    live,
)
from colo_fsm.stream.format import U32
from colo_fsm.stream.source import Parsing, within

_SIGN = int.from_bytes(SIGN_OF_LIFE, "big")


class Source(Protocol):
    """The state that a Primary sends; see `colo_fsm.qemu.watch.replay.Source`, which fits."""

    def initial(self) -> Iterable[Buffer]:
        """The initial stream, with its description."""

    def live(self, number: int) -> Iterable[Buffer]:
        """The live state of a round, with its end mark. Rounds count from 1."""

    def vmstate(self, number: int) -> bytes:
        """The device state of a round, with its end mark."""


class Voice(Protocol):
    """One conversation's bytes. Sans-IO: `feed` it what came, write what it gives."""

    left: bytes = b""
    """What an act has begun and not finished."""

    @property
    def ready(self) -> bool:
        """Whether what the side sends before its first message has come whole."""

    def opening(self) -> Iterable[Buffer]:
        """What is sent at once."""

    def bare(self, message: Message) -> bytes:
        """A message alone."""

    def message(self, message: Message) -> Iterable[Buffer]:
        """A message, and behind it the state that belongs there."""

    @property
    def invalid(self) -> bytes:
        """A value that is no message."""

    def feed(self, data: Buffer) -> Iterable[int]:
        """The values of the messages, valid or not, that these bytes complete.

        Raises StreamError, then it is of no use any more. The words of a refusal are in `refusal`.
        """

    @property
    def unread(self) -> int:
        """How many bytes of what was fed belong to a message, or the state behind it, that is not whole."""

    @property
    def refusal(self) -> str | None:
        """In which words the side has refused us, if it has."""


_A, _B = (bytes((n,)) * PAGE_SIZE for n in (1, 2))
BLOCKS: Blocks = {"ram": 3 * PAGE_SIZE, "rest": PAGE_SIZE}
PAGES = (
    Page("ram", 0, _A),
    Page("ram", PAGE_SIZE, ZERO_PAGE),
    Page("ram", 2 * PAGE_SIZE, _B),
    Page("rest", 0, _B),
)
"""Pages in every form that our own guests send: contents and zeroes, their block named or not."""


class OwnState:
    """The state of a guest of this package's own, the same in every round.

    What a side does with its pages nobody sees on the wire: only one that cannot read them comes to grief.
    """

    def __init__(
        self, blocks: Blocks = BLOCKS, pages: Iterable[Page] = PAGES, device: bytes = b"registers"
    ) -> None:
        self.blocks = blocks
        self._pages, self._device = tuple(pages), device

    def initial(self) -> Iterable[Buffer]:
        """See `Source`. Under this package's own machine name: its Secondary takes no other one."""
        return initial(self.blocks, self._pages, self._device, generation=1)

    def live(self, number: int) -> Iterable[Buffer]:
        """A few pages: those of a large guest would only take their time."""
        return live(self.blocks, self._pages[: len(PAGES)])

    def vmstate(self, number: int) -> bytes:
        return device_state(self._device)


class TableVoice(Voice):
    """The voice that a table asks for: states stand where its rows send and receive them."""

    def __init__(self, table: CompleteTable, source: Source) -> None:
        self._table, self._source = table, source
        self._round = 0
        self._hearing = _Hearing(table)

    @property
    def ready(self) -> bool:
        return self._hearing.ready

    @property
    def unread(self) -> int:
        return self._hearing.unread

    @property
    def refusal(self) -> str | None:
        """In which words the side has refused us, if it has."""
        return self._hearing.refusal

    def opening(self) -> Iterable[Buffer]:
        receives = Do.receive_initial in self._table.start and state_on_wire(self._table)
        return self._source.initial() if receives else ()

    def bare(self, message: Message) -> bytes:
        return self._table.words.encode(message)

    @property
    def invalid(self) -> bytes:
        return invalid(self._table.words)

    def message(self, message: Message) -> Iterable[Buffer]:
        yield self.bare(message)
        for effect in _behind(self._table, message):
            if effect is Do.receive_live:
                self._round += 1
                yield from self._source.live(self._round)
            else:
                state = self._source.vmstate(self._round)
                yield encode_size(len(state))
                yield state

    def feed(self, data: Buffer) -> Iterable[int]:
        self._hearing.feed(data)
        heard, self._hearing.heard = self._hearing.heard, []
        return heard


def invalid(words: Words) -> bytes:
    """The least value above all messages, as it stands on the wire."""
    return U32.pack(max(words.by_value) + 1)


_RECEIVED = (Do.receive_live, Do.receive_state)
_SENT = (Do.send_live, Do.send_state)


def state_on_wire(table: CompleteTable) -> bool:
    """Whether any state is on the wire in this variant, or only messages."""
    return any(effect in r.effects for r in table.written for effect in (*_RECEIVED, *_SENT))


def _behind(table: CompleteTable, message: Message) -> tuple[Do, ...]:
    """The states that a side receives behind this message."""
    rows = (r for r in table.written if r.trigger.message is message)
    found = (tuple(e for e in r.effects if e in _RECEIVED) for r in rows)
    return next(filter(None, found), ())


def sent_behind(table: CompleteTable) -> Mapping[int, tuple[Do, ...]]:
    """The states that a side sends behind each of its messages."""
    found: dict[int, tuple[Do, ...]] = {}
    for r in table.written:
        message: Message | None = None
        for effect in r.effects:
            if isinstance(effect, Send):
                message = effect.message
            elif effect in _SENT and message is not None:
                found[message] = (*found.get(message, ()), effect)
    return found


class _Hearing(Decoder):
    """What a side sends, taken apart."""

    def __init__(self, table: CompleteTable) -> None:
        super().__init__()
        self._behind = sent_behind(table)
        self.heard: list[int] = []
        self.refusal: str | None = None
        self._read = 0
        self.ready = not (Do.send_initial in table.start and state_on_wire(table))

    @property
    def unread(self) -> int:
        """See `Voice`."""
        return self.bytes - self._read

    def _parse(self) -> Parsing[None]:
        ram = Ram()
        if not self.ready:
            first = InitialDecoder(lambda _: Delta(), limit=DEFAULT_LIMIT)
            yield from within(self._source, first)
            self.ready, ram = True, first.ram
        while True:
            self._read = self._source.offset
            value = yield from self._source.u32()
            if value == _SIGN:
                continue
            if value == REFUSED:  # it gives the pair up, and says why: no message
                yield from self._refused()
                continue
            self.heard.append(value)
            for effect in self._behind.get(value, ()):
                if effect is Do.send_live:
                    yield from within(self._source, LiveDecoder(ram, Delta()))
                else:
                    yield from self._state()

    def _refused(self) -> Parsing[None]:
        size = min((yield from self._source.u16()), MOST_WORDS)
        words = bytes((yield from self._source.take(size))).decode(errors="replace")
        self.refusal = "".join(c if c.isprintable() else "?" for c in words)

    def _state(self) -> Parsing[None]:
        at = self._source.offset
        size = yield from self._source.u64()
        if size > DEVICE_LIMIT:
            raise StreamError(at, f"a device state of {size} bytes")
        start = self._source.offset
        data = bytes((yield from self._source.take(size)))
        try:
            decode_device_state(data)
        except StreamError as error:
            raise StreamError(start + error.offset, error.problem) from None
