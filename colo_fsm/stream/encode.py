"""From memory and device state to bytes: the migration stream as `format` describes it.

The iterators yield buffers to be written in order. Each is yours to keep; only the last of a stream
may be small. What a guest hands over wrongly (an unaligned page, an unknown block) is a ValueError
that must reach nobody's wire: a stream cut short by it is of no use to the peer, close the link.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from .format import (
    CONFIGURATION,
    CONTINUE,
    DESCRIPTION,
    END_OF_STREAM,
    EOS,
    FOOTER,
    GENERATION,
    GUEST,
    INSTANCE,
    MACHINE,
    MAGIC,
    MAX_NAME,
    MEM_SIZE,
    PAGE,
    RAM,
    SECTION_END,
    SECTION_FULL,
    SECTION_IDS,
    SECTION_PART,
    SECTION_START,
    U8,
    U32,
    U64,
    VERSION,
    VERSIONS,
    ZERO,
)
from .memory import PAGE_SIZE, ZERO_PAGE, Blocks, Buffer, Page

CHUNK = 256 << 10
"""Bytes to join before they are yielded: large enough for a write, small enough for the cache."""

PART_PAGES = 4096
"""Pages in one RAM part section: a broken stream is noticed at the next footer, 16 MiB later."""

_EOS = U64.pack(EOS)
_ZERO_FILL = U8.pack(0)
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
    head = _head(blocks, machine)
    tail = (
        _full(GENERATION, _generation(generation)),
        *_guest(device),
        _END,
        _description(device, machine),
    )
    return _joined(_stream(head, _parts(blocks, pages), tail))


def live(blocks: Blocks, pages: Iterable[Page]) -> Iterator[Buffer]:
    """The live state of a round: `pages` are those written since the round before.

    Raises ValueError at once if the blocks do not fit the format, while iterating if a page
    does not.
    """
    _block_list(blocks)
    return _joined(_stream(b"", _parts(blocks, pages), (_END,)))


def device_state(device: bytes) -> bytes:
    """The device state of a round; its length is what vmstate-size announces."""
    return b"".join((*_guest(device), _END))


def _stream(head: Buffer, parts: Iterable[Buffer], tail: Iterable[Buffer]) -> Iterator[Buffer]:
    """Everything in order; `parts` are the sections that hold the pages."""
    yield head
    yield from parts
    yield _section(SECTION_END, RAM) + _EOS + _footer(RAM)
    yield from tail


def _joined(pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    """Join pieces to buffers of CHUNK bytes or a little more; a large piece is not copied.

    Pieces are copied as they come: a guest may reuse the buffer of a page for the next one.
    """
    joined = bytearray()
    for piece in pieces:
        if len(piece) >= 2 * CHUNK:
            cut = CHUNK - len(joined)
            yield joined + memoryview(piece)[:cut]
            yield memoryview(piece)[cut:]
            joined = bytearray()
            continue
        joined += piece
        if len(joined) >= CHUNK:
            yield joined
            joined = bytearray()
    if joined:
        yield joined


def _parts(blocks: Blocks, pages: Iterable[Page]) -> Iterator[Buffer]:
    """RAM part sections with all the pages; none if there are none."""
    open_section = _section(SECTION_PART, RAM)
    close_section = _EOS + _footer(RAM)
    is_zero = ZERO_PAGE.startswith  # compares with any buffer, without a copy
    current: str | None = None
    left = 0
    for block, offset, data in pages:
        if not left:
            if current is not None:
                yield close_section
            yield open_section
            left, current = PART_PAGES, None
        left -= 1
        size = blocks.get(block)
        if size is None or offset % PAGE_SIZE or not 0 <= offset < size or len(data) != PAGE_SIZE:
            raise ValueError(_problem(blocks, block, offset, data))
        kind = ZERO if data is ZERO_PAGE or is_zero(data) else PAGE
        if block == current:
            yield U64.pack(offset | kind | CONTINUE)
        else:
            yield U64.pack(offset | kind) + _name(block)
            current = block
        yield _ZERO_FILL if kind == ZERO else data
    if current is not None:
        yield close_section


def _problem(blocks: Blocks, block: str, offset: int, data: Buffer) -> str:
    where = f"page at {offset:#x} of block {block!r}"
    if block not in blocks:
        return f"{where}: there is no such block, only {', '.join(map(repr, blocks))}"
    if len(data) != PAGE_SIZE:
        return f"{where} has {len(data)} bytes, not {PAGE_SIZE}"
    if offset % PAGE_SIZE:
        return f"{where} does not start at a multiple of {PAGE_SIZE}"
    return f"{where} is outside the block's {blocks[block]:#x} bytes"


def _name(text: str) -> bytes:
    raw = _text(text)
    return U8.pack(len(raw)) + raw


def _text(text: str) -> bytes:
    raw = text.encode()
    if not 0 < len(raw) <= MAX_NAME:
        raise ValueError(f"name {text!r} has {len(raw)} bytes of UTF-8, not 1 to {MAX_NAME}")
    return raw


def _section(kind: int, name: str) -> bytes:
    return U8.pack(kind) + U32.pack(SECTION_IDS[name])


def _section_header(kind: int, name: str) -> bytes:
    return _section(kind, name) + _name(name) + U32.pack(INSTANCE) + U32.pack(VERSIONS[name])


def _footer(name: str) -> bytes:
    return _section(FOOTER, name)


def _head(blocks: Blocks, machine: str) -> bytes:
    raw = _text(machine)
    return b"".join(
        (
            U32.pack(MAGIC) + U32.pack(VERSION),
            U8.pack(CONFIGURATION) + U32.pack(len(raw)) + raw,
            _section_header(SECTION_START, RAM),
            _block_list(blocks) + _EOS,
            _footer(RAM),
        )
    )


def _block_list(blocks: Blocks) -> bytes:
    for block, size in blocks.items():
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(
                f"block {block!r} has {size} bytes: give it a multiple of {PAGE_SIZE}, at least one"
            )
    total = U64.pack(sum(blocks.values()) | MEM_SIZE)
    return total + b"".join(_name(block) + U64.pack(size) for block, size in blocks.items())


def _full(name: str, body: bytes) -> bytes:
    return _section_header(SECTION_FULL, name) + body + _footer(name)


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
    return _section_header(SECTION_FULL, GUEST) + U32.pack(len(device)), device, _footer(GUEST)


def _description(device: bytes, machine: str) -> bytes:
    """The description in QEMU's shape, for tools that print a recorded stream."""
    description = {
        "configuration": {
            "vmsd_name": "configuration",
            "version": 1,
            "fields": [_field("len", "uint32", 4), _field("name", "buffer", len(_text(machine)))],
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
