"""A side goes on, takes over and ends whoever reads what it says: stalled, full, gone and closed readers.

Its standard output and error are both no good, so what it does is looked at from outside.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sqlite3
import sys
import threading
from pathlib import Path

import pytest
from bad_readers import COMMAND, listens, loaded, output, side, spoken_to_nobody, write_guests
from standby_process import StreamPrimary, until

from colo_fsm.arbiter import SqliteArbiter
from colo_fsm.cli.telling import ROOM, Voice, telling
from colo_fsm.fsm import Side

PATIENCE = 60
SOON = 20
"""Seconds within which an ordered end must be over, however slow the machine: far under any wait of ours."""

each_kind = pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("stalled", ["-v"]),
        ("stalled", ["--json"]),
        ("full", ["-v"]),
        ("gone", ["--json"]),
        ("closed", ["-v"]),
    ],
    ids=["stalled-text", "stalled-json", "full", "gone", "closed"],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_guests(tmp_path)
    return tmp_path


@each_kind
def test_a_pair_that_nobody_reads_replicates_takes_over_and_ends_in_order(
    folder: Path, kind: str, options: list[str]
) -> None:
    with spoken_to_nobody(side("secondary", *options), folder, kind) as secondary:
        until(lambda: listens(folder / "link"), "listening Secondary")
        primary_command = side("primary", "--interval-ms", "1", *options)
        with spoken_to_nobody(primary_command, folder, kind) as primary:
            until(lambda: loaded(folder) > 50 or None, "50 checkpoints")
            assert (primary.poll(), secondary.poll()) == (None, None)
            assert not (folder / "alone").exists()
            primary.kill()
        until(lambda: (folder / "alone").exists() or None, "takeover")
        secondary.send_signal(signal.SIGTERM)
        assert secondary.wait(SOON) == 0


@pytest.mark.parametrize("kind", ["stalled", "full"])
def test_a_primary_that_nobody_reads_ends_in_order(folder: Path, kind: str) -> None:
    with spoken_to_nobody(side("secondary"), folder, kind) as secondary:
        until(lambda: listens(folder / "link"), "listening Secondary")
        with spoken_to_nobody(side("primary", "-v", "--interval-ms", "1"), folder, kind) as primary:
            until(lambda: loaded(folder) > 20 or None, "20 checkpoints")
            for process in (secondary, primary):
                process.send_signal(signal.SIGTERM)
                assert process.wait(SOON) == 0


def test_the_loser_that_nobody_reads_ends_with_status_1(folder: Path) -> None:
    with spoken_to_nobody(side("secondary"), folder, "stalled") as secondary:
        until(lambda: listens(folder / "link"), "listening Secondary")
        with spoken_to_nobody(side("primary"), folder, "stalled"):
            until(lambda: loaded(folder) > 2 or None, "2 checkpoints")
            claims = SqliteArbiter(folder / "claim.db")
            with contextlib.closing(sqlite3.connect(folder / "claim.db")) as db:
                (generation,) = db.execute("SELECT generation FROM colo_generations").fetchone()
            assert claims.claim(generation, Side.PRIMARY).winner is Side.PRIMARY
        assert secondary.wait(SOON) == 1
    assert not (folder / "alone").exists()


def test_a_guest_that_cannot_be_made_is_status_2_whoever_reads(folder: Path) -> None:
    for kind in ("stalled", "closed"):
        with spoken_to_nobody([*side("primary"), "--guest", "guests:none"], folder, kind) as process:
            assert process.wait(SOON) == 2


@each_kind
def test_a_standby_that_nobody_reads_keeps_the_vm_claims_and_runs_the_command(
    tmp_path: Path, kind: str, options: list[str]
) -> None:
    """COMMAND speaks, too: it must not be stopped by that either."""
    command = standby(*options, "--on-failover", "echo fencing && touch ran")
    with spoken_to_nobody(command, tmp_path, kind) as process:
        with primary_of(tmp_path) as primary:
            primary.begin().rounds(1, 100)
        assert process.wait(SOON) == 0
    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "at").exists()


def test_a_standby_that_nobody_reads_ends_in_order(tmp_path: Path) -> None:
    with (
        spoken_to_nobody(standby("--json"), tmp_path, "stalled") as process,
        primary_of(tmp_path) as primary,
    ):
        primary.begin().rounds(1, 100)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0


def test_a_tap_that_nobody_reads_passes_every_byte_on(tmp_path: Path) -> None:
    kind = "stalled"
    there = ("--listen", "unix:there", "--store", "vm", "--no-arbiter")
    with (
        spoken_to_nobody([*COMMAND, "standby", *there], tmp_path, kind) as holding,
        spoken_to_nobody(
            [*COMMAND, "tap", "--listen", "unix:at", "--connect", "unix:there", "--json"], tmp_path, kind
        ) as process,
    ):
        until(lambda: listens(tmp_path / "there"), "listening standby")
        with primary_of(tmp_path) as primary:
            primary.begin().rounds(1, 100)
        assert process.wait(SOON) == 0
        assert holding.wait(SOON) == 0
    assert not (tmp_path / "at").exists()


def standby(*options: str) -> list[str]:
    return [*COMMAND, "standby", "--listen", "unix:at", "--store", "vm", "--no-arbiter", *options]


def primary_of(folder: Path) -> StreamPrimary:
    """Connected to who listens at `at`."""

    def connected() -> socket.socket | None:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(PATIENCE)
        try:
            link.connect(str(folder / "at"))
        except (FileNotFoundError, ConnectionRefusedError):  # not bound yet, or bound and not listening yet
            link.close()
            return None
        return link

    return StreamPrimary(until(connected, "listening standby"))


# -- the queue itself -------------------------------------------------------------------------------------


class Pipe:
    """A pipe as a stream, read when the test wants it."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader = os.fdopen(reader, "rb")
        self.stream = os.fdopen(writer, "w")

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.stream.close()
        self.reader.close()


def test_what_was_not_read_in_time_is_counted_where_it_is_missing() -> None:
    said = 100_000
    with Pipe() as pipe:
        voice = Voice(pipe.stream)
        for number in range(said):
            voice.line(f"line {number}")
        assert not voice.heard(0)
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.extend(line.decode() for line in pipe.reader))
        reading.start()
        assert voice.heard(PATIENCE)
        voice.end()
        pipe.stream.close()
        reading.join()
    told = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    missing = [int(line.split()[0]) for line in lines if "not told in time" in line]
    assert told == sorted(told)
    assert told[-1] == said - 1, "the newest are kept"
    assert len(told) + sum(missing) == said
    assert sum(map(len, lines)) < 3 * ROOM


def test_what_is_said_by_the_way_goes_first() -> None:
    with Pipe() as pipe:
        voice = Voice(pipe.stream)
        for number in range(10_000):
            voice.line(f"round {number} " + "." * 100, by_the_way=True)
            if not number % 100:
                voice.line(f"change {number // 100}")
        lines: list[bytes] = []
        reading = threading.Thread(target=lambda: lines.extend(pipe.reader))
        reading.start()
        assert voice.heard(PATIENCE)
        pipe.stream.close()
        reading.join()
    assert [line for line in lines if line.startswith(b"change")] == [b"change %d\n" % n for n in range(100)]
    assert any(b"not told in time" in line for line in lines)


def test_a_reader_that_cannot_be_written_to_for_a_while_hears_the_rest(tmp_path: Path) -> None:
    """A disk that was full: what could not be written then is counted."""
    with output("full") as full, (tmp_path / "log").open("w") as file:
        kept = os.dup(file.fileno())
        os.dup2(full, file.fileno())
        voice = Voice(file)
        voice.line("lost")
        assert not voice.heard(PATIENCE)
        os.dup2(kept, file.fileno())
        os.close(kept)
        voice.line("found")
        assert voice.heard(PATIENCE)
        voice.end()
    assert (tmp_path / "log").read_text() == "1 line was not told in time\nfound\n"


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing() -> None:
    with Pipe() as pipe:
        os.set_blocking(pipe.stream.fileno(), False)
        voice = Voice(pipe.stream)
        text = "x" * (ROOM // 2)
        voice.line(text)
        assert not voice.heard(0)
        assert pipe.reader.readline() == text.encode() + b"\n"
        assert voice.heard(PATIENCE)
        voice.end()


def test_a_text_that_the_stream_cannot_encode_is_said_as_well_as_it_goes() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    voice = Voice(stream)
    voice.line("Ü \udcff")
    assert voice.heard(PATIENCE)
    voice.end()
    stream.seek(0)
    assert stream.read() == "\\xdc \\udcff\n"


def test_what_prints_logs_or_raises_inside_goes_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr

    def speak() -> None:
        with telling():
            print("a", "b")
            print("on standard error", file=sys.stderr)
            raise RuntimeError("a fault of ours")

    with pytest.raises(SystemExit) as ended:
        speak()
    assert ended.value.code == 1
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    assert said.out == "a b\n"
    assert said.err.startswith("on standard error\nTraceback")
    assert said.err.endswith("RuntimeError: a fault of ours\n")
