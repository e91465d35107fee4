"""What becomes of a Primary whose standby is lost; `watch.py` does it.

A QEMU whose link ends inside a round stands still until `x-colo-lost-heartbeat`; one whose link ends between
two runs on, and asks nobody. So the guest is stopped first in either case, and runs again when the claim is
won: the standby, if it lives, may have won it. Every state but the last three also knows `gone` and `leave`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from transitions import Machine


class S(StrEnum):
    """What is known of the VM."""

    WAITING = "waiting"
    """It is not replicated yet, or is in its first copy."""
    WATCHING = "watching"
    """It is replicated."""
    CLAIMING = "claiming"
    """Its standby is lost; its guest is stopped until somebody has answered the claim."""
    FREEING = "freeing"
    """The claim is won: its guest is set going, and its gates are opened."""
    ALONE = "alone"
    """It runs, and nobody else does."""
    STOPPED = "stopped"
    """The claim was lost: it runs elsewhere, and must not here."""
    ENDED = "ended"
    """Its QEMU has gone, or nobody is to watch it any more."""


class On(StrEnum):
    """What happens."""

    COLO = "colo"
    """Its migration has come to COLO."""
    COLO_EXIT = "colo_exit"
    """QEMU has met the end of its link, or a message that does not belong there."""
    LATE = "late"
    """Neither STOP nor RESUME came in time: the link is silent, or COLO_EXIT was before we came."""
    GATE_SHUT = "gate_shut"
    """Nobody is behind a filter that holds its packets: whoever let them out has gone."""
    UNANSWERED = "unanswered"
    """The arbiter does not answer, or QEMU refuses a command: again, later."""
    WON = "won"
    LOST = "lost"
    RUNS = "runs"
    """Its guest runs, outside COLO."""
    GONE = "gone"
    """Its QMP has ended."""
    LEAVE = "leave"


class Row(NamedTuple):
    """One transition."""

    source: S
    trigger: On
    dest: S


OVER = (S.ALONE, S.STOPPED, S.ENDED)

# fmt: off
ROWS = (
    Row(S.WAITING,  On.COLO,       S.WATCHING),
    Row(S.WAITING,  On.GATE_SHUT,  S.WAITING),
    Row(S.WATCHING, On.COLO_EXIT,  S.CLAIMING),
    Row(S.WATCHING, On.GATE_SHUT,  S.CLAIMING),
    Row(S.WATCHING, On.LATE,       S.CLAIMING),
    Row(S.CLAIMING, On.UNANSWERED, S.CLAIMING),
    Row(S.CLAIMING, On.WON,        S.FREEING),
    Row(S.CLAIMING, On.LOST,       S.STOPPED),
    Row(S.FREEING,  On.UNANSWERED, S.FREEING),
    Row(S.FREEING,  On.RUNS,       S.ALONE),
    *(Row(state,    On.GONE,       S.ENDED) for state in S if state not in OVER),
    *(Row(state,    On.LEAVE,      S.ENDED) for state in S if state not in OVER),
)
# fmt: on


class WatchMachine(Machine):
    """The stock machine of these rows; anything else that happens is a MachineError, a defect of ours."""

    state: S

    def __init__(self) -> None:
        super().__init__(
            states=list(S),
            initial=S.WAITING,
            transitions=[{"trigger": r.trigger, "source": r.source, "dest": r.dest} for r in ROWS],
            auto_transitions=False,
        )
