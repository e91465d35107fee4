"""What the decoders of our guests' streams and of a real QEMU's have in common: memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from .configuration import read_head
from .errors import StreamError
from .memory import Blocks
from .ram import Ram, RamReader, S
from .source import Decoder, Parsing, Source

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

    def _head(self) -> Parsing[None]:
        self.machine = yield from read_head(self._source)

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

    def _check_ended(self, at: int) -> None:
        if not self._ram_ended:
            raise StreamError(at, "the stream ends before the end of RAM")


class RoundDecoder(MemoryDecoder[S]):
    """The part that carries the pages of one round, into `sink`."""

    def __init__(self, ram: Ram, sink: S, reader: ReaderClass[S]) -> None:
        super().__init__(ram, reader)
        self._sink = sink

    def _part(self, at: int) -> Parsing[None]:
        yield from self._reader.part(self._sink)
