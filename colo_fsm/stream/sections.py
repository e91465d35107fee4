"""How sections are framed: what starts one, its header, its footer, and the end of them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from .errors import StreamError, capability_error
from .format import END_OF_STREAM, FOOTER, INSTANCE, UNREAD_NAMES, UNREAD_SECTIONS, VERSIONS
from .source import Parsing, Source

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


def header(source: Source, names: Collection[str]) -> Parsing[tuple[int, str]]:
    """The header of a start or full section: its id and its name, which is one of `names`."""
    section = yield from source.u32()
    at = source.offset
    name = yield from source.name()
    if name in UNREAD_NAMES:
        raise capability_error(at, f"section {name!r}", UNREAD_NAMES[name])
    if name not in names:
        expected = " or ".join(map(repr, names))
        raise StreamError(at, f"section {name!r}, expected {expected}")
    at = source.offset
    instance = yield from source.u32()
    if instance != INSTANCE:
        raise StreamError(at, f"instance {instance} of section {name!r}, expected {INSTANCE}")
    at = source.offset
    version = yield from source.u32()
    if version != VERSIONS[name]:
        raise StreamError(at, f"version {version} of section {name!r}, expected {VERSIONS[name]}")
    return section, name


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
