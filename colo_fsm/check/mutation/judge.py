"""The mutation check: every mutant of the tables is killed by a property, or is shown to be equivalent.

    report = check(jobs=2)
    report.ok, report.kill_rate

`colo-fsm mutants` is the command; `python -m colo_fsm.check.mutation.report docs/mutants.md` writes the page.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from zlib import crc32

import attrs

from colo_fsm.colo import TABLES, Mode, Profile, ReleaseOn, Variant
from colo_fsm.fsm import Row, Side, complete

from ..model.properties import Property
from ..model.scenario import Policy, Scenario
from ..search.explore import explore
from .equivalence import PROBES, Court, Judged, Outcome
from .mutants import Mutant, Slip, mutants

VARIANTS = tuple(
    Variant(profile, mode, release_on)
    for release_on in (ReleaseOn.LOADED, ReleaseOn.RECEIVED)
    for profile in (Profile.QEMU, Profile.PATCH)
    for mode in (Mode.HYBRID, Mode.PERIODIC)
)
"""The largest first, so that workers finish together."""

ALL = frozenset(Property)

MATTERS: Mapping[Policy, Container[Profile]] = {Policy.SOUND: (), Policy.LOAD_HALF: (Profile.QEMU,)}
"""Where a policy can do harm, if not everywhere: in `patch` no part of a state arrives without the rest."""


@attrs.frozen
class Verdict:
    """A mutant by name, and what has become of it."""

    variant: Variant
    side: Side
    slip: Slip
    source: str
    trigger: str
    what: str
    judged: Judged

    @classmethod
    def of(cls, mutant: Mutant, judged: Judged) -> Verdict:
        names = (mutant.slip, mutant.source, mutant.trigger, mutant.what)
        return cls(mutant.variant, mutant.side, *names, judged)

    @property
    def outcome(self) -> Outcome:
        return self.judged.outcome

    def __str__(self) -> str:
        return f"{self.variant} {self.side}: {self.source} --{self.trigger}-->: {self.what}"


@attrs.frozen
class PolicyVerdict:
    """A driver that breaks its promise over sound tables, and what kills it; `by` None: nothing does."""

    policy: Policy
    variant: Variant
    by: Property | None
    probe: str


@attrs.frozen
class Report:
    """All verdicts. `asked_for` is how many mutants there are, of which a sample may have been judged."""

    verdicts: tuple[Verdict, ...]
    policies: tuple[PolicyVerdict, ...]
    asked_for: int
    seconds: float

    def count(self, *outcomes: Outcome, slip: Slip | None = None) -> int:
        """How many mutants (of this kind) came out like this."""
        return sum(v.outcome in outcomes and slip in (None, v.slip) for v in self.verdicts)

    @property
    def survivors(self) -> tuple[Verdict, ...]:
        return tuple(v for v in self.verdicts if v.outcome is Outcome.SURVIVED)

    @property
    def ok(self) -> bool:
        """Whether all that are not equivalent are killed."""
        return not self.survivors and all(p.by is not None for p in self.policies)

    @property
    def kill_rate(self) -> float:
        """Of the mutants that are not equivalent, the part that is killed."""
        killed = self.count(Outcome.KILLED)
        return killed / max(1, killed + len(self.survivors))


# -- what is judged ---------------------------------------------------------------------------------


def candidates(variant: Variant) -> Iterator[Mutant]:
    """The mutants of both tables in this variant.

    In a variant that releases on received, only those of the rows that it does not share with the one that
    releases on loaded.
    """
    for side in Side:
        table = complete(TABLES[side], variant)
        own = None
        if variant.release_on is ReleaseOn.RECEIVED:
            other = complete(TABLES[side], attrs.evolve(variant, release_on=ReleaseOn.LOADED))
            own = frozenset(table.rows) - frozenset(other.rows)
        yield from (each for each in mutants(table) if own is None or _concerns(each, own))


def _concerns(mutant: Mutant, rows: frozenset[Row]) -> bool:
    return bool(mutant.was) and rows.issuperset(mutant.was)


def check(
    *,
    sample: int | None = None,
    jobs: int | None = None,
    variants: Sequence[Variant] = VARIANTS,
    properties: frozenset[Property] = ALL,
    progress: Callable[[str], object] = lambda text: None,
) -> Report:
    """Judge all mutants, or a sample: always the same one of about this size. `properties` may kill."""
    began = time.perf_counter()
    total = sum(1 for variant in variants for _ in candidates(variant))
    part = 1.0 if sample is None else min(1.0, sample / max(1, total))
    shares = [_Share(variant, part, properties) for variant in variants]
    jobs = min(jobs or os.cpu_count() or 1, len(shares))
    verdicts: list[Verdict] = []
    policies: list[PolicyVerdict] = []
    for share, (found, kept) in _each(shares, jobs):
        verdicts += found
        policies += kept
        progress(f"{share.variant}: {len(found)} mutants")
    order = {variant: n for n, variant in enumerate(variants)}
    verdicts.sort(key=lambda v: order[v.variant])
    policies.sort(key=lambda p: (order[p.variant], p.policy))
    return Report(tuple(verdicts), tuple(policies), total, time.perf_counter() - began)


@attrs.frozen
class _Share:
    """What one worker judges at a time."""

    variant: Variant
    part: float
    properties: frozenset[Property]


Judgement = tuple[list[Verdict], list[PolicyVerdict]]


def _each(shares: list[_Share], jobs: int) -> Iterator[tuple[_Share, Judgement]]:
    if jobs == 1:
        yield from ((share, _judge(share)) for share in shares)
        return
    # spawned: a fork would copy locks that threads of the caller hold
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        waiting = [(share, pool.apply_async(_judge, (share,))) for share in shares]
        yield from ((share, result.get()) for share, result in waiting)


def _judge(share: _Share) -> Judgement:
    court = Court(share.variant, share.properties)
    chosen = (m for m in candidates(share.variant) if crc32(str(m).encode()) < share.part * 2**32)
    verdicts = [Verdict.of(mutant, court.judge(mutant)) for mutant in chosen]
    policies = [policy for policy in Policy if share.variant.profile in MATTERS.get(policy, Profile)]
    return verdicts, [_judge_policy(court, policy, share.properties) for policy in policies]


def _judge_policy(court: Court, policy: Policy, properties: frozenset[Property]) -> PolicyVerdict:
    """Explore it in one probe after another, but for what breaks there anyway."""
    for name in PROBES:
        ignored = court.probe(name).ignored
        scenario = Scenario(name, court.variant, faults=PROBES[name], policy=policy)
        broken = explore(scenario, stop_at_first=not ignored).broken.keys() & properties - ignored
        by = next((each for each in Property if each in broken), None)
        if by is not None:
            return PolicyVerdict(policy, court.variant, by, name)
    return PolicyVerdict(policy, court.variant, None, "")
