"""Real QEMU: a standby without a second VM, and what it holds."""

from .checkpoint import NotAVm, VmCheckpoint
from .standby import HasDisks, Held, StandbyReplica, VmRound

__all__ = ["HasDisks", "Held", "NotAVm", "StandbyReplica", "VmCheckpoint", "VmRound"]
