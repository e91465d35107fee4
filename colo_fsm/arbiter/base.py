"""What an arbiter is, what it answers, and how it refuses.

    ArbiterError
    +-- ArbiterUnreachable      no answer: count it as denied, stay suspended, retry, say so
    +-- GenerationClaimed       asked at start: this generation is over
    +-- UnknownGeneration       no record of this generation here: no answer either
    +-- NotFenced               won, but the peer is not stopped yet (fence.py)

When the link breaks, each side may believe that it is the survivor. Timeouts and heartbeats decide
when to ask; only the answer to a claim decides who runs. The claim is one-shot and final, so it
needs no clock and no lease: a side that was frozen for an hour and then asks still gets the truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from colo_fsm.fsm import Side


class ArbiterError(Exception):
    """The base of what an arbiter raises. None of it ever permits a side to run."""


@attrs.define
class ArbiterUnreachable(ArbiterError):
    """`arbiter` (its URL) gave no answer, because of `reason`.

    The claim may have been recorded or not. Stay suspended, tell the operator and claim again: the
    retry finds out.
    """

    arbiter: str
    reason: str

    def __str__(self) -> str:
        return f"arbiter {self.arbiter} is unreachable: {self.reason}"


@attrs.define
class GenerationClaimed(ArbiterError):
    """`winner` has already claimed `generation`: it runs alone, or did. Resync in a new one."""

    generation: int
    winner: Side

    def __str__(self) -> str:
        return (
            f"generation {self.generation} is over, the {self.winner} has claimed it: "
            "start both sides again in a new generation"
        )


@attrs.define
class UnknownGeneration(ArbiterError):
    """`arbiter` (a URL) has no record of `generation`: it was deleted and made anew, or is another one.

    Asked for a claim, that is no answer: whether the peer has won stands in the record that is missing.
    """

    arbiter: str
    generation: int

    def __str__(self) -> str:
        return (
            f"generation {self.generation} is unknown at {self.arbiter}: "
            "put its record back, or name the same arbiter on both sides"
        )


@attrs.frozen
class Claim:
    """The final answer for one generation; everybody who asks gets an equal one.

    `token` rises strictly over all grants of this arbiter, for as long as its record lives and whatever
    any clock does: hand it to whoever guards a shared resource (a disk, an address), who refuses a token
    older than the newest it has seen. (`ExecArbiter` says what its command must do for that.)
    """

    winner: Side
    token: int


class Arbiter(Protocol):
    """Decides which side goes on alone when a replication ends.

    Every call blocks, for a bounded time, and asks afresh: nothing is cached. An instance holds no
    connection, needs no closing and may be used from any thread.
    """

    @property
    def local_only(self) -> bool:
        """True if both sides must be on one machine for the answers to hold."""
        ...

    def open(self) -> int:
        """Open a generation that was never used before; the Primary does so at every start.

        Send the number to the Secondary before the first checkpoint.

        Raises:
            ArbiterUnreachable: do not start.
        """
        ...

    def check(self, generation: int) -> None:
        """Refuse a generation that cannot be replicated in; both sides ask this at start.

        Raises:
            GenerationClaimed, UnknownGeneration: do not start.
            ArbiterUnreachable: do not start.
        """
        ...

    def claim(self, generation: int, side: Side) -> Claim:
        """Ask for the right to run alone. The first side to ask wins, for good.

        Claim before anything unreplicated leaves and before the guest is resumed. If `winner` is
        `side`, go on alone; else stop, and never run again in this generation. Claiming again, after
        a lost reply or a crash, returns the same answer.

        Raises:
            ArbiterUnreachable, UnknownGeneration: stay suspended, say so and claim again.
        """
        ...


LONGEST_TIME = 86400.0
"""Seconds: a day. No time that somebody names is longer; nan and inf are none, for nothing would end them."""

a_time: Any = attrs.validators.and_(attrs.validators.ge(0), attrs.validators.le(LONGEST_TIME))


def wall_clock() -> int:
    """The time in microseconds (below 2**53, so that JSON tools keep every digit)."""
    return time.time_ns() // 1000


def fresh_number(after: int, clock: Callable[[], int] = wall_clock) -> int:
    """A number above `after`, and above any that was handed out before `after` was forgotten.

    It is the time, or `after + 1` where the clock stands still or went back. Order never depends on
    the clock while `after` is known.
    """
    return max(after + 1, clock())
