"""A member that looks: who has the newest state, and what that makes of it."""

from __future__ import annotations

from colo_fsm.arbiter import ArbiterUnreachable

from .ground import Ground
from .machine import On
from .record import Finding, Record
from .seat import Refused

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


class Looking:
    """What it finds, and what somebody has said to do about that."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._why = self._told = ""
        self._accept_loss = ground.plan.accept_loss
        self._replace_store = ground.plan.replace_store

    async def look(self) -> Finding | On:
        """What this member is to be; what has to be written to the record first is."""
        trigger = await self._look()
        if trigger is not On.UNREACHABLE and trigger not in WHY:
            self._told = ""
        return trigger

    async def _look(self) -> Finding | On:
        ground = self._ground
        try:
            finding, found = await ground.asked(ground.standing.look)
            if finding is Finding.BEGIN:
                await ground.asked(ground.standing.begin)
            elif finding is Finding.GIVE_BACK:
                await ground.asked(ground.standing.give_back)
            elif finding is Finding.GO_ON:
                await ground.load()
            elif finding in WHY and await self._overridden(finding):
                return On.LOOK
            elif finding in WHY:
                self._why = self._reason(finding, found)
        except (ArbiterUnreachable, Refused) as error:
            self._why = str(error)
            return On.UNREACHABLE
        return finding

    async def wait(self) -> On:
        """Say why it must not run, and wait a while."""
        ground = self._ground
        if self._why != self._told:
            self._told = self._why
            ground.tell(self._why)
        return On.LEAVE if await ground.left_within(ground.plan.look) else On.LOOK

    def settled(self) -> None:
        """This member has found its part: what somebody has said was for its start, and for nothing later."""
        self._accept_loss = self._replace_store = False

    def _reason(self, finding: Finding, found: Record | None) -> str:
        have = self._ground.seat.point or "nothing"
        return WHY[finding].format(
            have=have, id=found and found.id[:8], generation=found and found.generation
        )

    async def _overridden(self, finding: Finding) -> bool:
        """Whether somebody has said what to do about this; once."""
        ground = self._ground
        if finding in (Finding.FOREIGN, Finding.AHEAD) and self._replace_store:
            have, self._replace_store = ground.seat.point, False
            await ground.asked(ground.seat.clear)
            ground.tell(f"thrown away: {have}")
            return True
        return finding in (Finding.FORGOTTEN, Finding.MISSING) and await self.accepts_loss()

    async def accepts_loss(self) -> bool:
        """Whether we go on from what our store has, although something newer has been elsewhere.

        Raises ArbiterUnreachable, Refused.
        """
        ground = self._ground
        if not self._accept_loss:
            return False
        have = ground.seat.point
        if have is None:
            self._accept_loss = False
            ground.tell("--accept-loss: this store holds nothing to go on from")
            return False
        await ground.asked(ground.standing.insist, have)
        self._accept_loss = False
        ground.tell(f"loss accepted: it goes on from {have}; what was acknowledged since is lost")
        return True
