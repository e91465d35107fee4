"""What the encoder writes, byte for byte, and what it refuses to write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pytest

from colo_fsm.stream import (
    PAGE_SIZE,
    ZERO_PAGE,
    Blocks,
    Buffer,
    Delta,
    InitialDecoder,
    LiveDecoder,
    Page,
    Ram,
    decode_device_state,
    device_state,
    initial,
    live,
)

CHUNK = 256 << 10
"""Bytes of a buffer, or a little more."""
PART_PAGES = 4096
"""Pages between two footers."""

A = b"A" * PAGE_SIZE
BLOCKS = {"low": 2 * PAGE_SIZE, "hi": PAGE_SIZE}

# Written by hand from the description in colo_fsm/stream/format.py.
GUEST_SECTION = bytes.fromhex(
    "04 00000003 05 6775657374 00000000 00000001"  # full, id 3, "guest", instance 0, version 1
    "00000003 646576"  # 3 bytes: "dev"
    "7e 00000003"
)
PAGES_SECTIONS = (
    bytes.fromhex("02 00000001 0000000000000008 03 6c6f77")  # part; PAGE at 0 of "low"
    + A
    + bytes.fromhex(
        "0000000000001022 00"  # ZERO, CONTINUE at 0x1000, filled with 0
        "0000000000000002 02 6869 00"  # ZERO at 0 of "hi"
        "0000000000000010 7e 00000001"  # EOS, footer
        "03 00000001 0000000000000010 7e 00000001"  # end section, with nothing in it
    )
)
HEAD = bytes.fromhex(
    "5145564d 00000003"
    "07 00000008 636f6c6f2d66736d"  # configuration: "colo-fsm"
    "01 00000001 03 72616d 00000000 00000004"  # start, id 1, "ram", instance 0, version 4
    "0000000000003004"  # MEM_SIZE: 3 pages
    "03 6c6f77 0000000000002000"
    "02 6869 0000000000001000"
    "0000000000000010 7e 00000001"
)
GENERATION_SECTION = bytes.fromhex(
    "04 00000002"  # full, id 2
    "13 636f6c6f2d66736d2f67656e65726174696f6e 00000000 00000001"  # "colo-fsm/generation"
    "0000000000000007"
    "7e 00000002"
)
PAGES = [Page("low", 0, A), Page("low", PAGE_SIZE, ZERO_PAGE), Page("hi", 0, ZERO_PAGE)]


def join(buffers: Iterable[Buffer]) -> bytes:
    return b"".join(buffers)


def test_initial_stream_byte_for_byte() -> None:
    stream = join(initial(BLOCKS, PAGES, b"dev", generation=7))
    golden = HEAD + PAGES_SECTIONS + GENERATION_SECTION + GUEST_SECTION + b"\x00"
    assert stream[: len(golden)] == golden
    description = stream[len(golden) :]
    assert description[0] == 0x06
    assert int.from_bytes(description[1:5], "big") == len(description) - 5


def test_description_tells_the_size_of_every_field() -> None:
    stream = join(initial(BLOCKS, [], b"dev", generation=7, machine="toy"))
    size = {"name": "len", "type": "uint32", "size": 4}
    generation = {"name": "generation", "type": "uint64", "size": 8}
    device = {"instance_id": 0, "version": 1}
    assert json.loads(stream[stream.index(b'{"configuration"') :]) == {
        "configuration": {
            "vmsd_name": "configuration",
            "version": 1,
            "fields": [size, {"name": "name", "type": "buffer", "size": 3}],
        },
        "page_size": PAGE_SIZE,
        "devices": [
            device | dict.fromkeys(("name", "vmsd_name"), "colo-fsm/generation") | {"fields": [generation]},
            device
            | dict.fromkeys(("name", "vmsd_name"), "guest")
            | {"fields": [size, {"name": "state", "type": "buffer", "size": 3}]},
        ],
    }


def test_round_byte_for_byte() -> None:
    assert join(live(BLOCKS, PAGES)) == PAGES_SECTIONS + b"\x00"
    assert device_state(b"dev") == GUEST_SECTION + b"\x00"


def test_empty_delta_is_an_end_section_alone() -> None:
    assert join(live(BLOCKS, [])) == bytes.fromhex("03 00000001 0000000000000010 7e 00000001 00")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_zero_pages_are_recognised_in_any_buffer(kind: type) -> None:
    almost = bytes(PAGE_SIZE - 1) + b"\x01"
    pages = [Page("low", 0, kind(bytes(PAGE_SIZE))), Page("low", PAGE_SIZE, kind(almost))]
    sink = Delta()
    decoder = LiveDecoder(Ram(BLOCKS), sink)
    decoder.feed(join(live(BLOCKS, pages)))
    assert (decoder.pages, decoder.zero_pages) == (2, 1)
    assert [page.data for page in sink] == [ZERO_PAGE, almost]


def test_every_part_names_its_block_and_holds_a_bounded_number_of_pages() -> None:
    blocks = {"big": (2 * PART_PAGES + 1) * PAGE_SIZE}
    pages = (Page("big", offset, ZERO_PAGE) for offset in range(0, blocks["big"], PAGE_SIZE))
    stream = join(live(blocks, pages))
    assert stream.count(b"\x03big") == 3
    part = 5 + len(b"\x03big") + PART_PAGES * 9 + 8 + 5
    assert [stream[n * part : n * part + 5] for n in range(3)] == [b"\x02\0\0\0\1"] * 3
    decoder = LiveDecoder(Ram(blocks), Delta())
    assert decoder.feed(stream) == len(stream)
    assert decoder.complete
    assert decoder.pages == decoder.zero_pages == 2 * PART_PAGES + 1


def sizes_but_last(buffers: Iterable[Buffer]) -> list[int]:
    return [len(buffer) for buffer in buffers][:-1]


def test_only_the_last_buffer_may_be_small() -> None:
    blocks = {"ram": 1024 * PAGE_SIZE}
    pages = [Page("ram", offset, A) for offset in range(0, blocks["ram"], PAGE_SIZE)]
    for device in (b"", b"d" * (CHUNK - 1), b"d" * (2 * CHUNK), b"d" * (5 * CHUNK + 1)):
        for dirty in (pages, pages[:70], []):
            sizes = sizes_but_last(initial(blocks, dirty, device, generation=1))
            assert all(size >= CHUNK for size in sizes)
        assert all(size >= CHUNK for size in sizes_but_last(live(blocks, pages)))
    assert len(list(live(blocks, pages[:3]))) == 1


def test_pages_are_joined_until_a_buffer_is_full_and_a_large_piece_only_fills_it() -> None:
    blocks = {"ram": 1024 * PAGE_SIZE}
    pages = [Page("ram", offset, A) for offset in range(0, blocks["ram"], PAGE_SIZE)]
    record = 8 + PAGE_SIZE
    named = len(b"\x02") + 4 + record + len(b"\x03ram")
    assert len(next(live(blocks, pages))) == named + CHUNK // record * record
    body = join(initial(blocks, [], b"", generation=1)).index(b"\x05guest") + len(b"\x05guest") + 12
    small, large = b"d" * (2 * CHUNK - 1), b"d" * (2 * CHUNK)
    assert len(next(initial(blocks, [], small, generation=1))) == body + len(small)
    assert sizes_but_last(initial(blocks, [], large, generation=1)) == [CHUNK, body + CHUNK]
    assert len(next(initial(blocks, [], b"d" * (CHUNK - body), generation=1))) == CHUNK


def test_large_device_state_is_not_copied_and_arrives_whole() -> None:
    device = bytes(range(256)) * (8 * CHUNK // 256)
    buffers = list(initial(BLOCKS, PAGES, device, generation=1))
    views = [buffer for buffer in buffers if isinstance(buffer, memoryview)]
    assert [view.obj is device for view in views] == [True]
    decoder = InitialDecoder(lambda blocks: Delta())
    for buffer in buffers:
        decoder.feed(buffer)
    assert decoder.complete
    assert decoder.device == device


def test_guest_may_reuse_one_buffer_for_all_its_pages() -> None:
    buffer = bytearray(PAGE_SIZE)

    def pages() -> Iterator[Page]:
        for number in range(2):
            buffer[:] = bytes([number + 1]) * PAGE_SIZE
            yield Page("low", number * PAGE_SIZE, buffer)

    sink = Delta()
    LiveDecoder(Ram(BLOCKS), sink).feed(join(live(BLOCKS, pages())))
    assert [bytes(page.data[:1]) for page in sink] == [b"\x01", b"\x02"]


@pytest.mark.parametrize("device", [b"", b"d", b"\x00" * 5000])
def test_device_state_comes_back(device: bytes) -> None:
    assert decode_device_state(device_state(device)) == device


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (Page("nope", 0, A), "no such block, only 'low', 'hi'"),
        (Page("low", 0, A[1:]), "has 4095 bytes, not 4096"),
        (Page("low", 100, A), "does not start at a multiple of 4096"),
        (Page("low", 2 * PAGE_SIZE, A), "outside the block's 0x2000 bytes"),
        (Page("low", -PAGE_SIZE, A), "outside the block's 0x2000 bytes"),
    ],
)
def test_page_that_does_not_fit_is_refused(page: Page, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        list(live(BLOCKS, [page]))


@pytest.mark.parametrize(
    ("blocks", "generation", "machine", "problem"),
    [
        ({"a": 4095}, 1, "m", "block 'a' has 4095 bytes"),
        ({"a": 0}, 1, "m", "block 'a' has 0 bytes"),
        ({"a": -PAGE_SIZE}, 1, "m", "block 'a' has -4096 bytes"),
        ({"": PAGE_SIZE}, 1, "m", "0 bytes of UTF-8"),
        ({"é" * 128: PAGE_SIZE}, 1, "m", "256 bytes of UTF-8, not 1 to 255"),
        (BLOCKS, 1, "m" * 256, "256 bytes of UTF-8, not 1 to 255"),
        (BLOCKS, -1, "m", "generation -1 does not fit"),
        (BLOCKS, 1 << 64, "m", "does not fit into 64 bits"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_the_first_byte(
    blocks: dict[str, int], generation: int, machine: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        initial(blocks, [], b"", generation=generation, machine=machine)


def test_the_largest_that_the_format_can_hold_is_written() -> None:
    blocks = {"b" * 255: PAGE_SIZE, "c": PAGE_SIZE}
    stream = join(initial(blocks, [], b"", generation=(1 << 64) - 1, machine="m" * 255))
    opened = []

    def start(blocks: Blocks) -> Delta:
        opened.append(dict(blocks))
        return Delta()

    decoder = InitialDecoder(start)
    decoder.feed(stream)
    assert decoder.complete
    assert (decoder.machine, decoder.generation, opened) == ("m" * 255, (1 << 64) - 1, [blocks])
    assert len(join(initial(BLOCKS, [], b"", generation=0))) > 0


class Declared(bytes):
    """A device state that says it has `size` bytes."""

    size = 0

    def __len__(self) -> int:
        return self.size


def test_device_state_of_4_gib_is_refused() -> None:
    device = Declared()
    device.size = (1 << 32) - 1
    assert device_state(device).endswith(b"\xff\xff\xff\xff" + b"\x7e\0\0\0\3" + b"\0")
    device.size += 1
    with pytest.raises(ValueError, match="keep it under 4 GiB"):
        device_state(device)
    with pytest.raises(ValueError, match="keep it under 4 GiB"):
        initial(BLOCKS, [], device, generation=1)


def test_round_refuses_blocks_that_the_format_cannot_hold() -> None:
    with pytest.raises(ValueError, match="block 'a' has 1 bytes"):
        live({"a": 1}, [])
