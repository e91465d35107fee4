"""From the bytes of a real QEMU to a checkpoint: the initial stream, its description, the live state.

As in `decode`, but the device sections are QEMU's own (see `devices`), commands may stand between
sections, and pages may come as changes. What a capability changes in the stream and is not read here
is refused, with the name of the capability.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from . import configuration
from .commands import Commands
from .devices import DeviceReader, DeviceSection
from .errors import StreamError, capability_error
from .format import (
    COMMAND,
    DESCRIPTION,
    END_OF_STREAM,
    MAX_DESCRIPTION,
    SECTION_END,
    SECTION_FULL,
    SECTION_PART,
    SECTION_START,
    SUBSECTION,
)
from .memory import PAGE_SIZE, Blocks
from .memory_decoder import RoundDecoder, WholeMemoryDecoder
from .ram import PatchSink, Ram
from .sections import sections
from .source import Decoder, Parsing
from .xbzrle import XbzrleRamReader

DEVICE_LIMIT = 1 << 30
"""Bytes of device sections that an initial stream may have."""


class VmInitialDecoder(WholeMemoryDecoder[PatchSink]):
    """The initial stream of a QEMU Primary, up to the end of its sections.

    `open` is called once with the block list, before the first page, and returns where the pages
    go. A stream that declares more than `limit` bytes of memory is refused before that. `complete`
    when the end mark has come: send checkpoint-ready then, and give what follows to a
    `DescriptionDecoder`. Answer `pings` first, with `pong`. Hand `ram` on to the rounds' decoders.

    When `complete`, `head` is what stood before RAM, without commands; `devices` are the device
    sections without the end mark, which `sections` tells apart; see `vm_encode.vm`.
    """

    def __init__(
        self, open: Callable[[Blocks], PatchSink], *, limit: int, device_limit: int = DEVICE_LIMIT
    ) -> None:
        super().__init__(open, limit, XbzrleRamReader)
        self.head = b""
        self._commands = Commands(self._source)
        self._devices = DeviceReader(self._source, device_limit)

    @property
    def devices(self) -> bytes:
        """The device sections as they came."""
        return self._devices.devices

    @property
    def sections(self) -> tuple[DeviceSection, ...]:
        """Where each of them lies in `devices`."""
        return self._devices.sections

    @property
    def pings(self) -> list[int]:
        """What to answer on the return path, in order."""
        return self._commands.pings

    def _parse(self) -> Parsing[None]:
        yield from self._head()
        self.head = configuration.head(self.machine.encode())
        readers = {
            SUBSECTION: self._subsection,
            COMMAND: self._commands.read,
            SECTION_START: self._start,
            SECTION_PART: self._part,
            SECTION_END: self._end,
            SECTION_FULL: self._device,
        }
        at = yield from sections(self._source, readers)
        self._check_ended(at)
        if not self.sections:
            raise StreamError(at, "the stream ends without a device section")

    def _subsection(self, at: int) -> Parsing[None]:
        if self._sink is not None:
            raise StreamError(at, "a subsection that is not the configuration's")
        self.head += yield from configuration.read_subsection(self._source)

    def _end(self, at: int) -> Parsing[None]:
        yield from super()._end(at)
        # With multifd, pages with contents have connections of their own, and a 7.2 says nothing of it
        # here. No machine runs on zeroes alone; a memory that is all there, each page once, may be one.
        if self.pages == self.zero_pages != sum(self.blocks.values()) // PAGE_SIZE:
            raise capability_error(at, "a memory with no page of any contents", "multifd")

    def _device(self, at: int) -> Parsing[None]:
        if not self._ram_ended:
            raise StreamError(at, "a device section before the end of RAM")
        yield from self._devices.read(at)


class DescriptionDecoder(Decoder):
    """What may follow the end mark of an initial stream: the `description`, JSON, kept verbatim.

    Or None, if the next byte is 00, with which every COLO message begins; that byte is not taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.description: bytes | None = None

    def _parse(self) -> Parsing[None]:
        source = self._source
        kind = yield from source.peek()
        if kind == END_OF_STREAM:
            return
        if kind != DESCRIPTION:
            raise StreamError(0, f"byte {kind:#04x} where the description or a COLO message belongs")
        yield from source.skip(1)
        at = source.offset
        size = yield from source.u32()
        if size > MAX_DESCRIPTION:
            raise StreamError(at, f"description of {size} bytes, at most {MAX_DESCRIPTION} are read")
        at = source.offset
        description = bytes((yield from source.take(size)))
        try:
            json.loads(description)
        except (ValueError, RecursionError) as error:
            raise StreamError(at, f"the description is not JSON: {error}") from None
        self.description = description


class VmLiveDecoder(RoundDecoder[PatchSink]):
    """The live state of one round of a QEMU Primary: the dirty pages, into `sink`.

    `ram` is the `VmInitialDecoder`'s, passed through all rounds. One decoder serves one round. Answer
    `pings` before the next COLO message, with `pong`.
    """

    def __init__(self, ram: Ram, sink: PatchSink) -> None:
        super().__init__(ram, sink, XbzrleRamReader)
        self._commands = Commands(self._source)

    @property
    def pings(self) -> list[int]:
        """What to answer on the return path, in order."""
        return self._commands.pings

    def _parse(self) -> Parsing[None]:
        readers = {SECTION_PART: self._part, SECTION_END: self._part, COMMAND: self._commands.read}
        yield from sections(self._source, readers)
