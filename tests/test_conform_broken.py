"""Implementations with one fault each: a suite fails every one of them, and names what it does wrong."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from broken import ALL, PRIMARIES, SECONDARIES, Broken, served
from conformance_page import results, suite

from colo_fsm.conform.case import Case, Result, Verdict
from colo_fsm.conform.cases import by_hand
from colo_fsm.conform.generated import SUITES as GENERATED
from colo_fsm.conform.plan import SUITES
from colo_fsm.conform.play import play
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.targets.address import Connecting
from colo_fsm.conform.voice import OwnState, TableVoice
from colo_fsm.fsm import Side
from colo_fsm.replica.address import Address

PATIENCE = 20.0


def failures(broken: Broken, name: str) -> list[Result]:
    return [result for result in results(broken)[name] if result.verdict is Verdict.FAIL]


def test_there_are_thirty_and_no_two_are_one() -> None:
    assert len(SECONDARIES) >= 30
    assert len(PRIMARIES) >= 30
    assert len({(each.side, each.name) for each in ALL}) == len(ALL)


@pytest.mark.parametrize("broken", ALL, ids=lambda each: f"{each.side}: {each.name}")
def test_the_case_that_is_about_the_fault_fails(broken: Broken) -> None:
    (case,) = (each for each in suite(broken.side, "must") if each.id.endswith(f"/{broken.case}"))
    assert play(case, broken.target(), Pace(PATIENCE)).verdict is Verdict.FAIL


def test_every_failure_names_a_requirement() -> None:
    """What the table says where the side left it, or that it is where the side begins."""
    for broken in ALL:
        rows = {str(row) for row in broken.target().table.rows} | {"init, where the side begins"}
        for name in results(broken):
            for result in failures(broken, name):
                assert result.deviation is not None
                assert result.deviation.row in rows


def test_no_verdict_is_a_matter_of_luck() -> None:
    found = {result.verdict for each in ALL for name in SUITES for result in results(each)[name]}
    assert found == {Verdict.PASS, Verdict.LENIENT, Verdict.FAIL}


def test_what_only_a_person_thinks_of_needs_cases_by_hand() -> None:
    """And what a table knows is found without them."""
    found = [each for each in ALL if any(failures(each, name) for name in GENERATED)]
    assert 30 <= len(found) < len(ALL) - 20


@pytest.mark.parametrize("side", Side)
def test_every_case_by_hand_fails_somebody_where_it_matters(side: Side) -> None:
    """A check that cannot fail is no check; nor is one that fails only on its way to the point."""
    for number, case in enumerate(suite(side, "must")):
        played = (results(each)["must"][number] for each in ALL if each.side is side)
        steps = [r.deviation.step for r in played if r.verdict is Verdict.FAIL and r.deviation]
        assert max(steps, default=-1) >= point(case), case.id


def point(case: Case) -> int:
    """The step from which on a case is about its own sentence, and not on its way there."""
    if not case.strict:
        return len(case.steps) - 2
    return 0 if len(case.steps) == 1 else max(1, len(case.steps) // 4)


# -- behind real sockets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "a wrong reply",
        "little-endian messages",
        "hangs up after a long idle time",
        "forgets its state after a long idle time",
    ],
)
def test_the_same_behind_a_real_socket(name: str, tmp_path: Path) -> None:
    """Where time goes by, and bytes come as they like."""
    (broken,) = (each for each in SECONDARIES if each.name == name)
    with served(broken, tmp_path) as address:
        target = connecting(address, broken)
        (case,) = (c for c in by_hand(target.table) if c.id == f"colo/secondary/{broken.case}")
        assert play(case, target, Pace(PATIENCE)).verdict is Verdict.FAIL


def test_a_sound_one_passes_there(tmp_path: Path) -> None:
    sound = attrs.evolve(SECONDARIES[0], rows=lambda _: ())
    with served(sound, tmp_path) as address:
        target, pace = connecting(address, sound), Pace(PATIENCE)
        for case in by_hand(target.table):
            if not any(step.idle for step in case.steps):
                assert play(case, target, pace).verdict in (Verdict.PASS, Verdict.LENIENT), case.id


def connecting(address: Address, broken: Broken) -> Connecting:
    table = broken.target().table
    return Connecting(address, table, lambda: TableVoice(table, OwnState()), PATIENCE)
