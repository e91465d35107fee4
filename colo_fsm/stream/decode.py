"""From bytes to memory and device state: one decoder for each part of the migration stream.

They do no I/O and keep no pages: what arrives goes to a sink at once. That a checkpoint counts only
when its whole round has arrived is the business of whoever owns the sink (see `Delta`).
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import StreamError
from .format import (
    DESCRIPTION,
    GENERATION,
    GUEST,
    MAX_DESCRIPTION,
    SECTION_END,
    SECTION_FULL,
    SECTION_PART,
    SECTION_START,
)
from .memory import Blocks, Buffer
from .memory_decoder import RoundDecoder, WholeMemoryDecoder
from .ram import Ram, RamReader, Sink
from .sections import footer, header, sections
from .source import Decoder, Parsing, Source

DEFAULT_LIMIT = 64 << 30
"""Bytes of memory, and of device state, that an initial stream may declare."""


class InitialDecoder(WholeMemoryDecoder[Sink]):
    """The initial stream: the whole memory, the device state and the generation.

    `open` is called once with the block list, before the first page, and returns where the pages
    go. A stream that declares more than `limit` bytes is refused before that. When `complete`,
    `machine`, `generation` and `device` are set; hand `ram` on to the decoders of the rounds.
    """

    def __init__(self, open: Callable[[Blocks], Sink], *, limit: int = DEFAULT_LIMIT) -> None:
        super().__init__(open, limit, RamReader[Sink])
        self.generation: int | None = None
        self.device = b""
        self._awaited = [GENERATION, GUEST]

    def _parse(self) -> Parsing[None]:
        yield from self._head()
        readers = {
            SECTION_START: self._start,
            SECTION_PART: self._part,
            SECTION_END: self._end,
            SECTION_FULL: self._device,
        }
        at = yield from sections(self._source, readers)
        self._check_ended(at)
        if self._awaited:
            raise StreamError(at, f"the stream ends without its section {self._awaited[0]!r}")
        yield from self._description()

    def _device(self, at: int) -> Parsing[None]:
        if not self._ram_ended:
            raise StreamError(at, "a device section before the end of RAM")
        if not self._awaited:
            raise StreamError(at, "a device section after the last one")
        section, name = yield from header(self._source, self._awaited[:1])
        if name == GENERATION:
            self.generation = yield from self._source.u64()
        else:
            self.device = yield from _sized(self._source, self._limit)
        yield from footer(self._source, section)
        del self._awaited[0]

    def _description(self) -> Parsing[None]:
        """Pass over it. QEMU may leave it out; then the next COLO message starts here, with 00."""
        at = self._source.offset
        if (yield from self._source.u8()) != DESCRIPTION:
            raise StreamError(at, "no description behind the sections")
        at = self._source.offset
        size = yield from self._source.u32()
        if size > MAX_DESCRIPTION:
            problem = f"description of {size} bytes, at most {MAX_DESCRIPTION} are read"
            raise StreamError(at, problem)
        yield from self._source.skip(size)


class LiveDecoder(RoundDecoder[Sink]):
    """The live state of one round: the dirty pages, into `sink`.

    `ram` is the `InitialDecoder`'s, passed through all rounds; `Ram(blocks)` where the start of the
    stream was not decoded here. One decoder serves one round.
    """

    def __init__(self, ram: Ram, sink: Sink) -> None:
        super().__init__(ram, sink, RamReader[Sink])

    def _parse(self) -> Parsing[None]:
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
        section, _ = yield from header(self._source, (GUEST,))
        self.device = yield from _sized(self._source, self._limit)
        yield from footer(self._source, section)


def decode_device_state(data: Buffer) -> bytes:
    """The guest's device state out of the vmstate of a round.

    `data` is all of it, as many bytes as vmstate-size announced. Raises StreamError unless it is
    exactly one well-formed device state.
    """
    decoder = _DeviceStateDecoder(limit=len(data))
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
    at = source.offset
    size = yield from source.u32()
    if size > limit:
        raise StreamError(at, f"device state of {size} bytes is over the limit of {limit}")
    return bytes((yield from source.take(size)))
