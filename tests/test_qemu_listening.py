"""Connections are taken until nobody wants any; `test_link` has what may happen to a single one."""

from __future__ import annotations

import socket
import threading

import pytest

from colo_fsm.qemu.listening import next_link, shut_down


def test_the_next_one() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as ours,
    ):
        theirs = next_link(server, lambda: False)
        assert theirs is not None
        with theirs:
            ours.sendall(b"here")
            theirs.setblocking(True)
            assert theirs.recv(4) == b"here"
        assert not server.getblocking()  # a connection may be gone again when it is accepted


def test_a_listener_that_is_of_no_use_is_an_error() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    shut_down(server)
    with server, pytest.raises(OSError, match="Invalid argument"):
        next_link(server, lambda: False)


def test_when_it_is_over_nothing_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert next_link(server, lambda: True) is None


def test_it_ends_while_it_waits() -> None:
    over = threading.Event()
    found: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: found.append(next_link(server, over.is_set)))
        thread.start()
        over.set()
        shut_down(server)
        thread.join(20)
        assert found == [None]
    shut_down(server)
