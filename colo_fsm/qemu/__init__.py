"""Real QEMU: a standby without a second VM, and what it holds."""

from .checkpoint import NotAVm, VmCheckpoint
from .hold import Outcome, Refused, Standby
from .standby import HasDisks, Held, StandbyReplica, VmRound

__all__ = [
    "HasDisks",
    "Held",
    "NotAVm",
    "Outcome",
    "Refused",
    "Standby",
    "StandbyReplica",
    "VmCheckpoint",
    "VmRound",
]
