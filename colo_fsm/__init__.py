"""The COLO checkpointing protocol as explicit state machines.

Replicate a guest and survive its Primary: `primary`, `secondary` (asyncio) or `blocking`. Or take
the sans-IO sessions, `PrimarySession` and `SecondarySession`, and drive them yourself.
"""

from colo_fsm.colo import COLOMessage, PrimarySession, ReleaseOn, SecondarySession, State, Variant
from colo_fsm.fsm import ProtocolError, Side

from .arbiter import Arbiter, open_arbiter
from .replica import (
    AsyncGuest,
    Guest,
    NotCommitted,
    NotRunning,
    Options,
    StateGuest,
    blocking,
    link_pair,
    primary,
    secondary,
)

__all__ = [
    "Arbiter",
    "AsyncGuest",
    "COLOMessage",
    "Guest",
    "NotCommitted",
    "NotRunning",
    "Options",
    "PrimarySession",
    "ProtocolError",
    "ReleaseOn",
    "SecondarySession",
    "Side",
    "State",
    "StateGuest",
    "Variant",
    "blocking",
    "link_pair",
    "open_arbiter",
    "primary",
    "secondary",
]
