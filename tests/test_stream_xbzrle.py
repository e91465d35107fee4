"""Changes to a page, as a QEMU with xbzrle sends them."""

from __future__ import annotations

import random

import pytest
from vm_stream import (
    BLOCKS,
    EOS,
    MEMORY,
    PAGES,
    RAM_ID,
    A,
    Memory,
    byte_by_byte,
    feed_all,
    initial,
    record,
    u16,
    whole,
)
from vm_stream import ram as section

from colo_fsm.stream import PAGE_SIZE, Ram, StreamError, VmInitialDecoder, VmLiveDecoder


def uleb128(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80, value >> 7])


def changes(*runs: tuple[int, bytes]) -> bytes:
    """How many bytes stay, and which come then."""
    return b"".join(uleb128(same) + uleb128(len(new)) + new for same, new in runs)


def page(delta: bytes, address: int = 0, flags: int = 0x40, block: str = "pc.ram") -> bytes:
    return record(address, flags, block) + b"\x01" + u16(len(delta)) + delta


def live(records: bytes, memory: Memory) -> VmLiveDecoder:
    for pieces in (byte_by_byte, whole):  # a change made twice is made once
        decoder = VmLiveDecoder(Ram(BLOCKS, RAM_ID, current="pc.ram"), memory)
        feed_all(decoder, pieces(section(3, records) + b"\x00"))
        assert decoder.complete
    return decoder


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (b"", A),
        (bytes.fromhex("00 01 42"), b"B" + A[1:]),
        (bytes.fromhex("05 02 4243"), A[:5] + b"BC" + A[7:]),
        (bytes.fromhex("00 01 42 03 01 43"), b"BAAAC" + A[5:]),
        (bytes.fromhex("ff1f 01 42"), A[:-1] + b"B"),  # 4095 bytes stay
        (bytes.fromhex("00 fd1f") + b"B" * 4093, b"B" * 4093 + A[4093:]),  # as large as may be
        (bytes.fromhex("8000 01 42"), b"B" + A[1:]),  # a length longer than it need be
    ],
)
def test_vectors(delta: bytes, expected: bytes) -> None:
    memory = Memory()
    memory.put("pc.ram", 0, A)
    decoder = live(page(delta), memory)
    assert memory.blocks["pc.ram"][:PAGE_SIZE] == expected
    assert (decoder.pages, decoder.zero_pages) == (1, 0)


def test_continues_blocks_and_patches_what_the_same_round_brought() -> None:
    memory = Memory()
    records = (
        page(changes((0, b"x")), PAGE_SIZE, 0x60, "")
        + record(0, 0x28)
        + A
        + page(changes((1, b"y")), 0, 0x60, "")
        + page(changes((2, b"z")), 0, 0x40, "pc.bios")
    )
    decoder = live(records, memory)
    assert memory.blocks["pc.ram"] == b"AyA" + A[3:] + b"x" + bytes(2 * PAGE_SIZE - 1)
    assert memory.blocks["pc.bios"] == b"\0\0z" + bytes(PAGE_SIZE - 3)
    assert decoder.pages == 4


def test_initial_stream_may_have_changes_too() -> None:
    memory = Memory()
    decoder = VmInitialDecoder(lambda blocks: memory, limit=1 << 20)
    decoder.feed(initial(between=section(2, page(changes((4, b"new"))))))
    assert decoder.complete
    assert memory.blocks["pc.ram"] == MEMORY["pc.ram"][:4] + b"new" + MEMORY["pc.ram"][7:]
    assert PAGES.count(EOS) == 0


def test_random_pages() -> None:
    rng = random.Random(5)
    for _ in range(50):
        old = rng.randbytes(PAGE_SIZE)
        new = bytearray(old)
        runs, at = [], 0
        while at < PAGE_SIZE - 300:
            same, fresh = rng.randrange(at > 0, 300), rng.randbytes(rng.randrange(1, 300))[: PAGE_SIZE - at]
            fresh = fresh[: PAGE_SIZE - at - same]
            if fresh:
                new[at + same : at + same + len(fresh)] = fresh
                runs.append((same, fresh))
            at += same + len(fresh)
        memory = Memory()
        memory.put("pc.ram", PAGE_SIZE, old)
        live(page(changes(*runs), PAGE_SIZE), memory)
        assert memory.blocks["pc.ram"][PAGE_SIZE : 2 * PAGE_SIZE] == new


NAMED = len(record(0, 0x40, "pc.ram"))


@pytest.mark.parametrize(
    ("records", "at", "problem"),
    [
        (record(0, 0x40, "pc.ram") + b"\x02", NAMED, "encoding 0x02 of an xbzrle page"),
        (record(0, 0x40, "pc.ram") + b"\x01\x10\x01", NAMED + 1, "4097 bytes of changes"),
        (page(b"", 3 * PAGE_SIZE), 0, "is outside block 'pc.ram'"),
        (page(b"", block="nope"), 8, "block 'nope' is not in the block list"),
        (page(bytes.fromhex("00 00")), NAMED + 3, "an empty run"),
        (page(bytes.fromhex("00 01 42 00 01 43")), NAMED + 6, "an empty run"),
        (page(bytes.fromhex("01")), NAMED + 4, "length of a run .* does not end"),
        (page(bytes.fromhex("808001 01 42")), NAMED + 3, "length of a run .* does not end"),
        (page(bytes.fromhex("05 02 42")), NAMED + 3, "end inside a run"),
        (page(bytes.fromhex("ff1f 02 4243")), NAMED + 3, "beyond its 4096 bytes"),
        (page(bytes.fromhex("ff7f 01 42")), NAMED + 3, "beyond its 4096 bytes"),
        (page(bytes.fromhex("00 01 42 ff1f 01 42")), NAMED + 6, "beyond its 4096 bytes"),
        (page(bytes.fromhex("00 01 42 01 02 42")), NAMED + 6, "end inside a run"),
        (page(bytes.fromhex("00 01 42 01 8080")), NAMED + 7, "length of a run .* does not end"),
    ],
)
def test_malformed_changes_are_refused_and_nothing_is_changed(records: bytes, at: int, problem: str) -> None:
    for pieces in (whole, byte_by_byte):
        memory = Memory()
        with pytest.raises(StreamError, match=problem) as caught:
            feed_all(VmLiveDecoder(Ram(BLOCKS, RAM_ID), memory), pieces(section(2, records)))
        assert caught.value.offset == 5 + at
        assert not any(any(block) for block in memory.blocks.values())
