"""Streams of our own guests come back as memory and device state, in any pieces."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_stream import (
    BLOCKS,
    EVERYTHING,
    FULL,
    PAGE_RECORD,
    image,
    new_initial,
    new_live,
    section,
    small_initial,
    small_live,
)
from vm_stream import MIXED, A, Pieces, at_random, byte_by_byte, calls, feed_all, record, whole

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
    Sink,
    StreamError,
    initial,
)

CASES = {
    "everything": EVERYTHING,
    "nothing": [],
    "zero pages": [page._replace(data=ZERO_PAGE) for page in EVERYTHING],
    "blocks in turn": [EVERYTHING[i] for i in (0, 3, 1, 4, 2, 5)],
    "one page": EVERYTHING[3:4],
    "a page twice": [Page("low", 0, A), Page("low", 0, MIXED)],
}
TRAILING = bytes.fromhex("00000001 00000003")


@pytest.mark.parametrize("pieces", [whole, byte_by_byte, at_random])
@pytest.mark.parametrize("trailing", [b"", TRAILING])
@pytest.mark.parametrize("case", CASES)
class TestRoundTrip:
    def test_initial(self, case: str, trailing: bytes, pieces: Pieces) -> None:
        sink = Delta()
        opened: list[Blocks] = []

        def start(blocks: Blocks) -> Delta:
            assert not len(sink)
            opened.append(dict(blocks))
            return sink

        decoder = InitialDecoder(start)
        stream = small_initial(CASES[case])
        assert feed_all(decoder, pieces(stream + trailing)) == trailing
        assert decoder.complete
        assert opened == [BLOCKS]
        assert list(decoder.blocks.items()) == list(BLOCKS.items())
        assert image(list(sink)) == image(CASES[case])
        assert (decoder.machine, decoder.generation, decoder.device) == ("colo-fsm", 7, b"device")
        assert decoder.pages == len(CASES[case])
        assert decoder.zero_pages == sum(page.data == ZERO_PAGE for page in CASES[case])
        assert decoder.bytes == len(stream)

    def test_live(self, case: str, trailing: bytes, pieces: Pieces) -> None:
        sink = Delta()
        decoder = LiveDecoder(Ram(BLOCKS), sink)
        stream = small_live(CASES[case])
        assert feed_all(decoder, pieces(stream + trailing)) == trailing
        assert decoder.complete
        assert image(list(sink)) == image(CASES[case])
        assert decoder.pages == len(CASES[case])
        assert decoder.bytes == len(stream)


def test_nothing_is_known_before_the_first_byte() -> None:
    decoder = new_initial()
    assert (decoder.machine, decoder.blocks, decoder.generation, decoder.device) == ("", {}, None, b"")
    assert (decoder.complete, decoder.bytes, decoder.pages, decoder.zero_pages) == (False, 0, 0, 0)
    assert decoder.feed(b"") == 0


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, len(small_initial())), max_size=8))
def test_cuts_make_no_difference(cuts: list[int]) -> None:
    stream = small_initial()
    edges = [0, *sorted(cuts), len(stream)]
    sink = Delta()
    decoder = InitialDecoder(lambda blocks: sink)
    pieces = (stream[a:b] for a, b in pairwise(edges))
    assert feed_all(decoder, pieces) == b""
    assert decoder.complete
    assert image(list(sink)) == image(EVERYTHING)


def test_a_round_cut_in_two_anywhere() -> None:
    pages = record(PAGE_SIZE, 0x22) + b"\0" + record(2 * PAGE_SIZE, 0x28) + MIXED + record(0, 0x22) + b"\0"
    stream = section(3, PAGE_RECORD + pages) + b"\0"
    for cut in range(len(stream) + 1):
        sink = Delta()
        decoder = LiveDecoder(Ram(BLOCKS), sink)
        assert (decoder.feed(stream[:cut]), decoder.feed(stream[cut:])) == (cut, len(stream) - cut)
        assert decoder.complete
        assert [page.data for page in sink] == [ZERO_PAGE, ZERO_PAGE, MIXED]


def test_nothing_more_is_taken_once_complete() -> None:
    decoder = new_live()
    decoder.feed(small_live())
    assert decoder.feed(small_live()) == 0


def test_pages_in_a_piece_are_not_copied() -> None:
    stream = small_live()
    seen: list[object] = []

    class Seen(Sink):
        def put(self, block: str, offset: int, data: Buffer, /) -> None:
            seen.append(data.obj if isinstance(data, memoryview) else data)

    LiveDecoder(Ram(BLOCKS), Seen()).feed(stream)
    expected = [ZERO_PAGE if page.data is ZERO_PAGE else stream for page in EVERYTHING]
    assert [x is y for x, y in zip(seen, expected, strict=True)] == [True] * len(EVERYTHING)
    up_to_a_page = b"\x02\0\0\0\1" + record(0, 0x08, "low") + A
    LiveDecoder(Ram(BLOCKS), Seen()).feed(up_to_a_page)
    assert seen[-1] is up_to_a_page


def test_fill_bytes_other_than_zero_expand() -> None:
    sink = Delta()
    decoder = LiveDecoder(Ram(BLOCKS), sink)
    fills = record(0, 0x02, "low") + b"\xff" + record(PAGE_SIZE, 0x22) + b"\xff"
    decoder.feed(section(3, fills) + b"\x00")
    assert image(list(sink)) == {("low", 0): FULL, ("low", PAGE_SIZE): FULL}
    assert decoder.zero_pages == 2


def test_current_block_lives_on_across_sections_and_rounds() -> None:
    """As QEMU does it: a round may begin with a page that names no block."""
    first = new_initial()
    first.feed(small_initial([Page("low", 0, A), Page("hi", 0, A)]))
    sink = Delta()
    rounds = [
        section(2, record(PAGE_SIZE, 0x28) + MIXED) + section(3) + b"\x00",
        section(2, record(0, 0x02, "rom") + b"\x00") + b"\x00",
        section(3, record(0, 0x28) + FULL) + b"\x00",
    ]
    for stream in rounds:
        decoder = LiveDecoder(first.ram, sink)
        assert decoder.feed(stream) == len(stream)
        assert decoder.complete
    assert image(list(sink)) == {("hi", PAGE_SIZE): MIXED, ("rom", 0): FULL}


def test_section_id_is_whatever_the_start_section_says() -> None:
    """QEMU 7.2 gives RAM the id 2."""
    stream = small_initial([])
    for kind in (0x01, 0x03, 0x7E):
        stream = stream.replace(bytes([kind, 0, 0, 0, 1]), bytes([kind, 0, 0, 0, 9]))
    decoder = new_initial()
    decoder.feed(stream)
    assert decoder.complete
    follow_up = LiveDecoder(decoder.ram, Delta())
    follow_up.feed(section(3, b"", 9) + b"\x00")
    assert follow_up.complete


def test_round_may_be_empty_or_end_without_an_end_section() -> None:
    """QEMU's Secondary takes both."""
    for stream in (b"\x00", section(2) + b"\x00", section(3) * 2 + b"\x00"):
        decoder = new_live()
        assert decoder.feed(stream) == len(stream)
        assert decoder.complete


class Runs(Sink):
    """What it was given, by the run."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def put(self, block: str, offset: int, data: Buffer, /) -> None:
        self.seen.append((offset // PAGE_SIZE, 1))

    def put_pages(self, block: str, offset: int, pages: Sequence[Buffer], /) -> None:
        self.seen.append((offset // PAGE_SIZE, len(pages)))

    def put_zeros(self, block: str, offset: int, count: int, /) -> None:
        self.seen.append((offset // PAGE_SIZE, -count))


def going_on(first: int, behind: int, flags: int, content: bytes) -> bytes:
    return b"".join(record(at * PAGE_SIZE, flags) + content for at in range(first, behind))


@pytest.mark.parametrize(("flags", "content"), [(0x28, A), (0x22, b"\0")])
def test_pages_that_follow_each_other_cost_no_calls_each(flags: int, content: bytes) -> None:
    def cost(behind: int) -> int:
        decoder = LiveDecoder(Ram({"low": 1000 * PAGE_SIZE}), Runs())
        decoder.feed(b"\x02\0\0\0\1" + PAGE_RECORD)
        return calls(partial(decoder.feed, going_on(1, behind, flags, content)))

    assert cost(900) < cost(3) + 10


def test_a_run_ends_where_anything_else_comes() -> None:
    """At a gap, at the other kind, at a fill byte, at the end of the block; each page is taken once."""
    sink = Runs()
    decoder = LiveDecoder(Ram({"low": 40 * PAGE_SIZE}), sink)
    decoder.feed(b"\x02\0\0\0\1" + PAGE_RECORD)
    sink.seen.clear()
    zero, page = (0x22, b"\0"), (0x28, A)
    parts = [
        (1, 4, *page),
        (5, 8, *page),
        (8, 12, *zero),
        (13, 14, *zero),
        (14, 15, 0x22, b"\7"),
        (3, 5, *zero),
    ]
    decoder.feed(b"".join(going_on(*part) for part in parts))
    expected = [(1, 1), (2, 2), (5, 3), (8, -4), (13, -1), (14, 1), (3, -2)]
    assert sink.seen == expected
    assert (decoder.pages, decoder.zero_pages) == (1 + 14, 8)
    with pytest.raises(StreamError, match="page at 0x28000 is outside block 'low'"):
        decoder.feed(going_on(38, 50, *page))
    assert sink.seen == [*expected, (38, 1), (39, 1)]


def test_buffers_of_the_encoder_can_be_fed_as_they_come() -> None:
    device = b"d" * (768 << 10)
    decoder = new_initial()
    for buffer in initial(BLOCKS, EVERYTHING, device, generation=1):
        assert decoder.feed(buffer) == len(buffer)
    assert decoder.complete
    assert decoder.device == device
