"""A process of the simulation of members: an event loop that goes a callback at a time, and can die there."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import socket
from asyncio import events
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from colo_fsm.check.simulate.disk import Killed
from colo_fsm.replica.store.disk import LocalDisk
from colo_fsm.replica.wish import Call
from colo_fsm.stream.memory import PAGE_SIZE, Buffer

Told = Callable[[Any, BaseException | None], object]


class Clock:
    """Virtual time, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0


class Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, a callback at a time, on virtual time; what would take a thread is done on the loop.

    `delay` draws how long such a thing takes.
    """

    _ready: Any
    _scheduled: list[Any]
    _selector: Any
    _timer_cancelled_count: int

    def __init__(self, clock: Clock, delay: Callable[[], float]) -> None:
        super().__init__()
        self.dead = False
        self.troubles: list[str] = []
        self._virtual = clock
        self._delay = delay
        self._batch = 0
        self.set_exception_handler(self._trouble)

    def _trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not self.dead and "handle" in context and not isinstance(error, Killed):
            self.troubles.append(f"{context['message']}: {error!r}")

    def time(self) -> float:
        return self._virtual.now

    def _check_closed(self) -> None:
        """What the dead still ask of their loop is not done, and nobody is told."""

    # -- going on -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """What is called inside this is called on this loop."""
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def step(self) -> bool:
        """Run the next callback, in asyncio's order; False: there is none now."""
        while True:
            if not self._batch:
                self._process_events(self._selector.select(0))  # type: ignore[attr-defined]
                self._due()
                self._batch = len(self._ready)
                if not self._batch:
                    return False
            self._batch -= 1
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
                return True

    def _due(self) -> None:
        while self._scheduled and self.next_timer() <= self._virtual.now:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            self._ready.append(timer)

    def next_timer(self) -> float:
        """When something is due by itself; infinity: never."""
        while self._scheduled and self._scheduled[0].cancelled():
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False
        return self._scheduled[0].when() if self._scheduled else float("inf")

    # -- in the place of threads ----------------------------------------------------------------------

    def work(self, job: Callable[[], Any], told: Told) -> None:
        """Do this in a moment; whoever is killed inside tells nobody."""

        def run() -> None:
            try:
                answer = job()
            except Killed:
                return
            except BaseException as error:  # noqa: BLE001 - as the threads do
                told(None, error)
            else:
                told(answer, None)

        if delay := self._delay():
            self.call_later(delay, run)
        else:
            self.call_soon(run)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()

        def told(answer: Any, error: BaseException | None) -> None:
            if not future.done():
                future.set_result(answer) if error is None else future.set_exception(error)

        self.work(lambda: func(*args), told)
        return future

    # -- the end --------------------------------------------------------------------------------------

    def die(self) -> None:
        """Nothing on it goes on: what hangs on it is unwound here, and not when the collector comes."""
        self.dead = True
        buried: set[Any] = set()
        with self.running():
            while new := asyncio.all_tasks(self) - buried:
                for task in new:
                    buried.add(task)
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _unwound(task.get_coro())
        self.close()


def _unwound(coroutine: Any) -> None:
    """However often it waits on its way out."""
    for _ in range(100):
        try:
            coroutine.throw(asyncio.CancelledError())
        except BaseException:  # noqa: BLE001 - it is out; the dead complain of their disk, too
            return
    raise AssertionError(f"{coroutine} does not end")


class LoopHooks:
    """In the place of `aio.Hooks`: calls them on the loop."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        self._loop = loop

    def call(self, call: Call, told: Told) -> None:
        self._loop.work(call.run, told)

    def end(self) -> None:
        """There is no thread."""


class MortalDisk(LocalDisk):
    """A process's way to the real disk: it can die at any call of it, and then changes nothing any more."""

    def __init__(self) -> None:
        self.dead = False
        self.left: int | None = None
        """Calls until it dies in one; None: it does not."""
        self._open: set[int] = set()

    def die(self) -> None:
        """As the kernel does for a process that is gone."""
        self.dead = True
        for fd in self._open:
            super().close(fd)
        self._open.clear()

    def _call(self, last_wish: Callable[[], object] = lambda: None) -> None:
        if self.dead:
            raise Killed
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                last_wish()
                self.die()
                raise Killed

    def make_directory(self, path: Path) -> None:
        self._call()
        super().make_directory(path)

    def open_directory(self, path: Path) -> int:
        self._call()
        self._open.add(fd := super().open_directory(path))
        return fd

    def read(self, path: Path) -> bytes | None:
        self._call()
        return super().read(path)

    def create(self, path: Path) -> BinaryIO:
        self._call()
        return super().create(path)

    def open(self, path: Path) -> int:
        self._call()
        self._open.add(fd := super().open(path))
        return fd

    def resize(self, fd: int, size: int) -> None:
        self._call()
        super().resize(fd, size)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        self._call()
        super().allocate(fd, offset, size)

    def punch(self, fd: int, offset: int, size: int) -> None:
        self._call(lambda: super(MortalDisk, self).punch(fd, offset, PAGE_SIZE))
        super().punch(fd, offset, size)

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        data = b"".join(buffers)
        self._call(lambda: os.pwrite(fd, data[: len(data) // 2], offset))
        return super().write(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        self._call()  # no power is lost here, so that nothing needs to be safe from that

    def close(self, fd: int) -> None:
        if not self.dead:
            self._open.discard(fd)
            super().close(fd)

    def replace(self, source: Path, target: Path) -> None:
        self._call()
        super().replace(source, target)

    def unlink(self, path: Path) -> None:
        self._call()
        super().unlink(path)


def vanish(sock: socket.socket) -> None:
    """Closed as the kernel does it: the file of a Unix socket stays."""
    if hasattr(sock, "_bound"):
        sock._bound = None
    sock.close()
