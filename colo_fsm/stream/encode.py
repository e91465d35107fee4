"""From a checkpoint to bytes: the stream of a guest of our own, and the one that a real QEMU loads.

The iterators yield buffers to be written in order. Each is yours to keep; only the last of a stream
may be small. What a guest hands over wrongly (an unaligned page, an unknown block) is a ValueError
that must reach nobody's wire: a stream cut short by it is of no use to the peer, close the link.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from itertools import chain, islice

from .format import (
    CONTINUE,
    DESCRIPTION,
    END_OF_STREAM,
    EOS,
    FOOTER,
    GENERATION,
    GUEST,
    INSTANCE,
    MACHINE,
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
    VERSIONS,
    ZERO,
)
from .head import head
from .memory import PAGE_SIZE, ZERO_PAGE, Blocks, Buffer, Page

PART_PAGES = 4096
"""Pages in one RAM part section: a broken stream is noticed at the next footer, 16 MiB later."""

STEP_PAGES = 256
"""The same in an initial stream, which may stand still behind each for as long as the guest likes."""

CHUNK = 256 << 10
"""Bytes to join before they are yielded: large enough for a write, small enough for the cache."""

FEW_PAGES = 16
"""Pages of a round that are joined at once: of those, what lies around them costs more than they do."""

_RAM = SECTION_IDS[RAM]
_END = U8.pack(END_OF_STREAM)
_ZERO_FILL = U8.pack(0)


def greeting(machine: str = MACHINE) -> bytes:
    """What an initial stream begins with: sent ahead, it says who is there while the guest is being saved."""
    return head(_encoded(machine))


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
    steps = _initial(blocks, pages, device, generation, machine)
    return _joined(chain((greeting(machine),), chain.from_iterable(steps)))


def initial_steps(
    blocks: Blocks,
    pages: Iterable[Page],
    device: bytes,
    *,
    generation: int,
    machine: str = MACHINE,
    least: int = 1 << 20,
) -> Generator[list[Buffer], None, None]:
    """The same behind its `greeting`, in steps of `least` bytes or a little more; only the last is smaller.

    Behind each a sign of life may stand. `pages` are taken as the steps are.
    """
    return _steps(_initial(blocks, pages, device, generation, machine), least)


def _steps(sections: Iterator[Iterable[Buffer]], least: int) -> Generator[list[Buffer], None, None]:
    while step := list(_joined(_some(sections, least))):
        yield step


def _some(sections: Iterator[Iterable[Buffer]], least: int) -> Iterator[Buffer]:
    """The pieces of so many sections as have `least` bytes."""
    size = 0
    for section in sections:
        for piece in section:
            size += len(piece)
            yield piece
        if size >= least:
            return


def _initial(
    blocks: Blocks, pages: Iterable[Page], device: bytes, generation: int, machine: str
) -> Iterator[Iterable[Buffer]]:
    """What follows a greeting: the pieces of its sections, section by section."""
    name = _encoded(machine)
    if not 0 <= generation < 1 << 64:
        raise ValueError(f"generation {generation} does not fit into 64 bits")
    start = _ram_start(_RAM, blocks)
    devices = (*_full(GENERATION, U64.pack(generation)), *_guest(device))
    tail = _END + _described(_description(device, name))
    return chain(((start,),), _parts(blocks, pages, STEP_PAGES), ((*devices, tail),))


def live(blocks: Blocks, pages: Iterable[Page]) -> Iterator[Buffer]:
    """The live state of a round: `pages` are those written since the round before.

    Raises ValueError at once if the blocks do not fit the format, while iterating if a page
    does not.
    """
    _check(tuple(blocks.items()))
    if isinstance(pages, list) and 0 < len(pages) <= FEW_PAGES:
        begins, ends = live_frame(_RAM)
        return iter((b"".join((begins, *_records(blocks, pages), ends)),))
    parts = chain.from_iterable(_parts(blocks, pages, PART_PAGES))
    return _joined(chain(parts, (_END,)))


def device_state(device: bytes) -> bytes:
    """The device state of a round; its length is what vmstate-size announces."""
    begins, ends = guest_frame()
    return b"".join((begins, _length(device), device, ends))


@cache
def live_frame(section: int) -> tuple[bytes, bytes]:
    """What stands in a `live` state of one part before its records, and behind them."""
    body_ends = U64.pack(EOS) + _footer(section)
    return _section(SECTION_PART, section), body_ends + _section(SECTION_END, section) + body_ends + _END


@cache
def guest_frame() -> tuple[bytes, bytes]:
    """What stands in a `device_state` before the length of the state, and behind the state."""
    begins, footer = _full(GUEST)
    return begins, footer + _END


def vm(
    head: bytes,
    ram_section: int,
    memory: Mapping[str, memoryview],
    devices: bytes,
    description: bytes | None,
    early: tuple[bytes, bytes] = (b"", b""),
    mapped: str | None = None,
) -> Iterator[Buffer]:
    """The checkpoint of a real VM; write the buffers in order, and the file or pipe is what QEMU loads.

    `head`, `ram_section` (its `ram.section`) and `early` are a `VmInitialDecoder`'s,
    `description` a `DescriptionDecoder`'s: without it QEMU warns, and loads all the same. `devices` is the
    initial decoder's, or a round's vmstate without its last byte, the end mark, and without what is `early`.
    `memory` is the contents of each block; those of the block `mapped` are left out, for a QEMU that has them
    from a file. Raises ValueError if the blocks do not fit the format.
    """
    first, second = early
    blocks = {name: len(view) for name, view in memory.items()}
    start = head + first + _ram_start(ram_section, blocks) + second
    tail = _END if description is None else _END + _described(description)
    contents = (item for item in memory.items() if item[0] != mapped)
    ram = chain((_section(SECTION_END, ram_section),), _contents(contents), (_ram_end(ram_section),))
    return _joined(chain((start,), ram, (devices, tail)))


def _contents(memory: Iterable[tuple[str, memoryview]]) -> Iterator[bytes]:
    """The records of whole blocks, in large pieces."""
    is_zero = ZERO_PAGE.startswith  # compares with any buffer, without a copy
    for name, view in memory:
        kinds, named = (ZERO, PAGE), _name(name)
        for start in range(0, len(view), CHUNK):
            parts: list[Buffer] = []
            for offset in range(start, min(start + CHUNK, len(view)), PAGE_SIZE):
                data = view[offset : offset + PAGE_SIZE]
                zero = is_zero(data)
                parts += U64.pack(offset | kinds[not zero]), named, _ZERO_FILL if zero else data
                kinds, named = (ZERO | CONTINUE, PAGE | CONTINUE), b""
            yield b"".join(parts)


def _joined(pieces: Iterable[Buffer]) -> Iterator[Buffer]:
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


def _parts(blocks: Blocks, pages: Iterable[Page], most: int) -> Iterator[Iterable[Buffer]]:
    """Our RAM sections: parts with all the pages, none if there are none, and an end without any."""
    pages = iter(pages)
    for first in pages:
        yield _ram(SECTION_PART, _RAM, blocks, chain((first,), islice(pages, most - 1)))
    yield _ram(SECTION_END, _RAM, blocks, ())


def _ram_start(number: int, blocks: Blocks) -> bytes:
    return _header(SECTION_START, number, RAM) + _block_list(blocks) + _footer(number)


def _ram_end(number: int) -> bytes:
    return U64.pack(EOS) + _footer(number)


def _ram(kind: int, number: int, blocks: Blocks, pages: Iterable[Page]) -> Iterator[Buffer]:
    """A RAM part or end section with all of `pages`."""
    yield _section(kind, number)
    yield from _records(blocks, pages)
    yield _ram_end(number)


def _full(name: str, *body: bytes) -> tuple[bytes, ...]:
    """The pieces of a section of ours: nothing is copied."""
    number = SECTION_IDS[name]
    return _header(SECTION_FULL, number, name), *body, _footer(number)


def _guest(device: bytes) -> tuple[bytes, ...]:
    return _full(GUEST, _length(device), device)


def _length(device: bytes) -> bytes:
    """What stands before a device state; ValueError if the format cannot hold it."""
    if len(device) >= 1 << 32:
        raise ValueError(
            f"device state of {len(device)} bytes: keep it under 4 GiB, and data in memory blocks"
        )
    return U32.pack(len(device))


def _section(kind: int, number: int) -> bytes:
    """What a part or end section begins with."""
    return U8.pack(kind) + U32.pack(number)


def _header(kind: int, number: int, name: str) -> bytes:
    """What a start or full section begins with."""
    return _section(kind, number) + _name(name) + U32.pack(INSTANCE) + U32.pack(VERSIONS[name])


def _footer(number: int) -> bytes:
    return _section(FOOTER, number)


def _encoded(text: str) -> bytes:
    """`text` as the format can hold it; ValueError if it cannot."""
    raw = text.encode()
    if not 0 < len(raw) <= MAX_NAME:
        raise ValueError(f"name {text!r} has {len(raw)} bytes of UTF-8, not 1 to {MAX_NAME}")
    return raw


def _name(text: str) -> bytes:
    raw = _encoded(text)
    return U8.pack(len(raw)) + raw


@lru_cache(maxsize=64)
def _check(blocks: tuple[tuple[str, int], ...]) -> None:
    """ValueError if a RAM start section cannot hold these. They are the same ones in every round."""
    _block_list(dict(blocks))


def _block_list(blocks: Blocks) -> bytes:
    """The body of the RAM start section; ValueError if it cannot hold `blocks`."""
    for block, size in blocks.items():
        if size <= 0 or size % PAGE_SIZE:
            raise ValueError(
                f"block {block!r} has {size} bytes: give it a multiple of {PAGE_SIZE}, at least one"
            )
    listed = b"".join(_name(block) + U64.pack(size) for block, size in blocks.items())
    return U64.pack(sum(blocks.values()) | MEM_SIZE) + listed + U64.pack(EOS)


def _records(blocks: Blocks, pages: Iterable[Page]) -> Iterator[Buffer]:
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
            yield U64.pack(offset | kind) + _name(block)
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


def _described(description: bytes) -> bytes:
    """The part of a stream that holds its description."""
    return U8.pack(DESCRIPTION) + U32.pack(len(description)) + description


def _description(device: bytes, machine: bytes) -> bytes:
    """The description in QEMU's shape, for tools that print a recorded stream."""
    description = {
        "configuration": {
            "vmsd_name": "configuration",
            "version": 1,
            "fields": [_field("len", "uint32", 4), _field("name", "buffer", len(machine))],
        },
        "page_size": PAGE_SIZE,
        "devices": [
            _device(GENERATION, [_field("generation", "uint64", 8)]),
            _device(GUEST, [_field("len", "uint32", 4), _field("state", "buffer", len(device))]),
        ],
    }
    return json.dumps(description).encode()


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
