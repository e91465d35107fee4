"""Where a Secondary keeps its newest checkpoint: in memory, or in a directory that survives its process."""

from .base import Checkpoint, MemoryStore, Store, StoreError, StoreInUse
from .directory import DirectoryStore
from .disk import LOCAL_DISK, Disk

__all__ = [
    "LOCAL_DISK",
    "Checkpoint",
    "DirectoryStore",
    "Disk",
    "MemoryStore",
    "Store",
    "StoreError",
    "StoreInUse",
]
