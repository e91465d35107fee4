"""An address as a target: somebody else has started the side there, and each case takes a link of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colo_fsm.conform.case import Verdict
from colo_fsm.conform.link import CannotTest, SocketLink
from colo_fsm.conform.plan import plan
from colo_fsm.conform.play import play_all
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets.address import accepted
from colo_fsm.replica.address import Address, address_of

PARTY = Path(__file__).parent / "third_party"
TIMEOUT = 20.0


@contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *map(str, command)], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def verdicts(side: str, text: str, listen: bool = False) -> list[Verdict]:
    made = plan(side, timeout=TIMEOUT, listen=listen)
    with made.target(text) as target:
        return [result.verdict for result in play_all(made.cases(["wp"])[:6], target, Pace(TIMEOUT))]


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_a_secondary_takes_one_link_after_the_other(scheme: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'link'}"
    if scheme == "tcp":
        with Address(host="127.0.0.1").listen() as listener:
            address = str(address_of(listener))
    with running(PARTY / "secondary.py", address):
        assert verdicts("secondary", address) == [Verdict.PASS] * 6


def test_a_primary_connects_again_for_each_case(tmp_path: Path) -> None:
    """One that ends with its link is started again by whoever looks after it."""
    address = f"unix:{tmp_path / 'link'}"
    over = threading.Event()

    def look_after() -> None:
        while not over.is_set():
            with running(PARTY / "primary.py", address) as primary:
                primary.wait()

    keeper = threading.Thread(target=look_after)
    keeper.start()
    try:
        assert verdicts("primary", address) == [Verdict.PASS] * 6
    finally:
        over.set()
        keeper.join()


def test_a_secondary_may_connect_as_well(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'link'}"
    text = (PARTY / "secondary.py").read_text()
    assert "link = listener.accept()[0]" in text
    text = text.replace("listener.bind(where)", "listener.where = where").replace("listener.listen()", "pass")
    text = text.replace("link = listener.accept()[0]", "link = connected(listener.where)")
    text = text.replace("listener = socket.socket(socket.AF_UNIX)", "listener = argparse.Namespace()")
    connected = """
import argparse, time
def connected(where):
    while True:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.connect(where)
            return link
        except OSError:
            time.sleep(0.01)
"""
    (tmp_path / "secondary.py").write_text(text.replace("import socket\n", f"import socket\n{connected}", 1))
    with running(tmp_path / "secondary.py", address):
        assert verdicts("secondary", address, listen=True) == [Verdict.PASS] * 6


@pytest.mark.parametrize("text", ["tcp:127.0.0.1:1", "unix:/nowhere/link", "tcp:no-such-host.invalid:1"])
def test_nobody_is_there(text: str) -> None:
    made = plan("secondary", timeout=0.1)
    with made.target(text) as target, pytest.raises(CannotTest) as caught, target.fresh():
        pass
    assert str(caught.value).startswith(f"no side to test at {text}: ")


def test_nobody_connects(tmp_path: Path) -> None:
    made = plan("primary", timeout=0.01)
    with made.target(f"unix:{tmp_path}/link") as target, pytest.raises(CannotTest) as caught, target.fresh():
        pass
    assert str(caught.value) == f"no side has connected to unix:{tmp_path}/link in 0.06 s"


def test_an_address_of_somebody_else(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "link"))
    with address.listen(), pytest.raises(CannotTest) as caught, plan("primary").target(str(address)):
        pass
    assert str(caught.value) == f"cannot listen at {address}: Address already in use"


def test_a_link_that_was_accepted_sends_at_once() -> None:
    """Small messages leave without waiting for the one before to be acknowledged."""
    address = Address(host="127.0.0.1")
    with address.listen() as listener, socket.create_connection(listener.getsockname()):
        link = accepted(listener, address, TIMEOUT)
        with link:
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_is_sent_apart_is_read_apart() -> None:
    """Whether a message is read whole must not hang on who is faster."""
    ours, theirs = socket.socketpair()
    pieces: list[bytes] = []

    def read() -> None:
        while data := theirs.recv(100):
            pieces.append(data)

    reader = threading.Thread(target=read)
    link = SocketLink(ours, TIMEOUT)
    with theirs:
        reader.start()
        for number in range(100):
            link.send((bytes((number,)),))
            link.apart()
        link.close()
        reader.join()
    assert pieces == [bytes((number,)) for number in range(100)]


def test_a_side_that_waits_for_more_gets_it() -> None:
    ours, theirs = socket.socketpair()
    link = SocketLink(ours, TIMEOUT)
    with theirs:
        link.send((b"\0",))
        link.apart()
        link.send((b"\0\0\1",))
        assert theirs.recv(4) == b"\0\0\0\1"
        link.close()
