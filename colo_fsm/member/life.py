"""A member at work: finds out what it is to be, and is that until something happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Self

import attrs

from colo_fsm.arbiter import ArbiterUnreachable
from colo_fsm.fsm import ProtocolError
from colo_fsm.replica import (
    Address,
    AsyncGuest,
    Guest,
    NotCommitted,
    NotRunning,
    Options,
    Pair,
    primary,
    secondary,
)
from colo_fsm.replica.aio import Events
from colo_fsm.replica.events import Feed, MemberMoved

from .active import Active
from .keeper import Keeper
from .machine import MemberMachine, On, S
from .record import Finding, Phase, Record
from .seat import Refused, Seat, Standing
from .tables import MEMBER_PRIMARY, MEMBER_SECONDARY

_log = logging.getLogger(__name__)


class NotPossible(Exception):
    """What was asked of a member cannot be now; nothing has changed."""


MOST_PAUSE = 30.0
"""Seconds between two tries to have a Secondary that came and did not stay, at most."""

WHY = {
    Finding.FORGOTTEN: "the arbiter knows of no data set, and this store holds {have}: put the arbiter's "
    "record back, or say --accept-loss to go on from this store",
    Finding.FOREIGN: "this store holds {have}, and the arbiter's is {id}: name the right store or arbiter, "
    "or say --replace-store to throw this copy away",
    Finding.AHEAD: "this store holds {have}, and the arbiter knows of generation {generation} at most: put "
    "the arbiter's record back, or say --replace-store to throw this copy away",
    Finding.MISSING: "the newest state was in this member's store, which holds {have}: put it back, or say "
    "--accept-loss to go on from what there is",
}


@attrs.frozen
class Plan:
    """Where a member is, and how long it waits. Times in seconds.

    `look`: between two looks at the record while nothing else happens. `patience`: how long a Primary that
    has gone may take to come back before its Secondary, restarted, goes on without it. `connect`: between two
    tries to reach a Secondary. `accept_loss`, `replace_store`: see `colo-fsm member --help`.
    """

    listen: Address
    peer: Address
    options: Options
    look: float = 1.0
    patience: float = 5.0
    connect: float = 0.5
    accept_loss: bool = False
    replace_store: bool = False


class Member:
    """`async with Member(...) as member`: one of the two that hold a data set, for as long as it wants.

    Enter and leave it on one event loop.
    """

    def __init__(self, guest: Guest | AsyncGuest, seat: Seat, standing: Standing, plan: Plan) -> None:
        self.guest = guest
        self.plan = plan
        self.machine = MemberMachine()
        self.active: Active | None = None
        self._seat = seat
        self._standing = standing
        self._feed = Feed()
        self._leave = asyncio.Event()
        self._pair: Pair | None = None
        self._service: asyncio.Task[None] | None = None
        self._pause = plan.connect
        self._reason = ""
        self._handed = False
        self._accept_loss, self._replace_store = plan.accept_loss, plan.replace_store
        self._task: asyncio.Task[None] | None = None
        self._tellers: set[asyncio.Task[None]] = set()

    # -- for embedders ----------------------------------------------------------------------------

    @property
    def state(self) -> S:
        """What it is now."""
        return self.machine.state

    def events(self) -> Events:
        """What happens from now on, until the member has ended: its own `MemberMoved`, and its pairs'."""
        return self._feed.follow(Events())

    def request_leave(self) -> None:
        """End in order: what is acknowledged is in a store. On the event loop."""
        self._leave.set()

    async def switchover(self) -> None:
        """Let the Secondary go on in this member's place, in order: nothing is lost, nobody claims.

        Returns when the record says so. Raises NotPossible where this member is not a protected Primary, or
        the arbiter does not answer.
        """
        pair, active = self._pair, self.active
        if self.state is not S.PRIMARY or pair is None or active is None:
            raise NotPossible(f"this member is {self.state}: only a protected Primary can be switched over")
        await active.hold_up(True)
        try:
            pair.request_checkpoint()
            await pair.committed()
            await self._hand_over()
        except (NotCommitted, ArbiterUnreachable, Refused) as error:
            await active.hold_up(False)
            raise NotPossible(f"not switched over: {error}") from error
        self._handed = True
        pair.request_leave()

    async def _hand_over(self) -> None:
        """Write it to the record. An answer that was lost is asked for until it is known."""
        try:
            await asyncio.to_thread(self._standing.hand_over)
            return
        except ArbiterUnreachable as error:
            lost = error
        while True:
            with contextlib.suppress(ArbiterUnreachable):
                found = await asyncio.to_thread(self._standing.read)
                if found is not None and found.mate == self._seat.me:
                    return
                raise lost
            await asyncio.sleep(self.plan.options.claim_retry)

    async def wait(self) -> None:
        """Until it has ended. Raises what it ended with."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name=f"colo-fsm member {self._seat.me}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.request_leave()
        await self.wait()

    # -- the machine --------------------------------------------------------------------------------

    async def _run(self) -> None:
        does: dict[S, Callable[[], Awaitable[Finding | On]]] = {
            S.LOOKING: self._looking,
            S.WAITING: self._waiting,
            S.OFFERING: self._offering,
            S.SECONDARY: self._secondary,
            S.ALONE: self._alone,
            S.PRIMARY: self._primary,
        }
        try:
            while self.state is not S.ENDED:
                trigger = On.LEAVE if self._leave.is_set() else await does[self.state]()
                await self._go(trigger)
        finally:
            await self._rest("this member has ended")
            self._seat.close()
            self._feed.end()

    async def _go(self, trigger: Finding | On) -> None:
        before = self.state
        self.machine.trigger(trigger)
        if self.state not in (S.ALONE, S.PRIMARY):
            await self._rest("another member goes on")
        if self.state is not before:
            self._tell()

    def _tell(self, why: str = "") -> None:
        protected = self.state is S.PRIMARY
        self._feed.put(MemberMoved(self._seat.me.name, self.state, why, protected))

    async def _rest(self, why: str) -> None:
        """The guest does not run here, if it has."""
        active, self.active = self.active, None
        if active is not None:
            await active.end(NotRunning(why))
        if self._service is not None:
            self._service.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._service
            self._service = None

    # -- looking and waiting ------------------------------------------------------------------------

    async def _looking(self) -> Finding | On:
        try:
            finding, found = await asyncio.to_thread(self._standing.look)
            if finding is Finding.BEGIN:
                await asyncio.to_thread(self._standing.begin)
            elif finding is Finding.GIVE_BACK:
                await asyncio.to_thread(self._standing.give_back)
            elif finding is Finding.GO_ON:
                await self._load()
            elif finding in WHY and await self._overridden(finding):
                return On.LOOK
            elif finding in WHY:
                self._reason = self._why(finding, found)
        except (ArbiterUnreachable, Refused) as error:
            self._reason = str(error)
            return On.UNREACHABLE
        return finding

    async def _overridden(self, finding: Finding) -> bool:
        """Whether somebody has said what to do about this; once."""
        seat, have = self._seat, self._seat.point
        if finding in (Finding.FOREIGN, Finding.AHEAD) and self._replace_store:
            self._replace_store = False
            await asyncio.to_thread(seat.clear)
            self._tell(f"thrown away: {have}")
            return True
        return finding in (Finding.FORGOTTEN, Finding.MISSING) and await self._accepts_loss()

    async def _accepts_loss(self) -> bool:
        """Whether we go on from what our store has, although something newer has been elsewhere."""
        have = self._seat.point
        if have is None or not self._accept_loss:
            return False
        await asyncio.to_thread(self._standing.insist, have)
        self._accept_loss = False
        self._tell(f"loss accepted: it goes on from {have}; what was acknowledged since is lost")
        return True

    def _why(self, finding: Finding, found: Record | None) -> str:
        have = self._seat.point or "nothing"
        return WHY[finding].format(
            have=have, id=found and found.id[:8], generation=found and found.generation
        )

    async def _waiting(self) -> On:
        self._tell(self._reason)
        return On.LEAVE if await self._left_within(self.plan.look) else On.LOOK

    async def _left_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._leave.wait()
        return self._leave.is_set()

    async def _load(self) -> None:
        """Our guest becomes what our store holds."""
        newest = self._seat.store.newest
        assert newest is not None
        if iscoroutinefunction(self.guest.load):
            await self.guest.load(newest)
        else:
            await asyncio.to_thread(self.guest.load, newest)

    # -- a Secondary --------------------------------------------------------------------------------

    async def _secondary(self) -> On:
        plan, seat = self.plan, self._seat
        pair = secondary(
            self.guest, listen=str(plan.listen), arbiter=self._standing, store=seat.store,
            options=plan.options, table=MEMBER_SECONDARY,
        )  # fmt: skip
        succeed = False
        async with self._told(pair), pair:
            idle = 0.0
            while not await self._over_within(pair, plan.look):
                if self._leave.is_set():
                    return On.LEAVE
                if pair._replica.link is not None or pair.generation is not None:
                    idle = 0.0
                    continue
                idle += plan.look
                verdict = await self._idle(idle)
                if verdict is not None:
                    succeed = verdict is Finding.SUCCEED
                    break
        if pair.token:
            return On.WON
        if succeed and await self._succeeds():
            return On.WON
        return On.LOOK if pair._replica.link is None and not pair.generation else On.LOST

    async def _idle(self, seconds: float) -> Finding | None:
        """Nobody has come for so long: what to do instead of listening, if something is."""
        try:
            finding, found = await asyncio.to_thread(self._standing.look)
            late = seconds >= self.plan.patience
            if late and found is not None and found.phase is Phase.NEW and found.holder != self._seat.me:
                await asyncio.to_thread(self._standing.take)
                return Finding.OFFER
            if late and finding is Finding.FOLLOW and await self._accepts_loss():
                return Finding.GO_ON
        except (ArbiterUnreachable, Refused):
            return None
        if finding is Finding.FOLLOW or (finding is Finding.SUCCEED and not late):
            return None
        return finding

    async def _succeeds(self) -> bool:
        """Claim what our store holds, and become it."""
        point = self._seat.point
        assert point is not None
        try:
            await asyncio.to_thread(self._standing.succeed, point.generation)
        except (ArbiterUnreachable, Refused):
            return False  # or it has happened: the next look tells
        await self._load()
        return True

    # -- running ------------------------------------------------------------------------------------

    async def _offering(self) -> On:
        link = await self._reached(tries=max(1, round(self.plan.look / self.plan.connect)))
        if self._leave.is_set():
            return On.LEAVE
        return On.LOOK if link is None else await self._join(link)

    async def _alone(self) -> On:
        options = self.plan.options
        try:
            keeper = Keeper(self.guest, self._seat, self._standing, options)
            active = await self._begin(keeper.pair)
            async with self._told(keeper.pair), keeper:
                active.token, active.generation = keeper.token, keeper.pair.generation
                active.protected = False
                self._tell("it runs unprotected: its own store keeps what is acknowledged")
                self._serve(active)
                link = await self._reached(keeper.pair)
                if self._leave.is_set():
                    keeper.pair.request_checkpoint()
        except (ProtocolError, NotRunning, OSError) as error:
            if _refused(error):
                return On.LOST
            self._tell(f"its store takes nothing: {error}; it answers nobody meanwhile")
            return On.LEAVE if await self._left_within(options.claim_retry) else On.KEPT_OUT
        if self._leave.is_set():
            return On.LEAVE
        return On.KEPT_OUT if link is None else await self._join(link)

    async def _begin(self, pair: Pair) -> Active:
        """The guest runs here, or will in a moment, in this pair."""
        if self.active is None:
            self.active = Active(self._feed)
        await self.active.goes_to(pair)
        return self.active

    def _serve(self, active: Active) -> None:
        """The guest's own service, from the moment that it runs here."""
        if self._service is None and hasattr(self.guest, "serve"):
            self._service = asyncio.create_task(self.guest.serve(active))

    async def _reached(self, pair: Pair | None = None, tries: int | None = None) -> socket.socket | None:
        """A Secondary that listens; None when this pair is over, after so many tries, or to leave."""
        pause, self._pause = self._pause, self.plan.connect
        while not self._leave.is_set() and tries != 0 and (pair is None or not pair._over.known):
            await self._left_within(pause)
            pause, tries = self.plan.connect, None if tries is None else tries - 1
            with contextlib.suppress(OSError):
                return await asyncio.to_thread(self.plan.peer.connect, 0.0)
        return None

    async def _join(self, link: socket.socket) -> On:
        """Have this Secondary take it all; it is ours still as long as it does not."""
        pair = primary(
            self.guest, peer=link, arbiter=self._standing, options=self.plan.options, table=MEMBER_PRIMARY
        )
        active = await self._begin(pair)
        try:
            await pair.__aenter__()
        except (ProtocolError, NotRunning, OSError) as error:
            self._pause = min(MOST_PAUSE, 2 * self._pause)
            self._tell(f"the Secondary at {self.plan.peer} did not get ready: {error}")
            if pair._replica._lost_to is not None:
                return On.LOST
            return On.UNPROTECTED
        active.generation, active.protected = pair.generation, True
        self._pair = pair
        self._serve(active)
        return On.PROTECTED

    async def _primary(self) -> On:
        pair, self._handed = self._pair, False
        assert pair is not None
        async with self._told(pair):
            over = asyncio.create_task(pair.wait())
            leave = asyncio.create_task(self._leave.wait())
            await asyncio.wait({over, leave}, return_when=asyncio.FIRST_COMPLETED)
            leave.cancel()
            pair.request_leave()
            await asyncio.wait({over})
            with contextlib.suppress(ProtocolError, NotRunning, OSError):
                await over
        self._pair = None
        if self._handed:
            return On.HANDED
        if pair._replica._lost_to is not None:
            return On.LOST
        return On.WON if pair.token else On.LEAVE

    # -- of the pairs -------------------------------------------------------------------------------

    async def _over_within(self, pair: Pair, seconds: float) -> bool:
        """Whether this pair is over, after so long at most."""
        over = asyncio.create_task(pair.wait())
        leave = asyncio.create_task(self._leave.wait())
        done, _ = await asyncio.wait({over, leave}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in (over, leave):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ProtocolError, NotRunning, OSError):
                await task
        return over in done

    @contextlib.asynccontextmanager
    async def _told(self, pair: Pair) -> Any:
        """Those who follow the member hear this pair's events."""

        async def tell() -> None:
            async for event in pair.events():
                self._feed.put(event)

        task = asyncio.create_task(tell())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            await asyncio.wait({task}, timeout=1)
            task.cancel()


def _refused(error: BaseException | None) -> bool:
    """Whether the record did not allow it."""
    while error is not None:
        if isinstance(error, Refused):
            return True
        error = error.__cause__
    return False
