"""Streams that are cut short, wrong or hostile are refused, with the offset of the field at fault."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator

import pytest
from own_stream import (
    BLOCKS,
    PAGE_RECORD,
    new_initial,
    new_live,
    section,
    small_initial,
    small_live,
)
from vm_stream import EOS, A, byte_by_byte, feed_all, memory_under, record, whole

from colo_fsm.stream import (
    PAGE_SIZE,
    ZERO_PAGE,
    Blocks,
    Buffer,
    Decoder,
    Delta,
    InitialDecoder,
    LiveDecoder,
    Page,
    Ram,
    Sink,
    StreamError,
    decode_device_state,
    device_state,
)

SMALL_PAGES = [Page("low", 0, A), Page("hi", 0, ZERO_PAGE)]


def error_of(decoder: Decoder, data: bytes) -> StreamError:
    with pytest.raises(StreamError) as caught:
        decoder.feed(data)
    return caught.value


@pytest.mark.parametrize(
    ("stream", "new"),
    [(small_initial(SMALL_PAGES), new_initial), (small_live(SMALL_PAGES), new_live)],
    ids=["initial", "live"],
)
def test_cut_short_anywhere_is_never_complete_and_never_an_error(
    stream: bytes, new: Callable[[], Decoder]
) -> None:
    decoder = new()
    for i in range(len(stream)):
        assert decoder.complete is False
        decoder.feed(stream[i : i + 1])
        if i % 16 == 0:
            fresh = new()
            assert fresh.feed(stream[:i]) == i
            assert not fresh.complete
    assert decoder.complete


def test_device_state_cut_short_anywhere_is_refused() -> None:
    stream = device_state(b"device")
    for i in range(len(stream)):
        with pytest.raises(StreamError, match="ends too early") as caught:
            decode_device_state(stream[:i])
        assert caught.value.offset == i


def flips(stream: bytes) -> Iterator[bytes]:
    """The stream with one byte wrong, for every byte and several ways to be wrong.

    Within a page's contents one flip in 97 is enough: they are all alike.
    """
    before, page, _ = stream.partition(A)
    contents = range(len(before), len(before) + len(page))
    for i in range(len(stream)):
        if i in contents and i % 97:
            continue
        for wrong in {stream[i] ^ 0xFF, stream[i] ^ 0x80, stream[i] ^ 0x01, 0} - {stream[i]}:
            yield stream[:i] + bytes([wrong]) + stream[i + 1 :]


@pytest.mark.parametrize(
    ("stream", "new"),
    [(small_initial(SMALL_PAGES), new_initial), (small_live(SMALL_PAGES), new_live)],
    ids=["initial", "live"],
)
def test_one_wrong_byte_decodes_or_is_refused(stream: bytes, new: Callable[[], Decoder]) -> None:
    offsets = []
    with memory_under(2 << 20):
        for wrong in flips(stream):
            try:
                assert new().feed(wrong) <= len(wrong)
            except StreamError as error:
                offsets.append(error.offset)
    assert len(offsets) > 100
    assert all(0 <= offset <= len(stream) for offset in offsets)


def test_one_wrong_byte_in_the_device_state() -> None:
    stream = device_state(b"device")
    decoded, offsets = [], []
    for wrong in flips(stream):
        try:
            decoded.append(decode_device_state(wrong))
        except StreamError as error:
            offsets.append(error.offset)
    assert {len(device) for device in decoded} == {len(b"device")}
    assert all(0 <= offset <= len(stream) for offset in offsets)


def test_memory_stays_small_whatever_the_pieces() -> None:
    """A device state that is declared large costs nothing until its bytes come."""
    stream = small_initial([], device=b"d" * 1000)
    length = stream.index((1000).to_bytes(4, "big") + b"d")
    lying = stream[:length] + b"\xff\xff\xff\xff" + stream[length + 4 : length + 500]
    decoder = new_initial()
    with memory_under(1 << 20):
        for i in range(0, len(lying), 64):
            decoder.feed(lying[i : i + 64])
    assert not decoder.complete


def test_description_is_passed_over_and_not_kept() -> None:
    stream = small_initial([])
    before, mark, _ = stream.partition(b"\x7e\x00\x00\x00\x03\x00\x06")
    decoder = new_initial()
    decoder.feed(before + mark + (8 << 20).to_bytes(4, "big"))
    piece = bytes(64 << 10)
    with memory_under(1 << 20):
        for _ in range(128):
            assert not decoder.complete
            assert decoder.feed(piece) == len(piece)
    assert decoder.complete


class TestInitialErrors:
    """Each malformed part once, with the offset of the field at fault."""

    STREAM = small_initial(SMALL_PAGES)
    START = STREAM.index(b"\x01\x00\x00\x00\x01\x03ram")
    BLOCK_LIST = START + 17
    PART = STREAM.index(b"\x02\x00\x00\x00\x01")
    END = STREAM.index(b"\x03\x00\x00\x00\x01\x00")
    GENERATION = STREAM.index(b"\x04\x00\x00\x00\x02")
    GUEST = STREAM.index(b"\x04\x00\x00\x00\x03")
    STOP = STREAM.index(b"\x7e\x00\x00\x00\x03") + 5

    def patched(self, at: int, new: bytes, old: int | None = None) -> bytes:
        """The stream with `old` bytes at `at` (as many as `new` has) replaced."""
        return self.STREAM[:at] + new + self.STREAM[at + (len(new) if old is None else old) :]

    def refuses(self, stream: bytes, offset: int, problem: str) -> None:
        for pieces in (whole, byte_by_byte):
            decoder = new_initial()
            with pytest.raises(StreamError, match=problem) as caught:
                feed_all(decoder, pieces(stream))
            assert caught.value.offset == offset
            assert str(caught.value).endswith(f"(at byte {offset})")

    @pytest.mark.parametrize(
        ("at", "new", "problem"),
        [
            (0, b"QEVN", "magic 0x5145564e"),
            (4, b"\0\0\0\4", "version 4 of the stream, expected 3"),
            (8, b"\x06", "does not name its machine"),
            (9, b"\0\0\1\0", "machine name of 256 bytes, at most 255"),
            (13, b"\xff", "not UTF-8"),
            (START + 5, b"\x03rom", "section 'rom', expected 'ram'"),
            (START + 9, b"\0\0\0\1", "instance 1 of section 'ram'"),
            (START + 13, b"\0\0\0\5", "version 5 of section 'ram', expected 4"),
            (BLOCK_LIST, record(PAGE_SIZE, 0x08), "flags 0x008, expected the block list"),
            (BLOCK_LIST, record(1 << 50, 0x04), "over the limit"),
            (BLOCK_LIST + 8, b"\x00low", "a name is empty"),
            (PART + 1, b"\0\0\0\2", "section id 2, but RAM has id 1"),
            (PART, b"\x05", r"a subsection \(section type 0x05\) is not read"),
            (PART, b"\x08", r"a command \(section type 0x08\) is not read"),
            (PART, b"\x09", "section type 0x09 does not belong here"),
            (PART, b"\x00", "ends before the end of RAM"),
            (PART, b"\x04", "device section before the end of RAM"),
            (START, b"\x02", "before the block list"),
            (END + 13, b"\x7f", "0x7f where a section's footer"),
            (END + 14, b"\0\0\0\2", "footer of section 2 at the end of section 1"),
            (GENERATION, b"\x02", "pages after the end of RAM"),
            (GENERATION, b"\x00", "without its section 'colo-fsm/generation'"),
            (GUEST, b"\x00", "without its section 'guest'"),
            (GUEST + 15, b"\0\0\0\2", "version 2 of section 'guest', expected 1"),
            (STOP, b"\x04", "device section after the last one"),
            (STOP + 1, b"\x00", "no description"),
            (STOP + 2, b"\1\0\0\1", "description of 16777217 bytes, at most 16777216"),
        ],
    )
    def test_wrong_field(self, at: int, new: bytes, problem: str) -> None:
        # An empty name is met behind its length; everything else where it was put.
        offset = at + 1 if new == b"\x00low" else at
        self.refuses(self.patched(at, new), offset, problem)

    def test_second_start_section(self) -> None:
        start = self.STREAM[self.START : self.PART]
        self.refuses(self.patched(self.PART, start, 0), self.PART, "a second start section")

    def test_guest_before_generation(self) -> None:
        stream = self.patched(self.GENERATION, b"", self.GUEST - self.GENERATION)
        problem = "section 'guest', expected 'colo-fsm/generation'"
        self.refuses(stream, self.GENERATION + 5, problem)

    @pytest.mark.parametrize(
        ("blocks", "fault", "problem"),
        [
            ([("a", 4096), ("a", 4096)], 8 + 10, "block 'a' is listed twice"),
            ([("a", 4096), ("b", 8192)], 8 + 10 + 2, "more than the total of 8192 bytes"),
            ([("a", 100)], 8 + 2, "not a number of pages"),
            ([("a", 0)], 8 + 2, "not a number of pages"),
            ([("a", 1 << 60)], 8 + 2, "more than the total"),
            ([("a", 4096)], 8 + 10, "a name is empty"),
        ],
    )
    def test_block_list(self, blocks: list[tuple[str, int]], fault: int, problem: str) -> None:
        listed = b"".join(record(0, 0, name)[8:] + size.to_bytes(8, "big") for name, size in blocks)
        body = record(8192, 0x04) + listed + EOS
        stream = self.STREAM[: self.BLOCK_LIST] + body
        offset = self.BLOCK_LIST + fault + (problem == "a name is empty")
        self.refuses(stream, offset, problem)

    def test_block_list_longer_than_its_total(self) -> None:
        body = record(4096, 0x04) + b"\x01a" + record(4096, 0) + b"\x01b" + record(4096, 0)
        stream = self.STREAM[: self.BLOCK_LIST] + body
        problem = "expected the end of the block list"
        self.refuses(stream, self.BLOCK_LIST + 18, problem)

    def test_limits_are_checked_before_anything_is_opened(self) -> None:
        def start(blocks: Blocks) -> Delta:
            raise AssertionError("opened")

        decoder = InitialDecoder(start, limit=sum(BLOCKS.values()) - 1)
        assert error_of(decoder, self.STREAM).offset == self.BLOCK_LIST

    def test_device_state_over_the_limit(self) -> None:
        limit = sum(BLOCKS.values())
        stream = small_initial([], device=bytes(limit + 1))
        error = error_of(InitialDecoder(lambda blocks: Delta(), limit=limit), stream)
        assert error.problem == f"device state of {limit + 1} bytes, at most {limit} are read"

    def test_as_much_as_the_limits_allow_is_read(self) -> None:
        limit = sum(BLOCKS.values())
        decoder = InitialDecoder(lambda blocks: Delta(), limit=limit)
        decoder.feed(small_initial([], device=bytes(limit)))
        assert decoder.complete
        long_description = self.patched(self.STOP + 2, b"\1\0\0\0")
        assert new_initial().feed(long_description) == len(long_description)

    @pytest.mark.parametrize("pages", [0, 1])
    def test_64_gib_may_be_declared_where_nothing_else_is_said(self, pages: int) -> None:
        size = (64 << 30) + pages * PAGE_SIZE
        listed = record(size, 0x04) + b"\x03big" + size.to_bytes(8, "big") + EOS
        stream = self.STREAM[: self.BLOCK_LIST] + listed + b"\x7e\0\0\0\1"
        if pages:
            self.refuses(stream, self.BLOCK_LIST, f"{size} bytes of memory are over the limit")
        else:
            opened: list[Blocks] = []
            InitialDecoder(lambda blocks: opened.append(blocks) or Delta()).feed(stream)  # type: ignore[func-returns-value]
            assert opened == [{"big": size}]


@pytest.mark.parametrize(
    ("body", "fault", "problem"),
    [
        (record(0, 0x40), 0, "flag 0x040 is not read here: switch xbzrle off"),
        (record(0, 0x60), 0, "switch xbzrle off"),
        (record(0, 0x80), 0, "switch rdma off"),
        (record(0, 0x100), 0, "switch compress off"),
        (record(0, 0x200), 0, "switch multifd off"),
        (record(0, 0x01), 0, "flags 0x001, expected a page"),
        (record(0, 0x800), 0, "flags 0x800, expected a page"),
        (record(0, 0x0A), 0, "flags 0x00a, expected a page"),
        (record(0, 0x30), 0, "flags 0x030, expected a page"),
        (record(4096, 0x10), 0, "RAM record 0x1010, flags 0x010"),
        (record(4096, 0x04), 0, "flags 0x004, expected a page"),
        (record(0, 0x28), 0, "continues a block, but none was named before"),
        (record(0, 0x08, "nope"), 8, "block 'nope' is not in the block list"),
        (record(3 * PAGE_SIZE, 0x08, "low"), 0, "page at 0x3000 is outside block 'low' of 0x3000"),
        (PAGE_RECORD + record(1 << 63, 0x28), len(PAGE_RECORD), "is outside block 'low'"),
        (PAGE_RECORD + record(3 * PAGE_SIZE, 0x28) + A, len(PAGE_RECORD), "is outside block 'low'"),
        (PAGE_RECORD + record(3 * PAGE_SIZE, 0x22) + b"\0", len(PAGE_RECORD), "is outside block 'low'"),
    ],
)
def test_record_that_cannot_be_read(body: bytes, fault: int, problem: str) -> None:
    stream = section(2) + b"\x02\x00\x00\x00\x01" + body
    for pieces in (whole, byte_by_byte):
        with pytest.raises(StreamError, match=problem) as caught:
            feed_all(new_live(), pieces(stream))
        assert caught.value.offset == len(section(2)) + 5 + fault


@pytest.mark.parametrize(
    ("stream", "offset", "problem"),
    [
        (b"\x01", 0, "section type 0x01 does not belong here"),
        (b"\x04", 0, "section type 0x04 does not belong here"),
        (b"\x08", 0, "a command"),
        (section(2, b"", 5), 1, "section id 5, but RAM has id 1"),
        (section(2)[:-1] + b"\x05", 14, "footer of section 5"),
    ],
)
def test_section_that_is_not_part_of_a_round(stream: bytes, offset: int, problem: str) -> None:
    error = error_of(new_live(), stream)
    assert error.offset == offset
    assert problem in error.problem


def test_device_state_errors() -> None:
    good = device_state(b"device")
    guest = good[:-1]
    length = good.index(b"\0\0\0\6")
    cases = [
        (b"\x00", 0, "ends without its section 'guest'"),
        (good + b"\x00", len(good), "^1 bytes behind the end"),
        (guest + good, len(guest), "device section after the last one"),
        (b"\x02" + good[1:], 0, "section type 0x02 does not belong here"),
        (good.replace(b"guest", b"guess"), 5, "section 'guess', expected 'guest'"),
        (good.replace(b"\0\0\0\6", b"\xff\xff\xff\xff"), length, "at most 35 are read"),
        (guest[:-5] + b"\x00" + good[-5:], len(guest) - 5, "footer"),
    ]
    for data, offset, problem in cases:
        with pytest.raises(StreamError, match=problem) as caught:
            decode_device_state(data)
        assert caught.value.offset == offset


def test_decoder_stays_failed() -> None:
    decoder = new_live()
    first = error_of(decoder, b"\x09")
    assert error_of(decoder, small_live()) is first
    assert not decoder.complete


def test_failing_sink_fails_the_decoder() -> None:
    class Full(Sink):
        def put(self, block: str, offset: int, data: Buffer, /) -> None:
            raise OSError("no space")

    decoder = LiveDecoder(Ram(BLOCKS), Full())
    for _ in range(2):
        with pytest.raises(OSError, match="no space"):
            decoder.feed(small_live())
    assert not decoder.complete


def test_error_is_data() -> None:
    error = pickle.loads(pickle.dumps(StreamError(12, "bad")))
    assert StreamError.__base__ is ValueError
    assert (error.offset, error.problem, str(error)) == (12, "bad", "bad (at byte 12)")
