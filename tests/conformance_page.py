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

from colo_fsm.colo import TABLES, Profile, Variant
from colo_fsm.conform.case import Case, Result, Verdict
from colo_fsm.conform.cases import by_hand
from colo_fsm.conform.generated import MUST, generated
from colo_fsm.conform.plan import BY_HAND, SUITES
from colo_fsm.conform.play import play
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


def suites_table() -> Iterator[str]:
    yield "| suite | what every case asks | cases for a Secondary | for a Primary |"
    yield "|---|---|---:|---:|"
    musts = {BY_HAND: "The sentence that it has; the catalogue is below."} | MUST
    for name in SUITES:
        numbers = (f"{len(suite(side, name))}" for side in (Side.SECONDARY, Side.PRIMARY))
        yield f"| `{name}` | {musts[name]} | {' | '.join(numbers)} |"


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
