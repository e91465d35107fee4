"""Real QEMU: `hold` keeps a VM's newest checkpoint without a second VM, `watch` looks at two of them."""

from .checkpoint import NotAVm, VmCheckpoint
from .hold.replica import HasDisks, Held, StandbyReplica, VmRound
from .hold.standby import Outcome, Refused, Standby

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
