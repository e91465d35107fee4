"""The generated parts of docs/conformance.md, and what each suite makes of each broken implementation.

PYTHONPATH=tests python tests/conformance_page.py      write them
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from broken import ALL, Broken
from suite_figures import figures

from colo_fsm.colo import TABLES, Profile, Variant
from colo_fsm.conform.case import Case, Result, Verdict
from colo_fsm.conform.cases import by_hand
from colo_fsm.conform.generated import MUST, generated
from colo_fsm.conform.plan import BY_HAND, SUITES, alone
from colo_fsm.conform.play import play
from colo_fsm.conform.report import details
from colo_fsm.conform.run import Judged, Outcome
from colo_fsm.conform.talk import Pace
from colo_fsm.fsm import Side, complete

PAGE = Path(__file__).parent.parent / "docs" / "conformance.md"
TIMEOUT = 20.0
"""Seconds; no broken implementation of ours lets anybody wait: they are on a clock of their own."""


@cache
def suite(side: Side, name: str, profile: Profile = Profile.QEMU) -> tuple[Case, ...]:
    """The cases of a suite of COLO's."""
    table = complete(TABLES[side], Variant(profile))
    return by_hand(table) if name == BY_HAND else tuple(generated(table, name))


@cache
def results(broken: Broken) -> Mapping[str, tuple[Result, ...]]:
    """What came of all cases of all suites; cases that give and ask the same are played once."""
    target, pace = broken.target(), Pace(TIMEOUT)
    known: dict[object, Result] = {}
    found = {}
    for name in SUITES:
        for case in suite(broken.side, name):
            script = case.opening, case.steps
            if script not in known:
                known[script] = play(case, target, pace)
        found[name] = tuple(known[case.opening, case.steps] for case in suite(broken.side, name))
    return found


def failed(broken: Broken, name: str) -> int:
    """How many cases of this suite it fails."""
    return sum(result.verdict is Verdict.FAIL for result in results(broken)[name])


# -- the tables -------------------------------------------------------------------------------


FIGURES = {"tour": "tour", "switch": "1-switch", "wp": "Wp", "wp1": "Wp, one more state"}
"""Our suites, by the names of `suite_figures`."""
SHOWN = "takes messages in either byte order"
"""The implementation whose failure is the example."""


def suites_table() -> Iterator[str]:
    """What each asks, how many cases it is, and how many faulty machines it fails, of both sides."""
    yield "| suite | what every case asks | cases, Secondary | Primary | a wrong step | and one more state |"
    yield "|---|---|---:|---:|---:|---:|"
    musts = {BY_HAND: "the sentence that it has, [below](#the-cases-by-hand)"} | MUST
    found = {side: {each.suite: each for each in figures(side)} for side in Side}
    for name in SUITES:
        numbers = [f"{len(suite(side, name))}" for side in (Side.SECONDARY, Side.PRIMARY)]
        rates = ["", ""]
        if name in FIGURES:
            both = [found[side][FIGURES[name]] for side in Side]
            rates = [_rate(each.wrong_step for each in both), _rate(each.one_more_state for each in both)]
        yield f"| {' | '.join([f'`{name}`', musts[name], *numbers, *rates])} |"


def _rate(counts: Iterable[tuple[int, int]]) -> str:
    failed, of = map(sum, zip(*counts, strict=True))
    return f"{failed} of {of}"


def example() -> Iterator[str]:
    """The report of a case that fails, on a clock that stands still."""
    (broken,) = (each for each in ALL if each.side is Side.SECONDARY and each.name == SHOWN)
    (case,) = (each for each in suite(broken.side, BY_HAND) if each.id.endswith(f"/{broken.case}"))
    result = play(case, broken.target(), Pace(TIMEOUT, clock=lambda: 0.0))
    yield "```text"
    yield from details(
        Judged(result, Outcome.FAIL), alone("tcp:127.0.0.1:9998", case.id, {"side": "secondary"})
    )
    yield "```"


def broken_table() -> Iterator[str]:
    yield f"| side | implementation | the case that names it | {' | '.join(f'`{name}`' for name in SUITES)} |"
    yield f"|---|---|---|{'---:|' * len(SUITES)}"
    for each in ALL:
        counts = (str(failed(each, name) or "·") for name in SUITES)
        yield f"| {each.side} | {each.name} | {each.case} | {' | '.join(counts)} |"


def catalogue(side: Side) -> Iterator[str]:
    """A row for each case, and below it the reasons for what is lenient."""
    cases = suite(side, BY_HAND)
    reasons: dict[str, int] = {}
    patch = {case.id for case in suite(side, BY_HAND, Profile.PATCH)}
    yield "| ID | what it asks | where that comes from | |"
    yield "|---|---|---|---|"
    for case in cases:
        why = dict.fromkeys(one.why for step in case.steps for one in step.accepted if one.why)
        notes = [reasons.setdefault(reason, len(reasons) + 1) for reason in why]
        strict = "strict" if case.strict else f"lenient: {', '.join(map(str, notes))}"
        mark = "" if case.id in patch else " ¹"
        yield f"| `{case.id}`{mark} | {case.must} | {case.source} | {strict} |"
    yield ""
    yield "¹ Not in the profile `patch`, where no state is on the wire. Lenient, and why:"
    yield ""
    yield from (f"{number}. {reason[:1].upper()}{reason[1:]}." for reason, number in reasons.items())


def filled(page: str) -> str:
    """The page with its generated parts as they ought to be. Raises ValueError where one has no place."""
    for name, lines in {
        "example": example(),
        "suites": suites_table(),
        "secondary": catalogue(Side.SECONDARY),
        "primary": catalogue(Side.PRIMARY),
        "broken": broken_table(),
    }.items():
        page = _put(page, name, lines)
    return page


def _put(page: str, name: str, lines: Iterable[str]) -> str:
    marks = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if len(marks.findall(page)) != 1:
        raise ValueError(f"there is no place for '{name}': <!-- generated: {name} --> and <!-- end -->")
    content = "".join(f"{line}\n" for line in lines)
    return marks.sub(lambda found: found[1] + content + found[2], page)


if __name__ == "__main__":
    logging.disable()
    PAGE.write_text(filled(PAGE.read_text()))
