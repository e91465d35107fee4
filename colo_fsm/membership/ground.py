"""What the parts of a member's work share: its guest, its place, its standing, and whom it tells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from inspect import iscoroutinefunction
from typing import Any, TypeVar

import attrs

from colo_fsm.fsm import ProtocolError
from colo_fsm.replica import Address, AsyncGuest, Guest, NotRunning, Options, Pair
from colo_fsm.replica.events import Feed

from .seat import Seat, Standing

T = TypeVar("T")
BROKEN = (ProtocolError, NotRunning, OSError)
"""What a pair ends with."""


class MemberFailed(Exception):
    """A member cannot go on; the text says why, and what to do."""


class NotPossible(Exception):
    """What was asked of a member cannot be now; nothing has changed."""


class AloneCommit(StrEnum):
    """What an answer given alone waits for."""

    DISK = "disk"
    """That this member's own store has it: nothing that was acknowledged is lost when the process dies."""
    MEMORY = "memory"
    """Nothing: what was acknowledged since the store was last written is lost when the process dies."""


@attrs.frozen
class Plan:
    """Where a member is, and how long it waits. Times in seconds.

    `look`: between two looks at the record while nothing else happens. `patience`: how long a Primary that
    has gone may take to come back before its Secondary, restarted, goes on without it. `connect`: between two
    tries to reach a Secondary. `alone_interval`: from the end of a checkpoint alone to the next one while
    nothing waits, None: as in a pair; `alone_commit`: whether answers wait for these. `accept_loss`,
    `replace_store`: see `colo-fsm member --help`.
    """

    listen: Address
    peer: Address
    options: Options
    look: float = 1.0
    patience: float = 5.0
    connect: float = 0.5
    alone_commit: AloneCommit = AloneCommit.DISK
    alone_interval: float | None = None
    accept_loss: bool = False
    replace_store: bool = False

    @property
    def alone(self) -> Options:
        """The choices of the time alone. Raises ValueError."""
        if self.alone_interval is None:
            return self.options
        least = min(self.options.min_interval, self.alone_interval)
        return attrs.evolve(self.options, interval=self.alone_interval, min_interval=least)


class Ground:
    """On one event loop. `tell` says something of this member, for people."""

    def __init__(
        self,
        guest: Guest | AsyncGuest,
        seat: Seat,
        standing: Standing,
        plan: Plan,
        tell: Callable[[str], object],
    ) -> None:
        self.guest = guest
        self.seat = seat
        self.standing = standing
        self.plan = plan
        self.tell = tell
        self.feed = Feed()
        self.pair: Pair | None = None
        """The one whose events are told."""
        self.leave = asyncio.Event()
        """Set once somebody wants this member to end."""

    async def left_within(self, seconds: float) -> bool:
        """Whether somebody wants it to end, after so long at most."""
        return await self.first_of(timeout=seconds)

    async def first_of(self, *waits: Awaitable[object], timeout: float | None = None) -> bool:
        """Until one of them is over or somebody wants this member to end; whether any is."""
        tasks = [asyncio.ensure_future(wait) for wait in (*waits, self.leave.wait())]
        try:
            done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            return bool(done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def asked(self, question: Callable[..., T], *arguments: Any) -> T:
        """Ask the arbiter, or anything else that blocks."""
        return await asyncio.to_thread(question, *arguments)

    async def load(self) -> None:
        """Our guest becomes what our store holds. Raises MemberFailed."""
        newest = self.seat.store.newest
        assert newest is not None
        try:
            if iscoroutinefunction(self.guest.load):
                await self.guest.load(newest)
            else:
                await asyncio.to_thread(self.guest.load, newest)
        except Exception as error:
            raise MemberFailed(
                f"the guest does not load what {self.seat.path} holds ({self.seat.point}): {error}"
            ) from error

    @contextlib.asynccontextmanager
    async def told(self, pair: Pair) -> AsyncIterator[None]:
        """Those who follow the member hear this pair's events."""

        async def tell() -> None:
            async for event in events:
                self.feed.put(event)

        events = pair.events()
        task = asyncio.create_task(tell())
        self.pair = pair
        try:
            yield
        finally:
            await asyncio.wait({task}, timeout=1)  # it ends with its pair, unless that has never begun
            task.cancel()
            self.pair = None
