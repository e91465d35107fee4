"""Buffers on their way out of a socket that takes only so much."""

from __future__ import annotations

import os
import socket

import pytest

from colo_fsm.replica import link_pair
from colo_fsm.replica.link import MOST_BUFFERS, Outgoing
from colo_fsm.stream import Buffer


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
