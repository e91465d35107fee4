"""The device sections of a real QEMU: opaque bodies of unknown length, told apart by their footers.

A footer is 7e and the section's own id. Those five bytes may stand inside a body as well, so a footer
counts only with the header of another section behind it, or the end. And it counts for every section
seen so far, not just for the latest: what looked like a header inside a body then leads nowhere, and
the real sections are found all the same. (Of two headers of one section, each behind a footer of the
section before, the later counts.) Every place is looked at once, so no input makes this slow. Where a
description fits, it says where sections end, and no footer is looked for.

Source: QEMU's docs/devel/migration/main.rst, "Stream structure".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

import attrs

from .description import Layout
from .format import (
    COMMAND,
    COMMAND_SIZES,
    DESCRIPTION,
    END_OF_STREAM,
    FOOTER,
    MAX_DESCRIPTION,
    RAM,
    SECTION_END,
    SECTION_FULL,
    SECTION_PART,
    SECTION_START,
    U8,
    U16,
    U32,
    UNREAD_COMMANDS,
)
from .memory import Buffer
from .source import Parsing, Source, StreamError

MOST_SECTIONS = 1 << 16
"""A machine of hundreds of processors has thousands; each costs more memory than it has bytes."""

_FOOTER = re.compile(rb"\x7e(?=....[\x00-\x04\x08])", re.DOTALL)
_FOOTER_SIZE = U8.size + U32.size
_DESCRIPTION = U8.pack(DESCRIPTION)
_REQUEST = U32.pack(1)  # checkpoint-request, the first COLO message
_COMMANDS = COMMAND_SIZES.keys() | UNREAD_COMMANDS.keys()
_NAME = U8.size + U32.size  # where in a header the name's length stands
_TIMER = 0  # the id that QEMU gives first; a VM has other devices, and they follow
_HEAD_SIZE = 10  # the most that is looked at behind a footer
_RAM_NAME = U8.pack(len(RAM)) + RAM.encode()

Behind = Callable[[int, bytes], bool]
"""Whether these bytes, which may be cut short, can stand behind the section with this id, as the last one."""


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


def device_sections(data: Buffer, layout: Layout | None = None) -> tuple[DeviceSection, ...]:
    """The sections in the vmstate of a round.

    `data` is all of it, as many bytes as vmstate-size announced: sections, the end mark, and nothing
    behind. Raises StreamError otherwise, or if two sections have one id. (Two of one name and instance
    are two devices: isapc's IDE ports, or user-mode NICs, of QEMU 7.2.) What is in the bodies only QEMU
    knows: that it can load them is not said. `layout` is that of the description, for what fits it: a
    device may have more to say later.
    """
    if layout is not None and (found := _laid_out(data, layout)) is not None:
        return _unique(found, 0)
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


class RoundSections:
    """`device_sections` of round after round; they nearly always lie where they lay before."""

    def __init__(self, layout: Layout | None) -> None:
        self._layout = layout
        self._size = -1
        self._between: list[tuple[int, int, bytes]] = []
        self._found: tuple[DeviceSection, ...] = ()

    def of(self, data: bytes) -> tuple[DeviceSection, ...]:
        """See `device_sections`."""
        if len(data) != self._size or any(data[at:end] != kept for at, end, kept in self._between):
            self._size = -1
            self._found = device_sections(data, self._layout)
            ends = [0, *(section.offset + section.size for section in self._found)]
            begins = [*(section.offset for section in self._found), len(data)]
            self._between = [(at, end, data[at:end]) for at, end in zip(ends, begins, strict=True)]
            self._size = len(data)
        return self._found


class DeviceReader:
    """Reads the device sections of an initial stream from `source`: `devices` verbatim, and `sections`.

    Here the end has to be seen when its first byte comes: QEMU sends no more before it is answered.
    So only the footer of the latest section counts, and as much of what is `behind` it as has come must
    fit (see `after_ram` and `before_ram`).
    """

    def __init__(self, source: Source, limit: int, behind: Behind) -> None:
        self.devices = b""
        self.sections: tuple[DeviceSection, ...] = ()
        self._source = source
        self._limit = limit
        self._behind = behind
        self._run: _Run | None = None

    def read(self, at: int) -> Parsing[None]:
        """Sections up to what is behind the last; the first one's type byte, read already, is at `at`."""
        data = bytearray(U8.pack(SECTION_FULL))
        while (size := _header_size(data, 0)) > len(data):
            data += yield from self._source.take(size - len(data))
        first = _header(data, 0, None)
        if first is None:
            raise StreamError(at, "a device section without a valid header")
        self._run = _Run(at, data, _Search(first), self.devices, self.sections)
        yield from self._rest(self._run)

    def go_on(self) -> Parsing[None]:
        """What is behind the end mark where `read` stopped does not fit after all: the body goes on."""
        assert self._run is not None
        self._run.data.append(END_OF_STREAM)
        yield from self._rest(self._run)

    def close(self) -> None:
        """Let go of what only `go_on` needs."""
        self._run = None

    def _rest(self, run: _Run) -> Parsing[None]:
        data, search, moved = run.data, run.search, len(run.devices)
        while True:
            end = self._more(data, search)
            if moved + (end or len(data)) > self._limit:
                problem = f"device sections of more than {self._limit} bytes, the last of them"
                raise StreamError(run.at + search.latest.start, f"{problem} {search.latest.name!r}")
            if end is not None:
                break
            yield
        del data[end:]
        found = (attrs.evolve(s, offset=s.offset + moved) for s in _chain(search.latest, end))
        self.sections = _unique((*run.sections, *found), run.at - moved)
        self.devices = run.devices + data

    def _more(self, data: bytearray, search: _Search) -> int | None:
        """Add the piece lent to `data`, but for what is behind the end; return the end if it is there."""
        view, position = self._source.window()
        data += view[position:]
        for section, end in search.ends(data):
            ahead = bytes(data[end : end + _HEAD_SIZE])
            if section is search.latest and self._behind(section.section, ahead):
                self._source.advance(len(view) - (len(data) - end))
                search.passed(end)
                return end
        self._source.advance(len(view))
        return None


def after_ram(section: int, behind: bytes) -> bool:
    """See `Behind`: a command, or an end mark with a description or the first request behind it.

    Never the section of the timer: its id is zero, and its state has 7e and zeros in one of 256 streams.
    """
    if behind[0] == COMMAND:
        return _is_command(behind)
    if behind[0] != END_OF_STREAM or section == _TIMER:
        return False
    following = behind[1:]
    if following[:1] == _DESCRIPTION:
        size = following[1:_FOOTER_SIZE]
        return len(size) < U32.size or U32.unpack(size)[0] <= MAX_DESCRIPTION
    return _REQUEST.startswith(following[: len(_REQUEST)])


def before_ram(behind: bytes, ram: int | None) -> bool:
    """The same before the end of RAM: a command, its start, or, where its id is known, its next pages."""
    if behind[0] == COMMAND:
        return _is_command(behind)
    if ram is None:
        return behind[0] == SECTION_START and _RAM_NAME.startswith(behind[_NAME : _NAME + len(_RAM_NAME)])
    return behind[0] in (SECTION_PART, SECTION_END) and U32.pack(ram).startswith(behind[1:_NAME])


def _is_command(behind: bytes) -> bool:
    return len(behind) < 3 or U16.unpack_from(behind, 1)[0] in _COMMANDS


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

    def passed(self, end: int) -> None:
        """The footer before `end` has been looked at for good."""
        self._position = end

    def ends(self, data: Buffer) -> Iterator[tuple[_Open, int]]:
        """Sections with what is no section behind their footer, and where that stands."""
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


@attrs.frozen
class _Run:
    """Sections without a command between them: the first one's place, and what was read before."""

    at: int
    data: bytearray
    search: _Search
    devices: bytes
    sections: tuple[DeviceSection, ...]


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


def _laid_out(data: Buffer, layout: Layout) -> tuple[DeviceSection, ...] | None:
    """The sections of `data`, each as long as the description says; None if that does not fit."""
    found = []
    at = 0
    counts: Counter[tuple[str, int]] = Counter()
    while (header := _header(data, at, None)) is not None:
        device = header.name, header.instance
        sizes = layout.get(device, ())
        if counts[device] == len(sizes):
            return None
        size = sizes[counts[device]]
        counts[device] += 1
        at = header.body + size + _FOOTER_SIZE
        if data[at - _FOOTER_SIZE : at] != U8.pack(FOOTER) + U32.pack(header.section):
            return None
        found.append(DeviceSection(*device, header.version, header.section, header.body, size))
    return tuple(found) if found and at == len(data) - 1 and data[at] == END_OF_STREAM else None


def _unique(sections: tuple[DeviceSection, ...], base: int) -> tuple[DeviceSection, ...]:
    """`sections`, if no two have one id; `base` is the offset in the stream that theirs count from."""
    ids: set[int] = set()
    for section in sections:
        if section.section in ids:
            where = base + section.offset
            raise StreamError(where, f"section {section.name!r} has the id {section.section} of another one")
        ids.add(section.section)
    return sections
