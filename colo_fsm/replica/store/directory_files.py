"""The files of a `DirectoryStore`: format, version 2 (integers big-endian, checksums CRC-32).

`colo-store`    one line of text that says what the directory is, with the version.
`image-<n>`     the pages of all blocks in their order, then one u32 checksum for each page.
                Pages of zeros are holes, as far as the file system has such.
`checkpoint`    what is current, and the redo log of its round:
                    8 bytes "colockpt", u32 checksum of what follows up to the pages' content,
                    u32 length of the header, u64 length of the device state, u64 number of runs of pages,
                    the header, JSON: image, total, generation, number, blocks, meta,
                    the device state,
                    for each run: u64 place in the image, u32 number of pages, u32 how many checksums follow
                    (as many; none: the pages are of zeros), u32 checksums,
                    the content of those pages that have one.
`checkpoint.new`, and any image that `checkpoint` does not name: left by a kill, swept at the next open.

`total` (see `ImageFile.change`) ties the image to the checkpoint: an image of another round is found out
although each of its pages is sound.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from colo_fsm.stream.memory import PAGE_SIZE, ZERO_PAGE, Buffer

from .base import Layout, Placed
from .disk import MOST_BUFFERS, Disk

MARKER = b"colo_fsm store, version 2\n"

_MAGIC = b"colockpt"
_PREFIX = struct.Struct(">8sIIQQ")
_CHECKED_FROM = struct.calcsize(">8sI")
_RUN = struct.Struct(">QII")
_SUM = struct.Struct(">I")
_ZERO_SUM = zlib.crc32(ZERO_PAGE)
_SUMS = PAGE_SIZE // _SUM.size
"""Checksums that are written at a time, before the first page among theirs is."""
_PUNCHED = 8
"""Pages of zeros in a row from which on they are worth a hole."""


def write_at(disk: Disk, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
    """Write all of them, one behind the other. Raises OSError."""
    for start in range(0, len(buffers), MOST_BUFFERS):
        some = buffers[start : start + MOST_BUFFERS]
        size = sum(map(len, some))
        written = disk.write(fd, some, offset)
        while written < size:
            written += disk.write(fd, [memoryview(b"".join(some))[written:]], offset + written)
        offset += size


class LoggedRun(NamedTuple):
    """Pages of a round that follow each other: see `Placed`. `sums`: theirs; none where they are of zeros."""

    place: int
    length: int
    sums: Sequence[int]
    pages: Sequence[Buffer]

    @classmethod
    def of(cls, run: Placed) -> LoggedRun:
        pages = run.pages or ()
        return cls(run.place, run.length, list(map(zlib.crc32, pages)), pages)


class ImageFile:
    """`image-<number>`: written by pwritev, so that a fault is an exception; read through a mapping."""

    def __init__(self, disk: Disk, path: Path, layout: Layout) -> None:
        """Open the file, which has the size that `layout` asks for."""
        self._disk = disk
        self.path = path
        self.number = int(path.name.removeprefix("image-"))
        self.layout = layout
        self.total = 0
        self._count = layout.size // PAGE_SIZE
        self._blank: set[int] = set()
        """Places, in steps of `_SUMS`, behind which no checksums are written yet: all are of zeros."""
        self.fd = disk.open(path)
        try:
            self._filled = bytearray(self._count)
            """For each page: 0 if it is a hole, where zeros need not be written, and room has to be taken."""
            for offset, size in disk.filled(self.fd, layout.size):
                first, behind = offset // PAGE_SIZE, min(self._count, -(-(offset + size) // PAGE_SIZE))
                self._fill(first, behind - first)
            self._bytes = memoryview(b"")
            if layout.size:
                self._bytes = disk.map(self.fd)
        except BaseException:
            disk.close(self.fd)
            raise
        self.views: Mapping[str, memoryview] = layout.views(self._bytes)

    @classmethod
    def create(cls, disk: Disk, path: Path, layout: Layout) -> ImageFile:
        """An image of zero bytes, which takes no room on disk before it has pages."""
        pages = layout.size // PAGE_SIZE
        try:
            with disk.create(path) as file:
                disk.resize(file.fileno(), cls.file_size(layout))
            image = cls(disk, path, layout)
            image._blank = set(range(0, pages, _SUMS))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(path)
            raise
        image.total = _ZERO_SUM * pages * (pages + 1) // 2
        return image

    @staticmethod
    def file_size(layout: Layout) -> int:
        return layout.size + layout.size // PAGE_SIZE * _SUM.size

    def change(self, run: LoggedRun) -> int:
        """What `run` adds to `total`: the sum of all checksums, each times its place from 1."""
        before = self._sums(run.place, run.length)
        if run.sums:
            pairs = zip(run.sums, before, strict=True)
            return sum(at * (new - old) for at, (new, old) in enumerate(pairs, run.place + 1))
        return sum(at * (_ZERO_SUM - old) for at, old in enumerate(before, run.place + 1) if old != _ZERO_SUM)

    def _sums(self, place: int, length: int) -> tuple[int, ...]:
        at = self.layout.size + place * _SUM.size
        return struct.unpack_from(f">{length}I", self._bytes, at)

    def settle(self) -> None:
        """The checksums of all its pages are there, so that no later one lacks room. Raises OSError."""
        for place in sorted(self._blank):
            self._fill_in(place)

    def _fill_in(self, first: int) -> None:
        """The checksums of the zero pages from this place on, one of `_blank`."""
        pages = min(_SUMS, self._count - first)
        self._write(_SUM.pack(_ZERO_SUM) * pages, self.layout.size + first * _SUM.size)
        self._blank.discard(first)

    def take_room(self, runs: Sequence[LoggedRun]) -> None:
        """Room for these, so that what is logged can also be written here. Raises OSError."""
        for run in runs:
            if run.pages and self._filled.find(0, run.place, run.place + run.length) >= 0:
                self._disk.allocate(self.fd, run.place * PAGE_SIZE, run.length * PAGE_SIZE)
                self._fill(run.place, run.length)

    def write(self, run: Placed) -> None:
        """See `Image.write`; while it is built."""
        if run.pages is None:
            parts: Sequence[LoggedRun] = [LoggedRun(*part, (), ()) for part in self._not_blank(run)]
        else:
            for place in range(run.place - run.place % _SUMS, run.place + run.length, _SUMS):
                if place in self._blank:
                    self._fill_in(place)
            parts = [LoggedRun.of(run)]
        for part in parts:
            change = self.change(part)
            self.replace(part)
            self.total += change

    def _not_blank(self, run: Placed) -> Iterator[tuple[int, int]]:
        """Those parts of `run` in which there may be something, by place and length."""
        place, end = run.place, run.place + run.length
        while place < end:
            group = place - place % _SUMS
            behind = min(end, group + _SUMS)
            if group not in self._blank:
                yield place, behind - place
            place = behind

    def replace(self, run: LoggedRun) -> None:
        """Write it, and its checksums; `total` is the caller's."""
        if run.pages:
            write_at(self._disk, self.fd, run.pages, run.place * PAGE_SIZE)
            self._fill(run.place, run.length)
            sums = struct.pack(f">{run.length}I", *run.sums)
        else:
            self._clear(run.place, run.place + run.length)
            sums = _SUM.pack(_ZERO_SUM) * run.length
        self._write(sums, self.layout.size + run.place * _SUM.size)

    def _fill(self, place: int, length: int) -> None:
        self._filled[place : place + length] = b"\1" * length

    def _clear(self, place: int, end: int) -> None:
        """Zeros from one place to the other; what is a hole stays one."""
        while (place := self._filled.find(1, place, end)) >= 0:
            behind = self._filled.find(0, place, end)
            behind = end if behind < 0 else behind
            if behind - place < _PUNCHED:
                write_at(self._disk, self.fd, [ZERO_PAGE] * (behind - place), place * PAGE_SIZE)
            else:
                self._disk.punch(self.fd, place * PAGE_SIZE, (behind - place) * PAGE_SIZE)
                self._filled[place:behind] = bytes(behind - place)
            place = behind

    def _write(self, data: Buffer, offset: int) -> None:
        write_at(self._disk, self.fd, [data], offset)

    def check(self, total: int, unread: bool = False) -> None:
        """Read it all but its holes; ValueError says what differs from its checksum.

        `unread`: only whether the checksums are those of this checkpoint.
        """
        self.total = 0
        for first in range(0, self._count, _SUMS):
            sums = self._sums(first, min(_SUMS, self._count - first))
            places = range(first, first + len(sums))
            found = sums if unread else tuple(map(self._sum_now, places))
            if found != sums:
                pairs = zip(found, sums, strict=True)
                place = next(place for place, (one, other) in enumerate(pairs, first) if one != other)
                raise ValueError(f"{self.path.name}: page {place} differs from its checksum")
            self.total += sum(map(mul, sums, count(first + 1)))
        if self.total != total:
            raise ValueError(f"{self.path.name} is not the image of this checkpoint")

    def _sum_now(self, place: int) -> int:
        if not self._filled[place]:
            return _ZERO_SUM
        return zlib.crc32(self._bytes[place * PAGE_SIZE : (place + 1) * PAGE_SIZE])

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
    runs: Sequence[LoggedRun]

    def encode(self) -> list[Buffer]:
        """The parts of the file, in order."""
        header = json.dumps(self.header).encode()
        entries = b"".join(
            _RUN.pack(run.place, run.length, len(run.sums)) + struct.pack(f">{len(run.sums)}I", *run.sums)
            for run in self.runs
        )
        prefix = _PREFIX.pack(_MAGIC, 0, len(header), len(self.device), len(self.runs))
        checked = b"".join((prefix[_CHECKED_FROM:], header, self.device, entries))
        pages = [page for run in self.runs for page in run.pages]
        return [_MAGIC + _SUM.pack(zlib.crc32(checked)) + checked, *pages]

    @classmethod
    def decode(cls, data: memoryview) -> Record:
        """ValueError if anything differs from what was encoded."""
        try:
            return cls._decode(data)
        except struct.error:
            raise ValueError("checkpoint is cut short") from None

    @classmethod
    def _decode(cls, data: memoryview) -> Record:
        magic, checksum, header_size, device_size, runs_in_it = _PREFIX.unpack_from(data)
        device = _PREFIX.size + header_size
        at = entries = device + device_size
        found: list[tuple[int, int, tuple[int, ...]]] = []
        for _ in range(runs_in_it):
            place, length, sums = _RUN.unpack_from(data, at)
            at += _RUN.size
            found.append((place, length, struct.unpack_from(f">{sums}I", data, at)))
            at += sums * _SUM.size
        size = PAGE_SIZE * sum(len(sums) for _, _, sums in found)
        if magic != _MAGIC or at + size != len(data):
            raise ValueError("checkpoint has another form or length than it declares")
        if zlib.crc32(data[_CHECKED_FROM:at]) != checksum:
            raise ValueError("checkpoint differs from its checksum")
        runs = []
        for place, length, sums in found:
            pages = [data[at + n * PAGE_SIZE : at + (n + 1) * PAGE_SIZE] for n in range(len(sums))]
            at += len(sums) * PAGE_SIZE
            if tuple(map(zlib.crc32, pages)) != sums:
                raise ValueError(f"checkpoint: its pages from {place} on differ from their checksums")
            runs.append(LoggedRun(place, length, sums, pages))
        header = json.loads(bytes(data[_PREFIX.size : device]))
        return cls(header, bytes(data[device:entries]), runs)
