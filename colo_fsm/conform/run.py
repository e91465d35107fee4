"""What came of a whole run: the cases of one target, each judged by its verdict and by what was expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

import attrs

from .case import Result


class Outcome(StrEnum):
    """What a case counts as."""

    PASS = "pass"  # noqa: S105 - no password
    LENIENT = "lenient"
    """Passed with an answer in which implementations may differ."""
    EXPECTED = "expected failure"
    """Failed, as is known of this implementation."""
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    SURPRISE = "unexpected pass"
    """Passed, although it is known to fail: what is known is out of date."""

    @property
    def ok(self) -> bool:
        """Whether a run may end well with it."""
        return self in (Outcome.PASS, Outcome.LENIENT, Outcome.EXPECTED)


@attrs.frozen
class Judged:
    """A result and what it counts as. `reason`: that of what was expected of it."""

    result: Result
    outcome: Outcome
    reason: str = ""

    @property
    def why(self) -> str:
        """In one line, why it counts as that; empty for a plain pass."""
        match self.outcome:
            case Outcome.PASS:
                return ""
            case Outcome.LENIENT:
                return "; ".join(self.result.reasons)
            case Outcome.EXPECTED:
                return self.reason
            case Outcome.SURPRISE:
                return f"take it out of the expected failures ({self.reason})"
            case _ if self.result.deviation is None:
                return "it passes when it is given more time"
        return str(self.result.deviation)


@attrs.frozen
class Run:
    """The run of one target: `text` is what the person wrote, `name` what it turned out to be.

    `gone`: expected deviations that nothing has met, a text each. `broken`: why it could not go on.
    """

    text: str
    name: str
    seconds: float
    judged: tuple[Judged, ...]
    gone: tuple[str, ...] = ()
    broken: str | None = None

    @property
    def totals(self) -> Mapping[Outcome, int]:
        """How many cases count as what; none that no case counts as."""
        found = Counter(each.outcome for each in self.judged)
        return {outcome: found[outcome] for outcome in Outcome if found[outcome]}

    @property
    def failed(self) -> bool:
        """Whether a case speaks against the implementation, or against what is expected of it."""
        return bool(self.gone) or not all(each.outcome.ok for each in self.judged)
