"""The asyncio driver: serves a script on the event loop, and the pair that embedders use.

Hooks of a blocking guest and the store are called on one thread of the pair's own, begun with the first
of them; the arbiter on one that ends with its answer; an `AsyncGuest`, and what is `quick`, on the loop. The
threads are daemons, and one that does not return is left alone.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from colo_fsm.arbiter import Arbiter
from colo_fsm.colo import PRIMARY, SECONDARY
from colo_fsm.fsm import Table

from .events import Event, EventQueue
from .gate import Attempt, Changing, NotRunning, TurnBlock
from .guest import AsyncGuest, Guest
from .options import Options
from .outbox import NotCommitted
from .pair import PairBase, Where, primary_parts, secondary_parts
from .store.base import Store
from .wish import Call, Script, Wait, Wish

T = TypeVar("T")
Told = Callable[[Any, BaseException | None], object]
"""Told what a hook has returned, or raised."""


class Hooks:
    """A thread on which hooks are called, one after the other."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Call, Told] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="colo-fsm-hooks", daemon=True).start()

    def _run(self) -> None:
        while (asked := self._calls.get()) is not None:
            call, told = asked
            try:
                answer = call.run()
            except BaseException as error:  # noqa: BLE001 - the script decides what it means
                told(None, error)
            else:
                told(answer, None)

    def call(self, call: Call, told: Told) -> None:
        """Call this; `told` is told on that thread."""
        self._calls.put((call, told))

    def end(self) -> None:
        """End the thread, once it has returned from its hook."""
        self._calls.put(None)


class LoopDriver:
    """Serves a script on this event loop, in its callbacks; `ended` is told what it ended with."""

    def __init__(self, script: Script[None], ended: Callable[[BaseException | None], object]) -> None:
        self._script = script
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._hooks: Hooks | None = None
        self._wish: Wish | None = None
        self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._beat = math.inf
        """When the wish is late, and when something is to be done meanwhile, by the loop's clock."""
        self._task: asyncio.Task[Any] | None = None
        self._watched: tuple[Any, int, bool] | None = None
        """The socket that the loop looks at, its descriptor, and whether for writing."""

    def start(self) -> None:
        """Begin to serve."""
        self._go(self._script.send, None)

    def _go(self, step: Callable[[Any], Wish], answer: Any) -> None:
        try:
            wish = step(answer)
        except StopIteration:
            self._end(None)
            return
        except BaseException as error:  # noqa: BLE001 - raised where somebody waits
            self._end(error)
            return
        if self._watched is not None and self._watched[0].fileno() < 0:
            self._unwatch()  # closed: its number may be another file's soon
        self._wish = wish
        self._have_patience(wish)
        if isinstance(wish, Call):
            self._call(wish)
        elif wish.socket is not None:
            self._watch(wish.socket, wish.writing)

    def _answer(self, step: Callable[[Any], Wish], answer: Any) -> None:
        """Go on with the script, which has waited for this."""
        self._wish = None
        self._due = self._beat = math.inf
        self._go(step, answer)

    # -- waiting --------------------------------------------------------------------------------

    def _watch(self, sock: Any, writing: bool) -> None:
        """Look at this socket. It stays watched, for the next time, until it is ready too early."""
        watched = sock, sock.fileno(), writing
        if self._watched != watched:
            self._unwatch()
            (self._loop.add_writer if writing else self._loop.add_reader)(sock, self._ready)
            self._watched = watched

    def _unwatch(self) -> None:
        if self._watched is not None:
            _, number, writing = self._watched
            (self._loop.remove_writer if writing else self._loop.remove_reader)(number)
            self._watched = None

    def _ready(self) -> None:
        wish, watched = self._wish, self._watched
        assert watched is not None
        if isinstance(wish, Wait) and wish.socket is watched[0] and wish.writing is watched[2]:
            self._answer(self._script.send, True)
        else:
            self._unwatch()

    def wake(self, at_once: bool = False) -> None:
        """See `Driver.wake`. A script that is at work looks before it waits again."""
        if threading.get_ident() != self._thread:
            with suppress(RuntimeError):  # the loop has ended, and the pair with it
                self._loop.call_soon_threadsafe(self._wake)
        elif at_once and isinstance(self._wish, Wait):
            self._answer(self._script.send, False)
        else:
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        if isinstance(self._wish, Wait):
            self._answer(self._script.send, False)

    # -- time -----------------------------------------------------------------------------------

    def _have_patience(self, wish: Wish) -> None:
        """Note when this wish is late. A timer of a wish before it that goes off earlier sees to it."""
        beats = isinstance(wish, Call) and wish.meanwhile is not None
        if wish.timeout is None and not beats:
            self._due = self._beat = math.inf
            return
        now = self._loop.time()
        self._due = math.inf if wish.timeout is None else now + wish.timeout
        self._beat = now + wish.every if isinstance(wish, Call) and beats else math.inf
        self._set_timer()

    def _set_timer(self) -> None:
        at = min(self._due, self._beat)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look_at_time) if at < math.inf else None

    def _look_at_time(self) -> None:
        wish, self._timer, now = self._wish, None, self._loop.time()
        if now >= self._due:
            if isinstance(wish, Call):
                self._leave_alone()
            self._answer(self._script.throw, TimeoutError())
            return
        if now >= self._beat and isinstance(wish, Call) and wish.meanwhile is not None:
            self._beat = now + wish.every
            wish.meanwhile()
        self._set_timer()

    # -- calling --------------------------------------------------------------------------------

    def _call(self, call: Call) -> None:
        if iscoroutinefunction(call.hook):
            self._task = task = self._loop.create_task(call.hook(*call.args))
            task.add_done_callback(partial(self._task_done, call))
        elif call.seldom:
            hooks = Hooks()
            hooks.call(call, partial(self._tell, call))
            hooks.end()
        else:
            self._hooks = self._hooks or Hooks()
            self._hooks.call(call, partial(self._tell, call))

    def _tell(self, call: Call, answer: Any, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and the pair with it
            self._loop.call_soon_threadsafe(self._returned, call, answer, error)

    def _task_done(self, call: Call, task: asyncio.Task[Any]) -> None:
        call.settle()
        error = RuntimeError("the hook was cancelled") if task.cancelled() else task.exception()
        self._returned(call, None if error else task.result(), error)

    def _returned(self, call: Call, answer: Any, error: BaseException | None) -> None:
        if self._wish is not call:
            return  # nobody waits for it any more
        if error is None:
            self._answer(self._script.send, answer)
        else:
            self._answer(self._script.throw, error)

    def _leave_alone(self) -> None:
        """Wait no more for the hook that is at work."""
        if self._task is not None:
            self._task.cancel()
        if self._hooks is not None:
            self._hooks.end()
        self._task = self._hooks = None

    # -- ending ---------------------------------------------------------------------------------

    def interrupt(self, error: BaseException) -> None:
        """See `Driver.interrupt`. On the event loop only."""
        if not self._over:
            self._leave_alone()
            self._answer(self._script.throw, error)

    def _end(self, error: BaseException | None) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._unwatch()
        self._leave_alone()
        self._ended(error)


def _nobody() -> None:
    """Whoever looks whether an attempt succeeds at once does not wait."""


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _settle_from_anywhere(
    loop: asyncio.AbstractEventLoop, thread: int, future: asyncio.Future[None], error: Exception | None = None
) -> None:
    if threading.get_ident() == thread:
        _settle(future, error)
    else:
        with suppress(RuntimeError):  # the loop has ended, and who waited there with it
            loop.call_soon_threadsafe(_settle, future, error)


async def until(source: Changing, attempt: Attempt[T]) -> T:
    """The answer, once there is one. On any event loop."""
    loop, thread = asyncio.get_running_loop(), threading.get_ident()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        again = partial(_settle_from_anywhere, loop, thread, ready)
        if (answer := attempt(again)) is not None:
            return answer
        try:
            await ready
        finally:
            source.forget(again)


class Events(EventQueue):
    """The events of a pair from now on, as an async iterator; ends when the pair is over."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event: Event | Literal[False] = await until(self, self.take)
        if event is False:
            raise StopAsyncIteration
        return event


class AsyncTurn(TurnBlock):
    """See `Pair.turn`."""

    async def __aenter__(self) -> None:
        self.turn = self.gate.enter(_nobody)
        if self.turn is None:
            self.gate.forget(_nobody)
            self.turn = await until(self.gate, self.gate.enter)

    async def __aexit__(self, *_: object) -> None:
        self.leave()


class Pair(PairBase):
    """One side of a replicated pair: `async with colo_fsm.primary(...) as pair`.

    Enter and leave it on one event loop; requests may come from any thread.
    """

    _task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        """A Primary: connected, and the guest runs. A Secondary: listening.

        Raises OSError when the peer cannot be reached, and what broke the handshake when a Primary
        did not get as far as running.
        """
        driver = self._driven_by(LoopDriver(self._life.run(), self._end))
        self._task = asyncio.create_task(self._keep(driver), name=f"colo-fsm {self.side}")
        driver.start()
        try:
            await until(*self._entering())
        except NotRunning:
            await self.wait()  # which raises what it failed with
            await self.running()
            raise
        except BaseException as error:
            self._abandon(error)
            await asyncio.wait([self._task])
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave in order; see `request_leave`."""
        self.request_leave()
        await asyncio.wait([self._task])
        await self.wait()

    async def _keep(self, driver: LoopDriver) -> None:
        """A loop that ends takes its pairs along: it cancels this, which lives as long as the pair."""
        try:
            await until(self._over, self._over.settled)
        except asyncio.CancelledError as error:
            driver.interrupt(error)
            raise

    def events(self) -> Events:
        """What happens from now on, until the pair is over."""
        return self._replica.events.follow(Events())

    def turn(self) -> AsyncTurn:
        """Change the guest's state inside this: waits until the guest runs, and a suspend waits for it.

        Keep it short. Raises NotRunning when this side has stopped.
        """
        return AsyncTurn(self._replica.gate)

    async def running(self) -> None:
        """Until the guest runs on this side: at once on a Primary, after a failover on a Secondary.

        Raises what broke the handshake, or NotRunning, when it will not.
        """
        await until(self._replica.gate, self._runs)

    async def committed(self) -> None:
        """Until a checkpoint covers all that is true now: then answer. Call it after the turn.

        Raises NotCommitted when this side stopped first: then do not answer.
        """
        self._replica.gate.check_outside("wait for committed()")
        loop, thread = asyncio.get_running_loop(), threading.get_ident()
        covered: asyncio.Future[None] = loop.create_future()
        settle = partial(_settle_from_anywhere, loop, thread, covered)
        self.outbox.hold(settle, partial(settle, NotCommitted("this side has stopped")))
        await covered

    async def wait(self) -> StrEnum:
        """Until this side is over; where it ended."""
        await until(self._over, self._over.get)
        return self.state


def primary(
    guest: Guest | AsyncGuest,
    *,
    peer: Where,
    arbiter: Arbiter | str,
    options: Options | None = None,
    table: Table = PRIMARY,
) -> Pair:
    """Replicate this guest to the Secondary at `peer`, and run it.

    peer: `tcp:HOST:PORT`, `unix:PATH`, or a connected socket. arbiter: `sqlite:PATH` (both sides on
    one machine), `etcd://HOST,HOST,HOST/PREFIX`, `exec:COMMAND`, or an object. table: the Primary's side of
    another protocol. Raises ValueError for what cannot work, TableError for a table that is no machine.
    """
    return Pair(*primary_parts(guest, peer, arbiter, options, table))


def secondary(
    guest: Guest | AsyncGuest,
    *,
    listen: Where,
    arbiter: Arbiter | str,
    store: Store | str | Path | None = None,
    options: Options | None = None,
    table: Table = SECONDARY,
    replace_store: bool = False,
) -> Pair:
    """Take checkpoints of the Primary that connects at `listen`, and survive it in this guest.

    store: where the newest checkpoint is kept: a directory, a store, or memory. One that holds a checkpoint
    already is refused with StoreError, unless `replace_store`: a Primary that begins knows nothing of it. The
    rest: `primary`.
    """
    return Pair(*secondary_parts(guest, listen, arbiter, store, options, table, replace_store))
