"""RAM sections: the block list, and the records that carry pages, or changes to pages, into a sink.

Changes are QEMU's xbzrle: pairs of runs, how many bytes stay, how many are new, and the new ones; a length
is ULEB128 in at most two bytes. The first pair may leave no byte as it was; what follows the last pair
stays too.

Source: QEMU's docs/devel/migration/xbzrle.txt; checked against streams of QEMU 7.2.
"""

from __future__ import annotations

from struct import Struct
from typing import Generic, TypeVar

import attrs

from .encode import live_frame
from .format import (
    CONTINUE,
    EOS,
    FLAGS,
    MAX_BLOCKS,
    MEM_SIZE,
    PAGE,
    RAM,
    SECTION_IDS,
    U64,
    UNREAD_RECORDS,
    XBZRLE,
    XBZRLE_ENCODING,
    ZERO,
)
from .memory import PAGE_SIZE, Blocks, Buffer, PatchSink, Sink
from .sections import footer, header
from .source import Parsing, Source, StreamError, capability_error

S = TypeVar("S", bound=Sink)

SMALL_ROUND = 64 << 10
"""Bytes."""

_WORD = U64.size
_NEXT_PAGE = PAGE | CONTINUE
_NEXT_ZERO = ZERO | CONTINUE
_PAGE_RECORD = Struct(f">Q{PAGE_SIZE}x")
_ZERO_RECORD = Struct(">QB")


@attrs.define
class Ram:
    """What a stream's later sections and rounds need to know of the earlier ones.

    The same object goes to every decoder of one replication: `current`, the block of the last
    record, lives on between them.
    """

    blocks: Blocks = attrs.field(factory=dict)
    section: int = SECTION_IDS[RAM]
    current: str | None = None


class RamReader(Generic[S]):
    """Reads RAM sections from `source`; `ram` is what it knows and learns."""

    def __init__(self, source: Source, ram: Ram) -> None:
        self.pages = 0
        self.zero_pages = 0
        self._source = source
        self._ram = ram

    def start(self, limit: int) -> Parsing[None]:
        """The start section, behind its type byte: fills in `ram.section` and `ram.blocks`."""
        self._ram.section = yield from header(self._source, RAM)
        self._ram.blocks = yield from self._blocks(limit)
        at = self._source.offset
        word = yield from self._source.u64()
        if word != EOS:
            raise _refused(at, word, "the end of the block list")
        yield from footer(self._source, self._ram.section)

    def part(self, sink: S) -> Parsing[None]:
        """A part or end section, behind its type byte: every page goes to `sink`."""
        at = self._source.offset
        section = yield from self._source.u32()
        if section != self._ram.section:
            raise StreamError(at, f"section id {section}, but RAM has id {self._ram.section}")
        yield from self._records(sink)
        yield from footer(self._source, section)

    def small_round(self, sink: S) -> bool:
        """A round as our own side sends it, where a small one lies whole in the piece; else nothing is read.

        It saves a generator for every field.
        """
        view, start = self._source.window()
        begins, ends = live_frame(self._ram.section)
        named = start + len(begins) + _WORD
        if not named < len(view) <= start + SMALL_ROUND or view[start : named - _WORD] != begins:
            return False
        body = named + 1 + view[named]
        block = str(view[named + 1 : body], "utf-8", "replace")
        pages, flags, at = [], PAGE, named - _WORD
        while body + PAGE_SIZE <= len(view):
            address = U64.unpack_from(view, at)[0] - flags
            if address & FLAGS or not 0 <= address < self._ram.blocks.get(block, 0):
                break
            pages.append((address, body))
            at = body + PAGE_SIZE
            flags, body = _NEXT_PAGE, at + _WORD
        if not pages or view[at : at + len(ends)] != ends:
            return False
        for address, body in pages:
            sink.put(block, address, view[body : body + PAGE_SIZE])
        self._ram.current = block
        self.pages += len(pages)
        self._source.advance(at + len(ends))
        return True

    def _blocks(self, limit: int) -> Parsing[Blocks]:
        source = self._source
        at = source.offset
        word = yield from source.u64()
        if word & FLAGS != MEM_SIZE:
            raise _refused(at, word, "the block list")
        total = missing = word - MEM_SIZE
        if total > limit:
            raise StreamError(at, f"{total} bytes of memory are over the limit of {limit}")
        blocks: dict[str, int] = {}
        while missing:
            at = source.offset
            name = yield from source.name()
            if len(blocks) == MAX_BLOCKS:
                raise StreamError(at, f"more than {MAX_BLOCKS} blocks of memory")
            if name in blocks:
                raise StreamError(at, f"block {name!r} is listed twice")
            at = source.offset
            size = yield from source.u64()
            if not size or size % PAGE_SIZE:
                raise StreamError(at, f"block {name!r} of {size} bytes is not a number of pages")
            if size > missing:
                raise StreamError(at, f"the blocks add up to more than the total of {total} bytes")
            blocks[name] = size
            missing -= size
        return blocks

    def _records(self, sink: S) -> Parsing[None]:
        source = self._source
        while True:
            self._run(sink)
            at = source.offset
            word = yield from source.u64()
            flags = word & FLAGS
            kind = flags & ~CONTINUE
            if kind in (PAGE, ZERO):
                address = word - flags
                block = yield from self._block(at, flags, address)
                if kind == PAGE:
                    # Not kept in a variable: see Source.
                    sink.put(block, address, (yield from source.take(PAGE_SIZE)))
                else:
                    if fill := (yield from source.u8()):
                        sink.put(block, address, bytes([fill]) * PAGE_SIZE)
                    else:
                        sink.put_zeros(block, address, 1)
                    self.zero_pages += 1
                self.pages += 1
            elif word == EOS:
                return
            else:
                yield from self._other(at, word, sink)

    def _run(self, sink: S) -> None:
        """Pages as QEMU nearly always sends them: they go on in one block, and lie whole in the piece.

        It stops before everything else, an error too, which is for `_records` to read. Those that follow
        each other in memory as well are handed on together.
        """
        block = self._ram.current
        if block is None:
            return
        view, at = self._source.window()
        size = len(view)
        last = self._ram.blocks[block] - PAGE_SIZE
        word_at = U64.unpack_from
        pages = zero_pages = 0
        while at + _WORD < size:
            (word,) = word_at(view, at)
            flags = word & FLAGS
            address = word - flags
            most = (last - address) // PAGE_SIZE + 1
            if flags == _NEXT_PAGE:
                behind = at + _PAGE_RECORD.size
                if behind > size or most < 1:
                    break
                if behind + _WORD > size or word_at(view, behind)[0] != word + PAGE_SIZE:
                    count = 1
                    sink.put(block, address, view[at + _WORD : behind])
                else:
                    count = _pages_from(view, at, word, most)
                    behind = at + count * _PAGE_RECORD.size
                    bodies = range(at + _WORD, behind, _PAGE_RECORD.size)
                    sink.put_pages(block, address, [view[body : body + PAGE_SIZE] for body in bodies])
            elif flags == _NEXT_ZERO:
                count = _zeros_from(view, at, word, most)
                behind = at + count * _ZERO_RECORD.size
                if count:
                    sink.put_zeros(block, address, count)
                zero_pages += count
            else:
                break
            if not count:
                break
            at = behind
            pages += count
        self.pages += pages
        self.zero_pages += zero_pages
        self._source.advance(at)

    def _other(self, at: int, word: int, sink: S) -> Parsing[None]:
        """A record that is neither a page, nor a fill byte, nor the end."""
        raise _refused(at, word, "a page")

    def _block(self, at: int, flags: int, address: int) -> Parsing[str]:
        """The block of a page record that stands at `at`, after checking that the page is in it."""
        ram = self._ram
        if not flags & CONTINUE:
            named_at = self._source.offset
            ram.current = yield from self._source.name()
            if ram.current not in ram.blocks:
                raise StreamError(named_at, f"block {ram.current!r} is not in the block list")
        if ram.current is None:
            raise StreamError(at, "a page continues a block, but none was named before")
        if address + PAGE_SIZE > ram.blocks[ram.current]:
            raise StreamError(
                at,
                f"page at {address:#x} is outside block {ram.current!r} "
                f"of {ram.blocks[ram.current]:#x} bytes",
            )
        return ram.current


class XbzrleRamReader(RamReader[PatchSink]):
    """Reads RAM sections in which pages may come as changes, too."""

    def _other(self, at: int, word: int, sink: PatchSink) -> Parsing[None]:
        flags = word & FLAGS
        if flags & ~CONTINUE != XBZRLE:
            yield from super()._other(at, word, sink)
        address = word - flags
        block = yield from self._block(at, flags, address)
        at = self._source.offset
        encoding = yield from self._source.u8()
        if encoding != XBZRLE_ENCODING:
            raise StreamError(
                at, f"encoding {encoding:#04x} of an xbzrle page, expected {XBZRLE_ENCODING:#04x}"
            )
        at = self._source.offset
        size = yield from self._source.u16()
        if size > PAGE_SIZE:
            raise StreamError(at, f"{size} bytes of changes to a page of {PAGE_SIZE}")
        at = self._source.offset
        # Copied, for the page and its changes may lie in the same buffer; and see Source.
        changes = bytes((yield from self._source.take(size)))
        page = bytearray(sink.get(block, address))
        _patch(page, changes, at)
        sink.put(block, address, page)
        self.pages += 1


def _pages_from(view: memoryview, at: int, word: int, most: int) -> int:
    """How many records from `at` on, where `word` stands, are pages that follow each other: up to `most`."""
    most = min(most, (len(view) - at) // _PAGE_RECORD.size)
    count = 0
    for (found,) in _PAGE_RECORD.iter_unpack(view[at : at + most * _PAGE_RECORD.size]):
        if found != word:
            break
        word += PAGE_SIZE
        count += 1
    return count


def _zeros_from(view: memoryview, at: int, word: int, most: int) -> int:
    """The same of pages of zeros."""
    most = max(0, min(most, (len(view) - at) // _ZERO_RECORD.size))
    count = 0
    for found, fill in _ZERO_RECORD.iter_unpack(view[at : at + most * _ZERO_RECORD.size]):
        if found != word or fill:
            break
        word += PAGE_SIZE
        count += 1
    return count


def _refused(at: int, word: int, expected: str) -> StreamError:
    """Why the record `word` cannot stand where `expected` should."""
    for flag, capability in UNREAD_RECORDS.items():
        if word & flag:
            return capability_error(at, f"a RAM record with flag {flag:#05x}", capability)
    return StreamError(at, f"RAM record {word:#x}, flags {word & FLAGS:#05x}, expected {expected}")


def _patch(page: bytearray, changes: bytes, at: int) -> None:
    """Make `changes` to `page`; a StreamError counts from `at`, the offset of `changes`."""
    position = read = 0
    while read < len(changes):
        start = read
        same, read = _length(changes, read, at)
        new, read = _length(changes, read, at)
        if not new or (start and not same):
            raise StreamError(at + start, "an empty run in the changes to a page")
        position += same
        if position + new > len(page):
            raise StreamError(at + start, f"changes to a page beyond its {len(page)} bytes")
        if read + new > len(changes):
            raise StreamError(at + start, "the changes to a page end inside a run")
        page[position : position + new] = changes[read : read + new]
        position += new
        read += new


def _length(changes: Buffer, read: int, at: int) -> tuple[int, int]:
    """The length of a run that stands at `read`, and where it ends."""
    value = 0
    for index, byte in enumerate(changes[read : read + 2]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, read + index + 1
    raise StreamError(at + read, "the length of a run in the changes to a page does not end")
