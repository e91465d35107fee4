"""Guest memory as the protocol carries it: named blocks of fixed size, in pages of 4 KiB.

QEMU calls the blocks RAM blocks; their sizes are fixed for the life of a guest, so ours are declared
capacities too. How much of a block is in use is the guest's business and travels in its device state.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, pairwise
from typing import NamedTuple, Protocol

PAGE_SIZE = 4096
ZERO_PAGE = bytes(PAGE_SIZE)
MOST_BUFFERS = 1000
"""In one call of the system: below the kernel's IOV_MAX."""

Buffer = bytes | bytearray | memoryview
Blocks = Mapping[str, int]
"""Block name to capacity in bytes, a multiple of PAGE_SIZE; the order is the order on the wire."""


class Page(NamedTuple):
    """One page: `offset` bytes into `block`, exactly PAGE_SIZE bytes of `data`."""

    block: str
    offset: int
    data: Buffer


class Run(NamedTuple):
    """`length` pages that follow each other from `offset` on; `pages` is None where all are of zeros."""

    block: str
    offset: int
    length: int
    pages: Sequence[Buffer] | None


class Sink(Protocol):
    """Where decoded memory goes: an image, or the `Delta` of a round.

    Buffers are valid during the call only. Who takes more than a page at a time has the other two as well.
    """

    def put(self, block: str, offset: int, data: Buffer, /) -> None:
        """Take PAGE_SIZE bytes at `offset` of `block`."""

    def put_pages(self, block: str, offset: int, pages: Sequence[Buffer], /) -> None:
        """Take pages that follow each other from `offset` on."""
        for number, data in enumerate(pages):
            self.put(block, offset + number * PAGE_SIZE, data)

    def put_zeros(self, block: str, offset: int, count: int, /) -> None:
        """Take `count` pages of zeros from `offset` on."""
        for number in range(count):
            self.put(block, offset + number * PAGE_SIZE, ZERO_PAGE)


class PatchSink(Sink, Protocol):
    """A sink whose pages can be changed in part, as QEMU's xbzrle does."""

    def get(self, block: str, offset: int, /) -> Buffer:
        """The PAGE_SIZE bytes there now: as last `put`, be it in this round or before."""


_LONG = 16
"""Pages of zeros from which on a `Delta` keeps a run as one: those are few, and looked through one by one."""


class Delta(Sink):
    """The pages of one round, kept apart from the image until the whole round has arrived.

    A page that comes twice counts once, with its last content. Iterates over `Page`. Runs of zero pages
    are kept as such.
    """

    __slots__ = ("_pages", "_runs", "_zeros")

    def __init__(self) -> None:
        self._pages: dict[tuple[str, int], bytes] = {}
        self._runs: list[Run] | None = None
        """What `runs` has found, until something is put: a round is looked through several times."""
        self._zeros: dict[str, list[tuple[int, int]]] = {}
        """Long runs, by block, where they begin and end: zeros, but where `_pages` has a page."""

    def put(self, block: str, offset: int, data: Buffer) -> None:
        """Keep a copy of one page (the buffer may be reused by the caller)."""
        self._runs = None
        self._pages[block, offset] = bytes(data)

    def put_pages(self, block: str, offset: int, pages: Sequence[Buffer]) -> None:
        """See `Sink.put_pages`."""
        self._runs = None
        for at, data in zip(count(offset, PAGE_SIZE), pages, strict=False):
            self._pages[block, at] = bytes(data)

    def put_zeros(self, block: str, offset: int, length: int) -> None:
        """See `Sink.put_zeros`."""
        self._runs = None
        if length < _LONG:
            self._pages.update(((block, offset + n * PAGE_SIZE), ZERO_PAGE) for n in range(length))
            return
        end = offset + length * PAGE_SIZE
        if len(self._pages) < length:
            for place in [p for p in self._pages if p[0] == block and offset <= p[1] < end]:
                del self._pages[place]
        elif self._pages:
            for at in range(offset, end, PAGE_SIZE):
                self._pages.pop((block, at), None)
        runs = self._zeros.setdefault(block, [])
        if runs and runs[-1][1] == offset:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((offset, end))

    def kept(self, block: str, offset: int) -> bytes | None:
        """The page as it was put last, None if it was not."""
        page = self._pages.get((block, offset))
        if page is None and any(start <= offset < end for start, end in self._zeros.get(block, ())):
            return ZERO_PAGE
        return page

    def runs(self) -> Sequence[Run]:
        """All of it, each page once; in a block in rising order, those of zeros first."""
        if self._runs is None:
            self._runs = list(self._found())
        return self._runs

    def _found(self) -> Iterator[Run]:
        zeros = {block: list(ranges) for block, ranges in self._zeros.items()}
        offsets: dict[str, list[int]] = {block: [] for block in zeros}
        for block, offset in sorted(self._pages):
            if self._pages[block, offset] is ZERO_PAGE:
                zeros.setdefault(block, []).append((offset, offset + PAGE_SIZE))
            else:
                offsets.setdefault(block, []).append(offset)
        for block in zeros | offsets:
            found = offsets.get(block, [])
            for start, end in _without(_joined(sorted(zeros.get(block, ()))), found):
                yield Run(block, start, (end - start) // PAGE_SIZE, None)
            for first, behind in _neighbours(found):
                pages = [self._pages[block, offset] for offset in found[first:behind]]
                yield Run(block, found[first], len(pages), pages)

    def ranges(self) -> dict[str, list[tuple[int, int]]]:
        """Where its pages lie: by block, (offset, length) in bytes, neighbours as one, in rising order."""
        found: dict[str, list[tuple[int, int]]] = {}
        for block, offset, length, _ in self.runs():
            found.setdefault(block, []).append((offset, offset + length * PAGE_SIZE))
        return {
            block: [(start, end - start) for start, end in _joined(sorted(ranges))]
            for block, ranges in sorted(found.items())
        }

    def __iter__(self) -> Iterator[Page]:
        for block, offset, length, pages in self.runs():
            for number in range(length):
                yield Page(block, offset + number * PAGE_SIZE, ZERO_PAGE if pages is None else pages[number])

    def __len__(self) -> int:
        return sum([run.length for run in self.runs()])


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in the order of their starts; those that overlap or touch become one."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((start, end))
    return joined


def _without(ranges: Iterable[tuple[int, int]], pages: Sequence[int]) -> Iterator[tuple[int, int]]:
    """What is left of `ranges` without the `pages` at these rising offsets."""
    for start, end in ranges:
        for offset in pages[bisect_left(pages, start) : bisect_left(pages, end)]:
            if start < offset:
                yield start, offset
            start = offset + PAGE_SIZE
        if start < end:
            yield start, end


def _neighbours(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where among the rising `offsets` of pages each run of neighbours begins and ends."""
    first = 0
    for behind, (before, offset) in enumerate(pairwise(offsets), 1):
        if offset != before + PAGE_SIZE:
            yield first, behind
            first = behind
    if offsets:
        yield first, len(offsets)
