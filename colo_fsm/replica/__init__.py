"""Replication of a guest: drivers, guests, the store, and the pair that embedders use."""

from . import blocking
from .address import Address, AddressError
from .aio import Pair, primary, secondary
from .events import (
    CheckpointTaken,
    ClaimAnswered,
    ClaimUnanswered,
    Dropped,
    Event,
    MemberMoved,
    NotServing,
    Refused,
    Serving,
)
from .gate import NotRunning
from .guest import AsyncGuest, BytesState, CapacityExceeded, Guest, Saved, StateGuest, quick
from .link import link_pair
from .options import Options
from .outbox import NotCommitted, Outbox
from .store import Checkpoint, DirectoryStore, MemoryStore, Store, StoreError

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
    "MemberMoved",
    "MemoryStore",
    "NotCommitted",
    "NotRunning",
    "NotServing",
    "Options",
    "Outbox",
    "Pair",
    "Refused",
    "Saved",
    "Serving",
    "StateGuest",
    "Store",
    "StoreError",
    "blocking",
    "link_pair",
    "primary",
    "quick",
    "secondary",
]
