"""A member at work: it is what its machine says, until something happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from colo_fsm.replica import AsyncGuest, Guest, Pair, StoreError
from colo_fsm.replica.aio import Events
from colo_fsm.replica.events import MemberMoved

from .active import Active
from .following import Following
from .ground import Ground, MemberFailed, NotPossible, Plan
from .looking import Looking
from .machine import MemberMachine, On, S
from .record import Finding
from .running import Running
from .seat import Seat, Standing

_log = logging.getLogger(__name__)


class Member:
    """`async with Member(...) as member`: one of the two that hold a data set, for as long as it wants.

    Enter and leave it on one event loop.
    """

    def __init__(self, guest: Guest | AsyncGuest, seat: Seat, standing: Standing, plan: Plan) -> None:
        self.name = seat.me.name
        self._seat = seat
        self._machine = MemberMachine()
        self._ground = Ground(guest, seat, standing, plan, self._tell)
        self._looking = Looking(self._ground)
        self._following = Following(self._ground, self._looking)
        self._running = Running(self._ground)
        self._told = S.LOOKING
        self._task: asyncio.Task[None] | None = None

    # -- for embedders ----------------------------------------------------------------------------

    @property
    def state(self) -> S:
        """What it is now."""
        return self._machine.state

    @property
    def active(self) -> Active | None:
        """While its guest runs here: what a service uses. None while it does not."""
        return self._running.active

    @property
    def pair(self) -> Pair | None:
        """The pair that it is in, with another member or with its own store; where it runs, also the last."""
        return self._ground.pair or (None if self.active is None else self.active.pair)

    def events(self) -> Events:
        """What happens from now on, until the member has ended: its own `MemberMoved`, and its pairs'."""
        return self._ground.feed.follow(Events())

    def request_leave(self) -> None:
        """End in order: what is acknowledged is in a store. On the event loop."""
        self._ground.leave.set()

    async def switchover(self) -> None:
        """Let the Secondary go on in this member's place, in order: nothing is lost, nobody claims.

        Returns when the record says so. Raises NotPossible where this member is not a protected Primary, or
        the arbiter does not answer.
        """
        if self.state is not S.PRIMARY:
            raise NotPossible(f"this member is {self.state}: only one that is primary can be switched over")
        await self._running.switch_over()

    async def wait(self) -> None:
        """Until it has ended. Raises what it ended with: MemberFailed, OSError."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"colo-fsm member {self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave in order; see `request_leave`."""
        self.request_leave()
        await self.wait()

    # -- the machine --------------------------------------------------------------------------------

    async def _run(self) -> None:
        does: dict[S, Callable[[], Awaitable[Finding | On]]] = {
            S.LOOKING: self._looking.look,
            S.WAITING: self._looking.wait,
            S.OFFERING: self._running.offer,
            S.SECONDARY: self._following.follow,
            S.ALONE: self._running.alone,
            S.PRIMARY: self._running.protected,
        }
        try:
            while self.state is not S.ENDED:
                leave = self._ground.leave.is_set() and self.state is not S.PRIMARY
                await self._go(On.LEAVE if leave else await does[self.state]())
            if self._running.failed is not None:
                raise self._running.failed
        except (MemberFailed, StoreError, OSError):
            raise
        except Exception as error:  # a hook of the guest's, say: what it was begun in is over
            _log.exception("the member %s has failed", self.name)
            raise MemberFailed(f"this member has failed: {type(error).__name__}: {error}") from error
        finally:
            await self._running.rest("this member has ended")
            self._seat.close()
            self._ground.feed.end()

    async def _go(self, trigger: Finding | On) -> None:
        self._machine.trigger(trigger)
        if self.state in (S.ALONE, S.PRIMARY):
            self._looking.settled()
        else:
            await self._running.rest("another member goes on")
        if self.state not in (S.LOOKING, self._told):  # a look is no news, what comes of it may be
            self._told = self.state
            self._tell()

    def _tell(self, why: str = "") -> None:
        protected = self.state is S.PRIMARY
        self._ground.feed.put(MemberMoved(self.name, self.state, why, protected))
