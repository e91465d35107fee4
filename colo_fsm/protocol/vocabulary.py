"""The words of the protocol: messages, sides, states, variants, effects and faults.

Names and values are those of the patch "COLO: Introduce checkpointing protocol" (its COLOMessage enum
and its picture of the synchronizing points) and of QEMU after it. Nothing here knows an order.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Self

import attrs


class COLOMessage(IntEnum):
    """A sync point on the wire, a big-endian u32 (COLOMessage of the patch). `text` is QEMU's name."""

    CHECKPOINT_READY = 0
    CHECKPOINT_REQUEST = 1
    CHECKPOINT_REPLY = 2
    VMSTATE_SEND = 3
    VMSTATE_SIZE = 4
    VMSTATE_RECEIVED = 5
    VMSTATE_LOADED = 6

    @property
    def text(self) -> str:
        return self.name.lower().replace("_", "-")


class Side(StrEnum):
    """The Primary (PVM) runs the guest, the Secondary (SVM) takes its checkpoints."""

    PRIMARY = "primary"
    SECONDARY = "secondary"

    @property
    def peer(self) -> Side:
        return Side.SECONDARY if self is Side.PRIMARY else Side.PRIMARY


class Profile(StrEnum):
    """What stands on the wire between the messages."""

    PATCH = "patch"
    """The patch to the letter: no state on the wire, `vmstate-size` defined but never sent."""
    QEMU = "qemu"
    """QEMU 2.8 and later: the live state behind `vmstate-send`, a size and the rest behind `vmstate-size`."""


class Mode(StrEnum):
    """Whether the Secondary runs between checkpoints."""

    PERIODIC = "periodic"
    HYBRID = "hybrid"


class ReleaseOn(StrEnum):
    """The message that lets the Primary's packets out."""

    RECEIVED = "received"
    """As published: the Secondary holds the checkpoint."""
    LOADED = "loaded"
    """The safe one: the Secondary has proved that it can load it."""


@attrs.frozen
class Variant:
    """Which of the published choices a table is for. Defaults to what QEMU speaks today."""

    profile: Profile = Profile.QEMU
    mode: Mode = Mode.PERIODIC
    release_on: ReleaseOn = ReleaseOn.RECEIVED

    @classmethod
    def all(cls) -> tuple[Self, ...]:
        return tuple(cls(p, m, r) for p in Profile for m in Mode for r in ReleaseOn)

    def meets(self, condition: Condition | None) -> bool:
        """Whether something marked with this condition belongs to this variant."""
        return condition is None or condition in (self.profile, self.mode, self.release_on)

    def __str__(self) -> str:
        return f"{self.profile}/{self.mode}/{self.release_on}"


Condition = Profile | Mode | ReleaseOn


class State(StrEnum):
    """Where a side stands: `init`, then one state per sync point, then what may follow a break."""

    INIT = "init"
    READY = "ready"
    REQUESTED = "requested"
    REPLIED = "replied"
    SENDING = "sending"
    SIZED = "sized"
    RECEIVED = "received"
    LOADED = "loaded"
    FINISHING = "finishing"
    """Secondary: a fault was met while storing or loading; the newest checkpoint is loaded first."""
    FAILOVER = "failover"
    """The replication is over; waits for its claim to be answered."""
    ALONE = "alone"
    """Won the claim: runs unreplicated."""
    STOPPED = "stopped"
    """Lost the claim, or has nothing to run."""
    ENDED = "ended"
    """Left in order."""


class Fault(StrEnum):
    """Why a side leaves the handshake other than by a message."""

    EOF = "eof"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    SEND_FAILED = "send_failed"
    GUEST_FAILED = "guest_failed"
    NO_RETURN_PATH = "no_return_path"
    FAILOVER_REQUEST = "failover_request"


class FailoverStatus(StrEnum):
    """How far a failover has come, in QEMU's words; derived from the state."""

    NONE = "none"
    REQUIRE = "require"
    """Asked for, and not begun yet: only a driver can know (`Pair.failover_status`)."""
    ACTIVE = "active"
    COMPLETED = "completed"
    RELAUNCH = "relaunch"
    """Asked for while the Secondary was storing or loading: the load is finished first."""


class Do(StrEnum):
    """What a row asks of the driver besides sending a message; docs/protocol.md says what each is."""

    send_initial = "send_initial"
    receive_initial = "receive_initial"
    suspend = "suspend"
    resume = "resume"
    save = "save"
    send_live = "send_live"
    send_state = "send_state"
    receive_live = "receive_live"
    receive_state = "receive_state"
    store = "store"
    load = "load"
    release = "release"
    release_all = "release_all"
    compare = "compare"
    stop_comparing = "stop_comparing"
    disconnect = "disconnect"
    claim = "claim"
    discard = "discard"

    def __call__(self, condition: Condition) -> OnlyIf:
        """`do.compare(HYBRID)`: this effect, in tables for that variant."""
        return OnlyIf(self, condition)


@attrs.frozen
class Send:
    """Send this message."""

    message: COLOMessage

    def __str__(self) -> str:
        return f"send {self.message.text}"


Effect = Do | Send


@attrs.frozen
class OnlyIf:
    """An effect that stands in a row for some variants only."""

    effect: Effect
    condition: Condition
