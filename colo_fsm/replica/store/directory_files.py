"""The files of a `DirectoryStore`: format, version 1 (integers big-endian, checksums CRC-32).

`colo-store`    one line of text that says what the directory is, with the version.
`image-<n>`     the pages of all blocks in their order, then one u32 checksum for each page.
`checkpoint`    what is current, and the redo log of its round:
                    8 bytes "colockpt", u32 checksum of what follows up to the pages' content,
                    u32 length of the header, u64 length of the device state, u64 number of pages,
                    the header, JSON: image, total, generation, number, blocks, meta,
                    the device state,
                    for each page of the round: u64 place in the image, u32 checksum,
                    the content of those pages.
`checkpoint.new`, and any image that `checkpoint` does not name: left by a kill, swept at the next open.

`total` (see `ImageFile.change`) ties the image to the checkpoint: an image of another round is found out
although each of its pages is sound.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from colo_fsm.stream.memory import PAGE_SIZE, ZERO_PAGE, Buffer

from .base import Layout
from .disk import Disk

MARKER = b"colo_fsm store, version 1\n"

_MAGIC = b"colockpt"
_PREFIX = struct.Struct(">8sIIQQ")
_CHECKED_FROM = struct.calcsize(">8sI")
_ENTRY = struct.Struct(">QI")
_SUM = struct.Struct(">I")
_ZERO_SUM = zlib.crc32(ZERO_PAGE)
_SUMS = PAGE_SIZE // _SUM.size
"""Checksums that are written at a time, before the first page among theirs is."""


def _write_at(disk: Disk, fd: int, data: Buffer, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = disk.write(fd, rest, offset)
        rest, offset = rest[written:], offset + written


class LoggedPage(NamedTuple):
    """One page of a round: its place in the image, counted in pages."""

    place: int
    checksum: int
    data: Buffer


class ImageFile:
    """`image-<number>`: written by pwrite, so that a fault is an exception; read through a mapping."""

    def __init__(self, disk: Disk, path: Path, layout: Layout) -> None:
        """Open the file, which has the size that `layout` asks for."""
        self._disk = disk
        self.path = path
        self.number = int(path.name.removeprefix("image-"))
        self.layout = layout
        self.total = 0
        self._blank: set[int] = set()
        """Places, in steps of `_SUMS`, behind which no checksums are written yet: all are of zeros."""
        self.fd = disk.open(path)
        try:
            self._bytes = memoryview(b"")
            if layout.size:
                self._bytes = disk.map(self.fd)
        except BaseException:
            disk.close(self.fd)
            raise
        self.views: Mapping[str, memoryview] = layout.views(self._bytes)

    @classmethod
    def create(cls, disk: Disk, path: Path, layout: Layout) -> ImageFile:
        """An image of zero bytes, which takes no room on disk before it has pages, or is settled."""
        count = layout.size // PAGE_SIZE
        try:
            with disk.create(path) as file:
                disk.resize(file.fileno(), cls.file_size(layout))
            image = cls(disk, path, layout)
            image._blank = set(range(0, count, _SUMS))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(path)
            raise
        image.total = _ZERO_SUM * count * (count + 1) // 2
        return image

    @staticmethod
    def file_size(layout: Layout) -> int:
        return layout.size + layout.size // PAGE_SIZE * _SUM.size

    def change(self, page: LoggedPage) -> int:
        """What `page` adds to `total`: the sum of all checksums, each times its place from 1."""
        if page.place - page.place % _SUMS in self._blank:
            before = _ZERO_SUM
        else:
            (before,) = _SUM.unpack_from(self._bytes, self.layout.size + page.place * _SUM.size)
        return (page.place + 1) * (page.checksum - before)

    def settle(self) -> None:
        """Take all the room that it will ever need, so that no later write can lack it. Raises OSError."""
        if self.layout.size:
            self._disk.allocate(self.fd, self.file_size(self.layout))
        for place in sorted(self._blank):
            self._fill_in(place)

    def _fill_in(self, place: int) -> None:
        """The checksums of the zero pages around this place."""
        first = place - place % _SUMS
        if first in self._blank:
            count = min(_SUMS, self.layout.size // PAGE_SIZE - first)
            at = self.layout.size + first * _SUM.size
            _write_at(self._disk, self.fd, _SUM.pack(_ZERO_SUM) * count, at)
            self._blank.discard(first)

    def write(self, index: int, data: Buffer) -> None:
        self.replace(LoggedPage(index, zlib.crc32(data), data))

    def replace(self, page: LoggedPage) -> None:
        self._fill_in(page.place)
        change = self.change(page)
        _write_at(self._disk, self.fd, page.data, page.place * PAGE_SIZE)
        _write_at(self._disk, self.fd, _SUM.pack(page.checksum), self.layout.size + page.place * _SUM.size)
        self.total += change

    def check(self, total: int) -> None:
        """Read it all; ValueError says what differs from its checksum."""
        self.total = 0
        for index, (checksum,) in enumerate(_SUM.iter_unpack(self._bytes[self.layout.size :])):
            if zlib.crc32(self._bytes[index * PAGE_SIZE : (index + 1) * PAGE_SIZE]) != checksum:
                raise ValueError(f"{self.path.name}: page {index} differs from its checksum")
            self.total += (index + 1) * checksum
        if self.total != total:
            raise ValueError(f"{self.path.name} is not the image of this checkpoint")

    def close(self) -> None:
        """The mapping goes with the last view, which a caller may still hold. Never fails."""
        with contextlib.suppress(OSError):  # the descriptor is gone all the same; what matters was synced
            self._disk.close(self.fd)

    def drop(self) -> None:
        self.close()
        for view in self.views.values():
            view.release()
        self._disk.unmap(self._bytes)
        with contextlib.suppress(OSError):  # what stays is swept at the next open
            self._disk.unlink(self.path)


@attrs.frozen
class Record:
    """The content of `checkpoint`."""

    header: dict[str, Any]
    device: bytes
    pages: Sequence[LoggedPage]

    def encode(self) -> list[Buffer]:
        """The parts of the file, in order."""
        header = json.dumps(self.header).encode()
        entries = [_ENTRY.pack(page.place, page.checksum) for page in self.pages]
        prefix = _PREFIX.pack(_MAGIC, 0, len(header), len(self.device), len(self.pages))
        checked = b"".join((prefix[_CHECKED_FROM:], header, self.device, *entries))
        return [_MAGIC, _SUM.pack(zlib.crc32(checked)), checked, *(page.data for page in self.pages)]

    @classmethod
    def decode(cls, data: memoryview) -> Record:
        """ValueError if anything differs from what was encoded."""
        if len(data) < _PREFIX.size:
            raise ValueError("checkpoint is cut short")
        magic, checksum, header_size, device_size, count = _PREFIX.unpack_from(data)
        device = _PREFIX.size + header_size
        entries = device + device_size
        content = entries + count * _ENTRY.size
        if magic != _MAGIC or content + count * PAGE_SIZE != len(data):
            raise ValueError("checkpoint has another form or length than it declares")
        if zlib.crc32(data[_CHECKED_FROM:content]) != checksum:
            raise ValueError("checkpoint differs from its checksum")
        pages = []
        for position, (place, page_sum) in enumerate(_ENTRY.iter_unpack(data[entries:content])):
            page = LoggedPage(place, page_sum, data[content + position * PAGE_SIZE :][:PAGE_SIZE])
            if zlib.crc32(page.data) != page_sum:
                raise ValueError(f"checkpoint: its page {position} differs from its checksum")
            pages.append(page)
        header = json.loads(bytes(data[_PREFIX.size : device]))
        return cls(header, bytes(data[device:entries]), pages)
