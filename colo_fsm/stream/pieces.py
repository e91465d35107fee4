"""What both encoders build their streams of: names, frames of sections, page records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .format import (
    CONTINUE,
    EOS,
    FOOTER,
    INSTANCE,
    MAX_NAME,
    MEM_SIZE,
    PAGE,
    U8,
    U32,
    U64,
    VERSIONS,
    ZERO,
)
from .memory import PAGE_SIZE, ZERO_PAGE, Blocks, Buffer, Page

CHUNK = 256 << 10
"""Bytes to join before they are yielded: large enough for a write, small enough for the cache."""

END_OF_RECORDS = U64.pack(EOS)
_ZERO_FILL = U8.pack(0)


def joined(pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    """Join pieces to buffers of CHUNK bytes or a little more; a large piece is not copied.

    Pieces are copied as they come: a guest may reuse the buffer of a page for the next one.
    """
    buffer = bytearray()
    for piece in pieces:
        if len(piece) >= 2 * CHUNK:
            cut = CHUNK - len(buffer)
            yield buffer + memoryview(piece)[:cut]
            yield memoryview(piece)[cut:]
            buffer = bytearray()
            continue
        buffer += piece
        if len(buffer) >= CHUNK:
            yield buffer
            buffer = bytearray()
    if buffer:
        yield buffer


def encoded(text: str) -> bytes:
    """`text` as the format can hold it; ValueError if it cannot."""
    raw = text.encode()
    if not 0 < len(raw) <= MAX_NAME:
        raise ValueError(f"name {text!r} has {len(raw)} bytes of UTF-8, not 1 to {MAX_NAME}")
    return raw


def name(text: str) -> bytes:
    raw = encoded(text)
    return U8.pack(len(raw)) + raw


def section(kind: int, number: int) -> bytes:
    """What a part or end section begins with."""
    return U8.pack(kind) + U32.pack(number)


def header(kind: int, number: int, what: str) -> bytes:
    """What a start or full section begins with."""
    return section(kind, number) + name(what) + U32.pack(INSTANCE) + U32.pack(VERSIONS[what])


def footer(number: int) -> bytes:
    return section(FOOTER, number)


def block_list(blocks: Blocks) -> bytes:
    """The body of the RAM start section; ValueError if it cannot hold `blocks`."""
    for block, size in blocks.items():
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(
                f"block {block!r} has {size} bytes: give it a multiple of {PAGE_SIZE}, at least one"
            )
    listed = b"".join(name(block) + U64.pack(size) for block, size in blocks.items())
    return U64.pack(sum(blocks.values()) | MEM_SIZE) + listed + END_OF_RECORDS


def records(blocks: Blocks, pages: Iterable[Page]) -> Iterator[Buffer]:
    """Page records, in pieces; the first one names its block. ValueError for a page that does not fit."""
    is_zero = ZERO_PAGE.startswith  # compares with any buffer, without a copy
    current: str | None = None
    for block, offset, data in pages:
        size = blocks.get(block)
        if size is None or offset % PAGE_SIZE or not 0 <= offset < size or len(data) != PAGE_SIZE:
            raise ValueError(_problem(blocks, block, offset, data))
        kind = ZERO if data is ZERO_PAGE or is_zero(data) else PAGE
        if block == current:
            yield U64.pack(offset | kind | CONTINUE)
        else:
            yield U64.pack(offset | kind) + name(block)
            current = block
        yield _ZERO_FILL if kind == ZERO else data


def _problem(blocks: Blocks, block: str, offset: int, data: Buffer) -> str:
    where = f"page at {offset:#x} of block {block!r}"
    if block not in blocks:
        return f"{where}: there is no such block, only {', '.join(map(repr, blocks))}"
    if len(data) != PAGE_SIZE:
        return f"{where} has {len(data)} bytes, not {PAGE_SIZE}"
    if offset % PAGE_SIZE:
        return f"{where} does not start at a multiple of {PAGE_SIZE}"
    return f"{where} is outside the block's {blocks[block]:#x} bytes"
