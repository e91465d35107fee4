"""A tap passes every byte on, whatever becomes of those who look at it. `test_qemu_tap_real` has QEMUs."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import json
import os
import queue
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from replicas import descriptors
from standby_process import READY, REQUEST, SEND, every_page, initial, until
from vm_link import link, number_in
from vm_stream import head, ram

from colo_fsm.cli.app import cli
from colo_fsm.fsm import Side
from colo_fsm.qemu.watch import tap as tap_module
from colo_fsm.qemu.watch.capture import Capture, CaptureError, Recorder
from colo_fsm.qemu.watch.rounds import Kind, Round
from colo_fsm.qemu.watch.tap import Tap
from colo_fsm.replica import MemoryStore, Refused
from colo_fsm.replica.door import LET_RUN

pytestmark = pytest.mark.timeout(60)

P2S, S2P = Side.PRIMARY, Side.SECONDARY


def sent(capture: Capture, side: Side) -> bytes:
    return b"".join(piece.data for piece in capture if piece.side is side)


BEGUN = initial()[: len(head()) + 1]
"""What a Primary has to show: then its link to the Secondary is made."""

CHANNEL = bytes.fromhex("1122334400000001")
"""What a further connection of multifd's begins with."""


def pieces(rounds: int, most: int | None = None) -> Iterator[tuple[Side, bytes]]:
    """What passes behind BEGUN: the first `most` pieces of so many rounds."""
    (side, first), *others = itertools.islice(link(rounds), most)
    yield side, first.removeprefix(BEGUN)
    yield from others


class Ends:
    """A tap with our own sockets at both of its ends, behind BEGUN."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        target = f"tcp:127.0.0.1:{self.server.getsockname()[1]}"
        self.tap = Tap(f"unix:{folder / 'tap'}", target, **options)

    def __enter__(self) -> Ends:
        self.tap.__enter__()
        self.primary, self.secondary = self.connect()
        return self

    def come(self) -> socket.socket:
        """Whoever connects."""
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(20)
        link.connect(self.tap.address.path)
        return link

    def connect(self, begun: bytes = BEGUN) -> tuple[socket.socket, socket.socket]:
        """Another connection through the tap, which begins with this."""
        primary = self.come()
        primary.sendall(begun)
        secondary = self.server.accept()[0]
        secondary.settimeout(20)
        assert secondary.recv(len(begun), socket.MSG_WAITALL) == begun
        return primary, secondary

    def play(self, pieces: Iterable[tuple[Side, bytes]]) -> None:
        """Send each piece when the one before has arrived, and then end both sides."""
        pass_on(self, pieces)
        self.primary.close()
        self.secondary.close()

    def __exit__(self, *_: object) -> None:
        self.tap.__exit__(None, None, None)
        for end in (self.primary, self.secondary, self.server):
            end.close()


def pass_on(ends: Ends, pieces: Iterable[tuple[Side, bytes]]) -> None:
    """Send each piece when the one before has arrived."""
    for side, data in pieces:
        source, sink = (ends.primary, ends.secondary)[:: 1 if side is P2S else -1]
        source.sendall(data)
        assert len(sink.recv(len(data), socket.MSG_WAITALL)) == len(data)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    with Recorder(tmp_path / "capture") as recorder, Ends(tmp_path, recorder=recorder) as ends:
        yield ends


def received(link: socket.socket) -> bytes:
    found = b""
    while data := link.recv(1 << 18):
        found += data
    return found


def test_garbage_passes_unchanged_and_has_a_verdict(ends: Ends, tmp_path: Path) -> None:
    rng = random.Random(1)
    there, back = rng.randbytes(3 << 20), rng.randbytes(1 << 20)  # the first of them behind BEGUN
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
    assert (sent(capture, P2S), sent(capture, S2P)) == (BEGUN + there, back)


@pytest.mark.parametrize("most", [1999, 2000])
def test_slow_decoding_holds_nothing_and_is_given_up(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the second piece is looked at, it is all that has not been."""
    monkeypatch.setattr(tap_module, "MOST_BEHIND", most)
    begun, looked, go_on = threading.Event(), threading.Event(), threading.Event()

    def slow(at: float, side: Side, data: bytes) -> None:
        if data == BEGUN:
            begun.set()
        else:
            looked.set()
            assert go_on.wait(20)

    ends = Ends(tmp_path)
    monkeypatch.setattr(ends.tap.watch, "saw", slow)
    with ends:
        assert begun.wait(20)
        for _ in range(2):
            ends.primary.sendall(bytes(2000))
            assert len(ends.secondary.recv(2000, socket.MSG_WAITALL)) == 2000
            assert looked.wait(20)
        go_on.set()
        ends.primary.close()
        ends.secondary.close()
        said = ends.tap.wait(20).text
    assert ("behind the link" in said) == (most < 2000)
    assert most == 2000 or said == "decoding is 2000 bytes behind the link"


class Failing(Recorder):
    error: Exception = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    asked = 0

    def write(self, at: float, side: Side, data: bytes) -> None:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("error", [Failing.error, ValueError("write to closed file")])
def test_a_recorder_that_fails_ends_the_recording_only(error: Exception, tmp_path: Path) -> None:
    recorder = Failing(tmp_path / "capture")
    recorder.error = error
    with recorder, Ends(tmp_path, recorder=recorder) as ends:
        ends.play(pieces(2, 12))
        assert ends.tap.wait(20).kind is Kind.OK
        assert (ends.tap.record_error, recorder.asked) == (error, 1)


class FullStore(MemoryStore):
    def commit(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_store_that_fails_ends_the_decoding_only(tmp_path: Path) -> None:
    with FullStore() as store, Ends(tmp_path, store=store) as ends:
        ends.play(pieces(2, 12))
        verdict = ends.tap.wait(20)
        assert verdict.kind is Kind.NOT_DECODED
        assert "OSError: [Errno 28] No space left" in verdict.text
        assert ends.tap.record_error is None
        assert number_in(store) == 0


@pytest.mark.parametrize("bad", range(3))
def test_what_on_round_raises_wait_raises_and_the_bytes_go_on(bad: int, tmp_path: Path) -> None:
    """In the first round, in the next, or in the one that is under way when the link ends."""
    told: list[int] = []

    def fail(done: Round) -> None:
        told.append(done.number)
        if done.number == bad:
            raise LookupError(f"in round {bad}")

    with Recorder(tmp_path / "capture") as recorder, Ends(tmp_path, on_round=fail, recorder=recorder) as ends:
        ends.play(pieces(2, 9))
        for _ in range(2):
            with pytest.raises(LookupError, match=f"in round {bad}"):
                ends.tap.wait(20)
    assert told == list(range(bad + 1))
    assert len(sent(Capture(tmp_path / "capture"), S2P)) == 5 * 4


def test_further_connections_are_passed_on_and_not_looked_at(ends: Ends) -> None:
    there, back = ends.connect(CHANNEL)
    there.sendall(b"a page")
    assert back.recv(6) == b"a page"
    back.close()
    assert there.recv(1) == b""
    there.close()
    ends.play(pieces(1, 7))
    assert "1 round; the " in ends.tap.wait(20).text


def test_a_further_connection_that_leads_nowhere_is_the_only_one_to_end(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap_module, "CONNECT_TIMEOUT", 0.0)
    ends.server.close()
    with ends.come() as another, contextlib.suppress(ConnectionResetError):
        another.sendall(CHANNEL)
        assert another.recv(1) == b""
    ends.play(pieces(1, 7))
    assert ends.tap.wait(20).kind is Kind.OK


def test_a_link_that_is_stopped_did_not_break(ends: Ends) -> None:
    for _, data in pieces(1, 1):
        ends.primary.sendall(data)
        ends.secondary.recv(len(data), socket.MSG_WAITALL)
    ends.secondary.sendall(READY)
    ends.primary.recv(4)
    ends.primary.sendall(REQUEST)
    ends.secondary.recv(4)
    ends.tap.stop()
    assert (ends.primary.recv(1), ends.secondary.recv(1)) == (b"", b"")
    verdict = ends.tap.wait(20)
    assert (verdict.kind, "the link was stopped with the primary in 'requested'" in verdict.text) == (
        Kind.OK,
        True,
    )


def test_a_link_that_has_ended_by_itself_was_not_stopped(tmp_path: Path) -> None:
    with Ends(tmp_path) as ends:
        ends.play(pieces(0, 1))
        assert ends.tap.wait(20).kind is Kind.BROKE
        ends.tap.stop()
        assert "'s link ended with" in ends.tap.wait(20).text


def killed(link: socket.socket) -> None:
    """End it as the kernel does for a process with bytes unread."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


@pytest.mark.parametrize("end", [socket.socket.close, killed])
def test_a_secondary_that_aborts_is_not_blamed_on_the_primary(
    end: Callable[[socket.socket], None], ends: Ends, tmp_path: Path
) -> None:
    """QEMU 7.2's Primary answers the end with another request."""
    pass_on(ends, pieces(1, 6))
    end(ends.secondary)
    assert ends.primary.recv(1) == b""
    with contextlib.suppress(BrokenPipeError):
        ends.primary.sendall(REQUEST)
    ends.primary.close()
    verdict = ends.tap.wait(20)
    assert (verdict.kind, verdict.ended) == (Kind.BROKE, S2P)
    assert verdict.text.startswith("after 1 round the secondary's link ended with")
    again = CliRunner().invoke(cli, ["tap", "--from", str(tmp_path / "capture"), "--json"])
    assert again.exit_code == 1
    told = json.loads(again.stdout.splitlines()[-1])
    assert (told["verdict"], told["ended"]) == ("broke", "secondary")
    assert told["text"] == verdict.text


def test_a_secondary_that_does_not_read_and_is_killed_is_the_one_that_ended(ends: Ends) -> None:
    """Writing to it fails before its own end is read."""
    pass_on(ends, pieces(1, 4))

    def send() -> None:
        with contextlib.suppress(OSError):
            ends.primary.sendall(SEND)
            while True:
                ends.primary.sendall(ram(2, every_page(1)))

    sending = threading.Thread(target=send)
    sending.start()
    assert ends.secondary.recv(1)
    killed(ends.secondary)
    sending.join()
    verdict = ends.tap.wait(20)
    assert (verdict.kind, verdict.ended) == (Kind.BROKE, S2P)


def test_when_one_side_has_ended_the_other_may_go_on(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "LINGER", 3600.0)
    ends.primary.shutdown(socket.SHUT_WR)
    assert ends.secondary.recv(1) == b""
    ends.secondary.sendall(READY)
    assert ends.primary.recv(4) == READY
    with pytest.raises(TimeoutError):
        ends.tap.wait(0.0)
    ends.secondary.close()
    assert ends.primary.recv(1) == b""
    assert "0 rounds; the primary's link ended" in ends.tap.wait(20).text


def test_a_side_that_never_ends_is_hung_up_on(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU whose peer is gone keeps its end open."""
    monkeypatch.setattr(tap_module, "LINGER", 0.0)
    ends.primary.shutdown(socket.SHUT_WR)
    assert (ends.secondary.recv(1), ends.primary.recv(1)) == (b"", b"")
    assert ends.tap.wait(20).kind is Kind.BROKE


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    gc.collect()
    before = os.listdir("/proc/self/fd")
    with Ends(tmp_path) as ends:
        more = ends.connect(CHANNEL)
        ends.play(pieces(1, 7))
        ends.tap.wait(20)
        for end in more:
            end.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ends.__exit__()
            assert len(os.listdir("/proc/self/fd")) == len(before)


def test_nobody_at_the_other_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "CONNECT_TIMEOUT", 0.0)
    with (
        Tap(f"unix:{tmp_path / 'tap'}", f"unix:{tmp_path / 'none'}") as tap,
        socket.socket(socket.AF_UNIX) as link,
    ):
        link.connect(tap.address.path)
        link.sendall(BEGUN)
        with pytest.raises(ConnectionRefusedError, match="nobody listens at unix:"):
            tap.wait(20)
        link.settimeout(20)
        with contextlib.suppress(ConnectionResetError):
            assert link.recv(1) == b""


class Uncertain:
    """A tap that nobody has come to yet. `refused`: who was."""

    def __init__(self, folder: Path, greeting_deadline: float = 60.0) -> None:
        self.refused: queue.SimpleQueue[Refused] = queue.SimpleQueue()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.tap = Tap(
            f"unix:{folder / 'tap'}", f"tcp:127.0.0.1:{self.server.getsockname()[1]}",
            greeting_deadline=greeting_deadline, on_refused=lambda event: self.refused.put(event),
        )  # fmt: skip

    def __enter__(self) -> Uncertain:
        self.tap.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.tap.__exit__()
        self.server.close()

    def come(self, says: bytes = b"") -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(20)
        link.connect(self.tap.address.path)
        link.sendall(says)
        return link

    def nobody_has_reached_the_secondary(self) -> bool:
        return not select.select([self.server], [], [], 0)[0]


class TestStrangers:
    """A connection that begins no stream of a VM never reaches the Secondary."""

    @pytest.mark.parametrize(
        ("says", "why"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", "nothing that begins a migration stream"),
            (head("colo-fsm"), "only a VM"),
        ],
    )
    def test_who_is_no_primary_is_refused_and_the_next_one_is_served(
        self, says: bytes, why: str, tmp_path: Path
    ) -> None:
        with Uncertain(tmp_path) as before:
            with before.come(says) as stranger, contextlib.suppress(ConnectionResetError):
                while stranger.recv(1000):
                    pass
            assert why in before.refused.get(timeout=20).why
            assert before.nobody_has_reached_the_secondary()
            with before.come(BEGUN), before.server.accept()[0] as secondary:
                assert secondary.recv(len(BEGUN), socket.MSG_WAITALL) == BEGUN

    def test_who_is_silent_is_hung_up_on(self, tmp_path: Path) -> None:
        with Uncertain(tmp_path, greeting_deadline=0.01) as before:
            for says in (b"", b"QEVM", head()):
                with before.come(says) as stranger, contextlib.suppress(ConnectionResetError):
                    assert stranger.recv(100) in (b"", LET_RUN)
            assert before.nobody_has_reached_the_secondary()

    def test_a_second_primary_is_refused_and_the_first_goes_on(self, ends: Ends) -> None:
        with ends.come() as second, contextlib.suppress(ConnectionResetError):
            second.sendall(initial())
            assert second.recv(100) == LET_RUN
        ends.play(pieces(2))
        assert ends.tap.wait(20).text.startswith("2 rounds;")
        assert not select.select([ends.server], [], [], 0)[0]

    def test_multifds_connections_may_come_before_its_stream(self, tmp_path: Path) -> None:
        with Uncertain(tmp_path) as before, before.come(CHANNEL), before.come(BEGUN):
            for expected in (BEGUN, CHANNEL):
                with before.server.accept()[0] as link:
                    assert link.recv(len(expected), socket.MSG_WAITALL) == expected

    def test_a_connection_of_multifds_that_has_ended_leaves_nothing(self, ends: Ends) -> None:
        before = descriptors()
        for _ in range(20):
            for end in ends.connect(CHANNEL):
                end.close()
        until(lambda: descriptors() == before or None, "descriptors given back")

    def test_nobody_can_come_when_it_is_over(self, ends: Ends) -> None:
        ends.play(pieces(1))
        ends.tap.wait(20)
        with (
            socket.socket(socket.AF_UNIX) as late,
            pytest.raises((ConnectionRefusedError, FileNotFoundError)),
        ):
            late.connect(ends.tap.address.path)

    def test_on_refused_may_raise(self, tmp_path: Path) -> None:
        before = Uncertain(tmp_path)
        before.refused = None  # type: ignore[assignment]
        with before:
            for _ in range(2):
                with (
                    before.come(b"GET / HTTP/1.1\r\n") as stranger,
                    contextlib.suppress(ConnectionResetError),
                ):
                    assert stranger.recv(1) == b""


def test_stopped_before_anybody_came(tmp_path: Path) -> None:
    with Tap("tcp:127.0.0.1:0", "tcp:127.0.0.1:1") as tap:
        tap.stop()
        assert tap.wait(20).kind is Kind.BROKE


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


def test_one_that_nobody_ends_does_not_keep_the_process(tmp_path: Path) -> None:
    script = f"""
import socket
import struct
from colo_fsm.qemu.watch.tap import Tap
server = socket.create_server(("127.0.0.1", 0))
tap = Tap("unix:{tmp_path}/tap", f"tcp:127.0.0.1:{{server.getsockname()[1]}}").__enter__()
link = socket.socket(socket.AF_UNIX)
link.connect("{tmp_path}/tap")
link.sendall({BEGUN!r})
there = server.accept()[0]
assert there.recv(1000) == {BEGUN!r}
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
