"""Cases played against a target, each with a side of its own, and what came of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import attrs

from .case import Case, Deviation, Line, Result, Seen, Step, Verdict
from .link import Target, moment
from .talk import NOTHING, Pace, Talk

PATIENT = 4
"""How many times as long a case that failed by silence waits when it is played again."""


@attrs.frozen
class _Play:
    """One play of a case."""

    exchange: tuple[Line, ...]
    deviation: Deviation | None
    reasons: tuple[str, ...]
    evidence: str


def play(case: Case, target: Target, pace: Pace) -> Result:
    """Play one case. Raises CannotTest.

    Where only time tells a wrong answer from a late one, it is played again with more patience: two plays
    that differ are inconclusive.
    """
    began = moment()
    first = _played(case, target, pace)
    last, before = first, tuple[Line, ...]()
    if first.deviation is not None and first.deviation.seen.late:
        last, before = _played(case, target, pace.patient(PATIENT)), first.exchange
    return Result(
        case, _verdict(first, last), moment() - began, last.exchange, last.deviation, before, last.reasons,
        last.evidence,
    )  # fmt: skip


def _verdict(first: _Play, last: _Play) -> Verdict:
    one, other = first.deviation, last.deviation
    if one is None or other is None:
        passed = Verdict.LENIENT if last.reasons else Verdict.PASS
        return passed if first is last else Verdict.INCONCLUSIVE
    same = one.step == other.step and one.seen.output == other.seen.output
    return Verdict.FAIL if same else Verdict.INCONCLUSIVE


def _played(case: Case, target: Target, pace: Pace) -> _Play:
    with target.fresh() as (link, voice):
        talk = Talk(target.table, link, voice, pace)
        reasons: list[str] = []
        deviation = None
        whole = talk.open()
        for number, step in enumerate(case.steps):
            seen = _answer(talk, step) if whole else Seen(talk.heard, late=not talk.ended)
            outputs = tuple(one.output for one in step.accepted)
            if seen.garbled is not None or not whole or seen.output not in outputs:
                deviation = Deviation(number, outputs, seen, step.row)
                break
            reasons += [one.why for one in step.accepted if one.output == seen.output and one.why]
        if deviation is None and not talk.ended and (more := talk.see((NOTHING,))).output != NOTHING:
            deviation = Deviation(len(case.steps), (NOTHING,), more, case.steps[-1].row)
        if (crash := link.crash()) is not None:
            deviation = _crashed(case, deviation, crash)
        return _Play(tuple(talk.exchange), deviation, tuple(reasons), link.evidence() if deviation else "")


def _crashed(case: Case, deviation: Deviation | None, crash: str) -> Deviation:
    """A crash is what a side did wrong, even where its link had to end."""
    if deviation is None:
        last = case.steps[-1]
        outputs = tuple(one.output for one in last.accepted)
        deviation = Deviation(len(case.steps) - 1, outputs, Seen(outputs[0]), last.row)
    return attrs.evolve(deviation, seen=attrs.evolve(deviation.seen, late=False, garbled=f"a crash: {crash}"))


def _answer(talk: Talk, step: Step) -> Seen:
    if step.idle and (early := talk.watch(step.idle)).output != NOTHING:
        return early
    if step.act is not None:
        talk.give(step.act)
    return talk.see(tuple(one.output for one in step.accepted))


def play_all(cases: Iterable[Case], target: Target, pace: Pace, jobs: int = 1) -> Iterator[Result]:
    """Play them, `jobs` at a time; results come in the order of the cases. Raises CannotTest."""
    given_up = threading.Event()

    def one(case: Case) -> Result | None:
        return None if given_up.is_set() else play(case, target, pace)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for result in pool.map(one, cases):
                assert result is not None
                yield result
        finally:
            given_up.set()
