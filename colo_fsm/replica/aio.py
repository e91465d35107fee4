"""The asyncio driver: serves a script's wishes on the event loop, and the pair that embedders use.

Hooks of a blocking guest, the store and the arbiter run on one thread of the pair's own; those of an
`AsyncGuest` on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from colo_fsm.arbiter import Arbiter
from colo_fsm.fsm import Side
from colo_fsm.stream.memory import Buffer

from .address import address_of, tuned
from .events import Event
from .guest import AsyncGuest, Guest
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


class Io:
    """The outside of a script, on the event loop."""

    def __init__(self) -> None:
        self.link: socket.socket | None = None
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None
        self._hooks = ThreadPoolExecutor(1, thread_name_prefix="colo-fsm-hooks")

    async def serve(self, script: Script[None]) -> None:
        """Run a script to its end."""
        answer: Any = None
        step: Callable[[Any], Op] = script.send
        with contextlib.suppress(StopIteration):
            while True:
                op = step(answer)
                try:
                    answer, step = await self._do(op), script.send
                except Exception as error:  # noqa: BLE001 - the script decides what it means
                    answer, step = error, script.throw

    async def _do(self, op: Op) -> Any:
        match op:
            case Read(timeout, from_link):
                return await self.read(timeout, self.link if from_link else None)
            case Write(buffers, timeout):
                return await self._write(Outgoing(buffers), timeout)
            case Call(hook, args):
                if inspect.iscoroutinefunction(hook):
                    return await hook(*args)
                return await asyncio.get_running_loop().run_in_executor(self._hooks, hook, *args)
            case OpenReturnPath():
                assert self.link is not None
                return self.link.getpeername()
            case Disconnect():
                return self.disconnect()

    async def read(self, timeout: float | None, link: socket.socket | None) -> bytes | None:
        """See `Read`."""
        async with asyncio.timeout(timeout):
            while not self._woken:
                if link is not None:
                    with contextlib.suppress(BlockingIOError):
                        return receive(link)
                await self._ready(link, reading=True)
        self._woken = False
        return None

    async def _write(self, outgoing: Outgoing, timeout: float | None) -> list[Buffer] | None:
        assert self.link is not None
        while not outgoing.send_some(self.link):
            if self._woken:
                self._woken = False
                return outgoing.left
            async with asyncio.timeout(timeout):
                await self._ready(self.link, reading=False)
        return None

    async def _ready(self, link: socket.socket | None, reading: bool) -> None:
        """Wait until the link is ready, or somebody wakes us."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        if link is not None:
            (loop.add_reader if reading else loop.add_writer)(link, _set, ready)
        self._waiter = ready
        try:
            await ready
        finally:
            self._waiter = None
            if link is not None:
                (loop.remove_reader if reading else loop.remove_writer)(link)

    def wake(self) -> None:
        """Let a `Read` return: somebody has made a request."""
        self._woken = True
        if self._waiter is not None:
            _set(self._waiter)

    async def accept(self, listener: socket.socket) -> socket.socket | None:
        """The first connection, or None when somebody made a request first."""
        while not self._woken:
            with contextlib.suppress(BlockingIOError):
                return tuned(listener.accept()[0])
            await self._ready(listener, reading=True)
        self._woken = False
        return None

    def disconnect(self) -> None:
        """Close the link."""
        if self.link is not None:
            self.link.close()
            self.link = None

    def close(self) -> None:
        """Give everything back."""
        self.disconnect()
        self._hooks.shutdown(wait=False)


def _set(future: asyncio.Future[None], error: Exception | None = None) -> None:
    """Settle a future, unless who waited for it has gone."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


class Turns:
    """The gate of an asyncio pair."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._count = 0
        self._shut = False

    async def open(self) -> None:
        """See `Gate.open`."""
        self._opened.set()

    async def close(self) -> None:
        """See `Gate.close`."""
        self._opened.clear()
        await self._none_left.wait()

    def shut(self) -> None:
        """No turn will ever begin again."""
        self._shut = True
        self._opened.set()

    async def wait(self) -> None:
        """Until the guest runs. Raises NotRunning when it will not."""
        while not self._opened.is_set():
            await self._opened.wait()
        if self._shut:
            raise NotRunning("this side has stopped")

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """See `Pair.turn`."""
        check_not_in_turn("begin another turn")
        await self.wait()
        self._count += 1
        self._none_left.clear()
        turn = Turn()
        token = in_turn.set(turn)
        try:
            yield
        finally:
            turn.open = False
            in_turn.reset(token)
            self._count -= 1
            if self._count == 0:
                self._none_left.set()


class Events:
    """The events of a pair from now on, as an async iterator; ends when the pair is over."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self.queue.get()
        if event is None:
            self.queue.put_nowait(None)
            raise StopAsyncIteration
        return event


class Pair(PairBase):
    """One side of a replicated pair: `async with colo_fsm.primary(...) as pair`.

    All methods are for the event loop that entered it.
    """

    def __init__(
        self, link: Link, arbiter: Arbiter, make: Make, close: Callable[[], None] = lambda: None
    ) -> None:
        self._turns = Turns()
        super().__init__(link, arbiter, self._turns, make)
        self._io = Io()
        self._subscribers: weakref.WeakSet[Events] = weakref.WeakSet()
        self._listener: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._close = close

    async def __aenter__(self) -> Self:
        """A Primary: connected, and the guest runs. A Secondary: listening.

        Raises OSError when the peer cannot be reached, and what broke the handshake when a Primary
        did not get as far as running.
        """
        primary = self.side is Side.PRIMARY
        try:
            await self._open(primary)
        except BaseException:
            self._io.close()
            self._close()
            raise
        self._task = asyncio.create_task(self._run(), name=f"colo-fsm {self.side}")
        if primary:
            try:
                await self.running()
            except BaseException:
                await self.__aexit__(None, None, None)
                raise
        return self

    async def _open(self, primary: bool) -> None:
        if isinstance(self._link, socket.socket):
            self._io.link = tuned(self._link)
        elif primary:
            self._io.link = await asyncio.to_thread(self._link.connect, self._replica.options.connect_timeout)
        else:
            self._listener = self._link.listen()
            self._listener.setblocking(False)
            self._listening = address_of(self._listener)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave in order; see `request_leave`."""
        self.request_leave()
        await self.wait()

    async def _run(self) -> None:
        try:
            if self._listener is not None:
                with self._listener:
                    self._io.link = await self._io.accept(self._listener)
            # without a link somebody wants to end it before a Primary came: the script sees to that
            await self._io.serve(self._replica.run())
        finally:
            self._io.close()
            self._replica.outbox.discard()
            self._turns.shut()
            for events in self._subscribers:
                events.queue.put_nowait(None)
            self._close()

    def _emit(self, event: Event) -> None:
        for events in self._subscribers:
            events.queue.put_nowait(event)

    def _wake(self) -> None:
        self._io.wake()

    def events(self) -> Events:
        """What happens from now on, until the pair is over."""
        events = Events()
        self._subscribers.add(events)
        if self._task is not None and self._task.done():
            events.queue.put_nowait(None)
        return events

    def turn(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Change the guest's state inside this: waits until the guest runs, and a suspend waits for it.

        Keep it short. Raises NotRunning when this side has stopped.
        """
        return self._turns.turn()

    async def running(self) -> None:
        """Until the guest runs on this side: at once on a Primary, after a failover on a Secondary.

        Raises what broke the handshake, or NotRunning, when it will not.
        """
        try:
            await self._turns.wait()
        except NotRunning:
            if self.session.error is not None:
                raise self.session.error from None
            raise

    async def committed(self) -> None:
        """Until a checkpoint covers all that is true now: then answer. Call it after the turn.

        Raises NotCommitted when this side stopped first: then do not answer.
        """
        check_not_in_turn("wait for committed()")
        answer = asyncio.get_running_loop().create_future()
        self.outbox.hold(lambda: _set(answer), lambda: _set(answer, NotCommitted("this side has stopped")))
        await answer

    async def wait(self) -> StrEnum:
        """Until this side is over; where it ended."""
        assert self._task is not None
        await asyncio.wait([self._task])
        self._task.result()
        return self.state


def primary(
    guest: Guest | AsyncGuest, *, peer: Link, arbiter: Arbiter | str, options: Options | None = None
) -> Pair:
    """Replicate this guest to the Secondary at `peer`, and run it.

    peer: `tcp:HOST:PORT`, `unix:PATH`, or a connected socket. arbiter: `sqlite:PATH` (both sides on
    one machine), `exec:COMMAND`, or an object. Raises ValueError for what cannot work.
    """
    judge = arbiter_of(arbiter)
    return Pair(peer, judge, make_primary(guest, judge, options or Options()))


def secondary(
    guest: Guest | AsyncGuest,
    *,
    listen: Link,
    arbiter: Arbiter | str,
    store: Store | str | Path | None = None,
    options: Options | None = None,
) -> Pair:
    """Take checkpoints of the Primary that connects at `listen`, and survive it in this guest.

    store: where the newest checkpoint is kept: a directory, a store, or memory. The rest: `primary`.
    """
    judge = arbiter_of(arbiter)
    keep, close = store_of(store)
    make = make_secondary(guest, judge, options or Options(), keep)
    return Pair(listen, judge, make, close)
