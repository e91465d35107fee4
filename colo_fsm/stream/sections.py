"""What stands between the head and the end: sections, how they are framed, and QEMU's commands.

Source: QEMU's docs/devel/migration/ and what 7.2 and 10.2 were seen to send with each capability on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .format import (
    COMMAND_SIZES,
    ENABLE_COLO,
    END_OF_STREAM,
    FOOTER,
    INSTANCE,
    OPEN_RETURN_PATH,
    PING,
    PONG,
    RETURN_PATH,
    SHUT,
    U16,
    U32,
    UNREAD_COMMANDS,
    UNREAD_NAMES,
    UNREAD_SECTIONS,
    VERSIONS,
)
from .source import Parsing, Source, StreamError, capability_error

MOST_PINGS = 100
"""QEMU sends a handful."""

SectionReader = Callable[[int], Parsing[None]]
"""Reads one section behind its type byte; the argument is the offset of that byte."""


def sections(source: Source, readers: Mapping[int, SectionReader]) -> Parsing[int]:
    """Read sections up to the end of stream; return the offset of that mark.

    `readers` maps the section types that may stand here to who reads them.
    """
    while True:
        at = source.offset
        kind = yield from source.u8()
        if kind == END_OF_STREAM:
            return at
        if kind not in readers:
            raise _unexpected(at, kind)
        yield from readers[kind](at)


def _unexpected(at: int, kind: int) -> StreamError:
    if kind in UNREAD_SECTIONS:
        what = UNREAD_SECTIONS[kind]
        return StreamError(at, f"{what} (section type {kind:#04x}) is not read here")
    return StreamError(at, f"section type {kind:#04x} does not belong here")


def header(source: Source, expected: str) -> Parsing[int]:
    """The header of a start or full section, whose name has to be `expected`; returns its id."""
    section = yield from source.u32()
    at = source.offset
    name = yield from source.name()
    if name in UNREAD_NAMES:
        raise capability_error(at, f"section {name!r}", UNREAD_NAMES[name])
    if name != expected:
        raise StreamError(at, f"section {name!r}, expected {expected!r}")
    yield from source.known(INSTANCE, "instance", "section", name)
    yield from source.known(VERSIONS[name], "version", "section", name)
    return section


def footer(source: Source, section: int) -> Parsing[None]:
    """The footer of section `section`."""
    at = source.offset
    mark = yield from source.u8()
    if mark != FOOTER:
        raise StreamError(at, f"byte {mark:#04x} where a section's footer ({FOOTER:#04x}) belongs")
    at = source.offset
    found = yield from source.u32()
    if found != section:
        raise StreamError(at, f"footer of section {found} at the end of section {section}")


class Commands:
    """Reads commands from `source`. What they ask for goes to `answers`, in order: messages of QEMU's return
    path, to be sent before the next COLO message.

    QEMU up to 10.x says ENABLE_COLO, and COLO is broken there when the return path is opened as well.
    From 11 on it opens the return path, and says nothing else.
    """

    def __init__(self, source: Source) -> None:
        self.answers: list[bytes] = []
        self.seen: set[int] = set()
        self._source = source

    def read(self, at: int) -> Parsing[None]:
        """One of them, behind its type byte, which is at `at`."""
        source = self._source
        command = yield from source.u16()
        if command in UNREAD_COMMANDS:
            name, capability = UNREAD_COMMANDS[command]
            raise capability_error(at, f"the command {name}", capability)
        if command not in COMMAND_SIZES:
            raise StreamError(at, f"command {command} is unknown")
        size = yield from source.u16()
        if size != COMMAND_SIZES[command]:
            problem = f"command {command} with {size} bytes of data, expected {COMMAND_SIZES[command]}"
            raise StreamError(at, problem)
        if command == PING:
            if len(self.answers) == MOST_PINGS:
                raise StreamError(at, f"more than {MOST_PINGS} pings in one part of the stream")
            self.answers.append(pong((yield from source.u32())))
        self.seen.add(command)
        if self.seen >= {OPEN_RETURN_PATH, ENABLE_COLO}:
            raise capability_error(at, "a return path of a QEMU before 11", RETURN_PATH)

    def end(self) -> None:
        """The initial stream is complete: if a return path was opened, it ends here."""
        if OPEN_RETURN_PATH in self.seen:
            self.answers.append(shut())


def pong(value: int) -> bytes:
    """The answer to a PING."""
    return _on_return_path(PONG, value)


def shut(error: int = 0) -> bytes:
    """The end of the return path: all went well, and COLO messages follow, or the stream is refused."""
    return _on_return_path(SHUT, error)


def _on_return_path(message: int, value: int) -> bytes:
    return U16.pack(message) + U16.pack(U32.size) + U32.pack(value)
