"""The choices of a pair that are not the protocol's."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from colo_fsm.colo import ReleaseOn, State

DEADLINE = 5.0

NO_DEADLINE = frozenset({State.INIT, State.READY, State.LOADED})
"""A slow first copy, or a long pause between two checkpoints, must not kill a healthy pair."""


def deadlines(seconds: float = DEADLINE) -> Mapping[State, float]:
    """The same deadline for every state that awaits something inside a round."""
    return {state: seconds for state in State if state not in NO_DEADLINE}


@attrs.frozen
class Options:
    """How a side behaves. All times are in seconds.

    release_on: which message lets packets out; the safe one unless asked otherwise.
    interval:   from the end of a checkpoint to the next request (Primary).
    deadlines:  how long a state may see no byte move before it is a fault; a state that is not
                listed waits for ever.
    claim_retry: how long to wait before asking an arbiter again that did not answer.
    connect_timeout: how long to try to reach a Secondary that does not listen yet (Primary).
    state_limit: the largest device state accepted, in bytes (Secondary).
    """

    release_on: ReleaseOn = ReleaseOn.LOADED
    interval: float = attrs.field(default=0.1, validator=attrs.validators.ge(0))
    deadlines: Mapping[State, float] = attrs.field(
        factory=deadlines,
        validator=attrs.validators.deep_mapping(attrs.validators.instance_of(State), attrs.validators.gt(0)),
    )
    claim_retry: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    connect_timeout: float = attrs.field(default=10.0, validator=attrs.validators.ge(0))
    state_limit: int = attrs.field(default=1 << 30, validator=attrs.validators.gt(0))
