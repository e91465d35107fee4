"""Real QEMU: `hold` keeps a VM's newest checkpoint without a second VM, `watch` looks at two of them."""

from .checkpoint import NotAVm, VmCheckpoint
from .hold.replica import HasDisks, Held, StandbyReplica, VmRound
from .hold.standby import Outcome, Standby

__all__ = [
    "HasDisks",
    "Held",
    "NotAVm",
    "Outcome",
    "Standby",
    "StandbyReplica",
    "VmCheckpoint",
    "VmRound",
]
