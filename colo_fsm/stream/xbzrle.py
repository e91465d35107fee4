"""xbzrle: a page as the bytes in which it differs from what the Secondary has already.

Pairs of runs: how many bytes stay, how many are new, and the new ones; a length is ULEB128 in at most
two bytes. The first pair may leave no byte as it was; what follows the last pair stays too.

Source: QEMU's docs/devel/migration/xbzrle.txt; checked against streams of QEMU 7.2.
"""

from __future__ import annotations

from .errors import StreamError
from .format import CONTINUE, FLAGS, XBZRLE
from .memory import PAGE_SIZE, Buffer
from .ram import PatchSink, RamReader
from .source import Parsing

ENCODING = 0x01


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
        if encoding != ENCODING:
            raise StreamError(at, f"encoding {encoding:#04x} of an xbzrle page, expected {ENCODING:#04x}")
        at = self._source.offset
        size = yield from self._source.u16()
        if size > PAGE_SIZE:
            raise StreamError(at, f"{size} bytes of changes to a page of {PAGE_SIZE}")
        at = self._source.offset
        # Copied, for the page and its changes may lie in the same buffer; and see Source.
        changes = bytes((yield from self._source.take(size)))
        page = bytearray(sink.get(block, address))
        patch(page, changes, at)
        sink.put(block, address, page)
        self.pages += 1


def patch(page: bytearray, changes: bytes, at: int) -> None:
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
