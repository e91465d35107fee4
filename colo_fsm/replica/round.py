"""What a side notes of the round that is under way."""

from __future__ import annotations

import attrs

from .events import CheckpointTaken


@attrs.define
class Round:
    """What is known of a round that is under way. Times by the clock, sizes in bytes."""

    began: float
    paused: float = 0.0
    resumed: float | None = None
    """When the guest ran on, if it did."""
    number: int = 0
    pages: int = 0
    sent: int = 0
    used: int | None = None
    over: bool = False
    """Whether an idle state is reached, and nobody was told yet."""

    def taken(self, now: float) -> CheckpointTaken:
        """What to tell of it."""
        pause = (now if self.resumed is None else self.resumed) - self.paused
        total = now - self.began
        return CheckpointTaken(self.number, self.pages, self.sent, pause, total, self.used)
