"""What is explored: which tables, which arbiter, which faults, how many of them.

A break (a crash, a cut link, a failed hook, ...) strikes each thing once by its nature, so breaks need
no count. A disturbance of the wire could strike for ever: `budget` says how many may, in one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property

import attrs

from colo_fsm.colo import COLO, TABLES, ReleaseOn, ResumeOn, Variant
from colo_fsm.fsm import CompleteTable, Side, complete

from .colo_law import ColoLaw
from .law import Law


class Arbiter(StrEnum):
    """Who says which side may go on alone."""

    NONE = "none"
    """Nobody: every claim is won (plain COLO; `--no-arbiter`)."""
    CLAIM = "claim"
    """A one-shot claim for each generation."""


class Strike(StrEnum):
    """What can go wrong around the two sides."""

    CRASH = "crash"
    """A side dies: its process (the peer sees the link end), or its machine (the peer sees nothing)."""
    CLOSED = "closed"
    """The link ends; what was on its way may be lost, from the end."""
    SILENT = "silent"
    """Nothing passes any more, and nobody is told. Deadlines notice, and whoever watches idle sides."""
    REQUEST = "failover-request"
    """An operator or a heartbeat manager asks a side to fail over; it may be mistaken."""
    TIMEOUT = "timeout"
    """A deadline passes although the peer lives."""
    GUEST = "guest"
    """A hook of the embedder fails: guest, store or observer."""
    ARBITER = "arbiter"
    """The arbiter stops answering, or its answer is lost after it was recorded."""
    LEAVE = "leave"
    """No fault: a side is told to end in order."""
    CORRUPT = "corrupt"
    """A message becomes another one, or none that is valid."""
    PAYLOAD = "corrupt-payload"
    """A state on its way is damaged: found at once, or only when it is loaded."""
    REORDER = "reorder"
    """Two neighbours on the wire change places."""
    DUPLICATE = "duplicate"
    """Something on the wire comes twice."""
    INJECT = "inject"
    """A message that nobody sent."""


DISTURBANCES = frozenset({Strike.CORRUPT, Strike.PAYLOAD, Strike.REORDER, Strike.DUPLICATE, Strike.INJECT})
"""What `budget` counts."""
BREAKS = frozenset(Strike) - DISTURBANCES
"""What strikes each thing once."""


class Policy(StrEnum):
    """How a driver might break its promise although its tables are right: seeded bugs for the checks."""

    SOUND = "sound"
    RELEASE_EARLY = "release-early"
    """Packets leave when the state is saved, not when the table says so."""
    LOAD_HALF = "load-half"
    """What has arrived of a checkpoint becomes the newest when the rest does not come."""
    CLAIM_SKIPPED = "claim-skipped"
    """A side takes its claim for won without asking."""
    CACHED_CLAIM = "cached-claim"
    """A side that gets no answer acts on what it knew before: nobody had claimed."""


@attrs.frozen(slots=False)
class Scenario:
    """One system to explore. `tables`, where given, stand in for the published ones."""

    name: str = "custom"
    variant: Variant = attrs.field(factory=Variant)
    arbiter: Arbiter = Arbiter.CLAIM
    faults: frozenset[Strike] = frozenset()
    budget: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    policy: Policy = Policy.SOUND
    tables: Mapping[Side, CompleteTable] | None = attrs.field(default=None, eq=False, repr=False)

    def table(self, side: Side) -> CompleteTable:
        """The rows that this side follows here."""
        if self.tables is not None and side in self.tables:
            return self.tables[side]
        return complete(TABLES[side], self.variant)

    @cached_property
    def law(self) -> Law:
        """What must hold. Raises ValueError where the two tables are of two protocols."""
        tables = self.table(Side.PRIMARY), self.table(Side.SECONDARY)
        return (ColoLaw if tables[0].words is COLO else Law)(*tables)

    @property
    def disturbances(self) -> int:
        """How many disturbances may strike in one run."""
        return self.budget if self.faults & DISTURBANCES else 0

    def __str__(self) -> str:
        named = [("all breaks", BREAKS), ("all disturbances", DISTURBANCES)]
        whole = {words: kinds for words, kinds in named if kinds <= self.faults}
        rest = self.faults.difference(*whole.values())
        faults = ", ".join([*whole, *(f for f in Strike if f in rest)]) or "no faults"
        count = f" (at most {self.budget} on the wire)" if self.disturbances else ""
        if self.law.words is not COLO:
            return f"{self.law.words.name}, arbiter {self.arbiter}: {faults}{count}"
        on = (
            "" if self.variant.release_on is ReleaseOn.RECEIVED else f", release on {self.variant.release_on}"
        )
        on += "" if self.variant.resume_on is ResumeOn.LOADED else f", resume on {self.variant.resume_on}"
        return f"{self.variant.profile}, {self.variant.mode}, arbiter {self.arbiter}{on}: {faults}{count}"
