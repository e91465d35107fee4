"""A tap between two real QEMUs passes every byte on, understands it, and records it."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import qemus
from click.testing import CliRunner
from qemu import Qemu, each_version, needs_kvm
from qemu_recording import MEMORY, Recording, record
from qemu_relay import Relay

from colo_fsm.cli.app import cli
from colo_fsm.colo import COLOMessage
from colo_fsm.fsm import Side
from colo_fsm.qemu.watch.capture import Capture
from colo_fsm.qemu.watch.channel import Forward, Undecodable
from colo_fsm.qemu.watch.rounds import Kind, Round, Watch
from colo_fsm.qemu.watch.tap import Tap, review
from colo_fsm.stream import pong, shut

ROUNDS = 20
P2S, S2P = Side.PRIMARY, Side.SECONDARY


pytestmark = needs_kvm


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, qemu_version: qemus.Version) -> Recording:
    return record(tmp_path_factory.mktemp("pair"), ROUNDS)


def sent(capture: Capture, side: Side) -> bytes:
    return b"".join(piece.data for piece in capture if piece.side is side)


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
    # a stall of 43 ms would be in every round; one without any is enough, however busy the machine is
    assert min(b - a for a, b in itertools.pairwise(began)) < 0.04


@pytest.mark.parametrize("killed", Side)
def test_the_side_that_is_killed_is_named_and_the_other_not_blamed(killed: Side, tmp_path: Path) -> None:
    with (
        Qemu(tmp_path, "secondary", incoming="tcp:127.0.0.1:0", memory=16) as secondary,
        Tap("tcp:127.0.0.1:0", secondary.uri) as tap,
        Qemu(tmp_path, "primary", memory=16) as primary,
    ):
        secondary.enable_colo()
        primary.replicate(str(tap.address), 1)
        primary.until(lambda: primary.resumes > 5 or None, "5 rounds")
        (primary if killed is P2S else secondary).kill()
        verdict = tap.wait(20)
    assert verdict.ended is killed
    assert verdict.kind in (Kind.OK, Kind.BROKE)


@each_version
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
        greeting = pong(1) + shut() if qemus.current().number >= (11,) else b""
        assert (
            before.recorded("s2p")
            == behind.recorded("s2p")
            == greeting + b"".join(m.to_bytes(4, "big") for m in (0, *(2, 5, 6) * 3))
        )


def test_recording_says_the_same(recording: Recording) -> None:
    again: list[Round] = []
    verdict = review(recording.capture, again.append)
    assert verdict == recording.verdict
    assert [(r.number, r.pages, r.live_bytes, r.complete) for r in again] == [
        (r.number, r.pages, r.live_bytes, r.complete) for r in recording.rounds
    ]
    layout = recording.capture.layout()
    assert len(layout.rounds) == ROUNDS
    assert [vmstate.size for _, vmstate in layout.rounds] == [r.vmstate_bytes for r in recording.rounds[1:]]


def test_any_chunking_gives_the_same_rounds(recording: Recording) -> None:
    """The order of the channels is kept: an answer comes behind what it answers."""
    rng = random.Random(3)
    again: list[Round] = []
    watch = Watch(again.append)
    for piece in recording.capture:
        left = piece.data
        if not left:
            watch.saw(piece.time, piece.side, left)
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


def test_a_doctored_recording_deviates(recording: Recording) -> None:
    watch = Watch(lambda _: None)
    answers = 0
    for piece in recording.capture:
        data = piece.data
        if piece.side is S2P and data and data[:2] == b"\0\0":  # no message of the return path
            answers += 1
            if answers == 6:
                data = (6).to_bytes(4, "big") + data[4:]
        watch.saw(piece.time, piece.side, data)
    verdict = watch.verdict()
    assert verdict.kind is Kind.DEVIATION
    assert "of s2p, round 2: the secondary sent vmstate-loaded in 'sized'" in verdict.text


def test_what_is_malformed_has_its_place(recording: Recording) -> None:
    """A page outside its block, in a round's live state; the bytes before it are understood."""
    layout = recording.capture.layout()
    live, _ = layout.rounds[4]
    p2s = bytearray(sent(recording.capture, P2S))
    p2s[live.start + 5] = 0x7F
    rounds: list[Round] = []
    watch = Watch(rounds.append)
    watch.saw(0.0, P2S, p2s[: layout.initial.end])
    watch.saw(0.0, S2P, bytes(4))
    forward = Forward()
    with pytest.raises(Undecodable) as caught:
        list(forward.events(p2s))
    assert live.start < caught.value.offset < live.end
    assert f"(byte {caught.value.offset} of p2s)" in str(caught.value)


def test_capability_that_is_not_read_is_named_and_passes(tmp_path: Path) -> None:
    """A plain migration, which QEMU itself finishes through the tap: bytes go on, connections too."""
    with (
        Qemu(tmp_path, "destination", incoming="defer", memory=16) as destination,
        Qemu(tmp_path, "source", memory=16) as source,
    ):
        for side in (source, destination):
            wanted = [{"capability": "multifd", "state": True}]
            side.qmp("migrate-set-capabilities", capabilities=wanted)
        source.write(0x400000, b"through")
        destination.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
        with Tap("tcp:127.0.0.1:0", destination.uri) as tap:
            source.migrate(str(tap.address))
            destination.wait_loaded()
            assert destination.read(0x400000, 7) == b"through"
            source.kill()
            verdict = tap.wait(20)
        assert verdict.kind is Kind.NOT_DECODED
        assert "switch multifd" in verdict.text


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-m", "colo_fsm", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip
    return process


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
