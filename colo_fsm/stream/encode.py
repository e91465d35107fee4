"""From memory and device state to bytes: the migration stream as `format` describes it.

The iterators yield buffers to be written in order. Each is yours to keep; only the last of a stream
may be small. What a guest hands over wrongly (an unaligned page, an unknown block) is a ValueError
that must reach nobody's wire: a stream cut short by it is of no use to the peer, close the link.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from . import pieces
from .configuration import head
from .format import (
    DESCRIPTION,
    END_OF_STREAM,
    GENERATION,
    GUEST,
    INSTANCE,
    MACHINE,
    RAM,
    SECTION_END,
    SECTION_FULL,
    SECTION_IDS,
    SECTION_PART,
    SECTION_START,
    U8,
    U32,
    U64,
    VERSIONS,
)
from .memory import PAGE_SIZE, Blocks, Buffer, Page

PART_PAGES = 4096
"""Pages in one RAM part section: a broken stream is noticed at the next footer, 16 MiB later."""

_RAM = SECTION_IDS[RAM]
_END = U8.pack(END_OF_STREAM)


def initial(
    blocks: Blocks,
    pages: Iterable[Page],
    device: bytes,
    *,
    generation: int,
    machine: str = MACHINE,
) -> Iterator[Buffer]:
    """The initial stream: `pages` are those of the whole memory, in any order.

    A page that is left out is whatever the sink of the other side starts with. Raises ValueError
    at once if the blocks, the names, the generation or the device state do not fit the format, and
    while iterating if a page does not.
    """
    start = _start(blocks, machine)
    tail = (
        _full(GENERATION, _generation(generation)),
        *_guest(device),
        _END,
        _description(device, machine),
    )
    return pieces.joined(_stream(start, _parts(blocks, pages), tail))


def live(blocks: Blocks, pages: Iterable[Page]) -> Iterator[Buffer]:
    """The live state of a round: `pages` are those written since the round before.

    Raises ValueError at once if the blocks do not fit the format, while iterating if a page
    does not.
    """
    pieces.block_list(blocks)
    return pieces.joined(_stream(b"", _parts(blocks, pages), (_END,)))


def device_state(device: bytes) -> bytes:
    """The device state of a round; its length is what vmstate-size announces."""
    return b"".join((*_guest(device), _END))


def _stream(start: Buffer, parts: Iterable[Buffer], tail: Iterable[Buffer]) -> Iterator[Buffer]:
    """Everything in order; `parts` are the sections that hold the pages."""
    yield start
    yield from parts
    yield pieces.section(SECTION_END, _RAM) + pieces.END_OF_RECORDS + pieces.footer(_RAM)
    yield from tail


def _parts(blocks: Blocks, pages: Iterable[Page]) -> Iterator[Buffer]:
    """RAM part sections with all the pages; none if there are none."""
    pages = iter(pages)
    for first in pages:
        yield pieces.section(SECTION_PART, _RAM)
        yield from pieces.records(blocks, chain((first,), islice(pages, PART_PAGES - 1)))
        yield pieces.END_OF_RECORDS + pieces.footer(_RAM)


def _start(blocks: Blocks, machine: str) -> bytes:
    """Everything before the pages."""
    section = pieces.header(SECTION_START, _RAM, RAM) + pieces.block_list(blocks) + pieces.footer(_RAM)
    return head(pieces.encoded(machine)) + section


def _full(name: str, body: bytes) -> bytes:
    return _header(name) + body + _footer(name)


def _header(name: str) -> bytes:
    return pieces.header(SECTION_FULL, SECTION_IDS[name], name)


def _footer(name: str) -> bytes:
    return pieces.footer(SECTION_IDS[name])


def _generation(generation: int) -> bytes:
    if not 0 <= generation < 1 << 64:
        raise ValueError(f"generation {generation} does not fit into 64 bits")
    return U64.pack(generation)


def _guest(device: bytes) -> tuple[bytes, ...]:
    """The pieces of the guest's section: the state itself is not copied."""
    if len(device) >= 1 << 32:
        raise ValueError(
            f"device state of {len(device)} bytes: keep it under 4 GiB, and data in memory blocks"
        )
    return _header(GUEST) + U32.pack(len(device)), device, _footer(GUEST)


def _description(device: bytes, machine: str) -> bytes:
    """The description in QEMU's shape, for tools that print a recorded stream."""
    description = {
        "configuration": {
            "vmsd_name": "configuration",
            "version": 1,
            "fields": [_field("len", "uint32", 4), _field("name", "buffer", len(pieces.encoded(machine)))],
        },
        "page_size": PAGE_SIZE,
        "devices": [
            _device(GENERATION, [_field("generation", "uint64", 8)]),
            _device(GUEST, [_field("len", "uint32", 4), _field("state", "buffer", len(device))]),
        ],
    }
    raw = json.dumps(description).encode()
    return U8.pack(DESCRIPTION) + U32.pack(len(raw)) + raw


def _field(name: str, kind: str, size: int) -> dict[str, object]:
    return {"name": name, "type": kind, "size": size}


def _device(name: str, fields: list[dict[str, object]]) -> dict[str, object]:
    return {
        "name": name,
        "instance_id": INSTANCE,
        "vmsd_name": name,
        "version": VERSIONS[name],
        "fields": fields,
    }
