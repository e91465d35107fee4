"""Replication of a guest: drivers, guests, the store, and the pair that embedders use."""

from . import blocking
from .address import Address, AddressError
from .aio import Pair, primary, secondary
from .directory import DirectoryStore
from .events import CheckpointTaken, ClaimAnswered, ClaimUnanswered, Event, Serving
from .guest import AsyncGuest, BytesState, CapacityExceeded, Guest, Saved, StateGuest
from .link import link_pair
from .options import Options, deadlines
from .outbox import NotCommitted, Outbox
from .pair import NotRunning
from .store import Checkpoint, MemoryStore, Store, StoreError

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
    "deadlines",
    "link_pair",
    "primary",
    "secondary",
]
