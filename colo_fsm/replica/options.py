"""The choices of a pair that are not the protocol's."""

from __future__ import annotations

from typing import Any

import attrs

from colo_fsm.arbiter.base import a_time
from colo_fsm.colo import ReleaseOn, ResumeOn, Variant
from colo_fsm.fsm import Side

_above_0: Any = attrs.validators.gt(0)
_a_time_above_0: Any = attrs.validators.and_(_above_0, a_time)


@attrs.frozen
class Options:
    """How a side behaves. All times are in seconds, a day at most. Raises ValueError.

    - `release_on`: which message lets packets out, in tables that leave the choice; the safe one.
    - `resume_on`: from when on the guest runs on in a checkpoint, in tables that leave the choice: once its
      state is taken (Primary). What it says is held back all the same.
    - `interval`: from when the guest runs on to the next request, while nothing waits for one (Primary).
    - `min_interval`: the same at least, where output waits (Primary); at most `interval`. 0: an answer asks
      for its checkpoint at once, and all that come while one is under way share the next.
    - `deadline`: how long the link may stand still before it is a fault, in every state that must go on.
    - `hook_deadline`: how long a hook may take, or a turn that a checkpoint waits for, before it is a
      fault. Ten times that for the first copy.
    - `claim_retry`: how long to wait before asking an arbiter again that did not answer. From one try to
      fence the peer (`Fenced`) to the next it is doubled, up to 32 times that.
    - `connect_timeout`: how long to try to reach a Secondary that does not listen yet (Primary).
    - `greeting_deadline`: how long a connection has to show the first bytes of a stream (Secondary).
    - `state_limit`: the largest device state accepted, in bytes (Secondary).
    """

    release_on: ReleaseOn = attrs.field(default=ReleaseOn.LOADED)
    resume_on: ResumeOn = ResumeOn.SAVED
    interval: float = attrs.field(default=0.1, validator=a_time)
    min_interval: float = attrs.field(default=0.0, validator=a_time)
    deadline: float = attrs.field(default=5.0, validator=_a_time_above_0)
    hook_deadline: float = attrs.field(default=60.0, validator=_a_time_above_0)
    claim_retry: float = attrs.field(default=1.0, validator=_a_time_above_0)
    connect_timeout: float = attrs.field(default=10.0, validator=a_time)
    greeting_deadline: float = attrs.field(default=5.0, validator=_a_time_above_0)
    state_limit: int = attrs.field(default=1 << 30, validator=_above_0)

    @release_on.validator
    def _a_message(self, _: object, on: ReleaseOn) -> None:
        if on.by is not Side.PRIMARY:
            raise ValueError(
                f"release_on {on} is for a standby's gate: a pair's Primary holds its own packets"
            )

    @min_interval.validator
    def _least_and_most(self, _: object, least: float) -> None:
        if least > self.interval:
            raise ValueError(f"min_interval must be at most interval, {self.interval:g} s, not {least:g} s")

    @property
    def variant(self) -> Variant:
        """Which table this is, of those that leave a choice."""
        return Variant(release_on=self.release_on, resume_on=self.resume_on)
