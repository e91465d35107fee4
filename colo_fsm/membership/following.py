"""A member that is a Secondary: it listens for the one that has the newest state."""

from __future__ import annotations

from colo_fsm.arbiter import ArbiterUnreachable
from colo_fsm.replica import Pair, secondary

from .ground import Ground
from .looking import Looking
from .machine import On
from .record import Finding, Phase
from .seat import Refused
from .tables import MEMBER_SECONDARY


class Following:
    """One Secondary after the other, each until its pair is over."""

    def __init__(self, ground: Ground, looking: Looking) -> None:
        self._ground = ground
        self._looking = looking

    async def follow(self) -> On:
        """Until this member is to be something else. Raises OSError where it cannot listen."""
        ground = self._ground
        pair = secondary(
            ground.guest,
            listen=str(ground.plan.listen),
            arbiter=ground.standing,
            store=ground.seat.store,
            options=ground.plan.options,
            table=MEMBER_SECONDARY,
            replace_store=True,  # the record has been asked
        )
        async with ground.told(pair), pair:
            instead = await self._listen(pair)
        if pair.generation is not None:
            self._looking.settled()
        if ground.leave.is_set() and not pair.token:
            return On.LEAVE
        if pair.token or (instead is Finding.SUCCEED and await self._succeeds()):
            return On.WON
        if instead is None and pair.session.error is not None:
            ground.tell(f"its pair is over: {pair.session.error}")
        return On.LOOK if instead is not None else On.LOST

    async def _listen(self, pair: Pair) -> Finding | None:
        """Until the pair is over (None), or there is something else to do than to wait for a Primary."""
        ground, idle = self._ground, 0.0
        while not await ground.first_of(pair.wait(), timeout=ground.plan.look):
            if pair._replica.link is not None or pair.generation is not None:
                idle = 0.0
                continue
            idle += ground.plan.look
            if (instead := await self._instead(late=idle >= ground.plan.patience)) is not None:
                return instead
        return None

    async def _instead(self, late: bool) -> Finding | None:
        """Nobody comes: what to do instead, if something is. `late`: for as long as one may take."""
        ground = self._ground
        try:
            finding, found = await ground.asked(ground.standing.look)
            if late and found is not None and found.phase is Phase.NEW and found.holder != ground.seat.me:
                await ground.asked(ground.standing.take)
                return Finding.OFFER
            if late and finding is Finding.FOLLOW and await self._looking.accepts_loss():
                return Finding.GO_ON
        except (ArbiterUnreachable, Refused):
            return None
        if finding is Finding.FOLLOW or (finding is Finding.SUCCEED and not late):
            return None
        return finding

    async def _succeeds(self) -> bool:
        """Claim what our store holds, and become it."""
        ground = self._ground
        point = ground.seat.point
        assert point is not None
        try:
            await ground.asked(ground.standing.succeed, point.generation)
        except (ArbiterUnreachable, Refused):
            return False  # or it has happened: the next look tells
        await ground.load()
        return True
