"""Whoever connects: the true pair is unharmed, memory stays, the disk is as before.

Each kind of `strangers` plays against a process of ours before, during and after a true Primary's session.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import strangers
from standby_process import StandbyProcess, StreamPrimary
from strangers import STRANGERS
from vm_link import number_in

from colo_fsm.replica import DirectoryStore

MOST_GROWTH = 20 << 20
ROUNDS = 3
SAMPLE = [
    "silent", "a port scan", "resets", "HTTP", "TLS", "garbage", "slow garbage", "our own head and silence",
    "a head and silence", "a memory of 1 EiB", "a memory of 64 GiB", "pings for ever", "devices for ever",
    "a VM that is not ours", "a VM and a wrong message", "a Primary of an older generation",
    "a Primary of another capacity", "a thousand at once", "half closed after the head",
]  # fmt: skip
KINDS = [pytest.param(n, marks=() if n in SAMPLE else pytest.mark.soak) for n in STRANGERS]
"""All of them in the long tests, a sample in the normal run."""


def test_there_are_forty_kinds() -> None:
    assert len(STRANGERS) >= 40
    assert set(SAMPLE) | strangers.GREETERS <= STRANGERS.keys()


def memory(pid: int) -> int:
    """What is resident of a process, in bytes."""
    fields = Path(f"/proc/{pid}/status").read_text().split()
    return int(fields[fields.index("VmRSS:") + 1]) * 1024


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
        "0.3",
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
