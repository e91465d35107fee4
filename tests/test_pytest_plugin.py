"""The pytest plugin: a target's cases are tests, with their IDs, reports and expected failures."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from colo_fsm.conform.plan import plan

pytest_plugins = "pytester"

PLUGIN = "colo_fsm.pytest_plugin"
"""Also the name of the entry point: where the package is installed with it, `-p` finds it there already."""
PARTY = Path(__file__).parent / "third_party"
CASES = len(plan("secondary").cases())
HEAVY = ("colo_fsm.fsm", "colo_fsm.replica", "transitions", "attr", "click", "rich", "asyncio")


def run(pytester: pytest.Pytester, *options: str | Path) -> pytest.RunResult:
    without = (
        word for name in ("cacheprovider", "hypothesispytest", "xdist") for word in ("-p", f"no:{name}")
    )
    return pytester.runpytest_inprocess("-p", PLUGIN, *without, *map(str, options))


def of(pytester: pytest.Pytester, target: str, *options: str | Path) -> pytest.RunResult:
    common = ("--colo-target", target, "--colo-side", "secondary", "--colo-timeout", "20")
    return run(pytester, *common, *options)


def of_self(pytester: pytest.Pytester, *options: str | Path, side: str = "secondary") -> pytest.RunResult:
    return run(pytester, "--colo-target", "self", "--colo-side", side, *options)


def changed(folder: Path, old: str, new: str) -> str:
    """The third party's Secondary with another line, as a target."""
    text = (PARTY / "secondary.py").read_text()
    assert old in text
    (folder / "secondary.py").write_text(text.replace(old, new))
    return f"cmd:{sys.executable} {folder / 'secondary.py'} {{address}}"


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """A Secondary that says checkpoint-reply in place of vmstate-loaded."""
    return changed(tmp_path, "self.link.sendall(LOADED)", "self.link.sendall(REPLY)")


def test_the_package_registers_it() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {PLUGIN: PLUGIN}


def test_without_a_target_it_does_nothing_and_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    code = f"""
import sys, pytest, _pytest.logging
before = {{*sys.modules}}
ran = pytest.main(["-q", "-p", "{PLUGIN}", "-p", "no:hypothesispytest", "-p", "no:xdist"])
sys.exit(ran or f"loaded {{[m for m in {HEAVY} if m in sys.modules and m not in before]}}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stderr.strip() == "loaded []"
    assert "1 passed" in done.stdout


def test_cases_are_collected_by_their_ids(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_mine(): pass")
    lines = of_self(pytester, "--collect-only", "-q").outlines
    assert lines[0].endswith("::test_mine")
    assert lines[1] == "colo-fsm::colo/secondary/1.1"
    assert f"{CASES + 2} tests collected" in lines[-1]


@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_sides_pass(pytester: pytest.Pytester, side: str) -> None:
    result = of_self(pytester, "--colo-suite", "must,wp", side=side)
    cases = len(plan(side).cases(["must", "wp"]))
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": cases + 1}


def test_junit_has_the_ids(pytester: pytest.Pytester) -> None:
    of_self(pytester, "--junitxml=junit.xml", "-k", "colo/secondary/2.1")
    (test,) = ElementTree.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    assert (test.attrib["classname"], test.attrib["name"]) == ("colo-fsm", "colo/secondary/2.1")


def test_a_failure_is_the_report_and_no_traceback(pytester: pytest.Pytester, broken: str) -> None:
    result = of(pytester, broken, "-k", "colo/secondary/6.1")
    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1, "deselected": CASES}
    text = str(result.stdout)
    assert "FAIL colo/secondary/6.1" in text
    assert "  must       The Secondary MUST" in text
    assert "  expected   vmstate-received, vmstate-loaded" in text
    assert "  got        vmstate-received, checkpoint-reply" in text
    assert "  row        sending --recv_vmstate_size--> sized" in text
    assert "--only colo/secondary/6.1 --side secondary --timeout 20.0" in text
    assert "Traceback" not in text
    assert "pytest_plugin.py" not in text


def test_expected_failures_are_strict(pytester: pytest.Pytester, broken: str, tmp_path: Path) -> None:
    known = tmp_path / "known.toml"
    known.write_text(
        "[[deviation]]\ncases = ['colo/secondary/6.1', 'colo/secondary/2.1']\nreason = 'a wrong word'\n"
        "[[deviation]]\nrows = ['ready --recv_checkpoint_request--> requested']\nreason = 'it is silent'\n"
    )
    chosen = "secondary/6.1 or secondary/2.1 or expected"
    result = of(pytester, broken, "--colo-expect", known, "-rx", "-k", chosen)
    outcomes = result.parseoutcomes()
    assert (outcomes["xfailed"], outcomes["failed"], outcomes["skipped"]) == (1, 1, 1)
    text = str(result.stdout)
    assert "colo-fsm::colo/secondary/6.1 - a wrong word" in text
    assert "UNEXPECTED PASS colo/secondary/2.1" in text
    assert "take it out of the expected failures (a wrong word)" in text


def test_a_deviation_that_nothing_meets_fails_a_whole_run(pytester: pytest.Pytester, tmp_path: Path) -> None:
    known = tmp_path / "known.toml"
    row = "ready --recv_checkpoint_request--> requested"
    known.write_text(f"[[deviation]]\nrows = ['{row}']\nreason = 'it is silent'\n")
    result = of_self(pytester, "--colo-expect", known)
    assert result.parseoutcomes() == {"passed": CASES, "failed": 1}
    assert f"no case fails at '{row}', as was expected: take it out of the file" in str(result.stdout)


def test_without_xfail_they_fail(pytester: pytest.Pytester, broken: str, tmp_path: Path) -> None:
    known = tmp_path / "known.toml"
    known.write_text("[[deviation]]\ncases = ['colo/secondary/6.1']\nreason = 'known'\n")
    result = of(pytester, broken, "--colo-expect", known, "--runxfail", "-k", "secondary/6.1")
    assert result.parseoutcomes()["failed"] == 1


def test_a_lenient_pass_says_why_in_junit(pytester: pytest.Pytester, tmp_path: Path) -> None:
    """This one leaves its link open when it has given up, as QEMU does."""
    said = 'print(f"gives up: {error}", file=sys.stderr, flush=True)'
    silent = changed(tmp_path, said, "__import__('time').sleep(1e3)")
    result = of(pytester, silent, "--junitxml=junit.xml", "-k", "secondary/2.3")
    assert result.parseoutcomes()["passed"] == 1
    (found,) = ElementTree.parse(pytester.path / "junit.xml").getroot().iter("property")
    assert found.attrib["name"] == "lenient"
    assert "close the link" in found.attrib["value"]


def test_what_cannot_be_tested_ends_the_run_in_one_line(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--colo-target", "cmd:false {address}", "--colo-side", "secondary")
    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1}
    assert "cannot test cmd:false {address}: false {address}: ended with status 1" in str(result.stdout)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--colo-target", "self"], "say which side the target is"),
        (["--colo-target", "self", "--colo-side", "primary", "--colo-suite", "all"], "'all' is no suite"),
        (["--colo-target", "self", "--colo-side", "primary", "--colo-expect", "none"], "none: No such file"),
    ],
)
def test_bad_usage_is_one_line(pytester: pytest.Pytester, options: list[str], says: str) -> None:
    result = run(pytester, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: colo-fsm: {says}" in str(result.stderr)


def test_a_protocol_of_ones_own(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--colo-target", "self", "--colo-secondary", "protocols.remus:SECONDARY")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] > 1
