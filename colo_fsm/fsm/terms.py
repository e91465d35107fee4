"""The terms that every protocol of a pair shares: its sides, what goes wrong, what a row may ask for.

Messages, their order and the states are each protocol's own: see `words.py`.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from functools import cached_property

import attrs


class Side(StrEnum):
    """The Primary (PVM) runs the guest, the Secondary (SVM) takes its checkpoints."""

    PRIMARY = "primary"
    SECONDARY = "secondary"

    @property
    def peer(self) -> Side:
        return Side.SECONDARY if self is Side.PRIMARY else Side.PRIMARY


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

    def __call__(self, condition: object) -> OnlyIf:
        """`do.compare(HYBRID)`: this effect, in tables for that variant."""
        return OnlyIf(self, condition)


class Message(IntEnum):
    """The base of a protocol's messages: each value is what stands on the wire, a u32."""

    @cached_property
    def text(self) -> str:
        """As logs and pictures name it: `CHECKPOINT_READY` is `checkpoint-ready`."""
        return self.name.lower().replace("_", "-")


@attrs.frozen
class Send:
    """Send this message."""

    message: Message

    def __str__(self) -> str:
        return f"send {getattr(self.message, 'text', self.message)}"


Effect = Do | Send


@attrs.frozen
class OnlyIf:
    """An effect that stands in a row for some variants only."""

    effect: Effect
    condition: object
