"""No arbiter: for tests, and for pairs that something else fences."""

from __future__ import annotations

from typing import ClassVar

import attrs

from colo_fsm.fsm import Side

from .base import Claim, wall_clock


@attrs.frozen
class Unarbitrated:
    """Grants every claim. After a cut link BOTH sides run: split brain, unless something fences one."""

    local_only: ClassVar[bool] = False

    def __str__(self) -> str:
        return "no arbiter"

    def open(self) -> int:
        """A number that was most probably never used before."""
        return wall_clock()

    def check(self, generation: int) -> None:
        """Every generation is as good as any."""

    def claim(self, generation: int, side: Side) -> Claim:
        """Yes."""
        return Claim(side, generation)
