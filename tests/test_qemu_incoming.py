"""A VM comes in and goes out again with every section where QEMU has it, whatever looks like an end."""

from __future__ import annotations

import json

import pytest
from vm_stream import (
    BLOCKS,
    LIMIT,
    PAGES,
    REQUEST,
    Pieces,
    at_random,
    byte_by_byte,
    described,
    device,
    footer,
    head,
    header,
    initial,
    ram,
    start,
    u32,
    whole,
)

from colo_fsm.qemu import VmCheckpoint
from colo_fsm.qemu.incoming import IncomingVm
from colo_fsm.replica import MemoryStore
from colo_fsm.stream import PAGE_SIZE, StreamError

BAIT = footer(5) + b"\0\x06" + u32(4096) + b"{text behind it"
"""The head of a description, as long as much of what follows."""
EARLY, EARLIER = "0000:00:01.0/virtio-mem-device-early", "another"


def description(*sizes: tuple[str, int]) -> bytes:
    devices = [
        {"name": name, "instance_id": 0, "version": 1, "fields": [{"name": "f", "size": size}]}
        for name, size in sizes
    ]
    return json.dumps({"page_size": PAGE_SIZE, "devices": devices}).encode()


def take(data: bytes, pieces: Pieces, store: MemoryStore | None = None) -> IncomingVm:
    """The VM of an initial stream, whole; what follows it is left over."""
    vm = IncomingVm(store, limit=LIMIT)
    rest = b""
    for piece in pieces(data + REQUEST):
        rest += piece
        rest = rest[vm.initial.feed(rest) :]
    assert vm.initial.over
    assert rest == REQUEST
    return vm


@pytest.mark.parametrize("pieces", [whole, byte_by_byte, at_random])
class TestBait:
    def test_what_looks_like_a_description_in_a_body_is_passed_over(self, pieces: Pieces) -> None:
        body = b"before " + BAIT
        devices = device(5, "one", body) + device(6, "two", BAIT.replace(footer(5), footer(6)))
        text = description(("one", len(body)), ("two", len(BAIT)))
        vm = take(initial(devices=devices) + described(text), pieces).initial
        assert [(s.name, s.size) for s in vm.vm.sections] == [("one", len(body)), ("two", len(BAIT))]
        assert vm.vm.devices == devices
        assert vm.layout == {("one", 0): [len(body)], ("two", 0): [len(BAIT)]}

    def test_the_description_says_where_the_sections_end(self, pieces: Pieces) -> None:
        """By the footers alone the first one ends inside the second."""
        body = footer(5) + header(6, "two") + b"too"
        devices = device(5, "one", b"1") + device(6, "two", body)
        vm = take(initial(devices=devices) + described(description(("one", 1), ("two", len(body)))), pieces)
        assert [s.size for s in vm.initial.vm.sections] != [1, len(body)]
        assert [s.size for s in vm.initial.sections] == [1, len(body)]

    def test_one_after_the_other(self, pieces: Pieces) -> None:
        devices = device(5, "one", BAIT * 3) + device(6, "two", b"")
        assert take(initial(devices=devices) + described(), pieces).initial.vm.devices == devices

    def test_a_description_that_is_text_but_not_json_is_an_error(self, pieces: Pieces) -> None:
        data = initial(devices=device(5, "one", BAIT)) + described(b"{devices}")
        with pytest.raises(StreamError, match="is not JSON") as caught:
            take(data, pieces)
        assert caught.value.offset == len(data) - len(b"{devices}")


def test_an_end_that_nothing_follows_is_answered_at_once() -> None:
    vm = IncomingVm(None, limit=LIMIT)
    for byte in byte_by_byte(initial()):
        assert not vm.initial.complete
        vm.initial.feed(byte)
    assert vm.initial.complete
    assert not vm.initial.over


def early(number: int) -> bytes:
    return device(0x25, EARLY, u32(number))


@pytest.mark.parametrize("pieces", [whole, at_random])
@pytest.mark.parametrize("first", [True, False])
class TestEarly:
    """virtio-mem's section before the end of RAM; in a round QEMU has it among the others."""

    def stream(self, first: bool) -> bytes:
        before, between = (early(0), b"") if first else (b"", early(0))
        others = device(0, "timer", b"0") + device(6, "cpu", b"0")
        sections = start() + between + ram(2, PAGES) + ram(3, b"") + others + b"\0"
        return head() + before + sections + described(description((EARLY, 4), ("timer", 1), ("cpu", 1)))

    def restored(self, store: MemoryStore) -> tuple[bytes, tuple[bytes, bytes]]:
        """The device sections of what `restore` writes: those at the end, and the early ones."""
        assert store.newest is not None
        vm = VmCheckpoint.of(store.newest)
        again = take(b"".join(vm.stream()), whole).initial.vm
        assert again.blocks == BLOCKS
        return again.devices, again.early

    def test_keeps_its_place(self, first: bool, pieces: Pieces) -> None:
        with MemoryStore() as store:
            vm = take(self.stream(first), pieces, store)
            vm.complete()
            devices, found = self.restored(store)
        assert devices == device(0, "timer", b"0") + device(6, "cpu", b"0")
        assert found == ((early(0), b"") if first else (b"", early(0)))

    def test_is_restored_as_the_last_round_had_it(self, first: bool, pieces: Pieces) -> None:
        with MemoryStore() as store:
            vm = take(self.stream(first), pieces, store)
            vm.complete()
            vm.live().feed(ram(3, b"") + b"\0")
            vm.commit(device(0, "timer", b"1") + early(1) + device(6, "cpu", b"longer") + b"\0")
            devices, found = self.restored(store)
        assert devices == device(0, "timer", b"1") + device(6, "cpu", b"longer")
        assert found == ((early(1), b"") if first else (b"", early(1)))
