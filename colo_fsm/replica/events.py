"""What a pair tells its embedder: `pair.events()` yields these."""

from __future__ import annotations

import attrs

from colo_fsm.arbiter import Claim
from colo_fsm.fsm import Transition


@attrs.frozen
class CheckpointTaken:
    """A round is complete. On the Primary: answered by the Secondary; there: stored and loaded.

    `pages` changed, `sent` bytes on the wire, `pause` and `total` in seconds: how long the guest
    stood still, and the whole round (0 on the Secondary, which does not run).
    """

    number: int
    pages: int
    sent: int
    pause: float
    total: float


@attrs.frozen
class ClaimAnswered:
    """The arbiter has answered: this side runs on alone, or stops."""

    claim: Claim
    won: bool


@attrs.frozen
class ClaimUnanswered:
    """The arbiter does not answer: this side stays suspended and asks again in `retry` seconds.

    None: it does not know the generation, and never will; this side stops.
    """

    cause: Exception
    retry: float | None


@attrs.frozen
class Serving:
    """A service on top of the guest has begun to answer at `address` (see `Pair.announce`)."""

    address: str


Event = Serving | Transition | CheckpointTaken | ClaimAnswered | ClaimUnanswered
