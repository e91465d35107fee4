"""A packet gate: what comes waits for its checkpoint, in order and whole, and is never let out before."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packet_filter import Filter, packet
from standby_process import until

from colo_fsm.qemu import NoPackets, PacketGate
from colo_fsm.qemu.hold.packets import LONGEST, NotPackets, Packets
from colo_fsm.replica import Address

ONE, TWO, THREE = map(packet, (b"one", b"two", b"three"))


def out(packets: Packets) -> bytes:
    """What leaves, all of it."""
    left = b""
    while (data := packets.leaving) is not None:
        left += data
        packets.written(len(data))
    return left


class TestPackets:
    def test_everything_passes_at_first(self) -> None:
        packets = Packets(1000)
        packets.feed(ONE + TWO)
        assert out(packets) == ONE + TWO

    def test_what_comes_waits_for_its_seal_and_for_the_release_behind_it(self) -> None:
        packets = Packets(1000)
        packets.hold()
        packets.feed(ONE)
        packets.release()
        assert out(packets) == b""
        packets.seal()
        packets.feed(TWO)
        packets.release()
        assert out(packets) == ONE
        assert packets.waits
        packets.seal()
        packets.release()
        assert out(packets) == TWO

    def test_a_round_that_was_not_safe_waits_on(self) -> None:
        packets = Packets(1000)
        packets.hold()
        packets.feed(ONE)
        packets.seal()
        packets.feed(TWO)
        packets.seal()
        packets.release()
        assert out(packets) == ONE + TWO

    def test_a_packet_that_is_not_whole_belongs_to_the_next_round(self) -> None:
        packets = Packets(1000)
        packets.hold()
        packets.feed(ONE + TWO[:5])
        packets.seal()
        packets.feed(TWO[5:] + THREE)
        packets.release()
        assert out(packets) == ONE

    def test_in_any_pieces_it_is_the_same(self) -> None:
        chance = random.Random(7)
        stream = b"".join(packet(chance.randbytes(chance.randrange(1, 3000))) for _ in range(100))
        packets = Packets(1 << 20)
        left, at = b"", 0
        while at < len(stream):
            end = at + chance.randrange(1, 4000)
            packets.feed(stream[at:end])
            at = end
            while (data := packets.leaving) is not None:
                some = chance.randrange(1, len(data) + 1)
                left += data[:some]
                packets.written(some)
        assert left == stream
        assert packets.size == 0

    def test_what_nobody_may_have_is_dropped(self) -> None:
        packets = Packets(1000)
        packets.feed(ONE)
        packets.hold()
        packets.feed(TWO)
        packets.seal()
        packets.feed(THREE + ONE[:4])
        packets.drop()
        packets.seal()
        packets.release()
        assert out(packets) == ONE
        assert packets.size == 0

    def test_what_finds_no_room_is_dropped_and_what_waits_stays_whole(self) -> None:
        packets = Packets(len(ONE + TWO))
        packets.hold()
        for each in (ONE, THREE, TWO, ONE + TWO + THREE):
            packets.feed(each)
        packets.seal()
        packets.release()
        assert out(packets) == ONE + TWO
        assert packets.dropped == 4, "three of the last three, and the one before that"
        packets.feed(ONE + TWO + THREE)
        assert packets.dropped == 5, "as many as there is room for are kept"
        packets.let_pass()
        assert out(packets) == ONE + TWO

    def test_those_that_were_leaving_to_nobody_are_dropped(self) -> None:
        packets = Packets(1000)
        packets.feed(ONE)
        packets.written(2)
        packets.nobody_takes()
        packets.feed(TWO)
        assert out(packets) == TWO
        assert packets.size == 0

    @pytest.mark.parametrize("length", [0, LONGEST + 1, 0xFFFFFFFF])
    def test_what_is_no_packet(self, length: int) -> None:
        with pytest.raises(NotPackets, match="vnet_hdr_support"):
            Packets(1000).feed(ONE + struct.pack(">I", length))

    def test_the_longest_packet(self) -> None:
        packets = Packets(1 << 20)
        packets.feed(packet(bytes(LONGEST)))
        assert len(out(packets)) == LONGEST + 4


Connect = Callable[..., Filter]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes a `Filter`, and closes it behind the test."""
    with contextlib.ExitStack() as stack:

        def connected(gate: PacketGate, card: int = 0) -> Filter:
            made = Filter(*gate.addresses[card])
            stack.callback(made.close)
            return made

        yield connected


@contextlib.contextmanager
def gate_of(folder: Path, cards: int = 1, limit: int = 1 << 20) -> Iterator[tuple[PacketGate, list[str]]]:
    places = [(folder / f"out{n}", folder / f"in{n}") for n in range(cards)]
    told: list[str] = []
    addresses = [(Address(path=str(a)), Address(path=str(b))) for a, b in places]
    with PacketGate(addresses, limit=limit, tell=told.append) as gate:
        yield gate, told


def comes(gate: PacketGate, size: int) -> None:
    """Wait until so many bytes wait there."""
    until(lambda: gate.waiting >= size or None, f"{size} bytes at the gate")


class TestPacketGate:
    def test_packets_pass_until_it_holds_and_leave_with_their_round(
        self, tmp_path: Path, connect: Connect
    ) -> None:
        with gate_of(tmp_path) as (gate, _):
            made = connect(gate)
            made.out.sendall(ONE)
            made.takes(ONE)
            gate.hold()
            made.out.sendall(TWO)
            gate.seal()  # reads what is there, whether the thread has or not
            made.out.sendall(THREE)
            comes(gate, len(TWO + THREE))
            made.takes_nothing()
            gate.release()
            made.takes(TWO)
            gate.let_pass()
            made.takes(THREE)
            made.out.sendall(ONE)
            made.takes(ONE)

    def test_several_cards_are_held_apart_and_released_together(
        self, tmp_path: Path, connect: Connect
    ) -> None:
        with gate_of(tmp_path, cards=3) as (gate, _):
            cards = [connect(gate, n) for n in range(3)]
            gate.hold()
            for card, data in zip(cards, (ONE, TWO, THREE), strict=True):
                card.out.sendall(data)
            gate.seal()
            gate.release()
            for card, data in zip(cards, (ONE, TWO, THREE), strict=True):
                card.takes(data)

    def test_a_burst_over_the_limit_is_always_read(self, tmp_path: Path, connect: Connect) -> None:
        """A QEMU that had to wait could not take the checkpoint that lets its packets go."""
        with gate_of(tmp_path, limit=1 << 20) as (gate, told):
            made = connect(gate)
            gate.hold()
            big = packet(bytes(60_000))
            for _ in range(200):  # 12 MB
                made.out.sendall(big)
            gate.seal()
            assert gate.waiting <= 1 << 20
            assert gate.dropped > 150
            gate.release()
            made.takes(big * ((1 << 20) // len(big)))
            assert sum("is full" in line for line in told) == 1

    def test_a_netdev_that_takes_nothing_stops_neither_the_guest_nor_the_round(
        self, tmp_path: Path, connect: Connect
    ) -> None:
        with gate_of(tmp_path, limit=8 << 20) as (gate, _):
            made = connect(gate)
            gate.hold()
            big = packet(bytes(60_000))
            for _ in range(100):
                made.out.sendall(big)
            gate.seal()
            gate.release()  # 6 MB, more than its socket takes
            made.out.sendall(ONE)
            gate.seal()
            gate.release()
            made.takes(big * 100 + ONE)

    def test_a_gate_to_which_nobody_is_connected_holds_nothing_and_says_so(
        self, tmp_path: Path, connect: Connect
    ) -> None:
        with gate_of(tmp_path, cards=2) as (gate, told):
            made = connect(gate)
            comes_line(told, "the packets of network card 0 come to this gate")
            with pytest.raises(NoPackets, match=r"out1.*would not be held.*docs/gate\.md"):
                gate.hold()
            made.out.sendall(ONE)
            made.takes(ONE)

    def test_another_qemu_gets_nothing_of_the_one_before(self, tmp_path: Path, connect: Connect) -> None:
        with gate_of(tmp_path) as (gate, told):
            made = connect(gate)
            gate.hold()
            made.out.sendall(ONE + TWO[:3])
            gate.seal()
            made.close()
            comes_line(told, "do not come to this gate any more")
            made = connect(gate)
            until(lambda: sum("0 come to this gate" in line for line in told) == 2 or None, "the next QEMU")
            made.out.sendall(THREE)
            gate.seal()
            gate.release()
            made.takes(THREE)
            made.takes_nothing()

    def test_closed_it_lets_nothing_out(self, tmp_path: Path, connect: Connect) -> None:
        with gate_of(tmp_path) as (gate, _):
            made = connect(gate)
            gate.hold()
            made.out.sendall(ONE)
            gate.seal()
        gate.release()
        assert made.into.recv(1) == b""
        assert not list(tmp_path.iterdir()), "and leaves no socket behind"

    def test_what_is_no_stream_of_packets_is_told(self, tmp_path: Path, connect: Connect) -> None:
        with gate_of(tmp_path) as (gate, told):
            made = connect(gate)
            made.out.sendall(b"\xff" * 8)
            comes_line(told, "vnet_hdr_support")
            with pytest.raises(NoPackets):
                gate.hold()

    def test_exchanged_ends_are_told(self, tmp_path: Path, connect: Connect) -> None:
        with gate_of(tmp_path) as (gate, told):
            made = connect(gate)
            gate.check()
            made.into.sendall(ONE)
            comes_line(told, "outdev and indev are exchanged")
            with pytest.raises(NoPackets):
                gate.hold()

    def test_an_address_that_is_taken(self, tmp_path: Path) -> None:
        with gate_of(tmp_path), pytest.raises(OSError, match="out0"), gate_of(tmp_path):
            pass


def comes_line(told: list[str], part: str) -> None:
    until(lambda: any(part in line for line in told) or None, part)
