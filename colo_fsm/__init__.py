"""The COLO checkpointing protocol as explicit state machines.

Replicate a guest and survive its Primary: `primary`, `secondary` (asyncio) or `blocking`. Or take
the sans-IO sessions, `PrimarySession` and `SecondarySession`, and drive them yourself.
"""

from .arbiter import Arbiter, open_arbiter
from .protocol import (
    ColoError,
    COLOMessage,
    PrimarySession,
    ReleaseOn,
    SecondarySession,
    Side,
    State,
    Variant,
)
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

__version__ = "0.1.0"

__all__ = [
    "Arbiter",
    "AsyncGuest",
    "COLOMessage",
    "ColoError",
    "Guest",
    "NotCommitted",
    "NotRunning",
    "Options",
    "PrimarySession",
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
