"""Handles for those who watch a side or a member: a control socket, HTTP, systemd. All on its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from functools import partial, wraps
from typing import Any

import attrs
import click

from colo_fsm.membership import Member
from colo_fsm.replica import Address, AddressError, Event

from .control import Control
from .desk import Desk
from .figures import Figures
from .health import answer
from .notify import Notifier
from .shown import shown

OWNER_ALONE = 0o600


@attrs.frozen
class Handles:
    """Where they are; None: there is no such handle."""

    control: Address | None
    http: Address | None


NOBODY = Handles(None, None)


def handles(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options `--control` and `--http`, given to the command as `handles`."""

    @wraps(command)
    def with_handles(control: str | None, http: str | None, **rest: Any) -> Any:
        return command(handles=where(control, http), **rest)

    option = click.option(
        "--http",
        metavar="ADDR",
        help="Answer GET /primary, /secondary and /health with 200 or 503, and /metrics, at tcp:HOST:PORT.",
    )
    return click.option(
        "--control", metavar="PATH", help="A Unix socket, its owner's alone, for `colo-fsm ctl PATH`."
    )(option(with_handles))


def where(control: str | None, http: str | None) -> Handles:
    """What these two options say. Raises click.UsageError."""
    try:
        return Handles(
            None if control is None else Address.parse(f"unix:{control}"),
            None if http is None else Address.parse(http),
        )
    except AddressError as error:
        raise click.UsageError(shown(error)) from None


@contextlib.asynccontextmanager
async def watched(
    figures: Figures,
    events: Callable[[], AsyncIterator[Event]] | None,
    handles: Handles,
    member: Member | None = None,
) -> AsyncIterator[None]:
    """Inside, whoever has a handle is answered. Raises OSError where it cannot listen.

    `events` None: somebody else tells `figures` of them, on another thread. Then a loop that goes round says
    nothing of that one, and the supervisor hears no sign of life.
    """
    notifier = Notifier()
    control = Control(figures, member)
    async with contextlib.AsyncExitStack() as ends:
        ends.callback(notifier.close)
        ends.callback(lambda: notifier.status(figures.line, figures.begun, True))
        if handles.control is not None:
            await ends.enter_async_context(Desk(handles.control, control.answer, OWNER_ALONE))
        if handles.http is not None:
            await ends.enter_async_context(Desk(handles.http, partial(answer, figures)))
        work = [_told(figures, notifier)] if notifier.wanted else []
        if events is not None and notifier.wanted:
            work.append(_alive(notifier))
        # where nobody asks it costs a little an event, for nothing
        if events is not None and (notifier.wanted or handles != NOBODY):
            work.append(figures.follow(events()))
        for each in work:
            ends.callback(asyncio.create_task(each).cancel)
        yield


@contextlib.contextmanager
def watched_beside(figures: Figures, handles: Handles) -> Iterator[None]:
    """The same for a command that has no event loop: the handles have one, on a thread. Raises OSError."""
    if handles == NOBODY and not Notifier.called_for():
        yield
        return
    entered: Future[Callable[[], object]] = Future()
    thread = threading.Thread(target=asyncio.run, args=(_beside(figures, handles, entered),), name="handles")
    thread.start()
    try:
        leave = entered.result()
        try:
            yield
        finally:
            leave()
    finally:
        thread.join()


async def _beside(figures: Figures, handles: Handles, entered: Future[Callable[[], object]]) -> None:
    loop, left = asyncio.get_running_loop(), asyncio.Event()
    try:
        async with watched(figures, None, handles):
            entered.set_result(lambda: loop.call_soon_threadsafe(left.set))
            await left.wait()
    except BaseException as error:
        if entered.done():
            raise
        entered.set_exception(error)  # whatever it is: who started us waits for it


async def _told(figures: Figures, notifier: Notifier) -> None:
    """The supervisor hears of every change."""

    def now() -> tuple[str, bool, bool]:
        return figures.line, figures.begun, figures.leaving

    while True:
        told = now()
        retry = None if notifier.status(*told) else 1.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(retry):
                await figures.until(lambda: now() != told)  # noqa: B023 - it is awaited here


async def _alive(notifier: Notifier) -> None:
    """The supervisor hears that the loop goes round."""
    while notifier.every is not None:
        notifier.alive()
        await asyncio.sleep(notifier.every)
