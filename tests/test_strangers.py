"""Whoever connects: the true pair is unharmed, memory stays, the disk is as before.

Each kind of `strangers` comes to each of the `hosts` before, during and after a true peer's session. In the
normal run a sample of the kinds comes at once.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import strangers
from hosts import HOSTS, MOST_GROWTH, Host
from replicas import Counting, OneShot
from strangers import STRANGERS

from colo_fsm.colo import State
from colo_fsm.fsm import TurnedAway
from colo_fsm.replica import Refused, blocking
from colo_fsm.replica.door import LET_RUN
from colo_fsm.stream import PAGE_SIZE

STAY = 0.3
"""Seconds that strangers have for themselves, before somebody else does anything."""

SAMPLE = [
    "silent", "a port scan", "half closed", "HTTP", "TLS", "garbage", "slow garbage", "deaf",
    "a line without an end", "a multifd channel", "a head and silence", "a memory of 1 EiB",
    "a device without end", "a VM that is not ours", "a Primary of an older generation",
    "a Primary of another capacity", "a device state of 1 GiB", "a thousand after each other",
]  # fmt: skip

Note = Callable[[str, object], None]


def test_there_are_forty_kinds() -> None:
    assert len(STRANGERS) >= 40
    assert set(SAMPLE) | strangers.GREETERS <= STRANGERS.keys()


@pytest.fixture(autouse=True)
def what_is_freed_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default glibc keeps up to 32 MiB of it for the next time; here what is still held counts."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(128 << 10))


@contextlib.contextmanager
def playing(names: list[str], address: str) -> Iterator[None]:
    """Strangers of these kinds come, and are still there, inside."""
    stop = threading.Event()
    threads = [threading.Thread(target=STRANGERS[name], args=(address, stop)) for name in names]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + STAY
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def visited(host: Host, names: list[str], note: Note) -> None:
    """Strangers of these kinds at this host, before, during and after."""
    early = [name for name in names if name not in host.not_before]
    with host:
        with measured(host, "before", early, note):
            with playing(early, host.address):  # come and gone
                pass
            with playing(early, host.address):  # still there when it comes
                host.begin()
        with measured(host, "during", names, note), playing(names, host.address):
            host.go_on()
        host.end()
        with measured(host, "after", names, note), playing(names, host.address):
            pass
        host.check()


@contextlib.contextmanager
def measured(host: Host, phase: str, names: list[str], note: Note) -> Iterator[None]:
    """What this phase has cost, when the strangers have gone."""
    before, room, made = host.memory[0], host.room, strangers.made
    yield
    grown, peak = (max(0, size - before) for size in host.memory)
    note("strangers", (phase, len(names), strangers.made - made, grown, peak))
    assert grown < MOST_GROWTH
    assert peak < host.peak
    assert abs(host.room - room) <= host.slack


@pytest.mark.parametrize("at", HOSTS)
def test_strangers_of_many_kinds_at_once(at: str, tmp_path: Path, record_property: Note) -> None:
    visited(HOSTS[at](tmp_path), SAMPLE, record_property)


@pytest.mark.soak
@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("at", HOSTS)
def test_a_stranger(at: str, name: str, tmp_path: Path, record_property: Note) -> None:
    visited(HOSTS[at](tmp_path), [name], record_property)


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

    def test_a_real_qemu_is_told_what_lets_its_guest_run_and_no_words(self, secondary: blocking.Pair) -> None:
        host, port = str(secondary.address).removeprefix("tcp:").split(":")
        with socket.create_connection((host, int(port)), 20) as qemu:
            qemu.sendall(strangers.VM)
            assert qemu.recv(100) == LET_RUN

    def test_who_shows_no_stream_does_not_get_in(self, secondary: blocking.Pair) -> None:
        events = secondary.events()
        host, port = str(secondary.address).removeprefix("tcp:").split(":")
        with socket.create_connection((host, int(port)), 20) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stranger.recv(1) == b""
        assert "nothing that begins a migration stream" in next(iter(events)).why  # type: ignore[union-attr]
        assert secondary.state is State.INIT
