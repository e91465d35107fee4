"""A tap between two real QEMUs passes every byte on, understands it, and records it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from qemu import Qemu, QemuError, needs_kvm
from qemu_recording import MEMORY, Recording, record
from qemu_relay import Relay

from colo_fsm.cli.app import cli
from colo_fsm.colo import COLOMessage
from colo_fsm.fsm import Side
from colo_fsm.qemu import tap as tap_module
from colo_fsm.qemu.capture import Capture, CaptureError, Recorder
from colo_fsm.qemu.channel import Forward, Return, Undecodable
from colo_fsm.qemu.tap import Tap, review
from colo_fsm.qemu.watch import Kind, Round, Watch
from colo_fsm.stream import pong

ROUNDS = 20
P2S, S2P = Side.PRIMARY, Side.SECONDARY


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("pair"), ROUNDS)


def sent(capture: Capture, side: Side) -> bytes:
    return b"".join(piece.data for piece in capture if piece.side is side)


# -- with real QEMUs


@needs_kvm
def test_rounds_of_a_real_pair_are_told(recording: Recording) -> None:
    """The decoded memory is the survivor's: `record` has compared them."""
    assert recording.verdict.kind is Kind.OK
    assert str(ROUNDS) in recording.verdict.text
    initial, *rounds = recording.rounds
    assert [r.number for r in recording.rounds] == list(range(ROUNDS + 1))
    assert initial.pages >= MEMORY * 256
    assert list(initial.times) == [COLOMessage.CHECKPOINT_READY]
    for r in rounds:
        assert r.complete
        assert list(r.times) == list(COLOMessage)[1:]
        assert list(r.times.values()) == sorted(r.times.values())
        assert r.times[COLOMessage.CHECKPOINT_REQUEST] == 0
        assert 0 < r.seconds < 20
        assert r.vmstate_bytes > 5000
        assert r.live_bytes > (r.pages - r.zero_pages) * 4096
    assert all(r.pages >= 100 for r in rounds if r.number % 3 == 2)


@needs_kvm
def test_a_pair_does_not_crawl(tmp_path: Path) -> None:
    """Two delayed ACKs of 43 ms a round are what a pair over TCP waits for without a tap."""
    rounds: list[Round] = []
    with (
        Qemu(tmp_path, "secondary", incoming="tcp:127.0.0.1:0", memory=16) as secondary,
        Tap("tcp:127.0.0.1:0", secondary.uri, rounds.append) as tap,
        Qemu(tmp_path, "primary", memory=16) as primary,
    ):
        secondary.enable_colo()
        primary.replicate(str(tap.address), 1)
        primary.until(lambda: primary.resumes > 30 or None, "30 rounds")
        primary.kill()
        tap.wait(20)
    began = [r.began for r in rounds[1:]]
    assert statistics.median(b - a for a, b in itertools.pairwise(began)) < 0.04


@needs_kvm
def test_bytes_are_unchanged(tmp_path: Path) -> None:
    """Told by two relays, one on either side of the tap."""
    with (
        Qemu(tmp_path, "secondary", incoming="tcp:127.0.0.1:0", memory=16) as secondary,
        Relay(secondary.uri) as behind,
        Tap("tcp:127.0.0.1:0", behind.uri) as tap,
        Relay(str(tap.address)) as before,
        Qemu(tmp_path, "primary", memory=16) as primary,
    ):
        secondary.enable_colo()
        primary.replicate(before.uri)
        for _ in range(3):
            primary.checkpoint()
        primary.kill()
        tap.wait(20)
        assert before.recorded("p2s") == behind.recorded("p2s")
        assert (
            before.recorded("s2p")
            == behind.recorded("s2p")
            == b"".join(m.to_bytes(4, "big") for m in (0, *(2, 5, 6) * 3))
        )


@needs_kvm
def test_recording_says_the_same(recording: Recording) -> None:
    again: list[Round] = []
    verdict = review(recording.capture, again.append)
    assert verdict == recording.verdict
    assert [(r.number, r.pages, r.live_bytes, r.complete) for r in again] == [
        (r.number, r.pages, r.live_bytes, r.complete) for r in recording.rounds
    ]
    layout = recording.capture.layout()
    assert len(layout.rounds) == ROUNDS
    assert [r.vmstate.size for r in layout.rounds] == [r.vmstate_bytes for r in recording.rounds[1:]]


@needs_kvm
def test_any_chunking_gives_the_same_rounds(recording: Recording) -> None:
    """The order of the channels is kept: an answer comes behind what it answers."""
    rng = random.Random(3)
    again: list[Round] = []
    watch = Watch(again.append)
    for piece in recording.capture:
        left = piece.data
        while left:
            size = rng.choice((1, 3, 8, 100, 5000, 1 << 18))
            watch.saw(piece.time, piece.side, left[:size])
            left = left[size:]
    assert watch.verdict() == recording.verdict
    assert [r.as_json() for r in again] == [r.as_json() for r in recorded_rounds(recording)]


def recorded_rounds(recording: Recording) -> list[Round]:
    rounds: list[Round] = []
    review(recording.capture, rounds.append)
    return rounds


@needs_kvm
def test_a_link_that_ends_inside_a_round_is_broken(recording: Recording) -> None:
    """Cut behind every piece of the last rounds: between two of them it is in order."""
    pieces = [p for p in recording.capture if p.data]
    ends = []
    for cut in range(len(pieces) - 20, len(pieces) + 1):
        watch = Watch(lambda _: None)
        for piece in pieces[:cut]:
            watch.saw(piece.time, piece.side, piece.data)
        ends.append(watch.verdict())
        assert watch.verdict(stopped=True).kind is Kind.OK
    assert {v.kind for v in ends} == {Kind.OK, Kind.BROKE}
    assert ends[-1].kind is Kind.OK
    assert any("the primary in 'sized'" in v.text for v in ends if v.kind is Kind.BROKE)


@needs_kvm
def test_a_doctored_recording_deviates(recording: Recording) -> None:
    watch = Watch(lambda _: None)
    answers = 0
    for piece in recording.capture:
        data = piece.data
        if piece.side is S2P and data:
            answers += 1
            if answers == 6:
                data = (6).to_bytes(4, "big") + data[4:]
        watch.saw(piece.time, piece.side, data)
    verdict = watch.verdict()
    assert verdict.kind is Kind.DEVIATION
    assert "of s2p, round 2: the secondary sent vmstate-loaded in 'sized'" in verdict.text


@needs_kvm
def test_what_is_malformed_has_its_place(recording: Recording) -> None:
    """A page outside its block, in a round's live state; the bytes before it are understood."""
    layout = recording.capture.layout()
    live = layout.rounds[4].live
    p2s = bytearray(sent(recording.capture, P2S))
    p2s[live.start + 5] = 0x7F
    rounds: list[Round] = []
    watch = Watch(rounds.append)
    watch.saw(0.0, P2S, p2s[: layout.initial.end])
    watch.saw(0.0, S2P, bytes(4))
    forward = Forward()
    with pytest.raises(Undecodable) as caught:
        forward.feed(p2s)
    assert live.start < caught.value.offset < live.end
    assert f"(byte {caught.value.offset} of p2s)" in str(caught.value)


@needs_kvm
@pytest.mark.parametrize("capability", ["multifd", "return-path"])
def test_capability_that_is_not_read_is_named_and_passes(capability: str, tmp_path: Path) -> None:
    """A plain migration, which QEMU itself finishes through the tap: bytes go on, connections too."""
    with (
        Qemu(tmp_path, "destination", incoming="defer", memory=16) as destination,
        Qemu(tmp_path, "source", memory=16) as source,
    ):
        for side in (source, destination):
            wanted = [{"capability": capability, "state": True}]
            try:
                side.qmp("migrate-set-capabilities", capabilities=wanted)
            except QemuError as error:
                pytest.skip(f"this QEMU has no {capability}: {error}")
        source.write(0x400000, b"through")
        destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        with Tap("tcp:127.0.0.1:0", destination.uri) as tap:
            source.migrate(str(tap.address))
            destination.wait_loaded()
            assert destination.read(0x400000, 7) == b"through"
            source.kill()
            verdict = tap.wait(20)
        assert verdict.kind is Kind.NOT_DECODED
        assert f"switch {capability}" in verdict.text


# -- the command, and what needs no QEMU


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-m", "colo_fsm", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip
    return process


@needs_kvm
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_command_line(ending: signal.Signals, tmp_path: Path) -> None:
    """^C ends the link and gives a verdict; a recording survives SIGKILL."""
    path = tmp_path / "capture"
    with Qemu(tmp_path, "secondary", incoming="tcp:127.0.0.1:0", memory=16) as secondary:
        secondary.enable_colo()
        arguments = ("--listen", "tcp:127.0.0.1:0", "--connect", secondary.uri, "--record", str(path))
        with command("tap", *arguments, "--json") as process, Qemu(tmp_path, "primary", memory=16) as primary:
            try:
                assert process.stdout is not None
                primary.replicate(json.loads(process.stdout.readline())["listening"])
                for _ in range(3):
                    primary.checkpoint()
                objects = [json.loads(process.stdout.readline()) for _ in range(4)]
                process.send_signal(ending)
                rest = process.stdout.read()
                process.wait(20)
            finally:
                process.kill()
        assert [r["round"] for r in objects] == [0, 1, 2, 3]
        assert objects[2].keys() == {
            "round", "pages", "zero_pages", "live_bytes", "vmstate_bytes", "complete", "seconds", "times",
        }  # fmt: skip
        if ending is signal.SIGINT:
            assert process.returncode == 0
            assert json.loads(rest)["verdict"] == "ok"
    result = CliRunner().invoke(cli, ["tap", "--from", str(path)])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 5
    assert result.output.splitlines()[-1].startswith("ok: 3 rounds")


class Ends:
    """A tap with our own sockets at both of its ends."""

    def __init__(self, folder: Path, recorder: Recorder | None = None) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        target = f"tcp:127.0.0.1:{self.server.getsockname()[1]}"
        self.tap = Tap(f"unix:{folder / 'tap'}", target, recorder=recorder)

    def __enter__(self) -> Ends:
        self.tap.__enter__()
        self.primary = socket.socket(socket.AF_UNIX)
        self.primary.connect(self.tap.address.path)
        self.secondary = self.server.accept()[0]
        for end in (self.primary, self.secondary):
            end.settimeout(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.tap.__exit__(None, None, None)
        for end in (self.primary, self.secondary, self.server):
            end.close()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    with Recorder(tmp_path / "capture") as recorder, Ends(tmp_path, recorder) as ends:
        yield ends


def received(link: socket.socket) -> bytes:
    found = b""
    while data := link.recv(1 << 18):
        found += data
    return found


def test_garbage_passes_unchanged_and_has_a_verdict(ends: Ends, tmp_path: Path) -> None:
    rng = random.Random(1)
    there, back = rng.randbytes(3 << 20), rng.randbytes(1 << 20)
    links = ((ends.primary, there), (ends.secondary, back))

    def send(link: socket.socket, data: bytes) -> None:
        link.sendall(data)
        link.shutdown(socket.SHUT_WR)

    sending = [threading.Thread(target=send, args=each) for each in links]
    found: list[bytes] = []
    receiving = threading.Thread(target=lambda: found.append(received(ends.primary)))
    for thread in (*sending, receiving):
        thread.start()
    assert received(ends.secondary) == there
    for thread in (*sending, receiving):
        thread.join()
    assert found == [back]
    # whichever channel was looked at first
    assert ends.tap.wait(20).kind in (Kind.NOT_DECODED, Kind.DEVIATION)
    capture = Capture(tmp_path / "capture")
    assert (sent(capture, P2S), sent(capture, S2P)) == (there, back)


def test_slow_decoding_holds_nothing_and_is_given_up(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "MOST_BEHIND", 1000)
    looked, go_on = threading.Event(), threading.Event()

    def slow(at: float, side: Side, data: bytes) -> None:
        looked.set()
        assert go_on.wait(20)

    monkeypatch.setattr(ends.tap.watch, "saw", slow)
    for _ in range(3):
        ends.primary.sendall(bytes(2000))
        assert len(ends.secondary.recv(2000, socket.MSG_WAITALL)) == 2000
    assert looked.wait(20)
    go_on.set()
    ends.primary.close()
    ends.secondary.close()
    assert "behind the link" in ends.tap.wait(20).text


class FullDisk(Recorder):
    def write(self, at: float, side: Side, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_the_recording_only(tmp_path: Path) -> None:
    with FullDisk(tmp_path / "capture") as recorder, Ends(tmp_path, recorder) as ends:
        ends.primary.sendall(b"on")
        assert ends.secondary.recv(2) == b"on"
        ends.secondary.sendall(b"and back")
        assert ends.primary.recv(8) == b"and back"
        ends.primary.close()
        ends.secondary.close()
        ends.tap.wait(20)
        assert "No space left" in str(ends.tap.record_error)


def test_nobody_at_the_other_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "CONNECT_TIMEOUT", 0.0)
    with (
        Tap(f"unix:{tmp_path / 'tap'}", f"unix:{tmp_path / 'none'}") as tap,
        socket.socket(socket.AF_UNIX) as link,
    ):
        link.connect(tap.address.path)
        with pytest.raises(ConnectionRefusedError, match="nobody listens at unix:"):
            tap.wait(20)
        assert link.recv(1) == b""


def test_stopped_before_anybody_came(tmp_path: Path) -> None:
    with Tap("tcp:127.0.0.1:0", "tcp:127.0.0.1:1") as tap:
        tap.stop()
        assert tap.wait(20).kind is Kind.BROKE


def test_answers_to_pings_are_no_messages() -> None:
    channel = Return()
    data = bytes(4) + pong(7) + (2).to_bytes(4, "big")
    events = [event for at in range(len(data)) for event in channel.feed(data[at : at + 1])]
    assert [getattr(event, "value", None) for event in events] == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "--listen ADDR and --connect ADDR, or --from DIR"),
        (["--listen", "tcp:127.0.0.1:0"], 2, "--connect"),
        (["--listen", "nowhere", "--connect", "tcp:h:1"], 2, "'nowhere' is no address"),
        (["--from", "x", "--record", "y"], 2, "--from DIR takes no"),
        (["--from", "{here}"], 1, "is no capture"),
        (["--listen", "tcp:127.0.0.1:0", "--connect", "tcp:h:1", "--record", "{here}"], 1, "is not empty"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    here = [a.format(here=tmp_path) for a in arguments]
    result = CliRunner().invoke(cli, ["tap", *here])
    assert result.exit_code == status
    assert said in result.output.splitlines()[-1]


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    with Recorder(tmp_path / "capture") as recorder:
        recorder.write(5.0, P2S, b"data")
        recorder.write(5.5, S2P, b"")
    with pytest.raises(CaptureError, match="name another directory"):
        Recorder(tmp_path / "capture")
    pieces = list(Capture(tmp_path / "capture"))
    assert [(p.time, p.side, p.data) for p in pieces] == [(0.0, P2S, b"data"), (0.5, S2P, b"")]


def test_a_recording_cut_anywhere_is_a_shorter_one(tmp_path: Path) -> None:
    """As a killed tap leaves it: the data of a piece is there before its entry is."""
    path = tmp_path / "capture"
    with Recorder(path) as recorder:
        for at in range(3):
            recorder.write(float(at), P2S, b"x" * 10)
    whole = (path / "index").read_bytes()
    for size in range(len(whole), 18, -1):
        os.truncate(path / "index", size)
        assert len(list(Capture(path))) == (size - 19) // 16
    with pytest.raises(CaptureError, match="holds no whole initial state"):
        Capture(path).layout()
