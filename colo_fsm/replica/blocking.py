"""The blocking driver: a thread for each pair serves the script, and the methods block.

with blocking.primary(guest, peer="tcp:standby:9998", arbiter="sqlite:claim.db") as pair:
    with pair.turn():
        reply = service.apply(request)
    pair.committed()
    send(reply)

Hooks are called on the pair's thread. Where one does not return in time, another thread goes on with the
script in its place, so that nobody waits for it; all of them are daemons.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from colo_fsm.arbiter import Arbiter
from colo_fsm.colo import PRIMARY, SECONDARY
from colo_fsm.fsm import Table

from .events import Event, EventQueue
from .gate import Attempt, Changing, NotRunning, TurnBlock
from .guest import Guest
from .options import Options
from .pair import PairBase, Where, primary_parts, secondary_parts
from .store.base import Store
from .wish import LONGEST, Call, Script, Wait, Wish, milliseconds

T = TypeVar("T")


class _Replaced(BaseException):
    """Another thread has gone on with the script while this one was inside a hook."""


class ThreadDriver:
    """Serves a script on a thread of its own; `ended` is told what it ended with."""

    def __init__(
        self, script: Script[None], name: str, ended: Callable[[BaseException | None], object]
    ) -> None:
        self._script = script
        self._name = name
        self._ended = ended
        self._lock = threading.RLock()  # a signal handler may wake us while its thread does
        self._changed = threading.Condition(self._lock)
        self._wake: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._polled: tuple[Any, bool, int] = None, False, -1
        self._interrupt: BaseException | None = None
        self._call: Call | None = None
        self._due = self._beat = self._watched_until = 0.0
        """When a hook is late, when something is to be done meanwhile, how long nobody looks."""
        self._watchdog = False

    def start(self) -> None:
        """Begin to serve."""
        self._go_on(self._script.send, None)

    def _go_on(self, step: Callable[[Any], Wish], answer: Any) -> None:
        threading.Thread(target=self._serve, args=(step, answer), name=self._name, daemon=True).start()

    def _serve(self, step: Callable[[Any], Wish], answer: Any) -> None:
        while True:
            try:
                wish = step(answer)
            except StopIteration:
                return self._end(None)
            except BaseException as error:  # noqa: BLE001 - raised where somebody waits, not in a dead thread
                return self._end(error)
            try:
                answer = self._wait(wish) if isinstance(wish, Wait) else self._answer(wish)
                step = self._script.send
            except _Replaced:
                return None
            except BaseException as error:  # noqa: BLE001 - the script decides what it means
                answer, step = error, self._script.throw

    def _wait(self, wish: Wait) -> bool:
        assert self._wake is not None
        self._check()
        if (wish.socket, wish.writing) != self._polled[:2]:
            self._look_at(wish.socket, wish.writing)
        ready = self._poll.poll(milliseconds(wish.timeout))
        if not ready:
            raise TimeoutError
        if any(fd == self._wake for fd, _ in ready):
            os.eventfd_read(self._wake)
            self._check()
            return len(ready) > 1
        return True

    def _look_at(self, sock: Any, writing: bool) -> None:
        """Poll this one from now on. The last one may be closed, and its number another file's."""
        if self._polled[0] is not None:
            self._poll.unregister(self._polled[2])
        number = -1 if sock is None else sock.fileno()
        if sock is not None:
            self._poll.register(number, select.POLLOUT if writing else select.POLLIN)
        self._polled = sock, writing, number

    def _check(self) -> None:
        if self._interrupt is not None:
            error, self._interrupt = self._interrupt, None
            raise error

    def _answer(self, call: Call) -> Any:
        with self._lock:
            self._check()
            self._call = call
            now = time.monotonic()
            self._due = now + min(LONGEST, LONGEST if call.timeout is None else call.timeout)
            self._beat = now + min(LONGEST, call.every)
            if min(self._due, self._beat) < self._watched_until:
                self._changed.notify()
            elif not self._watchdog:
                self._watchdog = True
                threading.Thread(target=self._watch, name=f"{self._name} watch", daemon=True).start()
        try:
            return call.run()
        finally:
            self._returned(call)

    def _returned(self, call: Call) -> None:
        with self._lock:
            if self._call is not call:
                raise _Replaced
            self._call = None

    def _watch(self) -> None:
        """Go on without a hook that does not return in time, and do meanwhile what it asks for."""
        with self._lock:
            while self._wake is not None:
                now = time.monotonic()
                if self._call is not None and now >= self._due:
                    self._call = None
                    self._go_on(self._script.throw, TimeoutError())
                elif self._call is not None and now >= self._beat:
                    if self._call.meanwhile is not None:
                        self._call.meanwhile()
                    self._beat = now + min(LONGEST, self._call.every)
                left = min(self._due, self._beat) - now
                # while no hook is at work: as long as the last one had, so that the next need not wake us
                self._watched_until = now + (left if left > 0 else LONGEST)
                self._changed.wait(self._watched_until - now)

    def wake(self, at_once: bool = False) -> None:
        """See `Driver.wake`. It has a thread of its own for that."""
        with self._lock:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def interrupt(self, error: BaseException) -> None:
        """See `Driver.interrupt`. What follows may be done on this thread."""
        with self._lock:
            inside, self._call = self._call is not None, None
            if not inside:
                self._interrupt = error
        if inside:
            self._serve(self._script.throw, error)
        else:
            self.wake()

    def _end(self, error: BaseException | None) -> None:
        with self._lock:  # a number that was closed may be another file by now
            assert self._wake is not None
            os.close(self._wake)
            self._wake = None
            self._changed.notify()
        self._ended(error)


def until(source: Changing, attempt: Attempt[T], timeout: float | None = None) -> T:
    """The answer, once there is one. Raises TimeoutError after `timeout` seconds."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        asleep = threading.Lock()
        asleep.acquire()
        if (answer := attempt(asleep.release)) is not None:
            return answer
        left = -1.0 if end is None else max(0.0, min(LONGEST, end - time.monotonic()))
        try:
            if not asleep.acquire(timeout=left):
                raise TimeoutError
        finally:
            source.forget(asleep.release)


class Events(EventQueue):
    """The events of a pair from now on, as an iterator; ends when the pair is over."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event: Event | Literal[False] = until(self, self.take)
        if event is False:
            raise StopIteration
        return event


class BlockingTurn(TurnBlock):
    """See `aio.Pair.turn`."""

    def __enter__(self) -> None:
        self.turn = until(self.gate, self.gate.enter)

    def __exit__(self, *_: object) -> None:
        self.leave()


class Pair(PairBase):
    """One side of a replicated pair: `with blocking.primary(...) as pair`. For any thread."""

    def __enter__(self) -> Self:
        """See `aio.Pair.__aenter__`."""
        self._driven_by(ThreadDriver(self._life.run(), f"colo-fsm {self.side}", self._end)).start()
        try:
            until(*self._entering())
        except NotRunning:
            self.wait()  # which raises what it failed with
            self.running()
            raise
        except BaseException as error:
            self._abandon(error)
            until(self._over, self._over.settled)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave in order; see `request_leave`."""
        self.request_leave()
        self.wait()

    def events(self) -> Events:
        """What happens from now on, until the pair is over."""
        return self._replica.events.follow(Events())

    def turn(self) -> BlockingTurn:
        """See `aio.Pair.turn`."""
        return BlockingTurn(self._replica.gate)

    def running(self) -> None:
        """See `aio.Pair.running`."""
        until(self._replica.gate, self._runs)

    def committed(self, timeout: float | None = None) -> None:
        """See `aio.Pair.committed`. Raises TimeoutError after `timeout` seconds, too."""
        promise = self._promise()
        until(promise, promise.get, timeout)

    def wait(self, timeout: float | None = None) -> StrEnum:
        """Until this side is over; where it ended. Raises TimeoutError after `timeout` seconds."""
        until(self._over, self._over.get, timeout)
        return self.state


def primary(
    guest: Guest,
    *,
    peer: Where,
    arbiter: Arbiter | str,
    options: Options | None = None,
    table: Table = PRIMARY,
) -> Pair:
    """See `colo_fsm.primary`."""
    return Pair(*primary_parts(guest, peer, arbiter, options, table))


def secondary(
    guest: Guest,
    *,
    listen: Where,
    arbiter: Arbiter | str,
    store: Store | str | Path | None = None,
    options: Options | None = None,
    table: Table = SECONDARY,
    replace_store: bool = False,
) -> Pair:
    """See `colo_fsm.secondary`."""
    return Pair(*secondary_parts(guest, listen, arbiter, store, options, table, replace_store))
