"""A link's bytes are understood: rounds, their times, the checkpoints in them, and what is wrong."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import struct
import tracemalloc
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest
from standby_process import (
    LOADED,
    READY,
    RECEIVED,
    REPLY,
    REQUEST,
    SEND,
    SIZE,
    devices,
    initial,
    live,
    page,
    state,
)
from vm_link import P2S, S2P, a_round, link, number_in, recorded
from vm_stream import DESCRIPTION, command, described, head, ram, record, start, u32

from colo_fsm.colo import COLOMessage
from colo_fsm.fsm import Side
from colo_fsm.qemu.checkpoint import VmCheckpoint
from colo_fsm.qemu.incoming import IncomingVm
from colo_fsm.qemu.watch.capture import HEADER, Capture, CaptureError, Piece, Recorder
from colo_fsm.qemu.watch.channel import (
    Described,
    DeviceState,
    Event,
    Forward,
    Initial,
    Live,
    Return,
    Said,
    Undecodable,
)
from colo_fsm.qemu.watch.rounds import Kind, Round, Verdict, Watch
from colo_fsm.qemu.watch.tap import review
from colo_fsm.replica import MemoryStore
from colo_fsm.replica.link import READ_SIZE
from colo_fsm.stream import StreamError, pong, shut

M = COLOMessage
HEADLESS = initial()[: -len(described())]
"""The initial stream without its description."""


def watched(pieces: Iterable[tuple[Side, bytes]], **options: object) -> tuple[Verdict, list[Round]]:
    """The verdict on a link, a piece each millisecond, and its rounds."""
    rounds: list[Round] = []
    watch = Watch(rounds.append, **options)  # type: ignore[arg-type]
    for at, (side, data) in enumerate(pieces):
        watch.saw(10 + at / 1000, side, data)
    return watch.verdict(), rounds


class TestRounds:
    def test_who_sent_what_when_and_how_much(self) -> None:
        verdict, (first, *rounds) = watched(link(2))
        assert verdict == Verdict(
            Kind.OK,
            "2 rounds; the primary's link ended with the primary in 'loaded', the secondary in 'loaded'",
            P2S,
        )
        assert (first.number, first.began, first.complete) == (0, 10, True)
        assert first.times == {M.CHECKPOINT_READY: pytest.approx(0.001)}
        assert (first.pages, first.zero_pages) == (4, 0)
        assert (first.live_bytes, first.vmstate_bytes) == (len(HEADLESS) - len(devices(0)), len(devices(0)))
        assert [r.number for r in rounds] == [1, 2]
        for r in rounds:
            assert r.complete
            assert (r.pages, r.zero_pages) == (4, 0)
            assert (r.live_bytes, r.vmstate_bytes) == (len(live(1)), len(state(1)) - 8)
            assert {m: round(t * 1000) for m, t in r.times.items()} == {
                M.CHECKPOINT_REQUEST: 0, M.CHECKPOINT_REPLY: 1, M.VMSTATE_SEND: 2,
                M.VMSTATE_SIZE: 2, M.VMSTATE_RECEIVED: 3, M.VMSTATE_LOADED: 4,
            }  # fmt: skip
            assert r.seconds == pytest.approx(0.004)

    def test_for_people_and_for_machines(self) -> None:
        _, (first, one, cut) = watched(itertools.islice(link(2), 9))
        assert str(first) == (
            f"initial state: 4 pages (0 zero), {first.live_bytes} + {first.vmstate_bytes} bytes; "
            "ms: secondary checkpoint-ready 1.00"
        )
        assert str(one).startswith("round 1: 4 pages (0 zero), ")
        assert "; ms: primary checkpoint-request 0.00, secondary checkpoint-reply 1.00, " in str(one)
        assert str(cut).startswith("round 2: 0 pages (0 zero), 0 + 0 bytes; ms: primary checkpoint-request")
        assert str(cut).endswith("; not complete")
        assert cut.as_json() == {
            "round": 2, "pages": 0, "zero_pages": 0, "live_bytes": 0, "vmstate_bytes": 0, "complete": False,
            "seconds": pytest.approx(0.001), "times": {
                "checkpoint-request": 0, "checkpoint-reply": pytest.approx(0.001)},
        }  # fmt: skip

    def test_a_round_is_told_when_it_is_over(self) -> None:
        told: list[int] = []
        watch = Watch(lambda done: told.append(done.number))
        known = []
        for side, data in itertools.islice(link(2), 12):
            watch.saw(0.0, side, data)
            known.append(len(told))
        assert known == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]

    def test_nothing_has_passed(self) -> None:
        verdict, rounds = watched([])
        assert (verdict.kind, rounds) == (Kind.BROKE, [])
        assert str(verdict) == (
            "broke: after 0 rounds the link ended with the primary in 'init', the secondary in 'init'"
        )

    def test_zero_pages_are_counted(self) -> None:
        body = record(0, 0x02, "pc.ram") + b"\0" + record(4096, 0x28) + page(1)
        _, (_, one) = watched([(P2S, initial()), (S2P, READY), (P2S, REQUEST + SEND + ram(3, body) + b"\0")])
        assert (one.pages, one.zero_pages) == (2, 1)

    def test_the_checkpoints_go_to_the_store(self) -> None:
        for whole in range(4):
            with MemoryStore() as store:
                cut = [*itertools.islice(link(3), 2 + 5 * whole), (P2S, REQUEST + SEND + live(9) + SIZE)]
                watched(cut, store=store)
                assert number_in(store) == whole
                assert store.newest is not None
                vm = VmCheckpoint.of(store.newest)
                assert (vm.generation, vm.machine) == (0, "pc-i440fx-7.2")
                assert vm.description == DESCRIPTION

    def test_a_description_that_comes_late_comes_with_the_first_round(self) -> None:
        for rounds, kept in ((0, None), (1, DESCRIPTION), (2, DESCRIPTION)):
            _, *pieces = itertools.islice(link(rounds), 2 + 5 * rounds)
            with MemoryStore() as store:
                watched([(P2S, HEADLESS), (P2S, described()), *pieces], store=store)
                assert store.newest is not None
                assert VmCheckpoint.of(store.newest).description == kept

    def test_pages_that_come_as_changes_are_changes_of_the_last_checkpoint(self) -> None:
        """xbzrle: 3 bytes unchanged, then 2 new ones."""
        patch = record(4096, 0x40, "pc.ram") + b"\x01" + struct.pack(">H", 4) + b"\x03\x02ab"
        with MemoryStore() as store:
            made = SEND + ram(3, patch) + b"\0" + SIZE + state(2)
            pieces = [*itertools.islice(link(1), 7), (P2S, REQUEST), (S2P, REPLY), (P2S, made)]
            watched(pieces, store=store)
            assert store.newest is not None
            assert store.newest.number == 2
            assert bytes(store.newest.blocks["pc.ram"][4096:8192]) == page(1)[:3] + b"ab" + page(1)[5:]
        verdict, (_, _, two) = watched(pieces)
        assert (verdict.kind, two.pages) == (Kind.BROKE, 1)

    def test_a_vmstate_without_a_live_state_is_no_round(self) -> None:
        with MemoryStore() as store:
            verdict, _ = watched([(P2S, initial()), (S2P, READY), (P2S, SIZE + state(1))], store=store)
            assert (verdict.kind, number_in(store)) == (Kind.DEVIATION, 0)


class TestVerdict:
    def test_between_two_rounds_it_is_in_order_and_inside_one_it_broke(self) -> None:
        pieces = list(link(2))[:-2]
        kinds = [watched(pieces[:n])[0].kind for n in range(1, len(pieces) + 1)]
        assert kinds == [
            Kind.BROKE, Kind.OK,
            *(Kind.BROKE, Kind.BROKE, Kind.BROKE, Kind.BROKE, Kind.OK) * 2,
        ]  # fmt: skip

    def test_who_stops_the_link_did_not_break_it(self) -> None:
        for cut in (1, 2, 4, 12):
            watch = Watch(lambda _: None)
            for side, data in itertools.islice(link(2), cut):
                watch.saw(0.0, side, data)
            found = watch.verdict(stopped=True)
            assert found.kind is (Kind.OK if cut > 1 else Kind.BROKE)
            assert ("the link was stopped with" in found.text) == (cut > 1)

    @pytest.mark.parametrize("cut", range(1, 12))
    def test_whose_link_ended_first_is_said(self, cut: int) -> None:
        for first in Side:
            pieces = [*itertools.islice(link(2), cut), (first, b""), (first.peer, b"")]
            verdict, _ = watched(pieces)
            assert verdict.ended is first
            assert f"the {first}'s link ended with the primary in" in verdict.text

    def test_what_a_primary_does_without_its_secondary_is_no_deviation(self) -> None:
        """QEMU 7.2 drops the round in which its peer ends, and begins the next one."""
        gone = [*itertools.islice(link(2), 11), (S2P, b"")]
        verdict, rounds = watched([*gone, (P2S, REQUEST), (P2S, REQUEST + SEND), (P2S, b"")])
        assert (verdict.kind, verdict.ended) == (Kind.BROKE, S2P)
        assert verdict.text.startswith(
            "after 2 rounds the secondary's link ended with the primary in 'received', the secondary in "
            "'received'; after that, byte "
        )
        assert "the primary sent checkpoint-request in 'received'" in verdict.text
        assert [r.number for r in rounds] == [0, 1, 2]

    def test_what_it_had_sent_before_counts(self) -> None:
        ended = [*itertools.islice(link(2), 10), (P2S, b""), (S2P, RECEIVED), (S2P, LOADED), (S2P, b"")]
        verdict, (*_, two) = watched(ended)
        assert (verdict.kind, two.complete) == (Kind.OK, True)

    def test_a_deviation_before_the_end_is_one(self) -> None:
        pieces = [*itertools.islice(link(2), 11), (P2S, REQUEST), (S2P, b""), (P2S, b"")]
        assert watched(pieces)[0].kind is Kind.DEVIATION

    def test_one_round_is_not_many(self) -> None:
        assert "1 round;" in watched(itertools.islice(link(2), 7))[0].text

    def test_a_deviation_says_who_sent_what_where(self) -> None:
        pieces = list(link(2))
        pieces[10] = (S2P, LOADED)
        verdict, rounds = watched(pieces)
        assert verdict.kind is Kind.DEVIATION
        assert verdict.text == (
            "byte 20 of s2p, round 2: the secondary sent vmstate-loaded in 'sized', "
            "where it sends vmstate-received"
        )
        assert [r.complete for r in rounds] == [True, True, False]

    def test_a_message_that_is_none(self) -> None:
        verdict, _ = watched([(P2S, initial()), (S2P, u32(77))])
        assert str(verdict).startswith(
            "deviation: byte 0 of s2p, round 0: the secondary sent the invalid message 77 in 'init'"
        )

    def test_what_cannot_be_read_is_the_end_of_looking(self) -> None:
        watch = Watch(lambda _: None)
        watch.saw(0.0, P2S, b"GET / HTTP/1.1\r\n\r\n")
        assert watch.problem is not None
        watch.saw(0.1, S2P, u32(77))
        watch.give_up("another")
        verdict = watch.verdict()
        assert verdict.kind is Kind.NOT_DECODED
        assert verdict.text.endswith("(byte 0 of p2s)")

    def test_what_on_round_raises_the_verdict_raises_and_all_is_looked_at(self) -> None:
        for bad in range(3):
            told: list[int] = []

            def fail(done: Round, bad: int = bad, told: list[int] = told) -> None:
                told.append(done.number)
                if done.number == bad:
                    raise LookupError(f"in round {bad}")

            watch = Watch(fail)
            for side, data in itertools.islice(link(2), 11):
                watch.saw(0.0, side, data)
            with pytest.raises(LookupError, match=f"in round {bad}"):
                watch.verdict()
            assert (told, watch.rounds) == (list(range(bad + 1)), 2)


def collect(found: list[Event], channel: Forward | Return, data: bytes, step: int) -> list[Event]:
    for at in range(0, len(data), step):
        found.extend(channel.events(data[at : at + step]))
    return found


def events_of(channel: Forward | Return, data: bytes, step: int) -> list[Event]:
    return collect([], channel, data, step)


def wholes(channel: Forward | Return, data: bytes, ends: list[int], step: int) -> None:
    """After each piece, what is whole goes to the last of these places that has come."""
    for at in range(0, len(data), step):
        for _ in channel.events(data[at : at + step]):
            pass
        assert channel.whole == max(end for end in ends if end <= channel.bytes)
    assert channel.bytes == channel.whole == len(data)


LARGEST = 1 << 30
CUT = struct.pack(">Q", len(devices(2))) + devices(2)
"""A vmstate without its end mark."""


class TestChannels:
    DATA = initial() + a_round(1) + a_round(2)

    @pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
    def test_any_pieces_give_the_same_events(self, step: int) -> None:
        found = events_of(Forward(), self.DATA, step)
        start = len(initial())
        kinds = [type(e).__name__ for e in found]
        assert kinds == [
            "Initial",
            "Described",
            *("Said", "Said", "Live", "Said", "DeviceState") * 2,
        ]
        assert found[0] == Initial(0, len(HEADLESS), 4, 0, devices(0))
        assert (found[1].start, found[1].end) == (len(HEADLESS), start)
        assert found[2] == Said(start, start + 4, M.CHECKPOINT_REQUEST)
        assert found[4] == Live(start + 8, start + 8 + len(live(1)), 4, 0)
        assert found[5] == Said(start + 8 + len(live(1)), start + 12 + len(live(1)), M.VMSTATE_SIZE)
        assert found[6] == DeviceState(start + 20 + len(live(1)), start + len(a_round(1)))
        assert found[6].size == len(state(1)) - 8
        assert found[-1].end == len(self.DATA)

    @pytest.mark.parametrize("step", [1, 1 << 20])
    def test_a_source_without_a_description(self, step: int) -> None:
        found = events_of(Forward(), HEADLESS, step)
        assert [type(e).__name__ for e in found] == ["Initial"]
        found = events_of(Forward(), HEADLESS + REQUEST, step)
        assert found[1:] == [
            type(found[1])(len(HEADLESS), len(HEADLESS)),
            Said(len(HEADLESS), len(HEADLESS) + 4, M.CHECKPOINT_REQUEST),
        ]

    def test_the_initial_state_is_told_at_its_end_mark(self) -> None:
        """A source without a description waits for the answer; one that has begun it goes on by itself."""
        assert [type(e) for e in Forward().events(HEADLESS)] == [Initial]
        forward = Forward()
        assert list(forward.events(self.DATA[: len(HEADLESS) + 3])) == []
        assert [type(e) for e in forward.events(self.DATA[len(HEADLESS) + 3 : len(initial())])] == [
            Initial, Described,
        ]  # fmt: skip

    def test_what_belongs_to_the_return_path_is_no_message(self) -> None:
        data = pong(3) + shut() + READY + pong(7) + REPLY + pong(1) + pong(1 << 31) + RECEIVED
        for step in (1, 5, 100):
            assert events_of(Return(), data, step) == [Said(16, 20, 0), Said(28, 32, 2), Said(48, 52, 5)]

    @pytest.mark.parametrize("step", [1, 5, 1 << 20])
    def test_how_much_has_come_whole(self, step: int) -> None:
        """A message that announces a state is whole when the state is."""
        ends = [0, *([len(HEADLESS)] if step == 1 else []), len(initial())]
        ends += [ends[-1] + 4, ends[-1] + 8 + len(live(1)), ends[-1] + len(a_round(1))]
        wholes(Forward(), initial() + a_round(1), ends, step)
        wholes(Return(), pong(3) + shut() + READY + REPLY, [0, 8, 16, 20, 24], step)

    def test_commands_between_sections_are_no_messages(self) -> None:
        live_with_ping = command(2, u32(5)) + live(1)
        found = Forward().events(initial() + REQUEST + SEND + live_with_ping + SIZE)
        assert [e.value for e in found if isinstance(e, Said)] == [1, 3, 4]

    @pytest.mark.parametrize(
        ("data", "problem", "at"),
        [
            (b"QEVN", "magic", 0),
            (HEADLESS + b"\x06" + u32(2) + b"x}", "not JSON", len(HEADLESS) + 5),
            (initial() + REQUEST + SEND + b"\x0a", "section type 0x0a", len(initial()) + 8),
            (initial() + SIZE + struct.pack(">Q", LARGEST + 1), "vmstate of 1073741825", len(initial()) + 4),
            (initial() + SIZE + struct.pack(">Q", 2) + b"\0\0", "does not begin", len(initial()) + 12),
            (initial() + SIZE + CUT, "does not end", len(initial()) + 12 + len(devices(2)) - 1),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("step", [1, 1 << 20])
    def test_what_is_malformed_has_its_place(self, data: bytes, problem: str, at: int, step: int) -> None:
        with pytest.raises(Undecodable, match=problem) as caught:
            events_of(Forward(), data, step)
        assert (caught.value.side, caught.value.offset) == (P2S, at)
        assert str(caught.value).endswith(f"(byte {at} of p2s)")

    def test_what_was_whole_before_it_counts(self) -> None:
        """In however large pieces it comes."""
        for step in (1, 1 << 20):
            found: list[Event] = []
            forward = Forward()
            with pytest.raises(Undecodable):
                collect(found, forward, self.DATA + SEND + b"\x0a", step)
            assert len(found) == 2 + 5 * 2 + 1

    def test_neither_a_description_nor_a_message(self) -> None:
        with pytest.raises(Undecodable, match="byte 0x07 where the description or a COLO message") as caught:
            events_of(Forward(), HEADLESS + b"\x07", 1)
        assert caught.value.offset == len(HEADLESS)

    def test_the_largest_vmstate(self) -> None:
        assert list(Forward().events(initial() + SIZE + struct.pack(">Q", LARGEST)))


def test_the_most_memory_that_is_taken() -> None:
    for size, refused in ((1 << 20, False), ((1 << 20) + 4096, True)):
        vm = IncomingVm(None, limit=1 << 20)
        declared = head() + start(blocks={"pc.ram": size})
        with pytest.raises(StreamError, match="over the limit") if refused else contextlib.nullcontext():
            vm.initial.feed(declared)


class TestCapture:
    def test_a_piece_is_what_was_written(self, tmp_path: Path) -> None:
        with Recorder(tmp_path / "new" / "capture") as recorder:
            for piece in (Piece(5.0, P2S, b"data"), Piece(5.25, S2P, b"back"), Piece(6.5, P2S, b"")):
                recorder.write(piece.time, piece.side, piece.data)
        capture = Capture(tmp_path / "new" / "capture")
        assert list(capture) == [Piece(0.0, P2S, b"data"), Piece(0.25, S2P, b"back"), Piece(1.5, P2S, b"")]
        assert capture.path.stat().st_mode & 0o777 == 0o700
        (tmp_path / "empty").mkdir()
        Recorder(tmp_path / "empty").close()
        with pytest.raises(CaptureError, match="is not empty: name another directory"):
            Recorder(capture.path)

    def test_review_is_what_the_watch_said(self, tmp_path: Path) -> None:
        rounds: list[Round] = []
        assert review(recorded(tmp_path / "c", 3), rounds.append) == watched(link(3))[0]
        assert [(r.number, r.complete) for r in rounds] == [(n, True) for n in range(4)]
        assert rounds[2].began == pytest.approx(0.007)

    def test_the_layout(self, tmp_path: Path) -> None:
        capture = recorded(tmp_path / "c", 2)
        layout = capture.layout()
        assert (layout.initial, layout.devices) == (Event(0, len(initial())), devices(0))
        assert b"".join(capture.read(layout.initial)) == initial()
        for number, (live_part, vmstate) in enumerate(layout.rounds, 1):
            assert b"".join(capture.read(live_part)) == live(number)
            assert b"".join(capture.read(vmstate)) == state(number)[8:]
        assert len(layout.rounds) == 2

    def test_what_is_large_is_not_shown(self, tmp_path: Path) -> None:
        capture = recorded(tmp_path / "c", 1)
        with MemoryStore() as store:
            watched(link(1), store=store)
            assert store.newest is not None
            vm = VmCheckpoint.of(store.newest)
            for shown in (capture.layout(), next(Forward().events(initial())), vm):
                assert len(repr(shown)) < 400

    def test_the_layout_of_one_that_was_cut_or_goes_wrong(self, tmp_path: Path) -> None:
        """What is whole counts, and nothing behind what cannot be decoded."""
        path = tmp_path / "c"
        recorded(path, 2)
        whole = (path / "p2s").read_bytes()
        for size, rounds in ((-1, 1), (len(initial()) + len(a_round(1)), 1), (len(HEADLESS), 0)):
            (path / "p2s").write_bytes(whole[:size])
            assert len(Capture(path).layout().rounds) == rounds
        assert Capture(path).layout().initial.end == len(HEADLESS)
        (path / "p2s").write_bytes(whole[: len(initial()) + len(a_round(1))] + SEND + b"\x0a" + a_round(2))
        assert len(Capture(path).layout().rounds) == 1
        (path / "p2s").write_bytes(whole[: len(HEADLESS) - 1])
        with pytest.raises(CaptureError, match="holds no whole initial state: it ends there"):
            Capture(path).layout()
        (path / "p2s").write_bytes(b"nonsense")
        with pytest.raises(CaptureError, match=r"holds no whole initial state: .*magic.*byte 0 of p2s"):
            Capture(path).layout()

    def test_a_damaged_size_is_told_before_anything_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        recorded(path, 1)
        with (path / "index").open("r+b") as index:
            index.seek(len(HEADER) + 12)
            index.write(u32(0xFFFFFFFF))
        tracemalloc.start()
        with pytest.raises(CaptureError, match="is damaged: p2s is too short"):
            list(Capture(path))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()

    def test_a_large_piece_comes_in_parts(self, tmp_path: Path) -> None:
        data = bytes(range(256)) * (4 * READ_SIZE // 256)
        with Recorder(tmp_path / "c") as recorder:
            recorder.write(0.0, P2S, data)
        parts = list(Capture(tmp_path / "c"))
        assert b"".join(part.data for part in parts) == data
        assert max(len(part.data) for part in parts) == READ_SIZE

    def test_damage_is_told(self, tmp_path: Path) -> None:
        path = tmp_path / "c"
        recorded(path, 1)
        index = (path / "index").read_bytes()
        os.truncate(path / "s2p", 5)
        with pytest.raises(CaptureError, match="is damaged: s2p is too short"):
            list(Capture(path))
        (path / "index").write_bytes(index[:19] + struct.pack(">QII", 9, 2, 0))
        with pytest.raises(CaptureError, match="index is damaged: channel 2 at 9 ns"):
            list(Capture(path))
        (path / "index").write_bytes(b"colo-fsm capture 2\n")
        with pytest.raises(CaptureError, match="is no capture"):
            Capture(path)

    def test_no_descriptor_is_left_open(self, tmp_path: Path) -> None:
        def open_files() -> int:
            return len(os.listdir("/proc/self/fd"))

        gc.collect()
        before = open_files()
        with warnings.catch_warnings(), Recorder(tmp_path / "c") as recorder:
            warnings.simplefilter("error")
            assert open_files() == before + 3
            for at, (side, data) in enumerate(link(1)):
                recorder.write(float(at), side, data)
        assert open_files() == before
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "index").mkdir()
        capture = Capture(tmp_path / "c")
        list(capture)
        capture.layout()
        gc.collect()
        assert open_files() == before
        with pytest.raises(CaptureError):
            Recorder(tmp_path / "d")
        assert open_files() == before
