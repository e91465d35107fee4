"""A member whose guest runs: alone, kept by its own store, or as the Primary of a pair."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from colo_fsm.arbiter import Arbiter, ArbiterUnreachable
from colo_fsm.replica import AsyncGuest, Guest, NotCommitted, NotRunning, Pair, primary

from .active import Active
from .ground import BROKEN, AloneCommit, Ground, MemberFailed, NotPossible
from .keeper import Keeper
from .machine import On
from .seat import Refused
from .shadow import Copied, Joining, Shadow, shadow_of
from .tables import MEMBER_PRIMARY

MOST_PAUSE = 30.0
"""Seconds between two tries to have a Secondary that came and did not stay, at most."""

UNPROTECTED = {
    AloneCommit.DISK: "it runs unprotected: its own store keeps what is acknowledged",
    AloneCommit.MEMORY: "it runs unprotected, and answers before its own store has what is acknowledged",
}


class Running:
    """The guest's time here, from pair to pair."""

    def __init__(self, ground: Ground) -> None:
        self.active: Active | None = None
        self.failed: Exception | None = None
        """What this member is to fail with at its end."""
        self._ground = ground
        self._pair: Pair | None = None
        self._handed = False
        self._pause = ground.plan.connect
        self._not_ready: Exception | None = None
        """Why the last Secondary was not taken in."""
        self._unstored = False
        """Whether answers may have left that no store has."""
        self._service: asyncio.Task[None] | None = None

    # -- from nothing, alone, protected -------------------------------------------------------------

    async def offer(self) -> On:
        """Find a Secondary for a data set that is begun: nobody is served before it has one."""
        plan = self._ground.plan
        link = await self._reached(tries=max(1, round(plan.look / plan.connect)))
        if self._ground.leave.is_set():
            return On.LEAVE
        return On.LOOK if link is None else await self._join(link)

    async def alone(self) -> On:
        """Run, and keep in the store what is acknowledged, until a Secondary has it too."""
        ground, taken_in, self._not_ready = self._ground, False, None
        copied = Copied(ground.seat.store)
        keeper = Keeper(ground.guest, copied, ground.standing, ground.plan.alone)
        try:
            active = await self._begin(keeper.pair)
            async with ground.told(keeper.pair), keeper:
                active.token, active.generation = keeper.token, keeper.pair.generation
                active.protected = False
                ground.tell(UNPROTECTED[ground.plan.alone_commit])
                if ground.plan.alone_commit is AloneCommit.MEMORY:
                    keeper.let_out()
                    self._unstored = True
                self._serve(active)
                while not taken_in and (link := await self._reached(keeper.pair)) is not None:
                    taken_in = await self._take_in(link, keeper, copied)
                if ground.leave.is_set() and not keeper.ended:
                    await self._settle(keeper)
            trouble = keeper.trouble
        except BROKEN as error:
            trouble = error
        if taken_in:
            self._unstored = False
            return On.PROTECTED
        if ground.leave.is_set():
            return self._left()
        if _refused(trouble) or _refused(self._not_ready):
            return On.LOST
        if keeper.guest_failed:
            raise MemberFailed(f"its guest has failed: {keeper.pair.session.error}")
        return On.UNPROTECTED if trouble is None else await self._kept_out(trouble)

    async def _take_in(self, link: socket.socket, keeper: Keeper, copied: Copied) -> bool:
        """Let this Secondary have a copy of the store, and then what the guest does; whether it has it."""
        ground, shadow = self._ground, shadow_of(self._ground.guest, copied)
        pair = self._to(link, shadow, Joining(ground.standing))
        entering = asyncio.create_task(_copied_once(pair))
        await ground.first_of(asyncio.shield(entering), keeper.pair.wait())
        try:
            if not entering.done():
                raise NotRunning("it was given up")
            await entering
            await self._change_over(pair, shadow, keeper)
        except (*BROKEN, NotCommitted, ArbiterUnreachable, Refused) as error:
            self._pause = min(MOST_PAUSE, 2 * self._pause)
            self._not_ready = error
            ground.tell(f"the Secondary at {ground.plan.peer} did not get ready: {error}")
            pair.request_leave()
            await asyncio.gather(entering, return_exceptions=True)
            await asyncio.gather(pair.wait(), return_exceptions=True)
            return False
        self._pause = ground.plan.connect
        return True

    async def _change_over(self, pair: Pair, shadow: Shadow, keeper: Keeper) -> None:
        """The guest stands still for the rest of its store to be copied, and runs on in this pair.

        Nothing is acknowledged in between, so that the record may change before the guest does.
        """
        ground, active = self._ground, self.active
        assert active is not None
        await active.hold_up(True)
        try:
            if ground.plan.alone_commit is AloneCommit.MEMORY:
                await keeper.settle()  # or the record would count a copy that has less than was acknowledged
            await keeper.end()
            if keeper.trouble is not None:  # the guest counts as saved what its store may not have
                raise NotRunning("this member's own store did not take the last round") from keeper.trouble
            pair.request_checkpoint()
            await pair.committed()
            async with pair.turn():  # no round is under way inside
                assert pair.generation is not None
                await ground.asked(ground.standing.protect, pair.generation)
                await ground.asked(shadow.become)
                await self._resume()
                active.generation, active.protected = pair.generation, True
                await active.goes_to(pair)
            self._pair = pair
        finally:
            await active.hold_up(False)

    async def _resume(self) -> None:
        """As the pair would, which takes the guest for running."""
        resume = self._ground.guest.resume
        if asyncio.iscoroutinefunction(resume):
            await resume()
        else:
            await asyncio.to_thread(resume)

    async def _settle(self, keeper: Keeper) -> None:
        """What this time alone has done goes into the store, before this member ends."""
        with contextlib.suppress(NotCommitted, TimeoutError):
            async with asyncio.timeout(self._ground.plan.options.hook_deadline):
                await keeper.settle()
            self._unstored = False

    def _left(self) -> On:
        """It leaves; and fails, if what it acknowledged ends with it."""
        if self._unstored:
            self.failed = MemberFailed(
                f"its store did not take what was acknowledged last: it holds {self._ground.seat.point}, and "
                "what came behind that is lost"
            )
        return On.LEAVE

    async def _kept_out(self, trouble: BaseException | None) -> On:
        """The store takes nothing: nobody is answered before it does again."""
        ground = self._ground
        ground.tell(f"its store takes nothing, and it answers nobody meanwhile: {trouble}")
        if await ground.left_within(ground.plan.options.claim_retry):
            return self._left()
        with contextlib.suppress(OSError):
            await ground.asked(ground.seat.reopen)
        return On.KEPT_OUT

    async def protected(self) -> On:
        """Run as the Primary of a pair, until that is over."""
        ground, pair, self._handed = self._ground, self._pair, False
        assert pair is not None
        async with ground.told(pair):
            await ground.first_of(pair.wait())
            pair.request_leave()
            with contextlib.suppress(*BROKEN):
                await pair.wait()
        self._pair = None
        if self._handed:
            return On.HANDED
        if pair.token:
            return On.WON
        return On.LEAVE if ground.leave.is_set() else On.LOST

    async def _join(self, link: socket.socket) -> On:
        """Have this Secondary take all of a data set that nobody has used yet."""
        ground = self._ground
        pair = self._to(link, ground.guest, ground.standing)
        active = await self._begin(pair)
        entering = asyncio.create_task(pair.__aenter__())
        await ground.first_of(asyncio.shield(entering))
        if not entering.done():
            pair.request_leave()
        try:
            await entering
        except BROKEN as error:
            self._pause = min(MOST_PAUSE, 2 * self._pause)
            ground.tell(f"the Secondary at {ground.plan.peer} did not get ready: {error}")
            return On.UNPROTECTED
        self._pause = ground.plan.connect
        active.generation, active.protected = pair.generation, True
        self._pair = pair
        self._serve(active)
        return On.PROTECTED

    def _to(self, link: socket.socket, guest: Guest | AsyncGuest | Shadow, arbiter: Arbiter) -> Pair:
        options = self._ground.plan.options
        return primary(guest, peer=link, arbiter=arbiter, options=options, table=MEMBER_PRIMARY)

    async def _reached(self, pair: Pair | None = None, tries: int | None = None) -> socket.socket | None:
        """A Secondary that listens; None when this pair is over, after so many tries, or to leave."""
        ground, pause = self._ground, self._pause
        while not ground.leave.is_set() and tries != 0:
            over = () if pair is None else (pair.wait(),)
            if await ground.first_of(*over, timeout=pause):
                return None
            pause, tries = ground.plan.connect, None if tries is None else tries - 1
            with contextlib.suppress(OSError):
                return await ground.asked(ground.plan.peer.connect)
        return None

    # -- the guest's time here ----------------------------------------------------------------------

    async def _begin(self, pair: Pair) -> Active:
        """The guest runs here, or will in a moment, in this pair."""
        if self.active is None:
            self.active = Active(self._ground.feed)
        await self.active.goes_to(pair)
        return self.active

    def _serve(self, active: Active) -> None:
        """The guest's own service, from the moment that it runs here."""
        if self._service is None and hasattr(self._ground.guest, "serve"):
            self._service = asyncio.create_task(self._served(active))

    async def _served(self, active: Active) -> None:
        """A service that fails ends the member: nobody would be answered."""
        try:
            await self._ground.guest.serve(active)  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the member ends with
            self.failed = (
                error if isinstance(error, OSError) else MemberFailed(f"the service failed: {error}")
            )
            self._ground.leave.set()

    async def rest(self, why: str) -> None:
        """The guest does not run here any more, if it has."""
        active, self.active = self.active, None
        if active is not None:
            await active.end(NotRunning(why))
        service, self._service = self._service, None
        if service is not None:
            service.cancel()
            await asyncio.gather(service, return_exceptions=True)

    # -- switching over -----------------------------------------------------------------------------

    async def switch_over(self) -> None:
        """See `Member.switchover`."""
        pair, active = self._pair, self.active
        if pair is None or active is None:
            raise NotPossible("only a member that runs with a Secondary can be switched over")
        await active.hold_up(True)
        try:
            pair.request_checkpoint()
            await pair.committed()
            await self._hand_over()
            self._handed = True
        except (NotCommitted, ArbiterUnreachable, Refused) as error:
            raise NotPossible(f"not switched over: {error}") from error
        finally:
            if not self._handed:
                await active.hold_up(False)
        pair.request_leave()

    async def _hand_over(self) -> None:
        """Write it to the record. What came of an answer that was lost is asked for until it is known."""
        ground = self._ground
        try:
            await ground.asked(ground.standing.hand_over)
            return
        except ArbiterUnreachable as error:
            lost = error
        while True:
            try:
                found = await ground.asked(ground.standing.read)
            except ArbiterUnreachable:
                await asyncio.sleep(ground.plan.options.claim_retry)
                continue
            if found is not None and found.mate == ground.seat.me:
                return
            raise lost


async def _copied_once(pair: Pair) -> None:
    """Until the Secondary has a whole copy, and one round more. Raises what breaks the pair."""
    await pair.__aenter__()
    pair.request_checkpoint()
    await pair.committed()


def _refused(error: BaseException | None) -> bool:
    """Whether the record did not allow it."""
    while error is not None:
        if isinstance(error, Refused):
            return True
        error = error.__cause__
    return False
