"""Whoever connects: the true pair is unharmed, memory stays, the disk is as before.

Each kind of `strangers` plays against a process of ours before, during and after a true Primary's session.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import strangers
from replicas import NEVER, Counting, OneShot, memory
from standby_process import StandbyProcess, StreamPrimary
from strangers import STRANGERS
from vm_link import number_in

from colo_fsm.colo import State
from colo_fsm.fsm import TurnedAway
from colo_fsm.replica import DirectoryStore, Options, Refused, blocking
from colo_fsm.stream import PAGE_SIZE

MOST_GROWTH = 20 << 20
ROUNDS = 3
SAMPLE = [
    "silent", "a port scan", "HTTP", "garbage", "a head and silence", "a memory of 1 EiB", "devices for ever",
    "a device without end", "a VM that is not ours", "a Primary of an older generation",
    "a Primary of another capacity",
]  # fmt: skip
KINDS = [pytest.param(n, marks=() if n in SAMPLE else pytest.mark.soak) for n in STRANGERS]
"""All of them in the long tests, a sample in the normal run."""


def test_there_are_forty_kinds() -> None:
    assert len(STRANGERS) >= 40
    assert set(SAMPLE) | strangers.GREETERS <= STRANGERS.keys()


def room(folder: Path) -> int:
    """The disk that a folder takes, in bytes."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def playing(name: str, address: str) -> Iterator[None]:
    """A stranger of this kind comes, and is still there, inside."""
    stop = threading.Event()
    thread = threading.Thread(target=STRANGERS[name], args=(address, stop))
    thread.start()
    try:
        thread.join(0.3)
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize("name", KINDS)
def test_a_standby_and_a_stranger(tmp_path: Path, name: str) -> None:
    options = (
        "--greeting-deadline",
        "0.3",
        "--deadline",
        "1",
        "--on-failover",
        "touch $COLO_FSM_STORE/../ran",
    )
    with StandbyProcess(tmp_path) as standby, StreamPrimary(standby.connect()) as primary:
        primary.begin().rounds(1, ROUNDS)
        primary.link.close()
        assert standby.wait() == 0
    with StandbyProcess(tmp_path, *options) as standby:
        before, disk = memory(standby.process.pid), room(standby.store)
        with playing(name, standby.uri):
            pass
        assert not (tmp_path / "ran").exists(), "nobody is fenced for a stranger"
        with playing(name, standby.uri), patient(standby) as primary:
            primary.round(1)
            with playing(name, standby.uri):
                primary.rounds(2, ROUNDS)
            assert memory(standby.process.pid) - before < MOST_GROWTH
            assert abs(room(standby.store) - disk) < 1 << 16
        assert standby.wait() == 0
        assert (tmp_path / "ran").exists()
    with DirectoryStore(standby.store) as store:
        assert number_in(store) == ROUNDS


@contextlib.contextmanager
def patient(standby: StandbyProcess) -> Iterator[StreamPrimary]:
    """A true Primary among strangers; QEMU's operator tries again when a link was closed on it."""
    end = time.monotonic() + 30
    while True:
        with StreamPrimary(standby.connect()) as primary:
            try:
                primary.begin()
            except OSError:
                assert time.monotonic() < end
                continue
            yield primary
            return


# -- a pair of ours -----------------------------------------------------------------------------

SIDE = """
import sys, threading
sys.path.insert(0, {tests!r})
from replicas import Counting, NEVER
from colo_fsm.replica import Options, blocking

options = Options(greeting_deadline=0.3, deadline=1.0, interval=NEVER, claim_retry=0.05)
pair = blocking.secondary(
    Counting(), listen="tcp:127.0.0.1:0", arbiter="sqlite:" + sys.argv[1] + "/claim.db",
    store=sys.argv[1] + "/store", options=options,
)
with pair:
    print(pair.address, flush=True)
    sys.stdin.readline()
    print(pair.state, pair.checkpoint, flush=True)
    sys.stdin.readline()
"""


class SecondaryProcess:
    """A Secondary of ours as a process, in a `with` block that ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "store"

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SIDE.format(tests=str(Path(__file__).parent)), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.uri = self._line()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def state(self) -> str:
        """Where it stands, and its newest checkpoint; once."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return self._line()


@pytest.mark.parametrize("name", KINDS)
def test_a_secondary_and_a_stranger(tmp_path: Path, name: str) -> None:
    options = Options(interval=NEVER, deadline=20)
    arbiter = f"sqlite:{tmp_path}/claim.db"
    with SecondaryProcess(tmp_path) as secondary:
        before, disk = memory(secondary.process.pid), room(secondary.store)
        with playing(name, secondary.uri):
            pass
        assert abs(room(secondary.store) - disk) < 1 << 16
        guest = Counting()
        with (
            playing(name, secondary.uri),
            blocking.primary(guest, peer=secondary.uri, arbiter=arbiter, options=options) as primary,
        ):
            with playing(name, secondary.uri):
                for count in range(1, ROUNDS + 1):
                    with primary.turn():
                        guest.count = count
                    primary.request_checkpoint()
                    primary.committed(20)
            assert memory(secondary.process.pid) - before < MOST_GROWTH
            assert secondary.state() == f"loaded {ROUNDS}"
            assert primary.session.error is None


class TestBusy:
    """What a Primary hears that comes second, or is of another guest."""

    @pytest.fixture
    def secondary(self) -> Iterator[blocking.Pair]:
        arbiter = OneShot()
        with blocking.secondary(Counting(), listen="tcp:127.0.0.1:0", arbiter=arbiter) as pair:
            yield pair
            pair.request_leave()

    def test_a_second_primary_is_told_that_we_are_busy(self, secondary: blocking.Pair) -> None:
        events = secondary.events()
        with blocking.primary(Counting(), peer=str(secondary.address), arbiter=OneShot()) as first:
            with pytest.raises(TurnedAway, match="busy: this side has a Primary already"):
                blocking.primary(Counting(), peer=str(secondary.address), arbiter=OneShot()).__enter__()
            first.committed(20)
            assert any(isinstance(event, Refused) and "busy" in event.why for event in events)
            secondary.request_leave()
            secondary.wait(20)

    def test_a_primary_of_another_guest_hears_both_figures(self, secondary: blocking.Pair) -> None:
        class Larger(Counting):
            blocks = {"ram": 64 * PAGE_SIZE}

        with pytest.raises(TurnedAway) as refused:
            blocking.primary(Larger(), peer=str(secondary.address), arbiter=OneShot()).__enter__()
        assert str(PAGE_SIZE) in str(refused.value)
        assert str(64 * PAGE_SIZE) in str(refused.value)
        with blocking.primary(Counting(), peer=str(secondary.address), arbiter=OneShot()) as primary:
            primary.committed(20)
            secondary.request_leave()
            secondary.wait(20)

    def test_a_real_qemu_is_told_nothing(self, secondary: blocking.Pair) -> None:
        host, port = str(secondary.address).removeprefix("tcp:").split(":")
        with socket.create_connection((host, int(port)), 20) as qemu:
            qemu.sendall(strangers.VM)
            assert qemu.recv(1) == b""

    def test_who_shows_no_stream_does_not_get_in(self, secondary: blocking.Pair) -> None:
        events = secondary.events()
        host, port = str(secondary.address).removeprefix("tcp:").split(":")
        with socket.create_connection((host, int(port)), 20) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stranger.recv(1) == b""
        assert "nothing that begins a migration stream" in next(iter(events)).why  # type: ignore[union-attr]
        assert secondary.state is State.INIT
