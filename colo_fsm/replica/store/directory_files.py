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
import mmap
import struct
import zlib
from collections.abc import Mapping, Sequence
from itertools import count
from operator import mul, sub
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from colo_fsm.stream.memory import MOST_BUFFERS, PAGE_SIZE, ZERO_PAGE, Buffer

from .base import Layout, Placed
from .disk import Disk

MARKER = b"colo_fsm store, version 2\n"

_MAGIC = b"colockpt"
_PREFIX = struct.Struct(">8sIIQQ")
_CHECKED_FROM = struct.calcsize(">8sI")
_RUN = struct.Struct(">QII")
_SUM = struct.Struct(">I")
_ZERO_SUM = zlib.crc32(ZERO_PAGE)
_SUMS = PAGE_SIZE // _SUM.size
"""Checksums that are written at a time."""
_ZERO_SUMS = _SUM.pack(_ZERO_SUM) * _SUMS
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
        self._pages = layout.size // PAGE_SIZE
        self.total = _ZERO_SUM * self._pages * (self._pages + 1) // 2
        """Of all checksums, each times its place from 1. A round's is there when all of it is written."""
        self._filled = mmap.mmap(-1, max(1, self._pages), mmap.MAP_PRIVATE)
        """For each page: 0 if it is a hole, where zeros need not be written, and room has to be taken."""
        self._sums: dict[int, bytearray] = {}
        """Checksums by their group of `_SUMS`; without one all are of zeros."""
        self._dirty: set[int] = set()
        self._new = True
        self.fd = disk.open(path)
        try:
            for offset, size in disk.filled(self.fd, layout.size):
                first, behind = offset // PAGE_SIZE, min(self._pages, -(-(offset + size) // PAGE_SIZE))
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
        try:
            with disk.create(path) as file:
                disk.resize(file.fileno(), cls.file_size(layout))
            return cls(disk, path, layout)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(path)
            raise

    @staticmethod
    def file_size(layout: Layout) -> int:
        return layout.size + layout.size // PAGE_SIZE * _SUM.size

    def take_room(self, runs: Sequence[LoggedRun]) -> None:
        """Room for these, so that what is logged can also be written here. Raises OSError."""
        for run in runs:
            if run.pages and self._filled.find(b"\0", run.place, run.place + run.length) >= 0:
                self._disk.allocate(self.fd, run.place * PAGE_SIZE, run.length * PAGE_SIZE)
                self._fill(run.place, run.length)

    def write(self, run: Placed) -> None:
        """See `Image.write`; while it is built."""
        logged = LoggedRun.of(run)
        change = self.change(logged)
        self.replace(logged)
        self.total += change

    def replace(self, run: LoggedRun) -> None:
        """Write these pages. Their checksums are written by `settle`; `total` is the caller's."""
        if run.pages:
            write_at(self._disk, self.fd, run.pages, run.place * PAGE_SIZE)
            self._fill(run.place, run.length)
        else:
            self._clear(run.place, run.place + run.length)
        done = 0
        for group, first, length in self._parts(run):
            if run.sums:
                new = struct.pack(f">{length}I", *run.sums[done : done + length])
            else:
                new = _ZERO_SUMS[: length * _SUM.size]
            sums = self._sums.get(group)
            if sums is None:
                sums = self._sums[group] = bytearray(_ZERO_SUMS)
            sums[first * _SUM.size : (first + length) * _SUM.size] = new
            self._dirty.add(group)
            done += length

    def settle(self) -> None:
        """Write the checksums of what was replaced; of a new image, all. Raises OSError."""
        if self._new:
            self._new = False
            self._dirty.update(range(-(-self._pages // _SUMS)))
        for group in sorted(self._dirty):
            pages = min(_SUMS, self._pages - group * _SUMS)
            sums = memoryview(self._sums.get(group, _ZERO_SUMS))[: pages * _SUM.size]
            at = self.layout.size + group * _SUMS * _SUM.size
            write_at(self._disk, self.fd, [sums], at)
        self._dirty.clear()

    def change(self, run: LoggedRun) -> int:
        """What `run` adds to `total`."""
        added = done = 0
        for group, first, length in self._parts(run):
            at = group * _SUMS + first + 1
            old = self._sums_of(group, first, length)
            new = run.sums[done : done + length] or (_ZERO_SUM,) * length
            if new != old:
                added += sum(map(mul, map(sub, new, old), count(at)))
            done += length
        return added

    def _parts(self, run: LoggedRun) -> list[tuple[int, int, int]]:
        """`run` by the group of checksums: which, from where in it, how many."""
        group, first = divmod(run.place, _SUMS)
        left = run.length
        parts = []
        while left:
            length = min(left, _SUMS - first)
            parts.append((group, first, length))
            group, first, left = group + 1, 0, left - length
        return parts

    def _sums_of(self, group: int, first: int, length: int) -> tuple[int, ...]:
        return struct.unpack_from(f">{length}I", self._sums.get(group, _ZERO_SUMS), first * _SUM.size)

    def _fill(self, place: int, length: int) -> None:
        self._filled[place : place + length] = b"\1" * length

    def _clear(self, place: int, end: int) -> None:
        """Zeros from one place to the other; what is a hole stays one."""
        while (place := self._filled.find(b"\1", place, end)) >= 0:
            behind = self._filled.find(b"\0", place, end)
            behind = end if behind < 0 else behind
            if behind - place < _PUNCHED:
                write_at(self._disk, self.fd, [ZERO_PAGE] * (behind - place), place * PAGE_SIZE)
            else:
                self._disk.punch(self.fd, place * PAGE_SIZE, (behind - place) * PAGE_SIZE)
                self._filled[place:behind] = bytes(behind - place)
            place = behind

    def load_sums(self) -> None:
        """Of an image that is there: before anything of it is replaced."""
        self._new = False
        self.total = 0
        for group, at in enumerate(range(self.layout.size, len(self._bytes), PAGE_SIZE)):
            sums = bytes(self._bytes[at : at + PAGE_SIZE])
            self.total += sum(
                map(mul, struct.unpack(f">{len(sums) // _SUM.size}I", sums), count(group * _SUMS + 1))
            )
            if sums != _ZERO_SUMS:
                self._sums[group] = bytearray(sums.ljust(PAGE_SIZE, b"\0"))

    def check(self, total: int, unread: bool = False) -> None:
        """Read it all but its holes; ValueError says what differs from its checksum.

        `unread`: only whether the checksums are those of this checkpoint.
        """
        for group in range(0 if unread else -(-self._pages // _SUMS)):
            first = group * _SUMS
            sums = self._sums_of(group, 0, min(_SUMS, self._pages - first))
            found = tuple(map(self._sum_now, range(first, first + len(sums))))
            if found != sums:
                pairs = zip(found, sums, strict=True)
                place = next(place for place, (one, other) in enumerate(pairs, first) if one != other)
                raise ValueError(f"{self.path.name}: page {place} differs from its checksum")
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
