"""A checkpoint as the stream that QEMU takes, byte for byte, and back through our decoder."""

from __future__ import annotations

import pytest
from vm_stream import (
    BLOCKS,
    DEVICES,
    MEMORY,
    MIXED,
    A,
    Memory,
    described,
    feed_all,
    footer,
    head,
    record,
    start,
    whole,
)

from colo_fsm.stream import (
    PAGE_SIZE,
    ZERO_PAGE,
    Buffer,
    DescriptionDecoder,
    Page,
    VmInitialDecoder,
    vm,
)

PAGES = [
    Page("pc.ram", 0, A),
    Page("pc.ram", PAGE_SIZE, ZERO_PAGE),
    Page("pc.ram", 2 * PAGE_SIZE, bytearray(PAGE_SIZE)),
    Page("pc.bios", 0, memoryview(MIXED)),
]


def test_byte_for_byte() -> None:
    stream = b"".join(vm(head(), 2, BLOCKS, PAGES, DEVICES, b"{}"))
    records = (
        record(0, 0x08, "pc.ram") + A
        + record(PAGE_SIZE, 0x22) + b"\x00"
        + record(2 * PAGE_SIZE, 0x22) + b"\x00"
        + record(0, 0x08, "pc.bios") + MIXED
        + record(0, 0x10)
    )  # fmt: skip
    end = b"\x03\x00\x00\x00\x02" + records + footer(2)
    assert stream == head() + start() + end + DEVICES + b"\x00" + described(b"{}")


@pytest.mark.parametrize("description", [None, b'{"devices": []}'])
def test_round_trip(description: bytes | None) -> None:
    stream = b"".join(vm(head(), 9, BLOCKS, PAGES, DEVICES, description))
    memory = Memory()
    decoder = VmInitialDecoder(lambda blocks: memory, limit=1 << 20)
    rest = feed_all(decoder, whole(stream))
    assert decoder.complete
    assert (decoder.head, decoder.ram.section, decoder.blocks) == (head(), 9, BLOCKS)
    assert decoder.devices == DEVICES
    assert (decoder.pages, decoder.zero_pages) == (4, 2)
    assert memory.blocks == MEMORY
    if description is None:
        assert rest == b""
    else:
        described = DescriptionDecoder()
        assert feed_all(described, whole(rest)) == b""
        assert described.description == description


def test_large_memory_is_streamed() -> None:
    """Pages are asked for as buffers are taken: nothing holds the whole memory."""
    blocks = {"pc.ram": 64 << 20}
    given = 0

    def pages() -> object:
        nonlocal given
        for offset in range(0, blocks["pc.ram"], PAGE_SIZE):
            given += 1
            yield Page("pc.ram", offset, A)

    buffers = iter(vm(head(), 2, blocks, pages(), DEVICES, None))  # type: ignore[arg-type]
    taken = [next(buffers) for _ in range(3)]
    assert given < 3 * 100
    assert all(len(buffer) < 1 << 20 for buffer in taken)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="block 'a' has 1 bytes"):
        vm(head(), 2, {"a": 1}, [], DEVICES, None)
    buffers = vm(head(), 2, BLOCKS, [Page("pc.ram", 3 * PAGE_SIZE, A)], DEVICES, None)
    with pytest.raises(ValueError, match="outside the block"):
        list[Buffer](buffers)
