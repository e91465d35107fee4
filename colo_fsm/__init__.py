"""The COLO checkpointing protocol as explicit state machines.

Replicate a guest and survive its Primary: `primary`, `secondary` (asyncio) or `blocking`. Or take
the sans-IO sessions, `PrimarySession` and `SecondarySession`, and drive them yourself.
"""

from __future__ import annotations

import importlib
import typing

from colo_fsm.colo import COLOMessage, PrimarySession, ReleaseOn, SecondarySession, State, Variant
from colo_fsm.fsm import ProtocolError, Side

if typing.TYPE_CHECKING:
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


def __getattr__(name: str) -> typing.Any:
    """Load drivers and arbiters when they are asked for: who drives a session himself needs none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rooms = (importlib.import_module(f"{__name__}.{room}") for room in ("arbiter", "replica"))
    found = globals()[name] = next(getattr(room, name) for room in rooms if name in room.__all__)
    return found
