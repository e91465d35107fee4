"""The documented matrix: what is explored, and what is known to fail, with the reason.

An expected failure is strict: when it stops failing, the verdict has changed, and somebody must look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import attrs

from colo_fsm.colo import Mode, Profile, ReleaseOn, ResumeOn, Variant

from .found import Found
from .members.rules import PLAIN, MemberScenario
from .members.search import MemberProperty as M
from .model.properties import Property as P
from .model.scenario import BREAKS, DISTURBANCES, Arbiter, Scenario, Strike

S = TypeVar("S", Scenario, MemberScenario)


@attrs.frozen
class Documented(Generic[S]):
    """A scenario, the properties that fail in it, and why each does."""

    scenario: S
    fails: Mapping[Any, str] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        return self.scenario.name

    def surprises(self, result: Found[Any, Any]) -> list[str]:
        """Where the verdicts are not the documented ones, a text each."""
        found = [f"{p} fails: {result.broken[p].end}" for p in result.fails if p not in self.fails]
        return found + [f"{p} holds now, and was known to fail" for p in self.fails if result.holds(p)]


_PUBLISHED = Variant(release_on=ReleaseOn.RECEIVED)
_LOADED = Variant()
_HYBRID = Variant(mode=Mode.HYBRID, release_on=ReleaseOn.RECEIVED)
_HYBRID_LOADED = Variant(mode=Mode.HYBRID)
_SAVED = Variant(resume_on=ResumeOn.SAVED)
_GATE = Variant(release_on=ReleaseOn.GATE)
_PATCH = Variant(Profile.PATCH, release_on=ReleaseOn.RECEIVED)
_PATCH_LOADED = Variant(Profile.PATCH)

_BREAKS = frozenset({Strike.CRASH, Strike.CLOSED, Strike.REQUEST, Strike.ARBITER})
_WIRE = frozenset({Strike.CORRUPT, Strike.REORDER, Strike.DUPLICATE})

_BOTH_RUN = "without an arbiter each side that loses sight of the other goes on"
_BOTH_IN_TURN = "without an arbiter a side takes over although the other has run on alone before it died"
_FORGED = "a forged vmstate-received is taken for the real one: no message carries the number of its round"
_FORGED_TAKEOVER = "packets left for a checkpoint that the Secondary never got, and then it took over"
_FORGED_LOADED = "a forged vmstate-loaded lets the Primary compare with a Secondary that does not run yet"
_FORGED_STATE = "in the patch no state is on the wire: a forged vmstate-send commits one that was never sent"
_NOT_LOADABLE = "packets leave at vmstate-received, before anybody has tried to load the damaged state"
_TWO_FORGE = (
    "two disturbances can forge a message: a reply comes twice, and the second becomes vmstate-received"
)


def _plain(name: str, *faults: Strike, fails: Mapping[Any, str] | None = None) -> Documented[Scenario]:
    return Documented(Scenario(name, _PUBLISHED, Arbiter.NONE, faults=frozenset(faults)), fails or {})


def _claim(
    name: str,
    faults: frozenset[Strike],
    fails: Mapping[Any, str] | None = None,
    variant: Variant = _PUBLISHED,
    budget: int = 1,
) -> Documented[Scenario]:
    return Documented(Scenario(name, variant, Arbiter.CLAIM, faults, budget), fails or {})


_SPLIT = {P.NO_SPLIT: _BOTH_RUN}
_INJECTED = {P.OUTPUT_COMMIT: _FORGED, P.TAKEOVER: _FORGED_TAKEOVER}
_DOUBLED = {P.OUTPUT_COMMIT: _TWO_FORGE, P.TAKEOVER: _FORGED_TAKEOVER}
_DAMAGED = {P.LOADABLE: _NOT_LOADABLE}
_EMPTY = {P.OUTPUT_COMMIT: _FORGED_STATE, P.TAKEOVER: _FORGED_TAKEOVER}
_COMPARED = {P.COMPARING: _FORGED_LOADED}

MATRIX: tuple[Documented[Scenario], ...] = (
    _claim("no-faults", frozenset()),
    # plain COLO: every claim is won
    _plain("plain-crash", Strike.CRASH),
    _plain("plain-link", Strike.CLOSED, fails=_SPLIT),
    _plain("plain-failover-request", Strike.REQUEST, fails=_SPLIT),
    _plain("plain-timeout", Strike.TIMEOUT, fails=_SPLIT),
    _plain("plain-all-breaks", *BREAKS, fails=_SPLIT | {P.NO_STALE: _BOTH_IN_TURN}),
    # a one-shot claim
    _claim("claim", _BREAKS),
    _claim("claim-all-breaks", BREAKS),
    _claim("claim-disturbed", _BREAKS | _WIRE),
    _claim("claim-damaged", _BREAKS | _WIRE | {Strike.PAYLOAD}, _DAMAGED),
    _claim("claim-damaged-loaded", _BREAKS | _WIRE | {Strike.PAYLOAD}, variant=_LOADED),
    _claim("claim-injected", _BREAKS | DISTURBANCES, _INJECTED | _DAMAGED),
    _claim("claim-injected-loaded", _BREAKS | DISTURBANCES, variant=_LOADED),
    _claim("everything-loaded", BREAKS | DISTURBANCES, variant=_LOADED),
    # two disturbances in one run
    _claim("two-disturbed", _BREAKS | _WIRE, _DOUBLED, budget=2),
    _claim("two-disturbed-loaded", _BREAKS | _WIRE | {Strike.PAYLOAD}, variant=_LOADED, budget=2),
    _claim("two-injected-loaded", _BREAKS | DISTURBANCES, _INJECTED | _DAMAGED, _LOADED, budget=2),
    # what pairs of this package are: the guest runs on once its state is taken
    _claim("everything-saved", BREAKS | DISTURBANCES, variant=_SAVED),
    _claim("two-disturbed-saved", _BREAKS | _WIRE | {Strike.PAYLOAD}, variant=_SAVED, budget=2),
    # a standby of QEMU's with a gate: the Secondary lets the packets out
    _claim("gate-all-breaks", BREAKS, variant=_GATE),
    _claim("gate-everything", BREAKS | DISTURBANCES, variant=_GATE),
    _claim("gate-two-disturbed", _BREAKS | _WIRE | {Strike.PAYLOAD}, variant=_GATE, budget=2),
    # the other variants
    _claim("hybrid-all-breaks", BREAKS, variant=_HYBRID),
    _claim("hybrid-disturbed", _BREAKS | _WIRE, variant=_HYBRID),
    _claim("hybrid-everything-loaded", BREAKS | DISTURBANCES, _COMPARED, _HYBRID_LOADED),
    _claim("patch-all-breaks", BREAKS, variant=_PATCH),
    _claim("patch-disturbed", _BREAKS | _WIRE, variant=_PATCH),
    _claim("patch-injected-loaded", _BREAKS | DISTURBANCES, _EMPTY, _PATCH_LOADED),
)
"""Those of a pair."""

_EMPTY_OFFERED = "nobody says what its store holds: the Primary that was started again offers its empty state"
_NO_WAY_BACK = "whoever is started as the Primary never follows the survivor"

MEMBERS = (
    Documented(MemberScenario()),
    Documented(
        MemberScenario("members-plain", PLAIN),
        {M.KEPT: _EMPTY_OFFERED, M.SERVED: _EMPTY_OFFERED, M.HEALS: _NO_WAY_BACK},
    ),
)
"""Those of two members, with restarts and rejoin."""

DOCUMENTED: tuple[Documented[Any], ...] = (*MATRIX, *MEMBERS)
"""All of them; `colo-fsm verify --scenario all` runs these."""


def documented(name: str) -> Documented[Scenario]:
    """The pair's scenario of this name. Raises KeyError."""
    return {each.name: each for each in MATRIX}[name]
