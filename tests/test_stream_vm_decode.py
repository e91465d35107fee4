"""Streams of a real QEMU come back as memory, device sections and description, in any pieces."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from vm_stream import (
    BLOCKS,
    DESCRIPTION,
    DEVICES,
    LIMIT,
    MEMORY,
    MIXED,
    PAGES,
    RAM_ID,
    REQUEST,
    A,
    Memory,
    Pieces,
    at_random,
    byte_by_byte,
    command,
    described,
    device,
    feed_all,
    footer,
    head,
    header,
    initial,
    memory_under,
    name,
    new_initial,
    ping,
    ram,
    record,
    start,
    subsection,
    u32,
    whole,
)

from colo_fsm.stream import (
    DEVICE_LIMIT,
    PAGE_SIZE,
    DescriptionDecoder,
    Ram,
    StreamError,
    VmInitialDecoder,
    VmLiveDecoder,
    device_sections,
    pong,
)
from colo_fsm.stream.source import Decoder

ENABLE_COLO, SWITCHOVER_START = command(8), command(11)


def new_live(memory: Memory | None = None) -> VmLiveDecoder:
    return VmLiveDecoder(Ram(BLOCKS, RAM_ID), memory or Memory())


def refuses(new: Callable[[], Decoder], stream: bytes, offset: int, problem: str) -> None:
    for pieces in (whole, byte_by_byte):
        decoder = new()
        with pytest.raises(StreamError, match=problem) as caught:
            feed_all(decoder, pieces(stream))
        assert caught.value.offset == offset
        assert not decoder.complete


@pytest.mark.parametrize("pieces", [whole, byte_by_byte, at_random])
@pytest.mark.parametrize("trailing", [b"", REQUEST, described() + REQUEST])
class TestInitial:
    def test_everything_comes_back(self, trailing: bytes, pieces: Pieces) -> None:
        memory = Memory()
        stream = initial(before=ENABLE_COLO + ping(5), between=SWITCHOVER_START + ping(6))
        decoder = new_initial(memory)
        assert feed_all(decoder, pieces(stream + trailing)) == trailing
        assert decoder.complete
        assert memory.blocks == MEMORY
        assert (decoder.pages, decoder.zero_pages, decoder.bytes) == (4, 2, len(stream))
        assert decoder.machine == "pc-i440fx-7.2"
        assert decoder.head == head()
        assert decoder.devices == DEVICES
        assert decoder.answers == [pong(5), pong(6)]
        assert decoder.ram.section == RAM_ID
        assert list(decoder.blocks.items()) == list(BLOCKS.items())
        assert [(s.name, s.instance, s.version, s.section, s.size) for s in decoder.sections] == [
            ("timer", 0, 1, 0, 8),
            ("apic", 0, 3, 7, 8),
            ("apic", 1, 3, 8, 8),
            ("0000:00:01.1/ide", 0, 1, 4, 0),
        ]

    def test_commands_among_the_devices_are_taken_out(self, trailing: bytes, pieces: Pieces) -> None:
        one, two = device(3, "one", b"body"), device(5, "two", b"and soul")
        decoder = new_initial()
        stream = initial(devices=ping(1) + one + SWITCHOVER_START + ping(2) + two + ping(3))
        assert feed_all(decoder, pieces(stream + trailing)) == trailing
        assert decoder.devices == one + two
        assert decoder.sections == device_sections(one + two + b"\x00")
        assert decoder.answers == [pong(1), pong(2), pong(3)]

    def test_the_return_path_of_qemu_11_is_opened_and_ends_before_checkpoint_ready(
        self, trailing: bytes, pieces: Pieces
    ) -> None:
        decoder = new_initial()
        assert feed_all(decoder, pieces(initial(before=command(1) + ping(1)) + trailing)) == trailing
        assert b"".join(decoder.answers) == bytes.fromhex("0002 0004 000000010001 0004 00000000")
        assert decoder.return_path
        assert decoder.head == head()


EARLY = device(0x25, "0000:00:01.0/virtio-mem-device-early", footer(0x25) + b"\x04bitmap")
EARLIER = device(0x26, "another", b"")


@pytest.mark.parametrize("pieces", [whole, byte_by_byte, at_random])
class TestEarly:
    """Device sections before the end of RAM, as virtio-mem has them from QEMU 8.1 on, keep their place."""

    def stream(self, first: bytes = b"", second: bytes = b"") -> bytes:
        return head() + first + start() + second + ram(2, PAGES) + ram(3, b"") + DEVICES + b"\0" + described()

    @pytest.mark.parametrize(
        ("first", "second"), [(EARLY, b""), (b"", EARLY + EARLIER), (EARLY + EARLIER, b""), (EARLIER, EARLY)]
    )
    def test_are_kept_apart_from_the_others(self, first: bytes, second: bytes, pieces: Pieces) -> None:
        memory = Memory()
        decoder = new_initial(memory)
        assert feed_all(decoder, pieces(self.stream(first, second))) == described()
        assert (decoder.early, decoder.devices) == ((first, second), DEVICES)
        assert memory.blocks == MEMORY

    def test_between_commands(self, pieces: Pieces) -> None:
        stream = self.stream(command(1) + ping(1) + EARLY + SWITCHOVER_START + EARLIER)
        decoder = new_initial()
        assert feed_all(decoder, pieces(stream)) == described()
        assert decoder.early == (EARLY + EARLIER, b"")
        assert decoder.head == head()

    def test_do_not_end_the_stream(self, pieces: Pieces) -> None:
        decoder = new_initial()
        feed_all(decoder, pieces(head() + EARLY + b"\0" + described()))
        assert not decoder.complete


def test_what_looks_like_the_start_of_ram_or_its_pages_does_not_end_an_early_section() -> None:
    other = start("rom")[:20]
    first = device(0x25, "early", footer(0x25) + other)
    second = device(0x26, "early", footer(0x26) + ram(2, PAGES, RAM_ID + 1))
    decoder = new_initial()
    decoder.feed(head() + first + start() + second + ram(3, PAGES) + DEVICES + b"\0")
    assert decoder.complete
    assert decoder.early == (first, second)


def test_nothing_is_known_before_the_first_byte() -> None:
    decoder = new_initial()
    assert (decoder.machine, decoder.head, decoder.devices, decoder.sections) == ("", b"", b"", ())
    assert (decoder.complete, decoder.answers, DescriptionDecoder().description) == (False, [], None)


def test_a_section_is_found_in_the_devices_by_its_offset() -> None:
    decoder = new_initial()
    decoder.feed(initial())
    bodies = [decoder.devices[s.offset : s.offset + s.size] for s in decoder.sections]
    assert bodies == [bytes(8), b"apic one", b"apic two", b""]


def test_harmless_subsections_belong_to_the_head() -> None:
    said = (
        subsection("configuration/uuid", bytes(range(16)))
        + subsection("configuration/target-page-bits", u32(12))
        + subsection("configuration/capabilities", u32(0))
    )
    for pieces in (whole, byte_by_byte):
        decoder = new_initial()
        feed_all(decoder, pieces(initial(before=said + ENABLE_COLO)))
        assert decoder.complete
        assert decoder.head == head() + said


def test_memory_of_zeroes_only_is_no_sign_of_multifd() -> None:
    zeroes = record(0, 0x02, "pc.ram") + b"\0" + record(0, 0x02, "pc.bios") + b"\0"
    zeroes += b"".join(record(n * PAGE_SIZE, 0x02, "pc.ram") + b"\0" for n in (1, 2))
    decoder = new_initial()
    decoder.feed(initial(pages=zeroes))
    assert decoder.complete


@pytest.mark.parametrize("pieces", [whole, byte_by_byte])
class TestDescription:
    @pytest.mark.parametrize("trailing", [b"", REQUEST])
    def test_kept_verbatim(self, trailing: bytes, pieces: Pieces) -> None:
        decoder = DescriptionDecoder()
        assert feed_all(decoder, pieces(described() + trailing)) == trailing
        assert decoder.complete
        assert decoder.description == DESCRIPTION

    def test_left_out(self, pieces: Pieces) -> None:
        decoder = DescriptionDecoder()
        assert feed_all(decoder, pieces(REQUEST)) == REQUEST
        assert decoder.complete
        assert decoder.description is None

    @pytest.mark.parametrize(
        ("stream", "offset", "problem"),
        [
            (b"\x04", 0, "byte 0x04 where the description"),
            (b"\x06\xff\0\0\0", 1, "description of 4278190080 bytes"),
            (described(DESCRIPTION[:-1]), 5, "is not JSON"),
            (described(b"[" * 100_000), 5, "is not JSON"),
            (described(b"\xff{}"), 5, "is not JSON"),
        ],
    )
    def test_malformed(self, stream: bytes, offset: int, problem: str, pieces: Pieces) -> None:
        with pytest.raises(StreamError, match=problem) as caught:
            feed_all(DescriptionDecoder(), pieces(stream))
        assert caught.value.offset == offset


class TestRounds:
    def test_commands_are_passed_over_and_pings_collected(self) -> None:
        stream = SWITCHOVER_START + ping(7) + ram(2, PAGES) + ping(8) + ram(3, b"") + b"\x00"
        for pieces in (whole, byte_by_byte, at_random):
            memory = Memory()
            decoder = new_live(memory)
            assert feed_all(decoder, pieces(stream + REQUEST)) == REQUEST
            assert memory.blocks == MEMORY
            assert decoder.answers == [pong(7), pong(8)]
            assert decoder.pages == 4

    def test_current_block_lives_on_from_the_initial_stream(self) -> None:
        memory = Memory()
        first = new_initial(memory)
        first.feed(initial())
        for page in (A, MIXED):
            decoder = VmLiveDecoder(first.ram, memory)
            decoder.feed(ram(3, record(0, 0x28) + page) + b"\x00")
            assert memory.blocks["pc.bios"] == page

    def test_other_sections_are_refused(self) -> None:
        for stream in (start(), DEVICES, subsection("configuration/uuid", bytes(16))):
            refuses(new_live, ram(2, b"") + stream, len(ram(2, b"")), "section")


BEFORE = len(head())
BETWEEN = len(head() + start() + ram(2, PAGES))
BEHIND = BETWEEN + len(ram(3, b""))


@pytest.mark.parametrize(
    ("stream", "offset", "problem"),
    [
        (initial(before=command(1) + ENABLE_COLO), BEFORE + 5, "before 11 .* switch return-path .* off"),
        (initial(before=ENABLE_COLO + command(1)), BEFORE + 5, "before 11 .* switch return-path .* off"),
        (initial(before=command(3)), BEFORE, "POSTCOPY_ADVISE .* switch postcopy-ram .* off"),
        (initial(between=command(4)), BETWEEN, "POSTCOPY_LISTEN .* switch postcopy-ram off"),
        (initial(between=command(5)), BETWEEN, "POSTCOPY_RUN .* switch postcopy-ram off"),
        (initial(between=command(6)), BETWEEN, "POSTCOPY_RAM_DISCARD .* switch postcopy-ram off"),
        (initial(between=command(7)), BETWEEN, "PACKAGED .* switch postcopy-ram off"),
        (initial(between=command(9)), BETWEEN, "POSTCOPY_RESUME .* switch postcopy-ram off"),
        (initial(between=command(10)), BETWEEN, "RECV_BITMAP .* switch postcopy-ram off"),
        (initial(before=command(0)), BEFORE, "command 0 is unknown"),
        (initial(before=command(12)), BEFORE, "command 12 is unknown"),
        (initial(before=command(8, b"x")), BEFORE, "command 8 with 1 bytes of data, expected 0"),
        (initial(before=command(2)), BEFORE, "command 2 with 0 bytes of data, expected 4"),
        (initial(before=start("block")), BEFORE + 5, "section 'block' .* switch block off"),
        (initial(before=start("dirty-bitmap")), BEFORE + 5, "switch dirty-bitmaps off"),
        (initial(before=start("vfio")), BEFORE + 5, "section 'vfio', expected 'ram'"),
        (initial(before=start()), BEFORE + len(start()), "a second start section"),
        (initial(pages=record(0, 0x200) + PAGES), BETWEEN - len(ram(2, PAGES)) + 5, "switch multifd off"),
        (initial(pages=record(0, 0x120) + PAGES), BETWEEN - len(ram(2, PAGES)) + 5, "switch compress off"),
        (initial(pages=record(0, 0x80) + PAGES), BETWEEN - len(ram(2, PAGES)) + 5, "switch rdma off"),
        (
            initial(pages=record(0, 0x02, "pc.ram") + b"\0"),
            BEHIND - len(PAGES) + len(record(0, 0x02, "pc.ram")) + 1 - len(ram(3, b"")),
            "no page of any contents .* switch multifd off",
        ),
        (
            initial(pages=(record(0, 0x02, "pc.ram") + b"\0") * 5),
            BEHIND - len(PAGES) + 5 * (len(record(0, 0x02, "pc.ram")) + 1) - len(ram(3, b"")),
            "no page of any contents .* switch multifd off",
        ),
        (initial(between=start()), BETWEEN, "a second start section"),
        (initial(devices=ram(2, b"")), BEHIND, "pages after the end of RAM"),
        (initial(devices=b""), BEHIND, "without a device section"),
        (head() + start() + b"\0", BEFORE + len(start()), "ends before the end of RAM"),
        (initial(devices=header(1, "")), BEHIND, "without a valid header"),
        (initial(devices=header(1, "a\nb")), BEHIND, "without a valid header"),
        (initial(devices=DEVICES + device(7, "new", b"")), BEHIND + len(DEVICES) + 17, "'new' has the id 7"),
        (
            initial(devices=DEVICES + ping(1) + device(7, "new", b"")),
            BEHIND + len(DEVICES + ping(1)) + 17,
            "'new' has the id 7",
        ),
        (
            initial(between=subsection("configuration/uuid", bytes(16))),
            BETWEEN,
            "a subsection that is not the configuration's",
        ),
        (initial(before=subsection("configuration/new", b"")), BEFORE + 1, "subsection 'configuration/new'"),
        (initial(before=subsection("configuration/uuid", bytes(16), 2)), BEFORE + 20, "version 2 of subsec"),
        (
            initial(before=subsection("configuration/target-page-bits", u32(14))),
            BEFORE + 36,
            r"pages of 2\^14 bytes",
        ),
        (
            initial(before=subsection("configuration/target-page-bits", u32(1 << 31))),
            BEFORE + 36,
            r"pages of 2\^2147483648 bytes",
        ),
        (
            initial(before=subsection("configuration/capabilities", u32(1) + name("x-ignore-shared"))),
            BEFORE + 36,
            "switch x-ignore-shared off",
        ),
    ],
)
def test_what_is_refused(stream: bytes, offset: int, problem: str) -> None:
    refuses(new_initial, stream, offset, problem)


def test_limits() -> None:
    assert DEVICE_LIMIT == 1 << 30

    def unopened(blocks: object) -> Memory:
        raise AssertionError("opened")

    at = BEFORE + 5 + len(name("ram")) + 8
    refuses(lambda: VmInitialDecoder(unopened, limit=LIMIT - 1), initial(), at, "over the limit")

    endless = initial(devices=header(3, "endless") + bytes(5000))
    with pytest.raises(StreamError, match="of them 'endless'") as caught:
        feed_all(VmInitialDecoder(lambda b: Memory(), limit=LIMIT, device_limit=4096), whole(endless))
    assert caught.value.offset == BEHIND
    endless = initial(devices=DEVICES + header(3, "endless") + bytes(5000))
    with pytest.raises(StreamError, match="of them 'endless'") as caught:
        feed_all(VmInitialDecoder(lambda b: Memory(), limit=LIMIT, device_limit=4096), whole(endless))
    assert caught.value.offset == BEHIND + len(DEVICES)
    exact = VmInitialDecoder(lambda b: Memory(), limit=LIMIT, device_limit=len(DEVICES))
    assert feed_all(exact, whole(initial() + REQUEST + bytes(9999))) == REQUEST + bytes(9999)
    tight = VmInitialDecoder(lambda b: Memory(), limit=LIMIT, device_limit=len(DEVICES) - 1)
    with pytest.raises(StreamError, match="more than"):
        feed_all(tight, whole(initial()))


def test_cut_short_anywhere_is_never_complete_and_never_an_error() -> None:
    stream = initial(before=ENABLE_COLO, between=ping(1))
    assert len(stream) < 20_000
    decoder = new_initial()
    for i in range(len(stream)):
        assert not decoder.complete
        decoder.feed(stream[i : i + 1])
    assert decoder.complete
    for i in range(0, len(stream), 61):
        fresh = new_initial()
        assert fresh.feed(stream[:i]) == i
        assert not fresh.complete


def test_wrong_bytes_decode_or_are_refused_or_wait_for_more() -> None:
    """What is believed is well formed, and nothing is allocated for sizes that lie."""
    rng = random.Random(11)
    stream = initial(before=ENABLE_COLO, between=ping(1)) + described()
    contents = {start + i for page in (A, MIXED) for start in [stream.index(page)] for i in range(len(page))}
    places = [i for i in range(len(stream)) if i not in contents or i % 211 == 0]
    offsets = []
    with memory_under(2 << 20):
        for place in places:
            for wrong in (0xFF, 0x80, 0x01, rng.randrange(1, 256)):
                bad = bytearray(stream)
                bad[place] ^= wrong
                decoder = new_initial()
                try:
                    rest = bad[decoder.feed(bad) :]
                    if decoder.complete:
                        assert device_sections(decoder.devices + b"\0") == decoder.sections
                        DescriptionDecoder().feed(rest)
                except StreamError as error:
                    offsets.append(error.offset)
    assert len(offsets) > 500
    assert all(0 <= offset <= len(stream) for offset in offsets)


def test_answer_to_a_ping() -> None:
    assert pong(0x01020304) == bytes.fromhex("0002 0004 01020304")
