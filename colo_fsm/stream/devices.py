"""The device sections of a real QEMU: opaque bodies of unknown length, told apart by their footers.

A footer is 7e and the section's own id. Those five bytes may stand inside a body as well, so a footer
counts only with the header of another section behind it, or the end. And it counts for every section
seen so far, not just for the latest: what looked like a header inside a body then leads nowhere, and
the real sections are found all the same. (Of two headers of one section, each behind a footer of the
section before, the later counts.) Every place is looked at once, so no input makes this slow.

Source: QEMU's docs/devel/migration/main.rst, "Stream structure".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from .format import (
    COMMAND,
    COMMAND_SIZES,
    DESCRIPTION,
    END_OF_STREAM,
    SECTION_FULL,
    U8,
    U16,
    U32,
    UNREAD_COMMANDS,
)
from .memory import Buffer
from .source import Parsing, Source, StreamError

MOST_SECTIONS = 1 << 16
"""A machine of hundreds of processors has thousands; each costs more memory than it has bytes."""

_FOOTER = re.compile(rb"\x7e(?=....[\x00\x04\x08])", re.DOTALL)
_FOOTER_SIZE = U8.size + U32.size
_DESCRIPTION = U8.pack(DESCRIPTION)
_REQUEST = U32.pack(1)  # checkpoint-request, the first COLO message
_COMMANDS = COMMAND_SIZES.keys() | UNREAD_COMMANDS.keys()
_NAME = U8.size + U32.size  # where in a header the name's length stands


@attrs.frozen
class DeviceSection:
    """Where a device section lies: `size` bytes of body at `offset`, after its header, before its footer.

    `section` is its id in this stream; `name` and `instance` are the device's in every stream.
    """

    name: str
    instance: int
    version: int
    section: int
    offset: int
    size: int


def device_sections(data: Buffer) -> tuple[DeviceSection, ...]:
    """The sections in the vmstate of a round.

    `data` is all of it, as many bytes as vmstate-size announced: sections, the end mark, and nothing
    behind. Raises StreamError otherwise, or if a section is there twice. What is in the bodies only
    QEMU knows: that it can load them is not said.
    """
    first = _header(data, 0, None)
    if first is None:
        raise StreamError(0, "the device state does not begin with a device section")
    if data[-1] != END_OF_STREAM:
        raise StreamError(len(data) - 1, "the device state does not end with the end of stream")
    search = _Search(first)
    for last, end in search.ends(data):
        if end == len(data) - 1:
            return _unique(_chain(last, end), 0)
    latest = search.latest
    raise StreamError(latest.start, f"section {latest.name!r} does not end, or nothing valid follows it")


class DeviceReader:
    """Reads the device sections of an initial stream from `source`: `devices` verbatim, and `sections`.

    Here the end has to be seen when its first byte comes: QEMU sends no more before it is answered.
    So only the footer of the latest section counts, with an end mark or a command behind it, and as
    much of what follows as has come must fit.
    """

    def __init__(self, source: Source, limit: int) -> None:
        self.devices = b""
        self.sections: tuple[DeviceSection, ...] = ()
        self._source = source
        self._limit = limit

    def read(self, at: int) -> Parsing[None]:
        """Sections up to the end mark or a command; the first one's type byte, read already, is at `at`."""
        data = bytearray(U8.pack(SECTION_FULL))
        while (size := _header_size(data, 0)) > len(data):
            data += yield from self._source.take(size - len(data))
        first = _header(data, 0, None)
        if first is None:
            raise StreamError(at, "a device section without a valid header")
        search = _Search(first)
        moved = len(self.devices)
        while True:
            end = self._more(data, search)
            if moved + (end or len(data)) > self._limit:
                problem = f"device sections of more than {self._limit} bytes, the last of them"
                raise StreamError(at + search.latest.start, f"{problem} {search.latest.name!r}")
            if end is not None:
                break
            yield
        found = (attrs.evolve(s, offset=s.offset + moved) for s in _chain(search.latest, end))
        self.sections = _unique((*self.sections, *found), at - moved)
        self.devices += data[:end]

    def _more(self, data: bytearray, search: _Search) -> int | None:
        """Add the piece lent to `data`, but for what is behind the end; return the end if it is there."""
        view, position = self._source.window()
        data += view[position:]
        for section, end in search.ends(data):
            if section is search.latest and _fits(bytes(data[end : end + 5])):
                self._source.advance(len(view) - (len(data) - end))
                return end
        self._source.advance(len(view))
        return None


def _fits(behind: bytes) -> bool:
    """Whether `behind`, which may be cut short, can stand behind the last of the device sections.

    That is a command, or an end mark with a description or the first request behind it. Zeros are neither:
    a timer's state has 7e and many of them in one of 256 streams.
    """
    if behind[0] == COMMAND:
        return len(behind) < 3 or U16.unpack_from(behind, 1)[0] in _COMMANDS
    following = behind[1:]
    return following[:1] == _DESCRIPTION or _REQUEST.startswith(following)


@attrs.frozen
class _Open:
    """A section whose header was found at `start`, its end not yet; `before` is the one that ends there.

    Not a `DeviceSection` still without its size: making that one twice takes a third more time.
    """

    name: str
    instance: int
    version: int
    section: int
    start: int
    body: int
    before: _Open | None


class _Search:
    """What was found so far in data that may still grow."""

    def __init__(self, first: _Open) -> None:
        self.latest = first
        self._open = {first.section: first}
        self._position = first.body
        self._found = 1

    def ends(self, data: Buffer) -> Iterator[tuple[_Open, int]]:
        """Sections with the end of all behind their footer, or a command, and where that stands."""
        undecided = max(self._position, len(data) - _FOOTER_SIZE)
        for match in _FOOTER.finditer(data, self._position):
            mark = match.start()
            end = mark + _FOOTER_SIZE
            section = self._open.get(U32.unpack_from(data, mark + U8.size)[0])
            if section is None or mark < section.body:
                continue
            if data[end] != SECTION_FULL:
                yield section, end
            elif end + _header_size(data, end) > len(data):
                undecided = min(undecided, mark)
            elif (opened := _header(data, end, section)) is not None:
                self._found += 1
                if self._found > MOST_SECTIONS:
                    raise StreamError(end, f"more than {MOST_SECTIONS} device sections")
                self.latest = self._open[opened.section] = opened
        self._position = undecided


def _header_size(data: Buffer, at: int) -> int:
    """The size of the header at `at`, or of as much as tells more, if `data` ends before."""
    named = at + _NAME
    return _NAME + U8.size + (data[named] + 2 * U32.size if named < len(data) else 0)


def _header(data: Buffer, at: int, before: _Open | None) -> _Open | None:
    """The section whose header is at `at`; None if that is no header."""
    body = at + _header_size(data, at)
    if body > len(data) or data[at] != SECTION_FULL:
        return None
    (section,) = U32.unpack_from(data, at + U8.size)
    instance, version = (U32.unpack_from(data, body - n * U32.size)[0] for n in (2, 1))
    name = bytes(data[at + _NAME + U8.size : body - 2 * U32.size]).decode("ascii", "replace")
    if not name or not name.isascii() or not name.isprintable():
        return None
    return _Open(name, instance, version, section, at, body, before)


def _chain(last: _Open, end: int) -> tuple[DeviceSection, ...]:
    """The sections up to `last`, which ends at `end`."""
    found = []
    at: _Open | None = last
    while at is not None:
        size = end - _FOOTER_SIZE - at.body
        found.append(DeviceSection(at.name, at.instance, at.version, at.section, at.body, size))
        end, at = at.start, at.before
    return tuple(reversed(found))


def _unique(sections: tuple[DeviceSection, ...], base: int) -> tuple[DeviceSection, ...]:
    """`sections`, if none is there twice; `base` is the offset in the stream that theirs count from."""
    ids: set[int] = set()
    devices: set[tuple[str, int]] = set()
    for section in sections:
        if section.section in ids or (section.name, section.instance) in devices:
            where = base + section.offset
            raise StreamError(where, f"section {section.name!r} or its id {section.section} is there twice")
        ids.add(section.section)
        devices.add((section.name, section.instance))
    return sections
