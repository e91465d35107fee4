"""A member's machine: what it is at the moment, and what may become of it. `life.py` does it.

What it finds by the record and by its store is `record.find`; the rest is told by the pair it is in. Every
state but `ended` also knows `leave`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from transitions import Machine

from .record import Finding as F


class S(StrEnum):
    """What a member is."""

    LOOKING = "looking"
    """It finds out what it is to be."""
    OFFERING = "offering"
    """It has begun a data set, and looks for a Secondary; it serves nobody yet."""
    SECONDARY = "secondary"
    """It listens for the holder, or has its checkpoints."""
    ALONE = "alone"
    """Its guest runs, and its own store has what is acknowledged; it looks for a Secondary."""
    PRIMARY = "primary"
    """Its guest runs, and a Secondary has what is acknowledged."""
    WAITING = "waiting"
    """It must not run, and cannot follow: it says why, and looks again from time to time."""
    ENDED = "ended"


class On(StrEnum):
    """What happens to it, besides what it finds."""

    UNREACHABLE = "unreachable"
    """The arbiter does not answer."""
    LOOK = "look"
    """It is time to look again."""
    PROTECTED = "protected"
    """A Secondary has the whole state, and the record says so."""
    UNPROTECTED = "unprotected"
    """The Secondary that has come did not get as far as that."""
    WON = "won"
    LOST = "lost"
    KEPT_OUT = "kept_out"
    """The store takes nothing: nobody is answered before it does."""
    HANDED = "handed"
    """The Secondary has it all, and the record says that it goes on."""
    LEAVE = "leave"


class Row(NamedTuple):
    """One transition."""

    source: S
    trigger: F | On
    dest: S


# fmt: off
ROWS = (
    # who has the newest state? (record.find)
    # after writing it to the record, unless another was faster
    Row(S.LOOKING,   F.BEGIN,        S.LOOKING),
    Row(S.LOOKING,   F.OFFER,        S.OFFERING),
    Row(S.LOOKING,   F.FOLLOW,       S.SECONDARY),
    Row(S.LOOKING,   F.SUCCEED,      S.SECONDARY),  # first the Primary may come back
    Row(S.LOOKING,   F.GO_ON,        S.ALONE),
    Row(S.LOOKING,   F.GIVE_BACK,    S.LOOKING),
    Row(S.LOOKING,   F.FORGOTTEN,    S.WAITING),
    Row(S.LOOKING,   F.FOREIGN,      S.WAITING),
    Row(S.LOOKING,   F.AHEAD,        S.WAITING),
    Row(S.LOOKING,   F.MISSING,      S.WAITING),
    Row(S.LOOKING,   On.UNREACHABLE, S.WAITING),
    # somebody has said what to do: --accept-loss, --replace-store
    Row(S.LOOKING,   On.LOOK,        S.LOOKING),
    Row(S.WAITING,   On.LOOK,        S.LOOKING),
    # the first pair of a data set
    Row(S.OFFERING,  On.PROTECTED,   S.PRIMARY),
    Row(S.OFFERING,  On.UNPROTECTED, S.LOOKING),
    Row(S.OFFERING,  On.LOOK,        S.LOOKING),    # another one may have taken it over meanwhile
    # a Secondary
    Row(S.SECONDARY, On.WON,         S.ALONE),
    Row(S.SECONDARY, On.LOST,        S.LOOKING),
    Row(S.SECONDARY, On.LOOK,        S.LOOKING),
    # a survivor takes a new Secondary in
    Row(S.ALONE,     On.PROTECTED,   S.PRIMARY),
    Row(S.ALONE,     On.UNPROTECTED, S.ALONE),
    Row(S.ALONE,     On.KEPT_OUT,    S.ALONE),
    # the record names another holder: somebody accepted a loss
    Row(S.ALONE,     On.LOST,        S.LOOKING),
    Row(S.PRIMARY,   On.WON,         S.ALONE),
    Row(S.PRIMARY,   On.LOST,        S.LOOKING),
    Row(S.PRIMARY,   On.HANDED,      S.LOOKING),    # a planned switchover
    *(Row(state,     On.LEAVE,       S.ENDED) for state in S if state is not S.ENDED),
)
# fmt: on


class MemberMachine(Machine):
    """The stock machine of these rows; anything else that happens is a MachineError, a defect of ours."""

    state: S

    def __init__(self) -> None:
        super().__init__(
            states=list(S),
            initial=S.LOOKING,
            transitions=[{"trigger": r.trigger, "source": r.source, "dest": r.dest} for r in ROWS],
            auto_transitions=False,
        )
