"""Connections are taken whatever happens to a single one, until nobody wants any."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import Any, cast

import pytest

from colo_fsm.qemu import listening
from colo_fsm.qemu.listening import hang_up, next_link


class Listener:
    """Answers each accept() with the next of these; what it counts is how often it was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def accept(self) -> tuple[object, None]:
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return answer, None


def taken(listener: Listener, over: Any = lambda: False) -> object:
    return next_link(cast(socket.socket, listener), over)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EMFILE, errno.ENFILE])
def test_one_that_fails_is_not_the_last(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    assert taken(Listener(number, number, "link")) == "link"
    assert waited == ([listening.PAUSE] * 2 if number in (errno.EMFILE, errno.ENFILE) else [])


def test_a_listener_that_is_of_no_use_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        taken(Listener(errno.EBADF))


def test_when_it_is_over_nothing_is_taken() -> None:
    assert taken(Listener(), lambda: True) is None
    answers = iter([False, True])
    assert taken(Listener(errno.EBADF), lambda: next(answers)) is None


def test_it_ends_while_it_waits() -> None:
    over = threading.Event()
    found: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: found.append(next_link(server, over.is_set)))
        thread.start()
        over.set()
        hang_up(server)
        thread.join(20)
        assert found == [None]
    hang_up(server)
