"""Real QEMU: `hold` keeps a VM's newest checkpoint without a second VM, `watch` looks at two of them."""

from .checkpoint import NotAVm, VmCheckpoint
from .hold.gate import NoPackets, PacketGate
from .hold.replica import HasDisks, Held, StandbyReplica, VmRound
from .hold.standby import Outcome, Standby

__all__ = [
    "HasDisks",
    "Held",
    "NoPackets",
    "NotAVm",
    "Outcome",
    "PacketGate",
    "Standby",
    "StandbyReplica",
    "VmCheckpoint",
    "VmRound",
]
