"""What must hold, by name. Each is broken by a step (`steps.py`, `effects.py`) or found by the search.

The step that breaks a property names it; a verdict is `holds` when no reachable step does. What can be said
of a transition alone is here; what needs the rest of the world is where the effect is performed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache

from colo_fsm.colo import COLO, COLOMessage, Profile, State
from colo_fsm.fsm import Fault, Kind, Message, Send, Side, begin, fault, lost, won

from .control import Reaction


class Property(StrEnum):
    """A name and, as `meaning`, the sentence that it stands for."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Property:
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    OUTPUT_COMMIT = (
        "output-commit",
        "no packet leaves before the Secondary holds the checkpoint that covers it",
    )
    TAKEOVER = "takeover-covers-output", "who takes over has everything that was released"
    LOADABLE = "loadable-commit", "what was released can really be loaded"
    NO_SPLIT = "no-split-brain", "never do two sides run alone at once"
    NO_STALE = "no-stale-takeover", "no side takes over after the other has run alone"
    WHOLE = "whole-start", "no guest starts half loaded, or from another checkpoint than the newest"
    CLAIMED = "claimed", "outside the handshake only a side that has won its claim runs or lets packets out"
    FIT_CLAIM = "fit-to-claim", "who claims has failed over, is suspended, and has something whole to run"
    HUNG_UP = "hung-up", "who gives the pair up lets its peer know before anything that takes time"
    SUSPENDED = "suspended", "no guest is saved or loaded while it runs"
    COMPARING = "comparing", "outputs are compared only while both sides run (or one has gone)"
    FAILOVER = "error-to-failover", "every fault and every message out of order leads to failover"
    SYNC_POINTS = "sync-points", "a sync point is entered with its message, and no message waits behind work"
    ORDERLY = "orderly-end", "a side ends or stops for a reason, for good, suspended, and lets everything go"
    PROGRESS = "progress", "without faults every round completes: packets out, guests running"
    NO_DEADLOCK = "no-deadlock", "while the link is whole there is always a next step"
    SETTLES = "settles", "after a break all come to rest: one runs, unless none is left that may"


HANDSHAKE = frozenset(
    {
        State.READY,
        State.REQUESTED,
        State.REPLIED,
        State.SENDING,
        State.SIZED,
        State.RECEIVED,
        State.LOADED,
    }
)
OVER = frozenset({State.STOPPED, State.ENDED})

MIRROR = COLO.mirror
BETWEEN = frozenset({State.READY, State.LOADED})
"""Where a checkpoint may begin."""


def before(message: Message, profile: Profile) -> frozenset[StrEnum]:
    """The states in which a message is the next one of the published picture."""
    if message is COLOMessage.CHECKPOINT_READY:
        return frozenset({State.INIT})
    if message is COLOMessage.CHECKPOINT_REQUEST:
        return BETWEEN
    spoken = [m for m in MIRROR if profile is Profile.QEMU or m is not COLOMessage.VMSTATE_SIZE]
    return frozenset({MIRROR[spoken[spoken.index(message) - 1]]} if message in spoken else ())


LEAVING: Mapping[StrEnum, StrEnum] = {
    State.INIT: State.ENDED,
    State.READY: State.ENDED,
    State.LOADED: State.ENDED,
    State.ALONE: State.ENDED,
    State.FAILOVER: State.STOPPED,
}
"""Where one may leave, and where that leads: a claim that is not answered is no orderly end."""

_GUEST_FAILED = fault(Fault.GUEST_FAILED)


STORES = {
    Profile.QEMU: frozenset({State.SIZED, State.RECEIVED}),
    Profile.PATCH: frozenset({State.SENDING, State.RECEIVED}),
}
"""Where the Secondary may hold a checkpoint that it has not loaded: that comes before its claim."""


def after_error(side: Side, source: StrEnum, guest_failed: bool, profile: Profile) -> StrEnum:
    """Where a fault, or a message out of order, must lead."""
    if source is State.INIT:
        return State.STOPPED
    if source in (State.ALONE, State.FINISHING) and guest_failed:
        return State.STOPPED
    if side is Side.SECONDARY and source in STORES[profile]:
        return State.FINISHING
    return State.FAILOVER if source in HANDSHAKE else source


@cache
def broken_by(side: Side, moved: Reaction, profile: Profile) -> frozenset[Property]:
    """The properties that this transition breaks whatever else is true."""
    return frozenset(_broken_by(side, moved, profile))


def _broken_by(side: Side, moved: Reaction, profile: Profile) -> Iterator[Property]:
    trigger, message = moved.trigger, moved.trigger.message
    wrong = trigger.kind is Kind.FAULT
    if message is not None:
        mine, turn = COLO.sender[message] is side, moved.source in before(message, profile)
        wrong = mine or not turn or moved.dest is not MIRROR[message]
    right = after_error(side, moved.source, trigger == _GUEST_FAILED, profile)
    again = moved.dest is moved.source and moved.effects
    if wrong and (moved.dest is not right or again):
        yield Property.FAILOVER
    if moved.dest is State.ALONE and moved.source is not State.ALONE and moved.trigger != won:
        yield Property.CLAIMED
    sent = [effect.message for effect in moved.effects if isinstance(effect, Send)]
    begins = moved.source in BETWEEN and moved.dest is State.REQUESTED
    if any(moved.dest is not MIRROR[m] for m in sent) or (trigger == begin.checkpoint and not begins):
        yield Property.SYNC_POINTS
    if not _orderly(moved):
        yield Property.ORDERLY


def _orderly(moved: Reaction) -> bool:
    """Whether an end has its reason, and lasts."""
    if moved.source in OVER:
        return moved.dest is moved.source
    if moved.trigger == begin.leave:
        return moved.dest is LEAVING.get(moved.source)
    if moved.dest is State.STOPPED:
        failed = moved.trigger == _GUEST_FAILED and moved.source in (State.ALONE, State.FINISHING)
        return moved.source is State.INIT or moved.trigger == lost or failed
    return moved.dest is not State.ENDED
