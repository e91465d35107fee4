"""Cases played against a target, each with a side of its own, and what came of them."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor

import attrs

from .blackbox import NOTHING
from .case import Case, Deviation, Line, Result, Seen, Step, Verdict
from .link import Target
from .talk import Pace, Talk

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
    began = pace.clock()
    first = _played(case, target, pace)
    last, before = first, tuple[Line, ...]()
    if first.deviation is not None and first.deviation.seen.late:
        last, before = _played(case, target, pace.patient(PATIENT)), first.exchange
    seconds = pace.clock() - began
    verdict, reasons, evidence = _verdict(first, last), last.reasons, last.evidence
    return Result(case, verdict, seconds, last.exchange, last.deviation, before, reasons, evidence)


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
        talk.open(case.opening)
        for number, step in enumerate(case.steps):
            seen = talk.failure or _answer(talk, step)
            outputs = tuple(one.output for one in step.accepted)
            if seen.garbled is not None or seen.output not in outputs:
                deviation = Deviation(number, outputs, seen, step.row)
                break
            reasons += [one.why for one in step.accepted if one.output == seen.output and one.why]
        if deviation is None and not talk.ended:
            deviation = _more(talk, case.steps)
        if (crash := link.crash(pace.quiet)) is not None:
            deviation = _crashed(crash, deviation, case.steps)
        evidence = link.evidence() if deviation is not None else ""
        return _Play(tuple(talk.exchange), deviation, tuple(dict.fromkeys(reasons)), evidence)


def _answer(talk: Talk, step: Step) -> Seen:
    if step.idle:
        return talk.watch(step.idle)
    if step.act is not None:
        talk.give(step.act)
    return talk.see(tuple(one.output for one in step.accepted))


def _more(talk: Talk, steps: tuple[Step, ...]) -> Deviation | None:
    """What the side does behind the last answer; one that was to give up may do so now."""
    last = steps[-1]
    may_end = any(one.output.ended for one in last.accepted)
    more = talk.see((NOTHING,))
    if more.garbled is None and not more.output.messages and (may_end or not more.output.ended):
        return None
    return Deviation(len(steps), (NOTHING,), more, last.row)


def _crashed(how: str, deviation: Deviation | None, steps: tuple[Step, ...]) -> Deviation:
    """A crash is what a side did wrong, also where its link had to end."""
    if deviation is None:
        outputs = tuple(one.output for one in steps[-1].accepted)
        deviation = Deviation(len(steps) - 1, outputs, Seen(outputs[0]), steps[-1].row)
    return attrs.evolve(deviation, seen=Seen(deviation.seen.output, garbled=f"a crash: {how}"))


def play_all(
    cases: Iterable[Case], target: Target, pace: Pace, jobs: int = 1, stop: threading.Event | None = None
) -> Generator[Result]:
    """Play them, `jobs` at a time; results come in the order of the cases. Raises CannotTest.

    Once `stop` is set no other case begins, and results end.
    """
    given_up = threading.Event()

    def one(case: Case) -> Result | None:
        over = given_up.is_set() or (stop is not None and stop.is_set())
        return None if over else play(case, target, pace)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for result in pool.map(one, cases):
                if result is None:
                    return
                yield result
        finally:
            given_up.set()
