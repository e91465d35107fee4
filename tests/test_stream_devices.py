"""Device sections are told apart by their footers, whatever their bodies look like."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vm_stream import (
    DEVICES,
    LIMIT,
    REQUEST,
    Memory,
    Pieces,
    at_random,
    byte_by_byte,
    calls,
    described,
    device,
    feed_all,
    footer,
    header,
    initial,
    new_initial,
    whole,
)

from colo_fsm.stream import DeviceSection, RoundSections, StreamError, VmInitialDecoder, device_sections

END = b"\x00"
NAMES = {3: "timer", 0x7E: "cpu", 0: "0000:00:02.0/vga", 0x7E7E7E7E: "hpet"}

# What bodies are made of: everything that looks like the end of one.
look_alikes = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([footer(number) for number in NAMES]),
    st.sampled_from([b"\x00", b"\x04", b"\x08\x00\x0b\x00\x00", b"\x7e"]),
    st.just(header(99, "ghost")),
    st.just(footer(99) + header(98, "another ghost")),
)
bodies = st.lists(look_alikes, max_size=8).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(bodies, min_size=len(NAMES), max_size=len(NAMES)))
def test_look_alikes_do_not_mislead(found: list[bytes]) -> None:
    data = b""
    expected = []
    for (number, name), body in zip(NAMES.items(), found, strict=True):
        offset = len(data) + len(header(number, name))
        expected.append(DeviceSection(name, 0, 1, number, offset, len(body)))
        data += device(number, name, body)
    assert device_sections(data + END) == tuple(expected)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_will_do(kind: type) -> None:
    sections = device_sections(kind(DEVICES + END))
    assert [(s.name, s.instance) for s in sections] == [
        ("timer", 0),
        ("apic", 0),
        ("apic", 1),
        ("0000:00:01.1/ide", 0),
    ]
    assert DEVICES[sections[2].offset :].startswith(b"apic two" + footer(8))


ONE = device(5, "one", b"body")


@pytest.mark.parametrize(
    ("data", "offset", "problem"),
    [
        (b"", 0, "does not begin with a device section"),
        (END, 0, "does not begin with a device section"),
        (b"\x04", 0, "does not begin with a device section"),
        (b"\x01" + ONE[1:] + END, 0, "does not begin with a device section"),
        (header(1, "") + footer(1) + END, 0, "does not begin with a device section"),
        (ONE, len(ONE) - 1, "does not end with the end of stream"),
        (ONE + END + b"\x01", len(ONE) + 1, "does not end with the end of stream"),
        (ONE + END + END, 0, "section 'one' does not end"),
        (ONE[:-1] + b"\x06" + END, 0, "section 'one' does not end"),
        (ONE[:-5] + b"\x7d" + ONE[-4:] + END, 0, "section 'one' does not end"),
        (ONE + b"\x08\x00\x0b\x00\x00" + END, 0, "section 'one' does not end"),
        (ONE + header(6, "two") + b"body" + END, len(ONE), "section 'two' does not end"),
        (ONE + header(6, "two", version=256), len(ONE), "section 'two' does not end"),
        (ONE + device(6, "two\n", b"") + END, 0, "section 'one' does not end"),
        (ONE + device(5, "two", b"") + END, len(ONE) + 17, "section 'two' has the id 5 of another one"),
        (ONE + ONE + END, len(ONE) + 17, "of another one"),
    ],
)
def test_what_is_refused(data: bytes, offset: int, problem: str) -> None:
    with pytest.raises(StreamError, match=problem) as caught:
        device_sections(data)
    assert caught.value.offset == offset


def test_instances_of_one_device_are_no_duplicates() -> None:
    data = b"".join(device(n, "apic", b"", instance=n) for n in range(40)) + END
    assert [s.instance for s in device_sections(data)] == list(range(40))


def test_two_sections_of_one_name_and_instance_are_two_devices() -> None:
    """As QEMU 7.2 has them of an isapc, or of two user-mode NICs."""
    data = device(20, "isa-ide", b"first") + device(21, "isa-ide", b"second")
    assert [(s.section, s.size) for s in device_sections(data + END)] == [(20, 5), (21, 6)]
    decoder = new_initial()
    decoder.feed(initial(devices=data))
    assert (decoder.complete, decoder.devices) == (True, data)


def test_work_is_linear_in_the_look_alikes() -> None:
    """Each footer begins a section that never ends; looking at pairs of them would take hours."""

    def work(baits: int) -> int:
        data = header(5, "one") + (footer(5) + header(6, "x")) * baits + END

        def refuse() -> None:
            with pytest.raises(StreamError, match="does not end"):
                device_sections(data)

        return calls(refuse)

    assert work(2000) < 2.1 * work(1000)


def test_cut_short_in_the_devices_of_a_round_is_refused() -> None:
    for i in range(len(DEVICES)):
        with pytest.raises(StreamError) as caught:
            device_sections(DEVICES[:i])
        assert 0 <= caught.value.offset <= i


class TestLookAlikes:
    """Bytes in a body that look like the body's end."""

    @pytest.mark.parametrize("pieces", [whole, byte_by_byte, at_random])
    @pytest.mark.parametrize(
        "body",
        [
            footer(5),
            footer(5) + b"\x04",
            footer(5) + b"\x04\0\0\0\1\0",
            footer(5) + b"\x01",
            footer(6) + b"\x00\x06",
            header(6, "two") + footer(6),
            footer(5) + header(99, "ghost"),
            footer(5) + header(6, "two") + b"not the real one",
        ],
    )
    def test_are_passed_over(self, body: bytes, pieces: Pieces) -> None:
        devices = device(5, "one", b"before " + body + b" behind") + device(6, "two", b"the real one")
        decoder = new_initial()
        assert feed_all(decoder, pieces(initial(devices=devices) + described())) == described()
        assert decoder.devices == devices
        assert [s.name for s in decoder.sections] == ["one", "two"]
        assert decoder.sections[1].size == len(b"the real one")

    @pytest.mark.parametrize("pieces", [whole, byte_by_byte])
    def test_of_other_sections_do_not_end_the_last(self, pieces: Pieces) -> None:
        last = device(6, "two", b"before" + footer(5) + b"\x00\x06" + b"behind")
        decoder = new_initial()
        feed_all(decoder, pieces(initial(devices=device(5, "one", b"") + last)))
        assert decoder.sections[1].size == len(b"before" + footer(5) + b"\x00\x06" + b"behind")

    @pytest.mark.parametrize("pieces", [whole, byte_by_byte])
    def test_in_a_header_are_passed_over(self, pieces: Pieces) -> None:
        """The instance and version look like a footer of the section, and the end behind it."""
        odd = device(1, "odd", b"body", instance=0x7E000000, version=0x01000600)
        devices = device(5, "one", b"") + odd
        decoder = new_initial()
        feed_all(decoder, pieces(initial(devices=devices)))
        assert decoder.devices == devices

    @pytest.mark.parametrize("behind", [b"\x00\x01", b"\x00\xff", b"\x08\x01", b"\x08\x00\x0c"])
    def test_end_is_believed_only_if_what_has_come_behind_it_fits(self, behind: bytes) -> None:
        devices = device(5, "one", b"before" + footer(5) + behind + b"after")
        decoder = new_initial()
        decoder.feed(initial(devices=devices))
        assert decoder.devices == devices

    def test_a_description_is_of_a_size_that_is_read(self) -> None:
        devices = device(5, "one", footer(5) + b"\0\x06\xff\xff\xff\xff") + device(6, "two", b"")
        decoder = new_initial()
        decoder.feed(initial(devices=devices))
        assert decoder.devices == devices

    def test_command_is_looked_up_as_soon_as_its_number_has_come(self) -> None:
        stream = initial(devices=device(5, "one", b"before" + footer(5) + b"\x08\x00\x0c" + b"after"))
        cut = stream.index(b"after")
        decoder = new_initial()
        assert decoder.feed(stream[:cut]) == cut
        assert decoder.feed(stream[cut:]) == len(stream) - cut
        assert decoder.complete


@pytest.mark.parametrize("pieces", [whole, byte_by_byte, at_random])
@pytest.mark.parametrize(
    "timer",
    [
        bytes(7) + b"\x7e" + bytes(8) + bytes.fromhex("0000018f5a3c1122"),
        bytes(7) + b"\x7e" + bytes(8) + bytes.fromhex("0100000000000000"),
        bytes(7) + b"\x7e" + bytes(16),
        footer(0) + b"\x00" + REQUEST + bytes(9),
    ],
)
def test_a_timer_that_looks_like_a_footer_and_an_end(timer: bytes, pieces: Pieces) -> None:
    """Section 0 of a real VM: one in 256 has the byte 7e before the zeros of its clock."""
    devices = device(0, "timer", timer) + device(7, "apic", b"apic one", version=3)
    for behind in (described(), REQUEST):
        decoder = VmInitialDecoder(lambda b: Memory(), limit=LIMIT)
        assert feed_all(decoder, pieces(initial(devices=devices) + behind)) == behind
        assert [section.name for section in decoder.sections] == ["timer", "apic"]
        assert decoder.devices == devices


class TestLayout:
    """What the description says of sizes is believed where it fits, to the last byte."""

    def test_it_says_where_sections_end_whatever_is_in_them(self) -> None:
        """The footers alone let the first section end inside the second."""
        body = b"two" + footer(5) + header(6, "two") + b"too"
        data = ONE + device(6, "two", body) + END
        assert [s.size for s in device_sections(data)] != [4, len(body)]
        sections = device_sections(data, {("one", 0): [4], ("two", 0): [len(body)]})
        assert [(s.name, s.size) for s in sections] == [("one", 4), ("two", len(body))]

    def test_two_of_one_name_have_theirs_in_order(self) -> None:
        data = device(20, "ide", b"first") + device(21, "ide", b"second") + END
        assert device_sections(data, {("ide", 0): [5, 6]}) == device_sections(data)

    @pytest.mark.parametrize(
        "layout",
        [{}, {("one", 0): [4]}, {("one", 0): [3], ("two", 0): [6]}, {("one", 0): [4], ("two", 1): [6]},
         {("one", 0): [4], ("two", 0): []}, {("one", 0): [1 << 70]}],
    )  # fmt: skip
    def test_what_does_not_fit_is_not_believed(self, layout: dict[tuple[str, int], list[int]]) -> None:
        data = ONE + device(6, "two", b"longer") + END
        assert device_sections(data, layout) == device_sections(data)

    def test_what_is_malformed_is_refused_all_the_same(self) -> None:
        no_footer = ONE[:-5] + b"\x7d" + ONE[-4:]
        for data in (ONE, ONE + END + END, ONE + ONE + END, END, no_footer + END):
            with pytest.raises(StreamError):
                device_sections(data, {("one", 0): [4, 4]})


def test_round_after_round_is_told_as_each_by_itself() -> None:
    """Whatever a round changes of the last one: a body, a header, a length, or what makes it none."""
    bodies = st.lists(st.binary(max_size=6), min_size=1, max_size=4)

    @given(st.lists(st.tuples(bodies, st.integers(0, 1), st.sampled_from([b"\0", b""])), max_size=6))
    def check(rounds: list[tuple[list[bytes], int, bytes]]) -> None:
        sections = RoundSections(None)
        for found, instance, end in rounds:
            data = b"".join(device(n, "cpu", body, instance + n) for n, body in enumerate(found)) + end
            for _ in range(2):
                try:
                    expected = device_sections(data)
                except StreamError:
                    with pytest.raises(StreamError):
                        sections.of(data)
                else:
                    assert sections.of(data) == expected

    check()


def test_a_round_whose_sections_lie_where_they_lay_is_not_searched() -> None:
    sections = RoundSections(None)
    first, second = (
        b"".join(device(n, "cpu", bytes([n + k]) * 50) for n in range(40)) + b"\0" for k in (1, 2)
    )
    sections.of(first)
    assert calls(lambda: sections.of(second)) < calls(lambda: device_sections(second)) / 5
