"""COLO's words: messages, sync points, states and variants.

Names and values are those of the patch "COLO: Introduce checkpointing protocol" (its COLOMessage enum
and its picture of the synchronizing points) and of QEMU after it.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import product, starmap
from typing import Self

import attrs

from colo_fsm.fsm.terms import Message, Side
from colo_fsm.fsm.words import SyncPoint, Words

from .errors import TEXTS


class COLOMessage(Message):
    """A sync point on the wire, a big-endian u32 (COLOMessage of the patch). `text` is QEMU's name."""

    CHECKPOINT_READY = 0
    CHECKPOINT_REQUEST = 1
    CHECKPOINT_REPLY = 2
    VMSTATE_SEND = 3
    VMSTATE_SIZE = 4
    VMSTATE_RECEIVED = 5
    VMSTATE_LOADED = 6


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
    """What lets the Primary's packets out: a message, or the Secondary itself."""

    RECEIVED = "received"
    """As published: the Secondary holds the checkpoint."""
    LOADED = "loaded"
    """The safe one: the Secondary has proved that it can load it."""
    GATE = "gate"
    """They come to the Secondary, and it passes them on once it has loaded the checkpoint."""

    @property
    def by(self) -> Side:
        """Who holds the packets."""
        return Side.SECONDARY if self is ReleaseOn.GATE else Side.PRIMARY


class ResumeOn(StrEnum):
    """From when on the Primary's guest runs on in a checkpoint; what it says is held back either way."""

    SAVED = "saved"
    """Its state is taken: it stands still for the save alone, not while that is sent, stored and loaded."""
    RECEIVED = "received"
    """The Secondary holds the checkpoint."""
    LOADED = "loaded"
    """The patch's order, and QEMU's: the Secondary has loaded it."""


def _sound(release_on: ReleaseOn, resume_on: ResumeOn) -> bool:
    return release_on is not ReleaseOn.GATE or resume_on is not ResumeOn.SAVED


@attrs.frozen
class Variant:
    """Which of the choices a table is for: what QEMU speaks today, with the safe release. Raises ValueError.

    A gate cannot tell what a guest says that runs on at `saved` from what it said before: no such variant.
    """

    profile: Profile = Profile.QEMU
    mode: Mode = Mode.PERIODIC
    release_on: ReleaseOn = ReleaseOn.LOADED
    resume_on: ResumeOn = attrs.field(default=ResumeOn.LOADED)

    @resume_on.validator
    def _stands_at_the_gate(self, _: object, on: ResumeOn) -> None:
        if not _sound(self.release_on, on):
            raise ValueError(
                "with a gate the guest stands until its checkpoint is stored: not resume_on saved"
            )

    @classmethod
    def all(cls) -> tuple[Self, ...]:
        choices = product(Profile, Mode, ReleaseOn, ResumeOn)
        return tuple(starmap(cls, (choice for choice in choices if _sound(*choice[2:]))))

    def __contains__(self, choice: object) -> bool:
        """Whether something marked with this choice belongs to this variant.

        By identity: two kinds of choice have words in common, and StrEnums of equal words are equal.
        """
        return any(choice is own for own in (self.profile, self.mode, self.release_on, self.resume_on))

    def __str__(self) -> str:
        plain = f"{self.profile}/{self.mode}/{self.release_on}"
        return plain if self.resume_on is ResumeOn.LOADED else f"{plain}/resume-{self.resume_on}"


_M, _S = COLOMessage, State

COLO = Words(
    "COLO",
    points=(
        SyncPoint(_M.CHECKPOINT_READY, Side.SECONDARY, _S.READY),
        SyncPoint(_M.CHECKPOINT_REQUEST, Side.PRIMARY, _S.REQUESTED),
        SyncPoint(_M.CHECKPOINT_REPLY, Side.SECONDARY, _S.REPLIED),
        SyncPoint(_M.VMSTATE_SEND, Side.PRIMARY, _S.SENDING),
        SyncPoint(_M.VMSTATE_SIZE, Side.PRIMARY, _S.SIZED),
        SyncPoint(_M.VMSTATE_RECEIVED, Side.SECONDARY, _S.RECEIVED),
        SyncPoint(_M.VMSTATE_LOADED, Side.SECONDARY, _S.LOADED),
    ),
    initial=_S.INIT,
    failover=_S.FAILOVER,
    texts=TEXTS,
)
"""The sync points of the patch's picture, in their order. The checkpoint's repeat from the second on."""
