"""From a checkpoint of a real VM to a stream that `qemu-system-x86_64 -incoming` takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .format import DESCRIPTION, END_OF_STREAM, RAM, SECTION_END, SECTION_START, U8, U32
from .memory import Blocks, Buffer, Page
from .pieces import END_OF_RECORDS, block_list, footer, header, joined, records, section


def vm(
    head: bytes,
    ram_section: int,
    blocks: Blocks,
    pages: Iterable[Page],
    devices: bytes,
    description: bytes | None,
) -> Iterator[Buffer]:
    """The stream of a checkpoint; write the buffers in order, and the file or pipe is what QEMU loads.

    `head`, `ram_section` (its `ram.section`) and `blocks` are a `VmInitialDecoder`'s, `description` a
    `DescriptionDecoder`'s: without it QEMU warns, and loads all the same. `devices` is the initial
    decoder's, or a round's vmstate without its last byte, the end mark. `pages` are those of the whole
    memory; QEMU has zeroes, or its own ROM, where one is left out. Raises ValueError at once if the
    blocks do not fit the format, while iterating if a page does not: the stream is of no use then.
    """
    start = header(SECTION_START, ram_section, RAM) + block_list(blocks) + footer(ram_section)
    tail = U8.pack(END_OF_STREAM)
    if description is not None:
        tail += U8.pack(DESCRIPTION) + U32.pack(len(description)) + description
    return joined(_stream(head + start, ram_section, records(blocks, pages), devices, tail))


def _stream(
    start: bytes, ram_section: int, memory: Iterable[Buffer], devices: bytes, tail: bytes
) -> Iterator[Buffer]:
    yield start
    yield section(SECTION_END, ram_section)
    yield from memory
    yield END_OF_RECORDS + footer(ram_section)
    yield devices
    yield tail
