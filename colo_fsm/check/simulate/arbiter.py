"""The production arbiter, behind a network that loses it, or loses its answer to a claim it recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from colo_fsm.arbiter import Arbiter, ArbiterUnreachable, Claim, SqliteArbiter
from colo_fsm.fsm import Side

from .kernel import Kernel


@attrs.frozen
class Grant:
    """A claim that the arbiter has recorded, as it answered it first."""

    at: float
    generation: int
    claim: Claim


class ArbiterService:
    """The one arbiter of a run, and how it can be reached."""

    def __init__(self, kernel: Kernel, real: SqliteArbiter) -> None:
        self.real: Arbiter = real
        self.grants: list[Grant] = []
        self.lost_until: dict[Side, float] = {}
        self.answers_to_lose = 0
        self.answer_lost: Callable[[], object] = lambda: None
        self._kernel = kernel

    def loss(self, side: Side, seconds: float) -> None:
        """This side reaches it no more, for so long."""
        self.lost_until[side] = self._kernel.now + seconds

    def heal(self) -> None:
        """Everybody reaches it from now on, and hears it."""
        self.lost_until.clear()
        self.answers_to_lose = 0

    def check_reachable(self, side: Side) -> None:
        """Raises ArbiterUnreachable."""
        if self.lost_until.get(side, 0.0) > self._kernel.now:
            raise ArbiterUnreachable("simulated", "no route")

    def claim(self, generation: int, side: Side) -> Claim:
        claim = self.real.claim(generation, side)
        if all(grant.generation != generation for grant in self.grants):
            self.grants.append(Grant(self._kernel.now, generation, claim))
            self._kernel.note(f"arbiter grants {generation} to the {claim.winner}")
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            self.answer_lost()
            raise ArbiterUnreachable("simulated", "the answer was lost")
        return claim


class ArbiterHandle:
    """One process's way to the arbiter. Its role may change from generation to generation."""

    local_only: ClassVar[bool] = True

    def __init__(self, service: ArbiterService) -> None:
        self.side = Side.PRIMARY
        self._service = service

    def open(self) -> int:
        """See `Arbiter.open`."""
        self._service.check_reachable(self.side)
        return self._service.real.open()

    def check(self, generation: int) -> None:
        """See `Arbiter.check`."""
        self._service.check_reachable(self.side)
        self._service.real.check(generation)

    def claim(self, generation: int, side: Side) -> Claim:
        """See `Arbiter.claim`."""
        self._service.check_reachable(self.side)
        return self._service.claim(generation, side)
