"""What a run of the demo has shown."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from .clients import Answer
from .worker import Worker

ENOUGH_ROWS, ENOUGH_CHECKPOINTS = 100, 10
"""Fewer prove nothing: a run goes on until it has them."""


@attrs.frozen(kw_only=True)
class Verdict:
    """The facts of a run; `ok` when it proved what the demo promises.

    `by_itself` says why the pair broke before anything was broken on purpose; nothing is broken then, and
    what the demo promises must hold all the same. `faults` is what went wrong on the way, a line each.
    """

    kill: str
    seed: int
    checkpoints: int
    acknowledged: int
    lost: int
    reads: int
    reads_lost: int
    survivor: str | None
    active_sides: int
    failover_ms: float | None
    split_brain: bool
    primary_state: str
    secondary_state: str
    integrity: str
    generation: int | None
    by_itself: str | None
    faults: list[str]

    @property
    def problems(self) -> list[str]:
        """What keeps this run from being a proof, one text each."""
        ended = self.primary_state == self.secondary_state == "ended"
        found = {
            f"{self.lost} acknowledged rows are lost, changed or there twice": self.lost > 0,
            f"{self.reads_lost} rows that were read are gone": self.reads_lost > 0,
            "split brain: both sides answered": self.split_brain,
            f"{self.active_sides} sides are active, not one": self.active_sides != 1,
            f"the survivor's database is not sound: {self.integrity}": self.integrity != "ok",
            "the sides did not end in order": self.kill == "none" and not self.by_itself and not ended,
            f"only {self.acknowledged} rows were acknowledged: too few to prove anything": self.acknowledged
            < ENOUGH_ROWS,
            f"only {self.checkpoints} checkpoints were taken: too few to prove anything": self.checkpoints
            < ENOUGH_CHECKPOINTS,
        }
        return [*self.faults, *(text for text, holds in found.items() if holds)]

    @property
    def ok(self) -> bool:
        return not self.problems


def split_brain(answers: Iterable[Answer], workers: Iterable[Worker]) -> bool:
    """Whether two sides ever spoke for the data.

    A reply that one side let out after the other's claim was granted is one, unless the checkpoint
    that covers it is one that the other side went on from: then both say the same. So are replies
    under two tokens, and two claims granted.
    """
    answers = list(answers)
    if len({(a.side, a.token) for a in answers if a.token}) > 1:
        return True
    granted = [(w, line) for w in workers if (line := w.find("claim", won=True))]
    if len(granted) > 1:
        return True
    for winner, claim in granted:
        serving = winner.find("serving", token=claim["token"])
        covered = serving["checkpoint"] if serving else -1
        for a in answers:
            if a.side != winner.side and a.released > claim["at"] and a.checkpoint > covered:
                return True
    return False
