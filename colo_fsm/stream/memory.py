"""Guest memory as the protocol carries it: named blocks of fixed size, in pages of 4 KiB.

QEMU calls the blocks RAM blocks; their sizes are fixed for the life of a guest, so ours are declared
capacities too. How much of a block is in use is the guest's business and travels in its device state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

PAGE_SIZE = 4096
ZERO_PAGE = bytes(PAGE_SIZE)

Buffer = bytes | bytearray | memoryview
Blocks = Mapping[str, int]
"""Block name to capacity in bytes, a multiple of PAGE_SIZE; the order is the order on the wire."""


class Page(NamedTuple):
    """One page: `offset` bytes into `block`, exactly PAGE_SIZE bytes of `data`."""

    block: str
    offset: int
    data: Buffer


class Sink(Protocol):
    """Where decoded memory goes: an image, or the `Delta` of a round."""

    def put(self, block: str, offset: int, data: Buffer, /) -> None:
        """Take PAGE_SIZE bytes at `offset` of `block`; `data` is valid during the call only."""


class PatchSink(Sink, Protocol):
    """A sink whose pages can be changed in part, as QEMU's xbzrle does."""

    def get(self, block: str, offset: int, /) -> Buffer:
        """The PAGE_SIZE bytes there now: as last `put`, be it in this round or before."""


class Delta:
    """The pages of one round, kept apart from the image until the whole round has arrived.

    A page that comes twice counts once, with its last content. Iterates over `Page`.
    """

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[tuple[str, int], bytes] = {}

    def put(self, block: str, offset: int, data: Buffer) -> None:
        """Keep a copy of one page (the buffer may be reused by the caller)."""
        self._pages[block, offset] = bytes(data)

    def kept(self, block: str, offset: int) -> bytes | None:
        """The page as it was put last, None if it was not."""
        return self._pages.get((block, offset))

    def ranges(self) -> dict[str, list[tuple[int, int]]]:
        """Where its pages lie: by block, (offset, length) in bytes, neighbours as one, in rising order."""
        found: dict[str, list[tuple[int, int]]] = {}
        for block, offset in sorted(self._pages):
            ranges = found.setdefault(block, [])
            if ranges and sum(ranges[-1]) == offset:
                ranges[-1] = ranges[-1][0], ranges[-1][1] + PAGE_SIZE
            else:
                ranges.append((offset, PAGE_SIZE))
        return found

    def __iter__(self) -> Iterator[Page]:
        return (Page(block, offset, data) for (block, offset), data in self._pages.items())

    def __len__(self) -> int:
        return len(self._pages)
