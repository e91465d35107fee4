"""The harness that drives real QEMU, proved against plain QEMU pairs: no code of ours is in the way."""

from __future__ import annotations

import contextlib
import os
import random
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from qemu import Qemu, QemuError, colo_pair, needs_kvm
from qemu_guest import count, counting_guest, runs_on
from qemu_lines import PATIENCE
from qemu_relay import Relay
from qemu_writer import PAGE, Writer

pytestmark = needs_kvm
READY = (0).to_bytes(4, "big")


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for Unix sockets, whose paths must stay under 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="colo") as folder:
        yield Path(folder)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def survivor_holds(writer: Writer, secondary: Qemu) -> list[int]:
    """The checkpoints whose memory the survivor has, of those it must have one of."""
    writer.stop()
    secondary.lost_heartbeat()
    held = writer.holds(secondary.read(writer.start, writer.size))
    return [number for number in held if number in writer.left()]


def test_a_checkpoint_on_demand_survives_the_primary_and_what_came_later_does_not(tmp_path: Path) -> None:
    with colo_pair(tmp_path) as (primary, secondary):
        primary.write(0x1000000, b"first")
        assert primary.checkpoint() == 1
        primary.write(0x1000000, b"later")
        primary.kill()
        secondary.lost_heartbeat()
        assert secondary.read(0x1000000, 5) == b"first"
        assert secondary.colo_status() == {"mode": "none", "last-mode": "secondary", "reason": "request"}


@pytest.mark.parametrize("pages", [0, 8, 1024])
def test_the_survivor_holds_the_last_checkpoint(tmp_path: Path, short: Path, pages: int) -> None:
    with colo_pair(tmp_path, uri=f"unix:{short}/link") as (primary, secondary):
        with Writer(primary, pages=pages) as writer:
            writer.wait_rounds(10)
            time.sleep(random.uniform(0, 0.02))
            primary.kill()
            assert survivor_holds(writer, secondary)
        assert not any(checkpoint.doubtful for checkpoint in writer.journal[:-1])
        same = writer.holds(secondary.read(writer.start, writer.size))
        assert len(same) == (1 if pages else len(writer.journal))


def test_the_journal_is_right_for_a_pair_that_checkpoints_by_itself(tmp_path: Path, short: Path) -> None:
    pair = colo_pair(tmp_path, checkpoint_delay_ms=1, uri=f"unix:{short}/link")
    with pair as (primary, secondary), Writer(primary) as writer:
        writer.wait_rounds(50)
        time.sleep(random.uniform(0, 0.02))
        primary.kill()
        assert survivor_holds(writer, secondary)


def test_the_oracle_notices_a_page_of_another_checkpoint(tmp_path: Path) -> None:
    with colo_pair(tmp_path) as (primary, secondary), Writer(primary) as writer:
        writer.wait_rounds(5)
        primary.kill()
        (number, *_) = survivor_holds(writer, secondary)
        page = next(a for a, data in writer.journal[number].pages.items() if any(data))
        secondary.write(page, bytes(PAGE))
        assert writer.holds(secondary.read(writer.start, writer.size)) == []


def test_a_writer_may_begin_before_the_migration(tmp_path: Path) -> None:
    with Qemu(tmp_path, "s", incoming="tcp:127.0.0.1:0") as secondary, Qemu(tmp_path, "p") as primary:
        primary.enable_colo()
        secondary.enable_colo()
        with Writer(primary) as writer:
            primary.migrate(secondary.uri)
            writer.wait_rounds(3)
            primary.kill()
            assert survivor_holds(writer, secondary)
        assert writer.journal[0].pages


def test_stop_n_is_inside_round_n(tmp_path: Path, short: Path) -> None:
    def traced() -> list[str]:
        text = (tmp_path / "primary.trace").read_text()
        return re.findall(r"(?m)(?:message|change) (.*)$", text)

    with colo_pair(tmp_path, uri=f"unix:{short}/link", trace=True) as (primary, _):
        assert [primary.checkpoint() for _ in range(10)] == list(range(1, 11))
        primary.until(lambda: traced()[-1] == "Change 'stop' => 'run'" or None, "the last line")
    lines = traced()
    assert primary.stops == 1 + lines.count("Change 'run' => 'stop'") == 11  # the first is the migration's
    assert primary.resumes == lines.count("Change 'stop' => 'run'") == 11
    assert lines[:2] == ["Receive 'checkpoint-ready' message", "Change 'stop' => 'run'"]
    for number in range(10):
        assert lines[2 + 8 * number :][:8] == [
            "Send 'checkpoint-request' message",
            "Receive 'checkpoint-reply' message",
            "Change 'run' => 'stop'",
            "Send 'vmstate-send' message",
            "Send 'vmstate-size' message",
            "Receive 'vmstate-received' message",
            "Receive 'vmstate-loaded' message",
            "Change 'stop' => 'run'",
        ]


@pytest.mark.parametrize("stamped", [False, True])
def test_both_sides_trace_their_messages(tmp_path: Path, stamped: bool) -> None:
    extra = ["-msg", "timestamp=on"] if stamped else []
    with colo_pair(tmp_path, trace=True, extra=extra) as (primary, _):
        primary.checkpoint()
    for side in "primary", "secondary":
        text = (tmp_path / f"{side}.trace").read_text()
        prefix = r"\d+@\d+\.\d{6}:" if stamped else ""
        line = rf"(?m)^{prefix}colo_send_message Send '([a-z-]+)' message$"
        sent = re.findall(line, text)
        if side == "primary":
            assert sent[:3] == ["checkpoint-request", "vmstate-send", "vmstate-size"]
        else:
            assert sent[:4] == ["checkpoint-ready", "checkpoint-reply", "vmstate-received", "vmstate-loaded"]


@contextlib.contextmanager
def relayed(folder: Path, listen: str = "tcp:127.0.0.1:0") -> Iterator[tuple[Qemu, Relay, Qemu]]:
    with (
        Qemu(folder, "secondary", incoming="tcp:127.0.0.1:0") as secondary,
        Relay(secondary.uri, listen) as relay,
        Qemu(folder, "primary") as primary,
    ):
        secondary.enable_colo()
        primary.replicate(relay.uri, 1)
        yield primary, relay, secondary


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_relay_records_both_directions_and_is_fast(tmp_path: Path, short: Path, kind: str) -> None:
    listen = "tcp:127.0.0.1:0" if kind == "tcp" else f"unix:{short}/relay"
    with relayed(tmp_path, listen) as (primary, relay, _):
        primary.until(lambda: primary.resumes > 50 or None, "fifty rounds")
        moments = [e["timestamp"] for e in primary.events if e["event"] == "RESUME"]
    seconds = [moment["seconds"] + moment["microseconds"] / 1e6 for moment in moments]
    assert statistics.median(b - a for a, b in pairwise(seconds)) < 0.04  # 0.092 without quick ACKs
    assert relay.recorded("p2s").startswith(b"QEVM\0\0\0\3")
    assert relay.recorded("s2p").startswith(READY)
    assert relay.passed("p2s") == len(relay.recorded("p2s"))
    times = [moment for moment, _ in relay.chunks["p2s"]]
    assert times == sorted(times)
    assert times[0] < times[-1] <= time.monotonic()


def test_a_relay_cuts_inside_a_round_at_the_byte(tmp_path: Path) -> None:
    with relayed(tmp_path) as (primary, relay, secondary):
        with Writer(primary) as writer:
            writer.wait_rounds(10)
            at = relay.passed("p2s") + random.randrange(100_000)
            relay.cut(at)
            assert relay.over.wait(PATIENCE)
            primary.wait_event("COLO_EXIT")
            assert survivor_holds(writer, secondary)
        assert len(relay.recorded("p2s")) == at
        assert primary.alive


def test_a_relay_cuts_at_once_and_ends_without_a_link(tmp_path: Path) -> None:
    with relayed(tmp_path) as (primary, relay, secondary):
        relay.cut(direction="s2p")
        primary.lost_heartbeat()
        secondary.lost_heartbeat()
        assert primary.colo_status()["last-mode"] == "primary"
    with Relay("tcp:127.0.0.1:1") as nobody:
        assert not nobody.over.is_set()
    assert nobody.over.is_set()


def test_the_counting_guest_is_whole_on_the_survivor(tmp_path: Path, short: Path) -> None:
    guest = counting_guest(tmp_path)
    pair = colo_pair(tmp_path, checkpoint_delay_ms=2, uri=f"unix:{short}/link", extra=guest)
    with pair as (primary, secondary):
        primary.until(lambda: primary.resumes > 20 or None, "twenty rounds")
        primary.kill()
        secondary.lost_heartbeat()
        secondary.qmp("stop")
        first = count(secondary.read)
        assert first > 0
        runs_on(secondary, first)
        secondary.write(0x18000, b"\0\0\0\0")
        with pytest.raises(AssertionError, match="torn"):
            count(secondary.read)


def test_a_stream_in_a_file_is_loaded_by_a_stopped_qemu(tmp_path: Path) -> None:
    guest = counting_guest(tmp_path)
    with Qemu(tmp_path, "source", extra=guest) as source:
        time.sleep(0.05)
        source.migrate(f"exec:cat > {tmp_path}/stream")
        source.wait_event("STOP")
        source.until(lambda: source.qmp("query-migrate")["status"] == "completed" or None, "stream")
        number = count(source.read)
    with Qemu(tmp_path, "copy", incoming=f"exec:cat {tmp_path}/stream", paused=True, extra=guest) as copy:
        copy.wait_loaded()
        assert count(copy.read) == number
    (tmp_path / "stream").write_bytes(b"QEVM\0\0\0\3nonsense")
    refused = Qemu(tmp_path, "refused", incoming=f"exec:cat {tmp_path}/stream", paused=True)
    with pytest.raises(ConnectionError, match=r"refused ended before .*: .*qemu-system"), refused:
        refused.wait_loaded()


def test_all_processes_are_gone_at_the_end_also_after_an_exception(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        colo_pair(tmp_path) as (primary, secondary),
        Writer(primary) as writer,
    ):
        writer.wait_rounds(1 // (not primary.alive))
    assert gone(primary.pid)
    assert gone(secondary.pid)


def test_a_primary_that_deadlocks_is_ended_as_well(tmp_path: Path) -> None:
    """Under TCG it does so after its first checkpoint, or one of the next."""
    with Qemu(tmp_path, "s", incoming="tcp:127.0.0.1:0", accel="tcg") as secondary:
        with Qemu(tmp_path, "p", accel="tcg") as primary:
            secondary.enable_colo()
            primary.replicate(secondary.uri, 1)
            with pytest.raises(TimeoutError):
                go_on_until_stuck(primary)
            primary.process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                primary.process.wait(0.5)
        assert gone(primary.pid)
        secondary.lost_heartbeat()


def go_on_until_stuck(primary: Qemu) -> None:
    while True:
        number = primary.stops
        primary.until(partial(has_stopped, primary, number), f"stop {number}", 1)


def has_stopped(primary: Qemu, number: int) -> bool | None:
    return primary.stops > number or None


def test_a_qemu_dies_with_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[Qemu] = []

    def start() -> None:
        started.append(Qemu(tmp_path, "orphan").__enter__())

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    (orphan,) = started
    try:
        assert orphan.process.wait(PATIENCE) == -9
    finally:
        orphan.__exit__(None, None, None)


def test_what_qemu_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    bad = Qemu(tmp_path, "bad", machine="nonsense")
    with pytest.raises(ConnectionError, match=r"bad ended before .*unsupported machine type"), bad:
        pass
    with Qemu(tmp_path, "good") as good:
        with pytest.raises(QemuError, match="good: no-such-command: The command no-such-command has not"):
            good.qmp("no-such-command")
        with pytest.raises(QemuError, match="good: qtest: FAIL"):
            good._ask("nonsense")
        with pytest.raises(TimeoutError, match=r"no event COLO_EXIT in 0\.01 s"):
            good.wait_event("COLO_EXIT", 0.01)
