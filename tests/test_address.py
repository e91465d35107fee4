"""Addresses: how they are written, how one listens and connects, and what stale sockets do."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from replicas import PATIENCE, Counting, OneShot, unix

from colo_fsm.colo import State
from colo_fsm.replica import Address, AddressError, aio, blocking, primary
from colo_fsm.replica.address import address_of


class TestParse:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("tcp:standby:9998", Address(host="standby", port=9998)),
            ("tcp:127.0.0.1:0", Address(host="127.0.0.1", port=0)),
            ("tcp:[::1]:65535", Address(host="::1", port=65535)),
            ("unix:/run/colo.sock", Address(path="/run/colo.sock")),
            ("unix:a:b", Address(path="a:b")),
        ],
    )
    def test_it_reads_what_it_writes(self, text: str, address: Address) -> None:
        assert Address.parse(text) == address
        assert str(address) == text

    @pytest.mark.parametrize(
        "text",
        [
            "", "tcp", "tcp:", "tcp:host", "tcp:host:", "tcp::80", "tcp:host:x", "tcp:host:-1",
            "tcp:host:65536", "tcp:host: 80", "tcp:host:²", "unix", "unix:", "host:80",
            "udp:host:80", "TCP:host:80", "tcp:[::1:80", "tcp:::1]:80", "tcp:[]:80", "tcp:::1:80",
            "tcp:..:9998", "tcp:.host:80", "tcp:ho..st:80", f"tcp:{'x' * 64}:80", f"tcp:a.{'x' * 64}.b:80",
            f"tcp:[::1.{'x' * 64}]:80", "tcp:\udcff:80", "tcp:ho\0st:80", "tcp:ho\nst:80",
            "unix:a\0b", "unix:\0abstract", "unix:\ud800",
        ],
    )  # fmt: skip
    def test_everything_else_is_refused_with_what_to_write(self, text: str) -> None:
        with pytest.raises(AddressError, match="write tcp:HOST:PORT or unix:PATH") as caught:
            Address.parse(text)
        assert f"'{text}'" in str(caught.value)

    def test_a_pair_refuses_it_when_it_is_made(self) -> None:
        with pytest.raises(ValueError, match="no address"):
            primary(Counting(), peer="standby:9998", arbiter=OneShot())


class TestOneMachine:
    @pytest.mark.parametrize(
        ("text", "local"),
        [
            ("unix:/x", True),
            ("tcp:127.0.0.1:1", True),
            ("tcp:127.9.9.9:1", True),
            ("tcp:[::1]:1", True),
            ("tcp:localhost:1", True),
            ("tcp:192.0.2.1:1", False),
            ("tcp:0.0.0.0:1", False),
            ("tcp:[2001:db8::1]:1", False),
            ("tcp:[::]:1", False),
        ],
    )
    def test_what_only_this_machine_can_be(self, text: str, local: bool) -> None:
        assert Address.parse(text).on_this_machine is local

    @pytest.mark.parametrize("module", ["asyncio", "blocking"])
    def test_a_claim_on_one_machine_is_not_for_two(self, module: str, tmp_path: Path) -> None:
        arbiter = f"sqlite:{tmp_path / 'claim.db'}"
        make: Any = blocking if module == "blocking" else aio
        for side, where in ((make.primary, "peer"), (make.secondary, "listen")):
            with pytest.raises(ValueError, match=r"another machine.*SQLite.*use etcd://.* or exec:COMMAND"):
                side(Counting(), arbiter=arbiter, **{where: "tcp:192.0.2.1:9998"})
        assert not (tmp_path / "claim.db").exists()

    def test_another_claim_serves_two(self) -> None:
        primary(Counting(), peer="tcp:192.0.2.1:9998", arbiter=OneShot())


@contextmanager
def connected(address: Address) -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        address.listen() as listener,
        address_of(listener).connect(PATIENCE) as ours,
        listener.accept()[0] as theirs,
    ):
        yield ours, theirs


class TestConnect:
    @pytest.mark.parametrize("text", ["tcp:127.0.0.1:0", "tcp:[::1]:0", "tcp:localhost:0"])
    def test_tcp(self, text: str) -> None:
        with connected(Address.parse(text)) as (ours, theirs):
            assert not ours.getblocking()
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            ours.send(b"x")
            assert theirs.recv(1) == b"x"

    def test_the_real_port_is_told(self) -> None:
        with Address.parse("tcp:[::1]:0").listen() as listener:
            told = address_of(listener)
        assert told.port > 0
        assert str(told) == f"tcp:[::1]:{told.port}"

    def test_unix(self, tmp_path: Path) -> None:
        with connected(Address.parse(unix(tmp_path))) as (ours, theirs):
            ours.send(b"x")
            assert theirs.recv(1) == b"x"

    @pytest.mark.parametrize("where", ["tcp", "unix"])
    def test_nobody_listens(self, where: str, tmp_path: Path) -> None:
        with Address.parse("tcp:127.0.0.1:0").listen() as listener:
            free = str(address_of(listener))
        text = free if where == "tcp" else unix(tmp_path)
        began = time.monotonic()
        with pytest.raises(ConnectionRefusedError, match=f"nobody listens at {text}: start the Secondary"):
            Address.parse(text).connect(0.2)
        assert time.monotonic() - began >= 0.2

    def test_it_waits_for_a_secondary_that_comes_later(self, tmp_path: Path) -> None:
        address = Address.parse(unix(tmp_path))
        with socket.socket(socket.AF_UNIX) as listener:

            def listen() -> None:
                listener.bind(address.path)
                listener.listen()

            timer = threading.Timer(0.1, listen)
            timer.start()
            address.connect(PATIENCE).close()
            timer.join()

    def test_a_host_that_does_not_answer_is_given_up_in_time(self) -> None:
        """A full queue drops whoever knocks, like a machine that is off: no refusal ever comes."""
        error: list[BaseException] = []

        def connect(address: Address) -> None:
            try:
                address.connect(0.3).close()
            except OSError as refused:
                error.append(refused)

        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            waiting = [socket.socket() for _ in range(8)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(listener.getsockname())
            thread = threading.Thread(target=connect, args=(address_of(listener),), daemon=True)
            thread.start()
            thread.join(2.0)
            in_time = not thread.is_alive()
            for sock in waiting:
                sock.close()
        thread.join(PATIENCE)
        assert in_time
        assert error

    def test_an_unknown_host_is_named(self) -> None:
        with pytest.raises(OSError, match="no-such-host"):
            Address.parse("tcp:no-such-host.invalid:1").connect()


class TestUnix:
    def test_a_stale_socket_is_replaced(self, tmp_path: Path) -> None:
        address = Address.parse(unix(tmp_path))
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(address.path)
        assert Path(address.path).is_socket()
        with connected(address) as (ours, theirs):
            ours.send(b"x")
            assert theirs.recv(1) == b"x"

    def test_it_goes_with_its_listener(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        listener = Address.parse("unix:here").listen()
        monkeypatch.chdir("/")
        listener.close()
        assert not (tmp_path / "here").exists()

    def test_what_another_has_put_there_meanwhile_stays(self, tmp_path: Path) -> None:
        address = Address.parse(unix(tmp_path))
        with address.listen():
            Path(address.path).unlink()
            theirs = address.listen()
        with theirs, address.connect(PATIENCE), theirs.accept()[0]:
            pass

    def test_a_forked_child_that_ends_leaves_its_parent_reachable(self, tmp_path: Path) -> None:
        address = Address.parse(unix(tmp_path))
        with address.listen() as listener:
            child = os.fork()
            if not child:
                listener.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            with address.connect(PATIENCE), listener.accept()[0]:
                pass

    def test_of_many_that_find_a_stale_one_one_listens_and_nobody_is_robbed(self, tmp_path: Path) -> None:
        address = Address.parse(unix(tmp_path))
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as killed:
                killed.bind(address.path)
            together = threading.Barrier(8)
            found: list[socket.socket] = []

            def start(together: threading.Barrier = together, found: list[socket.socket] = found) -> None:
                together.wait(PATIENCE)
                with contextlib.suppress(OSError):
                    found.append(address.listen())

            threads = [threading.Thread(target=start) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            (listener,) = found
            with listener, address.connect(PATIENCE), listener.accept()[0]:
                pass

    def test_a_live_one_is_left_alone(self, tmp_path: Path) -> None:
        address = Address.parse(unix(tmp_path))
        with address.listen() as listener:
            with pytest.raises(OSError, match="in use"):
                address.listen()
            with address.connect(PATIENCE), listener.accept()[0]:
                pass

    def test_a_secondary_that_waits_is_not_disturbed(self, tmp_path: Path) -> None:
        """A second start by mistake must not be taken for the Primary."""
        there = blocking.secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot())
        there.__enter__()
        with pytest.raises(OSError, match="in use"):
            blocking.secondary(Counting(), listen=unix(tmp_path), arbiter=OneShot()).__enter__()
        try:
            with pytest.raises(TimeoutError):
                there.wait(0.2)
            assert there.state is State.INIT
        finally:
            if there.session.error is None:
                there.request_leave()
            there.wait(PATIENCE)

    @pytest.mark.parametrize("kind", ["file", "directory"])
    def test_what_is_no_socket_is_never_removed(self, kind: str, tmp_path: Path) -> None:
        path = tmp_path / "s"
        path.mkdir() if kind == "directory" else path.write_text("precious")
        with pytest.raises(OSError, match="in use"):
            Address(path=str(path)).listen()
        assert path.exists()

    def test_a_path_that_is_too_long_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="too long"):
            Address(path=str(tmp_path / ("x" * 200))).listen()

    def test_a_port_in_use_is_said(self) -> None:
        with Address.parse("tcp:127.0.0.1:0").listen() as listener, pytest.raises(OSError, match="in use"):
            address_of(listener).listen()
