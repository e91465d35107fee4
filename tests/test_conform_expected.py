"""Expected failures: what a file may say, what it covers, and when it is out of date."""

from __future__ import annotations

from pathlib import Path

import pytest
import qemus
from conform_runs import SECOND, result

from colo_fsm.colo import TABLES, Variant
from colo_fsm.conform.case import Result, Verdict
from colo_fsm.conform.expected import Expected, ExpectedError, Known, matches, parsed, read, shipped
from colo_fsm.conform.plan import SUITES, plan
from colo_fsm.conform.run import Outcome
from colo_fsm.fsm import Side, complete

ROW = f"""
[[deviation]]
rows = ["{SECOND}"]
reason = " It does not answer. "
"""
CASE = """
[[deviation]]
cases = ["colo/secondary/2.1", "colo/secondary/wp/*"]
reason = "It does not answer."
"""
FAIL, PASS, LENIENT, INCONCLUSIVE = Verdict.FAIL, Verdict.PASS, Verdict.LENIENT, Verdict.INCONCLUSIVE


def expected(text: str) -> Expected:
    return parsed(text, "known.toml")


def gone(text: str, *results: Result) -> list[str]:
    known = expected(text)
    return list(known.gone(map(known.judged, results)))


def test_what_a_file_says() -> None:
    assert expected(ROW + CASE).entries == (
        Known((SECOND,), (), "It does not answer."),
        Known((), ("colo/secondary/2.1", "colo/secondary/wp/*"), "It does not answer."),
    )
    assert expected("") == Expected()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[deviation]]\nrows = ['x']", "known.toml: deviation 1 has no reason: say in one sentence"),
        (ROW + "[[deviation]]\nrows = ['x']\nreason = ' '", "known.toml: deviation 2 has no reason"),
        ("[[deviation]]\nreason = 'x'", "known.toml: deviation 1 names neither rows nor cases"),
        ("[[deviation]]\nrows = 'x'\nreason = 'x'", "known.toml: deviation 1: rows is a list of texts"),
        ("[[deviation]]\ncases = [1]\nreason = 'x'", "known.toml: deviation 1: cases is a list of texts"),
        ("[[deviation]]\nrow = ['x']\nreason = 'x'", "deviation 1: 'row' is none of cases, reason, rows"),
        ("[deviation]\nreason = 'x'", "known.toml: it holds [[deviation]] tables, and nothing else"),
        ("deviation = [1]", "known.toml: it holds [[deviation]] tables, and nothing else"),
        ("version = 1", "known.toml: it holds [[deviation]] tables, and nothing else"),
        ("[[deviation]", "known.toml: Expected"),
    ],
)
def test_what_no_file_may_say(text: str, says: str) -> None:
    with pytest.raises(ExpectedError) as caught:
        expected(text)
    assert says in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ExpectedError, match=r"known\.toml: No such file"):
        read(tmp_path / "known.toml")
    (tmp_path / "known.toml").write_bytes(b"\xff")
    with pytest.raises(ExpectedError, match=r"known\.toml: it is no text"):
        read(tmp_path / "known.toml")


def test_an_id_is_meant_whole_or_how_it_begins() -> None:
    assert matches("colo/secondary/2.1", "colo/secondary/2.1")
    assert not matches("colo/secondary/2.1", "colo/secondary/2.10")
    assert matches("colo/secondary/2.*", "colo/secondary/2.10")
    assert not matches("colo/secondary/2.*", "colo/secondary/21")


@pytest.mark.parametrize("text", [ROW, CASE])
def test_a_failure_at_its_row_or_of_its_case_is_expected(text: str) -> None:
    judged = expected(text).judged(result(FAIL))
    assert (judged.outcome, judged.reason) == (Outcome.EXPECTED, "It does not answer.")


def test_another_failure_is_one() -> None:
    assert expected(ROW).judged(result(FAIL, step=2)).outcome is Outcome.FAIL
    assert expected(CASE).judged(result(FAIL, "colo/secondary/2.2")).outcome is Outcome.FAIL


def test_what_is_inconclusive_is_never_expected() -> None:
    assert expected(ROW + CASE).judged(result(INCONCLUSIVE)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("verdict", [PASS, LENIENT])
def test_a_named_case_that_passes_is_a_surprise(verdict: Verdict) -> None:
    judged = expected(CASE).judged(result(verdict))
    assert judged.outcome is Outcome.SURPRISE
    assert judged.why == "take it out of the expected failures (It does not answer.)"


def test_one_of_many_may_pass() -> None:
    assert expected(CASE).judged(result(PASS, "colo/secondary/wp/07")).outcome is Outcome.PASS
    assert expected(ROW).judged(result(PASS)).outcome is Outcome.PASS


def test_without_expectations_a_verdict_is_an_outcome() -> None:
    for verdict in Verdict:
        assert str(Expected().judged(result(verdict)).outcome) == str(verdict)


def test_a_row_that_all_pass_is_gone() -> None:
    (text,) = gone(ROW, result(PASS))
    assert (
        text == f"no case fails at '{SECOND}', as was expected: take it out of the file (It does not answer.)"
    )
    assert gone(ROW, result(PASS), result(FAIL)) == []


def test_a_row_that_nobody_came_to_is_not_gone() -> None:
    assert gone(ROW) == []
    assert gone(ROW, result(FAIL, step=0)) == []
    assert gone(ROW.replace(SECOND, "loaded --eof--> failover"), result(PASS)) == []


def test_a_row_where_one_may_differ_is_not_gone() -> None:
    """A lenient step passes either way."""
    assert gone(ROW, result(PASS, lenient=True)) == []


def test_a_row_is_gone_although_the_case_fails_further_on() -> None:
    assert len(gone(ROW, result(FAIL, step=2))) == 1


def test_what_a_star_stands_for_must_fail_once() -> None:
    wp = "colo/secondary/wp/07"
    (text,) = gone(CASE, result(PASS, wp), result(FAIL))
    assert text.startswith("no case fails in 'colo/secondary/wp/*'")
    assert gone(CASE, result(PASS, wp), result(FAIL, "colo/secondary/wp/08")) == []
    assert gone(CASE, result(FAIL)) == []


def test_a_named_case_that_passes_is_told_once() -> None:
    """As a case; what is gone is for those that stand for many."""
    assert gone(CASE, result(PASS)) == []


def test_files_add_up() -> None:
    assert (expected(ROW) + expected(CASE)).entries == expected(ROW + CASE).entries


def test_nothing_is_known_of_what_nobody_has_tried() -> None:
    assert shipped("1.0") == Expected()


@pytest.mark.parametrize("version", [version.expected for version in qemus.VERSIONS])
def test_what_ships_names_rows_and_cases_that_there_are(version: str) -> None:
    """Else it would never be met, and never be missed."""
    known = shipped(version)
    rows = {str(row) for side in Side for row in complete(TABLES[side], Variant()).rows}
    ids = [case.id for side in Side for case in plan(side).cases(SUITES)]
    assert known.entries
    for entry in known.entries:
        assert set(entry.rows) <= rows
        assert all(any(matches(pattern, id) for id in ids) for pattern in entry.cases)
