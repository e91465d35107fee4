"""From bytes to memory and device state: one decoder for each part of the migration stream.

What reads memory here serves `vm_decode` too. Decoders do no I/O and keep no pages: what arrives goes to
a sink at once. That a checkpoint counts only when its whole round has arrived is the business of
whoever owns the sink (see `Delta`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Generic

from colo_fsm.fsm.wire import SIGN_OF_LIFE

from .encode import guest_frame
from .format import (
    DESCRIPTION,
    GENERATION,
    GUEST,
    MAX_DESCRIPTION,
    SECTION_END,
    SECTION_FULL,
    SECTION_PART,
    SECTION_START,
    U32,
)
from .head import read_head
from .memory import Blocks, Buffer, Sink
from .ram import Ram, RamReader, S
from .sections import SectionReader, footer, header, sections
from .source import Decoder, Parsing, Source, StreamError

DEFAULT_LIMIT = 64 << 30
"""Bytes of memory, and of device state, that an initial stream may declare."""

ReaderClass = Callable[[Source, Ram], RamReader[S]]


class MemoryDecoder(Decoder, Generic[S]):
    """A part of the stream that carries pages."""

    def __init__(self, ram: Ram, reader: ReaderClass[S]) -> None:
        super().__init__()
        self.ram = ram
        self._reader = reader(self._source, ram)

    @property
    def blocks(self) -> Blocks:
        """The block list; empty until it has arrived."""
        return self.ram.blocks

    @property
    def pages(self) -> int:
        """Pages given to the sink so far."""
        return self._reader.pages

    @property
    def zero_pages(self) -> int:
        """How many of `pages` came as a fill byte instead of contents."""
        return self._reader.zero_pages


class WholeMemoryDecoder(MemoryDecoder[S]):
    """The part that carries all pages, from the head of the stream to the end of RAM."""

    def __init__(self, open: Callable[[Blocks], S], limit: int, reader: ReaderClass[S]) -> None:
        super().__init__(Ram(), reader)
        self.machine = ""
        self._open = open
        self._limit = limit
        self._sink: S | None = None
        self._ram_ended = False

    def _whole(self, others: Mapping[int, SectionReader]) -> Parsing[int]:
        """All of it, to the end mark, whose offset is returned; `others` are for other types of sections."""
        self.machine = yield from read_head(self._source)
        readers = {
            SECTION_START: self._start,
            SECTION_PART: self._part,
            SECTION_END: self._end,
            SECTION_FULL: self._full,
            **others,
        }
        at = yield from sections(self._source, readers)
        if not self._ram_ended:
            raise StreamError(at, "the stream ends before the end of RAM")
        return at

    def _start(self, at: int) -> Parsing[None]:
        if self._sink is not None:
            raise StreamError(at, "a second start section")
        yield from self._reader.start(self._limit)
        self._sink = self._open(self.blocks)

    def _part(self, at: int) -> Parsing[None]:
        if self._sink is None:
            raise StreamError(at, "pages before the block list (no RAM start section)")
        if self._ram_ended:
            raise StreamError(at, "pages after the end of RAM")
        yield from self._reader.part(self._sink)

    def _end(self, at: int) -> Parsing[None]:
        yield from self._part(at)
        self._ram_ended = True

    def _full(self, at: int) -> Parsing[None]:
        if not self._ram_ended:
            raise StreamError(at, "a device section before the end of RAM")
        yield from self._device(at)

    @abstractmethod
    def _device(self, at: int) -> Parsing[None]:
        """A device section, whose type byte is at `at`."""


class RoundDecoder(MemoryDecoder[S]):
    """The part that carries the pages of one round, into `sink`."""

    def __init__(self, ram: Ram, sink: S, reader: ReaderClass[S]) -> None:
        super().__init__(ram, reader)
        self._sink = sink

    def _part(self, at: int) -> Parsing[None]:
        yield from self._reader.part(self._sink)


class InitialDecoder(WholeMemoryDecoder[Sink]):
    """The initial stream: the whole memory, the device state and the generation.

    `open` is called once with the block list, before the first page, and returns where the pages
    go. A stream that declares more than `limit` bytes is refused before that. When `complete`,
    `machine`, `generation` and `device` are set; hand `ram` on to the decoders of the rounds. `on_sign`
    is called at every sign of life.
    """

    def __init__(
        self,
        open: Callable[[Blocks], Sink],
        *,
        limit: int = DEFAULT_LIMIT,
        on_sign: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(open, limit, RamReader[Sink])
        self._on_sign = on_sign
        self.generation: int | None = None
        self.device = b""
        self._awaited = [GENERATION, GUEST]

    def _parse(self) -> Parsing[None]:
        at = yield from self._whole({SIGN_OF_LIFE[0]: self._sign_of_life})
        if self._awaited:
            raise StreamError(at, f"the stream ends without its section {self._awaited[0]!r}")
        yield from self._description()

    def _device(self, at: int) -> Parsing[None]:
        if not self._awaited:
            raise StreamError(at, "a device section after the last one")
        name = self._awaited.pop(0)
        section = yield from header(self._source, name)
        if name == GENERATION:
            self.generation = yield from self._source.u64()
        else:
            self.device = yield from _sized(self._source, self._limit)
        yield from footer(self._source, section)

    def _sign_of_life(self, at: int) -> Parsing[None]:
        """The Primary is still saving its guest."""
        found = SIGN_OF_LIFE[:1] + bytes((yield from self._source.take(len(SIGN_OF_LIFE) - 1)))
        if found != SIGN_OF_LIFE:
            raise StreamError(at, f"{found!r} where a section or a sign of life belongs")
        self._on_sign()

    def _description(self) -> Parsing[None]:
        """Pass over it. QEMU may leave it out; then the next COLO message starts here, with 00."""
        at = self._source.offset
        if (yield from self._source.u8()) != DESCRIPTION:
            raise StreamError(at, "no description behind the sections")
        yield from self._source.skip((yield from self._source.length("description", MAX_DESCRIPTION)))


class LiveDecoder(RoundDecoder[Sink]):
    """The live state of one round: the dirty pages, into `sink`.

    `ram` is the `InitialDecoder`'s, passed through all rounds; `Ram(blocks)` where the start of the
    stream was not decoded here. One decoder serves one round.
    """

    def __init__(self, ram: Ram, sink: Sink) -> None:
        super().__init__(ram, sink, RamReader[Sink])

    def _parse(self) -> Parsing[None]:
        if self._reader.small_round(self._sink):
            return
        # QEMU's Secondary takes parts without an end, or nothing at all; so do we.
        yield from sections(self._source, {SECTION_PART: self._part, SECTION_END: self._part})


class _DeviceStateDecoder(Decoder):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.device: Buffer | None = None
        self._limit = limit

    def _parse(self) -> Parsing[None]:
        at = yield from sections(self._source, {SECTION_FULL: self._device})
        if self.device is None:
            raise StreamError(at, f"the device state ends without its section {GUEST!r}")

    def _device(self, at: int) -> Parsing[None]:
        if self.device is not None:
            raise StreamError(at, "a device section after the last one")
        section = yield from header(self._source, GUEST)
        self.device = yield from _sized(self._source, self._limit)
        yield from footer(self._source, section)


_BEGINS, _ENDS = guest_frame()


def decode_device_state(data: Buffer) -> bytes:
    """The guest's device state out of the vmstate of a round.

    `data` is all of it, as many bytes as vmstate-size announced. Raises StreamError unless it is
    exactly one well-formed device state.
    """
    held = memoryview(data)
    body, end = len(_BEGINS) + U32.size, len(held) - len(_ENDS)
    framed = end >= body and held[: len(_BEGINS)] == _BEGINS and held[end:] == _ENDS
    if framed and U32.unpack_from(held, len(_BEGINS))[0] == end - body:
        return bytes(held[body:end])
    decoder = _DeviceStateDecoder(limit=len(data))  # which says what is wrong, or reads what we never write
    consumed = decoder.feed(data)
    if not decoder.complete:
        raise StreamError(len(data), "the device state ends too early")
    if consumed < len(data):
        behind = len(data) - consumed
        raise StreamError(consumed, f"{behind} bytes behind the end of the device state")
    assert decoder.device is not None
    return bytes(decoder.device)


def _sized(source: Source, limit: int) -> Parsing[bytes]:
    """The body of our device section: a u32 length and as many bytes."""
    return bytes((yield from source.take((yield from source.length("device state", limit)))))
