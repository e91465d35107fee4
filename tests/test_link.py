"""Buffers on their way out of a socket that takes only so much."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from colo_fsm.replica import link_pair
from colo_fsm.replica.link import Outgoing, connect
from colo_fsm.replica.wish import Call, Wait
from colo_fsm.stream import Buffer
from colo_fsm.stream.memory import MOST_BUFFERS


def test_a_link_pair_is_connected() -> None:
    left, right = link_pair()
    with left, right:
        left.sendall(b"x")
        assert right.recv(9) == b"x"


class Narrow(socket.socket):
    """Takes `most` bytes in one write; `calls` has the number of buffers of each."""

    most = 1
    calls: list[int]

    def sendmsg(self, buffers, *_, **__):  # type: ignore[no-untyped-def]
        buffers = list(buffers)
        self.calls.append(len(buffers))
        return self.send(b"".join(map(bytes, buffers))[: self.most])


def narrow(most: int) -> tuple[Narrow, socket.socket]:
    left, right = socket.socketpair()
    link = Narrow(fileno=left.detach())
    link.most, link.calls = most, []
    return link, right


@pytest.mark.parametrize("most", [1, 2, 3, 5, 100])
def test_every_byte_in_order_however_little_is_taken(most: int) -> None:
    link, right = narrow(most)
    with link, right:
        buffers: list[Buffer] = [b"ab", b"", bytearray(b"cde"), memoryview(b"xfghx")[1:4], b""]
        outgoing = Outgoing(buffers)
        assert outgoing.send_some(link)
        assert not outgoing.left
        assert right.recv(100) == b"abcdefgh"


def test_small_buffers_leave_together() -> None:
    link, right = narrow(1 << 20)
    with link, right:
        assert Outgoing([b"a", b"b", b"c"]).send_some(link)
        assert link.calls == [3]


def test_more_buffers_than_the_kernel_takes() -> None:
    assert os.sysconf("SC_IOV_MAX") >= MOST_BUFFERS
    left, right = link_pair()
    with left, right:
        left.setblocking(False)
        assert Outgoing([b"%d" % (n % 10) for n in range(2 * MOST_BUFFERS + 1)]).send_some(left)
        assert right.recv(1 << 20) == b"0123456789" * (MOST_BUFFERS // 5) + b"0"


def test_a_full_link_is_tried_again_from_where_it_stopped() -> None:
    left, right = link_pair()
    with left, right:
        left.setblocking(False)
        data = os.urandom(1 << 22)
        outgoing = Outgoing([data[i : i + 1000] for i in range(0, len(data), 1000)])
        received = b""
        while outgoing.left:
            assert outgoing.send_some(left)
            assert not outgoing.send_some(left) or not outgoing.left
            received += right.recv(1 << 16)
        left.close()
        while piece := right.recv(1 << 16):
            received += piece
        assert received == data


def test_nothing_to_send() -> None:
    left, right = link_pair()
    with left, right:
        outgoing = Outgoing([b""])
        assert not outgoing.send_some(left)
        assert not outgoing.left


def test_a_broken_link_raises() -> None:
    left, right = link_pair()
    with left:
        right.close()
        with pytest.raises(BrokenPipeError):
            Outgoing([b"x"]).send_some(left)


class Way:
    """A socket that refuses to connect, or is on its way."""

    family = socket.AF_INET

    def __init__(self, error: OSError) -> None:
        self._error = error
        self.tries = 0

    def connect(self, where: Any) -> None:
        self.tries += 1
        raise self._error

    def close(self) -> None: ...


class Ways:
    """A place with several ways to it."""

    def __init__(self, *ways: Way) -> None:
        self.ways = list(ways)

    def resolve(self) -> list[tuple[int, Any]]:
        return [(way.family, None) for way in self.ways]

    def new_socket(self, family: int) -> Any:
        return self.ways.pop(0)

    def listen(self) -> Any:
        raise NotImplementedError


def test_every_way_is_tried_and_one_that_is_on_its_way_is_waited_for() -> None:
    refused = Way(ConnectionRefusedError())
    coming = Way(BlockingIOError(errno.EINPROGRESS, "in progress"))
    script = connect(Ways(refused, coming), 10.0, lambda: 0.0, lambda: False)
    call = next(script)
    assert isinstance(call, Call)
    assert script.send(call.run()) == Wait(coming, writing=True, timeout=10.0)
    assert (refused.tries, coming.tries) == (1, 1)


LISTENS = """
import os, sys
from colo_fsm.replica import Address

listener = Address.parse("tcp:127.0.0.1:0").listen()
port = listener.getsockname()[1]
if os.fork() == 0:
    print(port, flush=True)
    sys.stdin.read()  # lives on until the test lets it end
    os._exit(0)
os.kill(os.getpid(), 9)
"""


def test_a_forked_child_does_not_keep_a_port() -> None:
    """Its parent was killed: nobody must find a listener that will never answer."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        parent.wait()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
        parent.communicate()
