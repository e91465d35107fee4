"""From the bytes of a real QEMU to a checkpoint: the initial stream, its description, the live state.

As in `decode`, but the device sections are QEMU's own (see `devices`), commands may stand between
sections, and pages may come as changes. What a capability changes in the stream and is not read here
is refused, with the name of the capability.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .decode import RoundDecoder, WholeMemoryDecoder
from .description import Layout, layout
from .devices import DeviceReader, DeviceSection, after_ram, before_ram
from .format import (
    COMMAND,
    DESCRIPTION,
    ENABLE_COLO,
    END_OF_STREAM,
    MAX_DESCRIPTION,
    MAX_SUBSECTIONS,
    OPEN_RETURN_PATH,
    SECTION_END,
    SECTION_FULL,
    SECTION_PART,
    SUBSECTION,
)
from .head import head, read_subsection
from .memory import PAGE_SIZE, Blocks, PatchSink
from .ram import Ram, XbzrleRamReader
from .sections import Commands, sections
from .source import Decoder, Parsing, StreamError, capability_error

_NO_TEXT = re.compile(rb"[^\t\n\r\x20-\xff]")

DEVICE_LIMIT = 1 << 30
"""Bytes of device sections that an initial stream may have."""


class VmInitialDecoder(WholeMemoryDecoder[PatchSink]):
    """The initial stream of a QEMU Primary, up to the end of its sections.

    `open` is called once with the block list, before the first page, and returns where the pages
    go. A stream that declares more than `limit` bytes of memory is refused before that. `complete`
    when the end mark has come: send `answers` and checkpoint-ready then, and give what follows to a
    `DescriptionDecoder`. Hand `ram` on to the rounds' decoders.

    When `complete`, `head` is what stood before the first section, without commands; `devices` are the
    device sections without the end mark, which `sections` tells apart; `early` are those that came before
    the start and before the end of RAM, virtio-mem's; see `encode.vm`.
    """

    def __init__(
        self, open: Callable[[Blocks], PatchSink], *, limit: int, device_limit: int = DEVICE_LIMIT
    ) -> None:
        super().__init__(open, limit, XbzrleRamReader)
        self.head = b""
        self._commands = Commands(self._source)
        self._readers = {SUBSECTION: self._subsection, COMMAND: self._commands.read}
        self._subsections = b""
        self._devices = DeviceReader(self._source, device_limit, after_ram)
        self._first, self._second = (
            DeviceReader(self._source, device_limit, self._behind_early) for _ in range(2)
        )

    @property
    def answers(self) -> list[bytes]:
        """Messages of QEMU's return path, in order, to be sent before checkpoint-ready."""
        return self._commands.answers

    @property
    def return_path(self) -> bool:
        """Whether the Primary opened one, as QEMU 11 and later do for COLO, and any may without."""
        return OPEN_RETURN_PATH in self._commands.seen

    @property
    def devices(self) -> bytes:
        """The device sections as they came."""
        return self._devices.devices

    @property
    def says_colo(self) -> bool:
        """Whether the stream says that x-colo is on, which a QEMU 7.2 or 10.0 does, and 11.1 does not."""
        return ENABLE_COLO in self._commands.seen

    @property
    def early(self) -> tuple[bytes, bytes]:
        """The device sections before the start, and those before the end of RAM."""
        return self._first.devices, self._second.devices

    @property
    def sections(self) -> tuple[DeviceSection, ...]:
        """Where each of them lies in `devices`."""
        return self._devices.sections

    def close(self) -> None:
        """See `Decoder.close`."""
        super().close()
        for reader in (self._first, self._second, self._devices):
            reader.close()

    def go_on(self) -> None:
        """The end mark was none: what follows is no description. Feed it that."""
        self.complete = False
        self._parser = self._resume()

    def _resume(self) -> Parsing[None]:
        yield from self._devices.go_on()
        yield from sections(self._source, {SECTION_FULL: self._full, **self._readers})

    def _parse(self) -> Parsing[None]:
        at = yield from self._whole(self._readers)
        if not self.sections:
            raise StreamError(at, "the stream ends without a device section")
        self.head = head(self.machine.encode()) + self._subsections
        self._commands.end()

    def _subsection(self, at: int) -> Parsing[None]:
        if self._sink is not None:
            raise StreamError(at, "a subsection that is not the configuration's")
        self._subsections += yield from read_subsection(self._source)
        if len(self._subsections) > MAX_SUBSECTIONS:
            raise StreamError(at, f"more than {MAX_SUBSECTIONS} bytes of subsections")

    def _end(self, at: int) -> Parsing[None]:
        yield from super()._end(at)
        # With multifd, pages with contents have connections of their own, and a 7.2 says nothing of it
        # here. No machine runs on zeroes alone; a memory that is all there, each page once, may be one.
        if self.pages == self.zero_pages != sum(self.blocks.values()) // PAGE_SIZE:
            raise capability_error(at, "a memory with no page of any contents", "multifd")

    def _full(self, at: int) -> Parsing[None]:
        if self._ram_ended:
            yield from super()._full(at)
        else:
            yield from (self._first if self._sink is None else self._second).read(at)

    def _device(self, at: int) -> Parsing[None]:
        yield from self._devices.read(at)

    def _behind_early(self, _: int, behind: bytes) -> bool:
        return before_ram(behind, None if self._sink is None else self.ram.section)


class NoText(StreamError):
    """Not even text: what looked like the head of a description was something else."""


class DescriptionDecoder(Decoder):
    """What may follow the end mark of an initial stream: the `description`, JSON, kept verbatim.

    Its `layout` is None if it has none.
    Raises NoText if what was taken for one is none.
    Or None, if the next byte is 00, with which every COLO message begins; that byte is not taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.description: bytes | None = None
        self.layout: Layout | None = None

    def _parse(self) -> Parsing[None]:
        source = self._source
        kind = yield from source.peek()
        if kind == END_OF_STREAM:
            return
        if kind != DESCRIPTION:
            raise StreamError(0, f"byte {kind:#04x} where the description or a COLO message belongs")
        yield from source.skip(1)
        size = yield from source.length("description", MAX_DESCRIPTION)
        at = source.offset
        pieces: list[bytes] = []
        while source.offset < at + size:
            pieces.append((yield from source.some(at + size - source.offset)))
            if _NO_TEXT.search(pieces[-1]):
                raise NoText(at, "the description is not JSON: it is no text")
        description = b"".join(pieces)
        try:
            self.layout = layout(description)
        except (ValueError, RecursionError) as error:
            raise StreamError(at, f"the description is not JSON: {error}") from None
        self.description = description


class VmLiveDecoder(RoundDecoder[PatchSink]):
    """The live state of one round of a QEMU Primary: the dirty pages, into `sink`.

    `ram` is the `VmInitialDecoder`'s, passed through all rounds. One decoder serves one round. Send
    `answers` before the next COLO message.
    """

    def __init__(self, ram: Ram, sink: PatchSink) -> None:
        super().__init__(ram, sink, XbzrleRamReader)
        self._commands = Commands(self._source)

    @property
    def answers(self) -> list[bytes]:
        """Messages of QEMU's return path, in order."""
        return self._commands.answers

    def _parse(self) -> Parsing[None]:
        readers = {SECTION_PART: self._part, SECTION_END: self._part, COMMAND: self._commands.read}
        yield from sections(self._source, readers)
