"""Replication of a guest: drivers, guests, the store, and the pair that embedders use."""

from __future__ import annotations

import importlib
import typing

from .address import Address, AddressError
from .events import CheckpointTaken, ClaimAnswered, ClaimUnanswered, Dropped, Event, Serving
from .gate import NotRunning
from .guest import AsyncGuest, BytesState, CapacityExceeded, Guest, Saved, StateGuest
from .link import link_pair
from .options import Options
from .outbox import NotCommitted, Outbox
from .store import Checkpoint, DirectoryStore, MemoryStore, Store, StoreError

if typing.TYPE_CHECKING:
    from . import blocking
    from .aio import Pair, primary, secondary

__all__ = [
    "Address",
    "AddressError",
    "AsyncGuest",
    "BytesState",
    "CapacityExceeded",
    "Checkpoint",
    "CheckpointTaken",
    "ClaimAnswered",
    "ClaimUnanswered",
    "DirectoryStore",
    "Dropped",
    "Event",
    "Guest",
    "MemoryStore",
    "NotCommitted",
    "NotRunning",
    "Options",
    "Outbox",
    "Pair",
    "Saved",
    "Serving",
    "StateGuest",
    "Store",
    "StoreError",
    "blocking",
    "link_pair",
    "primary",
    "secondary",
]


def __getattr__(name: str) -> typing.Any:
    """Load a driver when it is asked for: whoever takes one needs not the other."""
    if name not in ("blocking", "Pair", "primary", "secondary"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "blocking":
        return importlib.import_module(".blocking", __name__)
    found = globals()[name] = getattr(importlib.import_module(".aio", __name__), name)
    return found
