"""What a script asks of its driver: to wait, and to call something that takes its time.

A script is a generator. It yields a wish and is sent the answer, or thrown the exception. All else, also
`recv` and `sendmsg` on sockets that never block, it does itself, so that a driver is a loop of a few lines:
the asyncio one, the blocking one, and a simulation on virtual time.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, TypeVar

import attrs

T = TypeVar("T")

LONGEST = 1e6
"""Seconds, some eleven days: who is willing to wait longer waits for ever. poll() can count no further."""


@attrs.define
class Wait:
    """Until the socket can be read (or written), or somebody wakes the pair.

    The answer is whether the socket is worth a look: False where only a wake has come, None where the driver
    does not say. A wake that came before counts, once. `socket` None: until somebody wakes the pair. Raises
    TimeoutError after `timeout` seconds, None: never. Who is answered looks for itself what has happened.
    """

    socket: Any = None
    writing: bool = False
    timeout: float | None = None


@attrs.define(eq=False)
class Call:
    """Call a hook where it may take its time; the answer is its result, or what it raises.

    A coroutine function is awaited. Raises TimeoutError when it has not returned after `timeout` seconds:
    it goes on then, nobody takes its result, and the next call does not wait for it. Whoever calls it uses
    `run`, or says with `settle` that it is over, so that `then` works.

    While it is at work and not too late, `meanwhile` is called every `every` seconds, on a thread that may be
    another one but never at the same time as the script.
    """

    hook: Callable[..., Any]
    args: tuple[Any, ...] = ()
    timeout: float | None = None
    meanwhile: Callable[[], object] | None = None
    every: float = math.inf
    seldom: bool = False
    """Whether no thread should be kept for the next one."""
    over: bool = attrs.field(default=False, init=False)
    """Whether the hook has returned, in time or not."""
    _then: list[Callable[[], object]] = attrs.field(factory=list, init=False)

    def run(self) -> Any:
        """Call it, here and now."""
        try:
            return self.hook(*self.args)
        finally:
            self.settle()

    def settle(self) -> None:
        """It is over: do what waits for that."""
        self.over = True
        while self._then:
            with suppress(IndexError):  # another thread was here first
                self._then.pop()()

    def then(self, action: Callable[[], object]) -> None:
        """Do this once it is over: at once, or on the thread that finds it over."""
        self._then.append(action)
        if self.over:
            self.settle()


Wish = Wait | Call
Script = Generator[Wish, Any, T]


def pause(seconds: float) -> Script[None]:
    """Wait so long, or until somebody wakes the pair."""
    with suppress(TimeoutError):
        yield Wait(timeout=seconds)


def serve_here(script: Script[T]) -> T:
    """Serve a script on this thread, which blocks; nobody can wake it."""
    step, answer = script.send, None
    while True:
        try:
            wish = step(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            if isinstance(wish, Wait):
                _wait_here(wish)
            step, answer = script.send, wish.run() if isinstance(wish, Call) else None
        except Exception as error:  # noqa: BLE001 - the script decides what it means
            step, answer = script.throw, error


def _wait_here(wish: Wait) -> None:
    poll = select.poll()
    if wish.socket is not None:
        poll.register(wish.socket, select.POLLOUT if wish.writing else select.POLLIN)
    if not poll.poll(milliseconds(wish.timeout)):
        raise TimeoutError


def milliseconds(seconds: float | None) -> int | None:
    """As poll(2) takes it: rounded up, so that a deadline is never met early; for ever if it is too long."""
    return None if seconds is None or seconds > LONGEST else math.ceil(seconds * 1000)
