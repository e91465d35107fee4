"""Where a fault of each kind can strike, and why not elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from colo_fsm.colo import State
from colo_fsm.fsm import Side

from .schedule import SAFE_KINDS, Kind
from .witness import DOWN, STATES

P, S = Side.PRIMARY, Side.SECONDARY
LINK_KINDS = (Kind.CLOSED, Kind.SILENT, Kind.DELAY)
DISK_KINDS = (Kind.SLOW_DISK, Kind.FAILING_DISK)

DISK_USED = frozenset({State.INIT, State.SIZED, State.STOPPED, State.ENDED, DOWN})
"""Where a Secondary stands while its disk is used: it receives, commits, closes, or is started again."""
OPENING = frozenset({State.INIT, State.SIZED, State.ALONE, State.STOPPED, DOWN})
"""Where the Primary stands then, as a rule."""


@attrs.frozen
class Reason:
    """Why a cell may stay empty. `never`: it cannot be hit. Otherwise it takes a coincidence."""

    text: str
    never: bool


_PASSED = Reason("passed within one step: only an observer of ours can fail in it", never=True)
_NO_LINK = Reason("the side has closed its end of the link, or died with it", never=True)
_NO_WRITE = Reason("nothing is being written: what the peer says has arrived whole", never=True)
_NO_DISK = Reason("its disk is not used then, but that of a side left behind by a spare may be", never=False)
_OVER = Reason("a side that is over takes no request", never=False)
_LATE_DISK = Reason("the Primary must break off while the Secondary stores or closes", never=False)
_LATE_WRITE = Reason("a write must be cut short just when the reader breaks off", never=False)


def why_empty(kind: Kind, side: Side, state: str) -> Reason | None:
    """Why no fault of this kind needs to be seen in this state of this side; None: it has to be."""
    if (side, state) in ((P, State.SENDING), (S, State.REQUESTED)):
        return None if kind is Kind.GUEST_FAILURE else _PASSED
    gone = state in (State.ALONE, State.ENDED, DOWN)
    if kind in LINK_KINDS and gone:
        return _NO_LINK
    if kind is Kind.PARTIAL_WRITE:
        return _partial_write(side, state, gone)
    if kind in DISK_KINDS:
        return _disk(side, state)
    if kind is Kind.FAILOVER_REQUEST and state == State.ENDED:
        return _OVER
    return None


def _partial_write(side: Side, state: str, gone: bool) -> Reason | None:
    if gone:
        return _NO_LINK
    if side is P and state in (State.READY, State.REPLIED, State.LOADED):
        return _NO_WRITE
    if state in (State.FAILOVER, State.STOPPED, State.FINISHING) or (side, state) == (S, State.SIZED):
        return _LATE_WRITE
    return None


def _disk(side: Side, state: str) -> Reason | None:
    if side is S:
        return None if state in DISK_USED else _NO_DISK
    return None if state in OPENING else _LATE_DISK


def wanted() -> Iterator[tuple[Kind, Side, str]]:
    """Every cell that has to be hit."""
    for kind in SAFE_KINDS:
        for side in Side:
            yield from ((kind, side, state) for state in STATES[side] if why_empty(kind, side, state) is None)
