"""A JUnit file: what CI systems read, in the shape in which pytest writes its own."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

import attrs
import pytest
from conform_runs import judged, run

from colo_fsm.conform.junit import junit
from colo_fsm.conform.run import Judged, Outcome, Run

ALL = [judged(outcome, f"colo/secondary/2.{n}", "known") for n, outcome in enumerate(Outcome, 1)]
TESTS = """
import pytest
def test_pass(): print("said")
def test_fail(): assert 0
@pytest.mark.xfail(reason="known")
def test_known(): assert 0
@pytest.fixture
def broken(): raise RuntimeError
def test_error(broken): pass
"""


def alone(run: Run, id: str) -> str:
    return f"colo-fsm conformance {run.text} --only {id}"


def made(*runs: Run) -> ElementTree.Element:
    return ElementTree.fromstring(junit(runs, alone))


@pytest.fixture(scope="module")
def pytests(tmp_path_factory: pytest.TempPathFactory) -> ElementTree.Element:
    """A file that pytest has written itself, with a test of every kind."""
    folder = tmp_path_factory.mktemp("pytest")
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=junit.xml", "-o",
               "junit_logging=all"]  # fmt: skip
    subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return ElementTree.parse(folder / "junit.xml").getroot()


def shape(root: ElementTree.Element) -> dict[tuple[str, str], set[str]]:
    """Which element stands in which one, with which attributes."""
    found: dict[tuple[str, str], set[str]] = {("", root.tag): set(root.attrib)}
    for parent in root.iter():
        for child in parent:
            found.setdefault((parent.tag, child.tag), set()).update(child.attrib)
    return found


def test_it_has_the_shape_of_pytests_own(pytests: ElementTree.Element) -> None:
    theirs = shape(pytests)
    for place, attributes in shape(made(run(*ALL, gone=("x",), broken="it is gone"))).items():
        assert attributes <= theirs[place] | {"type"}, place


def test_the_counts_are_those_of_the_tests() -> None:
    (suite,) = made(run(*ALL, gone=("x",), broken="it is gone"))
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 8, "failures": 4, "errors": 1, "skipped": 1}
    assert counts["tests"] == len(suite.findall("testcase"))
    assert float(suite.attrib["time"]) == 1.5


def test_a_case_is_a_test_with_its_id() -> None:
    (suite,) = made(run(*ALL))
    names = [(test.attrib["classname"], test.attrib["name"]) for test in suite]
    assert names == [("this, secondary", f"colo/secondary/2.{n}") for n in range(1, 7)]
    assert {test.attrib["time"] for test in suite} == {"0.250"}


def test_what_becomes_of_each_outcome() -> None:
    (suite,) = made(run(*ALL))
    found = {outcome: [*test] for outcome, test in zip(Outcome, suite, strict=True)}
    assert found[Outcome.PASS] == []
    assert found[Outcome.LENIENT][0].text == "lenient: it may take its time"
    assert found[Outcome.EXPECTED][0].attrib == {"type": "expected failure", "message": "known"}
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.SURPRISE):
        (failure,) = found[outcome]
        assert (failure.tag, failure.attrib["type"]) == ("failure", outcome)
    (failure,) = found[Outcome.FAIL]
    assert failure.attrib["message"] == "expected checkpoint-reply, got nothing"
    assert failure.text is not None
    assert "  must       The Secondary MUST answer." in failure.text
    assert "--only colo/secondary/2.4" in failure.text


def test_a_target_that_cannot_be_tested_is_an_error() -> None:
    (suite,) = made(run(broken="it is gone"))
    (error,) = suite.findall("testcase/error")
    assert error.attrib["message"] == "it is gone"


def test_a_suite_for_each_target() -> None:
    first, second = made(run(*ALL), run(*ALL, name="that, secondary"))
    assert (first.attrib["name"], second.attrib["name"]) == ("this, secondary", "that, secondary")


def test_a_side_can_say_what_it_likes() -> None:
    """Its last words stand in the file: XML takes no control characters, and no lone surrogates."""
    bad = "\x00\x1b[31m \ud800 <&> \ufffe \U0001f600"
    result = attrs.evolve(judged(Outcome.FAIL).result, evidence=bad)
    (suite,) = made(run(Judged(result, Outcome.FAIL)))
    (failure,) = suite.findall("testcase/failure")
    assert failure.text is not None
    assert r"\x00\x1b[31m \ud800 <&> \ufffe " in failure.text
    (error,) = made(run(broken=bad))[0].findall("testcase/error")
    assert error.attrib["message"].startswith(r"\x00\x1b[31m ")
    assert "\U0001f600" in failure.text
