"""The same without asyncio: a thread for each pair serves the script, and the methods block.

with blocking.primary(guest, peer="tcp:standby:9998", arbiter="sqlite:claim.db") as pair:
    with pair.turn():
        reply = service.apply(request)
    pair.committed()
    send(reply)
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import select
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from colo_fsm.arbiter import Arbiter
from colo_fsm.fsm import Side
from colo_fsm.stream.memory import Buffer

from .address import address_of, tuned
from .events import Event
from .guest import Guest
from .link import Outgoing, receive
from .options import Options
from .outbox import NotCommitted
from .pair import (
    Link,
    Make,
    NotRunning,
    PairBase,
    Turn,
    arbiter_of,
    check_not_in_turn,
    in_turn,
    make_primary,
    make_secondary,
    store_of,
)
from .script import Call, Disconnect, Op, OpenReturnPath, Read, Script, Write
from .store import Store

LONGEST = 1e6
"""Seconds, some eleven days: who is willing to wait longer waits for ever. poll() can count no further."""


class Io:
    """The outside of a script, on a thread of its own."""

    def __init__(self) -> None:
        self.link: socket.socket | None = None
        self._lock = threading.Lock()
        self._wake: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def serve(self, script: Script[None]) -> None:
        """Run a script to its end."""
        answer: Any = None
        step: Callable[[Any], Op] = script.send
        with contextlib.suppress(StopIteration):
            while True:
                op = step(answer)
                try:
                    answer, step = self._do(op), script.send
                except Exception as error:  # noqa: BLE001 - the script decides what it means
                    answer, step = error, script.throw

    def _do(self, op: Op) -> Any:
        match op:
            case Read(timeout, from_link):
                return self.read(timeout, self.link if from_link else None)
            case Write(buffers, timeout):
                return self._write(Outgoing(buffers), timeout)
            case Call(hook, args):
                return hook(*args)
            case OpenReturnPath():
                assert self.link is not None
                return self.link.getpeername()
            case Disconnect():
                return self.disconnect()

    def read(self, timeout: float | None, link: socket.socket | None) -> bytes | None:
        """See `Read`."""
        return receive(link) if self._ready(timeout, link) and link is not None else None

    def _ready(self, timeout: float | None, sock: socket.socket | None, event: int = select.POLLIN) -> bool:
        """Wait for the socket; False when somebody wakes us first. Raises TimeoutError."""
        assert self._wake is not None
        ready = _poll({self._wake: select.POLLIN} | ({sock.fileno(): event} if sock else {}), timeout)
        if self._wake in ready:
            os.eventfd_read(self._wake)
            return False
        return True

    def _write(self, outgoing: Outgoing, timeout: float | None) -> list[Buffer] | None:
        assert self.link is not None
        while not outgoing.send_some(self.link):
            if not self._ready(timeout, self.link, select.POLLOUT):
                return outgoing.left
        return None

    def wake(self) -> None:
        """Let a `Read` return: somebody has made a request. From any thread."""
        with self._lock:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def accept(self, listener: socket.socket) -> socket.socket | None:
        """The first connection, or None when somebody made a request first."""
        while self._ready(None, listener):
            with contextlib.suppress(BlockingIOError):  # whoever knocked has gone again
                return tuned(listener.accept()[0])
        return None

    def disconnect(self) -> None:
        """Close the link."""
        if self.link is not None:
            self.link.close()
            self.link = None

    def close(self) -> None:
        """Give everything back."""
        self.disconnect()
        with self._lock:  # a number that was closed may be another file by now
            if self._wake is not None:
                os.close(self._wake)
            self._wake = None


def _poll(wanted: dict[int, int], timeout: float | None) -> list[int]:
    """The descriptors that are ready. Raises TimeoutError."""
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    # rounded up, so that a deadline is never met early
    ready = poll.poll(None if timeout is None or timeout > LONGEST else math.ceil(timeout * 1000))
    if not ready:
        raise TimeoutError
    return [fd for fd, _ in ready]


class Turns:
    """The gate of a blocking pair."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._shut = False
        self._count = 0

    def open(self) -> None:
        """See `Gate.open`."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def close(self) -> None:
        """See `Gate.close`."""
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: self._count == 0)

    def shut(self) -> None:
        """No turn will ever begin again."""
        with self._changed:
            self._shut = True
            self._changed.notify_all()

    def wait(self) -> None:
        """Until the guest runs. Raises NotRunning when it will not."""
        with self._changed:
            self._wait()

    def _wait(self) -> None:
        self._changed.wait_for(lambda: self._open or self._shut)
        if self._shut:
            raise NotRunning("this side has stopped")

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """See `Pair.turn`."""
        check_not_in_turn("begin another turn")
        with self._changed:
            self._wait()
            self._count += 1
        turn = Turn()
        token = in_turn.set(turn)
        try:
            yield
        finally:
            turn.open = False
            in_turn.reset(token)
            with self._changed:
                self._count -= 1
                self._changed.notify_all()


class Events:
    """The events of a pair from now on, as an iterator; ends when the pair is over."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.queue.get()
        if event is None:
            self.queue.put(None)
            raise StopIteration
        return event


class Pair(PairBase):
    """One side of a replicated pair: `with blocking.primary(...) as pair`. For any thread."""

    def __init__(
        self, link: Link, arbiter: Arbiter, make: Make, close: Callable[[], None] = lambda: None
    ) -> None:
        self._turns = Turns()
        super().__init__(link, arbiter, self._turns, make)
        self._lock = threading.Lock()
        self._subscribers: weakref.WeakSet[Events] = weakref.WeakSet()
        self._silent = False
        """Whether no event will come any more."""
        self._io: Io | None = None
        self._listener: socket.socket | None = None
        self._over: Future[None] = Future()
        self._close = close

    def __enter__(self) -> Self:
        """See `aio.Pair.__aenter__`."""
        io = Io()
        try:
            self._open(io)
        except BaseException:
            io.close()
            self._close()
            raise
        self._io = io
        thread = threading.Thread(target=self._run, args=(io,), name=f"colo-fsm {self.side}", daemon=True)
        thread.start()
        if self.side is Side.PRIMARY:
            try:
                self.running()
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def _open(self, io: Io) -> None:
        if isinstance(self._link, socket.socket):
            io.link = tuned(self._link)
        elif self.side is Side.PRIMARY:
            io.link = self._link.connect(self._replica.options.connect_timeout)
        else:
            self._listener = self._link.listen()
            self._listener.setblocking(False)
            self._listening = address_of(self._listener)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave in order; see `request_leave`."""
        self.request_leave()
        self.wait()

    def _run(self, io: Io) -> None:
        try:
            if self._listener is not None:
                with self._listener:
                    io.link = io.accept(self._listener)
            # without a link somebody wants to end it before a Primary came: the script sees to that
            io.serve(self._replica.run())
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits, not in a dead thread
            self._over.set_exception(error)
        finally:
            io.close()
            self._replica.outbox.discard()
            self._turns.shut()
            self._emit(None)
            self._close()
            if not self._over.done():
                self._over.set_result(None)

    def _emit(self, event: Event | None) -> None:
        with self._lock:
            self._silent = event is None
            for events in self._subscribers:
                events.queue.put(event)

    def _wake(self) -> None:
        if self._io is not None:
            self._io.wake()

    def events(self) -> Events:
        """What happens from now on, until the pair is over."""
        events = Events()
        with self._lock:
            self._subscribers.add(events)
            if self._silent:
                events.queue.put(None)
        return events

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """See `aio.Pair.turn`."""
        return self._turns.turn()

    def running(self) -> None:
        """See `aio.Pair.running`."""
        try:
            self._turns.wait()
        except NotRunning:
            if self.session.error is not None:
                raise self.session.error from None
            raise

    def committed(self, timeout: float | None = None) -> None:
        """See `aio.Pair.committed`. Raises TimeoutError after `timeout` seconds, too."""
        check_not_in_turn("wait for committed()")
        answer: Future[None] = Future()
        self.outbox.hold(
            lambda: answer.set_result(None),
            lambda: answer.set_exception(NotCommitted("this side has stopped")),
        )
        answer.result(timeout)

    def wait(self, timeout: float | None = None) -> StrEnum:
        """Until this side is over; where it ended. Raises TimeoutError after `timeout` seconds."""
        self._over.result(timeout)
        return self.state


def primary(guest: Guest, *, peer: Link, arbiter: Arbiter | str, options: Options | None = None) -> Pair:
    """See `colo_fsm.primary`."""
    judge = arbiter_of(arbiter)
    return Pair(peer, judge, make_primary(guest, judge, options or Options()))


def secondary(
    guest: Guest,
    *,
    listen: Link,
    arbiter: Arbiter | str,
    store: Store | str | Path | None = None,
    options: Options | None = None,
) -> Pair:
    """See `colo_fsm.secondary`."""
    judge = arbiter_of(arbiter)
    keep, close = store_of(store)
    make = make_secondary(guest, judge, options or Options(), keep)
    return Pair(listen, judge, make, close)
