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
    memory_under,
    record,
    start,
    whole,
)

from colo_fsm.stream import (
    PAGE_SIZE,
    DescriptionDecoder,
    VmInitialDecoder,
    vm,
)

VIEWS = {name: memoryview(content) for name, content in MEMORY.items()}


def test_byte_for_byte() -> None:
    stream = b"".join(vm(head(), 2, VIEWS, DEVICES, b"{}"))
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
    stream = b"".join(vm(head(), 9, VIEWS, DEVICES, description))
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
    """Nothing holds the whole memory another time."""
    ram = memoryview(bytes(A) * (4 << 10))
    with memory_under(4 << 20):
        assert sum(map(len, vm(head(), 2, {"pc.ram": ram}, DEVICES, None))) > len(ram)


def test_a_block_that_is_mapped_is_listed_and_left_out() -> None:
    stream = b"".join(vm(head(), 2, VIEWS, DEVICES, None, mapped="pc.ram"))
    records = record(0, 0x08, "pc.bios") + MIXED + record(0, 0x10)
    assert stream == head() + start() + b"\x03\x00\x00\x00\x02" + records + footer(2) + DEVICES + b"\x00"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="block 'a' has 1 bytes"):
        vm(head(), 2, {"a": memoryview(b"a")}, DEVICES, None)
