"""What a search has found, as data for machines and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from colo_fsm.draw import Exchange

from .found import Named
from .members.rules import MemberScenario
from .members.search import MemberProperty, MemberResult, explore_members
from .members.trail import member_exchange
from .model.properties import Property
from .scenarios import Documented
from .search.explore import Result, explore
from .trail import exchange


@attrs.frozen
class Verdict:
    """A scenario, what was found, and what was expected."""

    documented: Documented[Any]
    result: Result | MemberResult

    @property
    def surprises(self) -> list[str]:
        """Where the verdicts are not the expected ones, a text each."""
        return self.documented.surprises(self.result)

    def exchange(self, which: Named) -> Exchange:
        """How `which` is broken, on a shortest way. Raises KeyError where it holds."""
        if isinstance(self.result, MemberResult):
            assert isinstance(which, MemberProperty)
            return member_exchange(self.result, which)
        assert isinstance(which, Property)
        return exchange(self.result, which)

    def as_json(self) -> dict[str, Any]:
        """One entry of `scenarios`."""
        result = self.result
        return {
            "name": self.documented.name,
            "system": str(result.scenario),
            "states": result.states,
            "transitions": result.transitions,
            "seconds": round(result.seconds, 3),
            "states_per_second": round(result.states_per_second),
            "properties": {str(p): _word(p not in result.fails) for p in result.properties},
            "expected": {str(p): _word(p not in self.documented.fails) for p in result.properties},
        }


def judged(documented: Documented[Any], limit: int = 5_000_000) -> Verdict:
    """Explore all of a scenario. Raises TooLarge beyond `limit` states."""
    scenario = documented.scenario
    if isinstance(scenario, MemberScenario):
        return Verdict(documented, explore_members(scenario, limit=limit))
    return Verdict(documented, explore(scenario, limit=limit))


def _word(holds: bool) -> str:
    return "holds" if holds else "fails"


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All of them: an object with `scenarios`, and `ok`."""
    return {"scenarios": [v.as_json() for v in verdicts], "ok": not any(v.surprises for v in verdicts)}


def matrix_lines(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """A line a scenario: its size, its time, and what fails in it."""
    width = max(len(v.documented.name) for v in verdicts)
    yield f"{'scenario':<{width}} {'states':>9} {'steps':>10} {'seconds':>8}  verdict"
    for v in verdicts:
        size = f"{v.result.states:>9,} {v.result.transitions:>10,} {v.result.seconds:>8.2f}"
        yield f"{v.documented.name:<{width}} {size}  {summary(v)}"


def summary(verdict: Verdict) -> str:
    """The verdict in a few words."""
    if verdict.surprises:
        return "UNEXPECTED: " + "; ".join(verdict.surprises)
    return "all hold" if not verdict.result.fails else "known to fail: " + ", ".join(verdict.result.fails)


def property_lines(verdict: Verdict) -> Iterator[str]:
    """A line a property."""
    properties = verdict.result.properties
    width = max(map(len, properties))
    for p in properties:
        holds = p not in verdict.result.fails
        known = p in verdict.documented.fails
        note = "" if holds is not known else "  (documented)" if known else "  (unexpected)"
        if holds and known:
            note = "  (was known to fail)"
        yield f"  {p:<{width}}  {_word(holds)}  {p.meaning}{note}"


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The matrix for the docs; without times, which differ."""
    lines = ["| scenario | system | states | verdict |", "|---|---|---:|---|"]
    for v in verdicts:
        fails = ", ".join(f"`{p}`" for p in v.result.fails)
        words = f"fails: {fails}" if fails else "all hold"
        lines.append(f"| `{v.documented.name}` | {v.result.scenario} | {v.result.states:,} | {words} |")
    return "\n".join(lines) + "\n"


def properties_markdown(properties: type[Property] | type[MemberProperty]) -> str:
    """A catalogue of properties for the docs."""
    lines = ["| property | what it says |", "|---|---|"]
    return "\n".join(lines + [f"| `{p}` | {p.meaning} |" for p in properties]) + "\n"
