"""What a person and a machine are told of runs."""

from __future__ import annotations

import json

import attrs
import pytest
from conform_runs import NOTHING, SECOND, case, judged, result, run

from colo_fsm.conform import report
from colo_fsm.conform.case import Seen, Verdict
from colo_fsm.conform.run import Judged, Outcome

ALL = [judged(outcome, f"colo/secondary/2.{n}", "known") for n, outcome in enumerate(Outcome, 1)]


def text(found: Judged) -> list[str]:
    return list(report.details(found, "colo-fsm conformance self --only colo/secondary/2.1"))


def test_all_about_a_case_that_fails() -> None:
    assert text(judged(Outcome.FAIL)) == [
        "FAIL colo/secondary/2.1",
        "  must       The Secondary MUST answer.",
        "  source     the patch, colo_wait_handle_message()",
        "  exchange      0.000 <- checkpoint-ready",
        "                0.500 -> checkpoint-request",
        "  expected   checkpoint-reply",
        "  got        nothing",
        f"  row        {SECOND}",
        "  evidence   ended with status 3: no room",
        "  alone      colo-fsm conformance self --only colo/secondary/2.1",
    ]


def test_what_is_inconclusive_shows_both_exchanges() -> None:
    lines = text(judged(Outcome.INCONCLUSIVE))
    assert lines[0] == "INCONCLUSIVE colo/secondary/2.1"
    assert lines[3:5] == [
        "  at first      0.000 -- nothing for 1 s",
        "  exchange      0.000 <- checkpoint-ready",
    ]


def test_what_passes_when_it_has_more_time() -> None:
    slow = attrs.evolve(result(Verdict.INCONCLUSIVE), deviation=None, evidence="")
    lines = text(Judged(slow, Outcome.INCONCLUSIVE))
    assert "  why        it passes when it is given more time" in lines
    assert not [line for line in lines if "evidence" in line or "expected" in line]


def test_an_unexpected_pass_says_what_to_do() -> None:
    lines = text(judged(Outcome.SURPRISE, reason="It is silent."))
    assert lines[0] == "UNEXPECTED PASS colo/secondary/2.1"
    assert "  why        take it out of the expected failures (It is silent.)" in lines


@pytest.mark.parametrize("garbled", ["a crash: SIGSEGV", "section type 0x0a"])
def test_what_nothing_allows_is_what_was_got(garbled: str) -> None:
    found = Judged(result(Verdict.FAIL, got=Seen(NOTHING, garbled=garbled)), Outcome.FAIL)
    assert f"  got        {garbled}" in text(found)
    assert report.line(found).endswith(f"expected checkpoint-reply, got {garbled}")


def test_answers_that_would_have_passed_are_all_named() -> None:
    found = Judged(result(Verdict.FAIL, got=Seen(NOTHING), lenient=True), Outcome.FAIL)
    assert "  expected   checkpoint-reply or nothing" in text(found)


def test_a_summary_is_a_line_for_each_failure_and_the_totals() -> None:
    assert list(report.summary(run(*ALL, gone=("no case fails at 'x'",)))) == [
        "lenient           colo/secondary/2.2: it may take its time",
        "expected failure  colo/secondary/2.3: known",
        "FAIL              colo/secondary/2.4  expected checkpoint-reply, got nothing",
        "INCONCLUSIVE      colo/secondary/2.5  expected checkpoint-reply, got nothing",
        "UNEXPECTED PASS   colo/secondary/2.6  take it out of the expected failures (known)",
        "UNEXPECTED PASS   no case fails at 'x'",
        "this, secondary: 6 cases in 1.5 s: "
        "1 pass, 1 lenient, 1 expected failure, 1 fail, 1 inconclusive, 1 unexpected pass",
    ]


def test_cases_with_one_reason_are_counted() -> None:
    found = run(*(judged(Outcome.EXPECTED, f"colo/secondary/2.{n}", "known") for n in range(3)))
    assert next(report.summary(found)) == "expected failure  3 cases: known"


def test_a_run_that_broke_off() -> None:
    lines = list(report.summary(run(judged(Outcome.PASS), broken="it is gone")))
    assert lines == [
        "CANNOT TEST       behind colo/secondary/2.1: it is gone",
        "this, secondary: 1 case in 1.5 s: 1 pass",
    ]
    assert list(report.summary(run()))[-1].endswith("0 cases in 1.5 s: nothing played")


def test_failures_that_may_have_one_cause_are_of_one_kind() -> None:
    one, other = (judged(Outcome.FAIL, f"colo/secondary/2.{n}") for n in range(2))
    elsewhere = Judged(result(Verdict.FAIL, step=2), Outcome.FAIL)
    crashed = Judged(result(Verdict.FAIL, got=Seen(NOTHING, garbled="a crash: SIGSEGV")), Outcome.FAIL)
    assert report.kind(one) == report.kind(other)
    assert len({report.kind(each) for each in (one, elsewhere, crashed)}) == 3


def test_targets_side_by_side() -> None:
    a, b, c = (f"colo/secondary/2.{n}" for n in (1, 2, 3))
    old = run(judged(Outcome.PASS, a), judged(Outcome.PASS, b), judged(Outcome.EXPECTED, c), name="QEMU 7")
    new = run(judged(Outcome.PASS, a), judged(Outcome.FAIL, b), judged(Outcome.EXPECTED, c), name="QEMU 8")
    none = run(name="QEMU 9", broken="it does not start")
    assert list(report.matrix([old, new, none])) == [
        "1  QEMU 7",
        "2  QEMU 8",
        "3  QEMU 9: cannot be tested",
        "",
        "                    1     2     3",
        "colo/secondary/2.2  pass  FAIL  -",
        "pass                2     1     0",
        "expected failure    1     1     0",
        "fail                0     1     0",
    ]


def test_targets_that_fail_alike_show_it() -> None:
    both = [run(judged(Outcome.FAIL)) for _ in range(2)]
    assert "colo/secondary/2.1  FAIL  FAIL" in report.matrix(both)
    assert list(report.matrix([run(broken="x"), run(broken="x")]))[-1].split() == ["1", "2"]


def test_a_list_names_ids_and_sentences() -> None:
    assert list(report.listed([case("colo/secondary/wp/07"), case()])) == [
        "colo/secondary/wp/07  The Secondary MUST answer.",
        "colo/secondary/2.1    The Secondary MUST answer.",
    ]
    assert list(report.listed([])) == []


def test_for_machines() -> None:
    """What docs/output.md promises."""
    made = json.loads(json.dumps(report.as_json([run(*ALL), run(broken="it is gone")])))
    assert made["ok"] is False
    first, second = made["targets"]
    assert first["totals"] == dict.fromkeys(map(str, Outcome), 1)
    assert (second["broken"], second["cases"]) == ("it is gone", [])
    by_outcome = {each["outcome"]: each for each in first["cases"]}
    failed = by_outcome["fail"]
    assert failed["deviation"] == {
        "step": 1,
        "expected": ["checkpoint-reply"],
        "got": "nothing",
        "row": SECOND,
    }
    assert failed["exchange"][1] == {"at": 0.5, "way": "->", "text": "checkpoint-request"}
    assert failed["script"][1:3] == ["-> checkpoint-request", "<- checkpoint-reply"]
    assert by_outcome["pass"]["deviation"] is None
    assert by_outcome["expected failure"]["why"] == "known"


def test_all_is_well_for_machines_too() -> None:
    known = [judged(outcome) for outcome in Outcome if outcome.ok]
    assert report.as_json([run(*known)])["ok"] is True
    assert report.as_json([run(*known, gone=("x",))])["ok"] is False
    assert report.as_json([run(*known, broken="x")])["ok"] is False
