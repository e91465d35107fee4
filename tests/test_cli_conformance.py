"""`colo-fsm conformance` as people run it: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pty_reader
import pytest
import qemus
from click.testing import CliRunner
from qemu import needs_kvm
from tested_sides import COLO_FSM, PARTY, TIMEOUT, conformance, secondary, third

from colo_fsm.cli.app import cli
from colo_fsm.conform.plan import plan

# -- what it prints


def test_the_report_of_a_failure(tmp_path: Path) -> None:
    target = secondary(tmp_path, "self.link.sendall(REPLY)", "self.link.sendall(LOADED)")
    result = conformance(target, "--side", "secondary", "--timeout", TIMEOUT)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    details = [line for line in lines if line.startswith("FAIL colo/secondary/")]
    assert details[0] == "FAIL colo/secondary/2.1"
    assert len(details) < sum(line.startswith("FAIL  ") for line in lines)  # one of each kind is told in full
    assert "  expected   checkpoint-reply" in lines
    assert "  got        vmstate-loaded" in lines
    assert "  row        ready --recv_checkpoint_request--> requested" in lines
    assert lines[-1].startswith(f"{target.removeprefix('cmd:')}, secondary: ")


def test_the_command_that_it_names_plays_that_case_alone(tmp_path: Path) -> None:
    target = secondary(tmp_path, "self.link.sendall(REPLY)", "self.link.sendall(LOADED)")
    result = conformance(target, "--side", "secondary", "--timeout", TIMEOUT, "--suite", "wp")
    (first, *_) = (line for line in result.output.splitlines() if line.startswith("  alone "))
    program, *words = shlex.split(first.removeprefix("  alone"))
    assert program == "colo-fsm"
    again = CliRunner().invoke(cli, words)
    assert again.exit_code == 1
    assert "1 case in " in again.output


def test_several_targets_end_in_one_table(tmp_path: Path) -> None:
    broken = secondary(tmp_path, "self.link.sendall(REPLY)", "self.link.sendall(LOADED)")
    options = ("--only", "colo/secondary/1.1", "--only", "colo/secondary/2.1", "--timeout", TIMEOUT)
    result = conformance(third("secondary"), broken, "cmd:false {address}", "--side", "secondary", *options)
    assert result.exit_code == 1
    table = result.stdout.split("\n\n")[-1].splitlines()
    assert table == [
        "                    1     2     3",
        "colo/secondary/2.1  pass  FAIL  -",
        "pass                2     1     0",
        "fail                0     1     0",
    ]
    assert "Error: false {address}: ended with status 1" in result.stderr


def test_a_list_needs_no_target() -> None:
    result = conformance("--list", "--side", "secondary", "--suite", "must,wp")
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0].split("  ")[0] == "colo/secondary/1.1"
    assert " MUST " in lines[0]
    assert len(lines) == len(plan("secondary").cases(["must", "wp"]))
    listed = json.loads(conformance("--list", "--side", "secondary", "--json", "-").stdout)
    assert listed[0].keys() == {"id", "must", "source", "strict", "script"}


def test_a_person_sees_how_far_it_is() -> None:
    output = pty_reader.run([*COLO_FSM, "conformance", "self", "--side", "primary"])
    cases = len(plan("primary").cases())
    assert "self, primary" in output.partition(f"/{cases}\x1b")[0]
    assert f"{cases} cases in " in output.partition(f"/{cases}\x1b")[2]


def test_nobody_sees_a_bar_in_a_file() -> None:
    done = subprocess.run(
        [*COLO_FSM, "conformance", "self", "--side", "primary"], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout


# -- files


def test_files_for_machines(tmp_path: Path) -> None:
    result = conformance(
        "self", "--side", "primary", "--json", tmp_path / "a.json", "--junit", tmp_path / "a.xml"
    )
    assert result.exit_code == 0
    found = json.loads((tmp_path / "a.json").read_text())
    ids = [case.id for case in plan("primary").cases()]
    assert found["ok"] is True
    assert [case["id"] for case in found["targets"][0]["cases"]] == ids
    names = [test.attrib["name"] for test in ElementTree.parse(tmp_path / "a.xml").getroot().iter("testcase")]
    assert names == ids


def test_json_in_place_of_the_text() -> None:
    result = conformance("self", "--side", "primary", "--json", "-")
    assert json.loads(result.stdout)["targets"][0]["target"] == "self"


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    result = conformance("self", "--side", "primary", "--json", tmp_path / "none" / "a.json")
    assert (result.exit_code, f"there is no folder {tmp_path}/none" in result.stderr) == (2, True)
    (tmp_path / "sealed").mkdir()
    result = conformance("self", "--side", "primary", "--junit", "/proc/version")
    assert result.exit_code == 1
    assert "Error: /proc/version: " in result.stderr


# -- expected failures


def test_expected_failures_pass_and_are_told(tmp_path: Path) -> None:
    target = secondary(tmp_path, "self.link.sendall(LOADED)", "self.link.sendall(REPLY)")
    known = tmp_path / "known.toml"
    known.write_text(
        "[[deviation]]\nrows = ['sending --recv_vmstate_size--> sized']\nreason = 'it says the wrong word'\n"
    )
    common = [target, "--side", "secondary", "--timeout", TIMEOUT, "--suite", "wp"]
    result = conformance(*common, "--expect", known)
    assert result.exit_code == 0
    assert "expected failure  colo/secondary/wp/21: it says the wrong word\n" in result.output
    assert " expected failure" in result.output.splitlines()[-1]
    assert conformance(*common).exit_code == 1


def test_an_expected_failure_that_passes_fails_the_run(tmp_path: Path) -> None:
    known = tmp_path / "known.toml"
    row = "ready --recv_checkpoint_request--> requested"
    known.write_text(f"[[deviation]]\nrows = ['{row}']\nreason = 'it is silent'\n")
    result = conformance("self", "--side", "secondary", "--expect", known)
    assert result.exit_code == 1
    assert f"UNEXPECTED PASS   no case fails at '{row}', as was expected" in result.output
    known.write_text("[[deviation]]\ncases = ['colo/secondary/2.1']\nreason = 'it is silent'\n")
    result = conformance("self", "--side", "secondary", "--only", "colo/secondary/2.*", "--expect", known)
    assert result.exit_code == 1
    assert "UNEXPECTED PASS colo/secondary/2.1" in result.output


def test_of_a_part_no_row_is_missed(tmp_path: Path) -> None:
    known = tmp_path / "known.toml"
    row = "ready --recv_checkpoint_request--> requested"
    known.write_text(f"[[deviation]]\nrows = ['{row}']\nreason = 'it is silent, at times'\n")
    result = conformance("self", "--side", "secondary", "--only", "colo/secondary/2.1", "--expect", known)
    assert result.exit_code == 0


# -- real QEMUs

KNOWN = "colo/primary/4.2"
"""A case that every QEMU's Primary fails, as is known."""


@needs_kvm
def test_what_is_known_of_a_qemu_is_expected_without_being_asked() -> None:
    words = (f"qemu:{qemus.current().binary}", "--side", "primary", "--timeout", TIMEOUT, "--only", KNOWN)
    expected = conformance(*words)
    assert expected.exit_code == 0, expected.output
    assert "1 expected failure" in expected.output
    assert conformance(*words, "--no-expect").exit_code == 1


@needs_kvm
def test_versions_of_qemu_stand_side_by_side() -> None:
    """All that are here, and whose deviations are known."""
    here = [each for each in qemus.VERSIONS if each.binary and each.name == each.expected]
    targets = [f"qemu:{each.binary}" for each in here]
    words = ("--side", "primary", "--timeout", TIMEOUT, "--only", KNOWN, "--only", "colo/primary/1.1")
    result = conformance(*targets, "self", *words)
    assert result.exit_code == 0, result.output
    *_, legend, table = result.stdout.split("\n\n")
    names = [*(f"QEMU {each.found}, primary" for each in here), "self, primary"]
    assert legend.splitlines()[-len(names) :] == [f"{n}  {name}" for n, name in enumerate(names, 1)]
    (row,) = (line.split("  ") for line in table.splitlines() if line.startswith(KNOWN))
    assert [word.strip() for word in row if word] == [KNOWN, *["expected failure"] * len(here), "pass"]


# -- what cannot be


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("tcp:127.0.0.1:1", "no side to test at tcp:127.0.0.1:1"),
        ("unix:/nowhere/link", "no side to test at unix:/nowhere/link"),
        ("cmd:false {address}", "false {address}: ended with status 1"),
        ("cmd:no-such-program {address}", "there is no program no-such-program"),
        ("qemu:no-such-qemu", "no-such-qemu"),
    ],
)
def test_what_cannot_be_tested_is_one_line_and_125(target: str, says: str) -> None:
    result = conformance(target, "--side", "secondary", "--timeout", "0.1")
    assert result.exit_code == 125
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {says}") or says in line


def test_a_side_that_is_gone_after_a_failure_has_failed(tmp_path: Path) -> None:
    """It was tested as far as it went."""
    count = tmp_path / "count"
    begins = 'if __name__ == "__main__":'
    twice = f"""with open({str(count)!r}, "a+") as file:
    file.write("x")
    file.seek(0)
    if file.read() == "xxx":
        sys.exit("no more")
{begins}"""
    target = secondary(tmp_path, begins, twice)
    common = ("--side", "secondary", "--timeout", TIMEOUT, "--jobs", "1")
    result = conformance(target, *common)
    assert result.exit_code == 125
    assert "CANNOT TEST       " in result.stdout
    assert "2 cases in " in result.stdout
    count.unlink()
    side = tmp_path / "secondary.py"
    side.write_text(side.read_text().replace("self.link.sendall(READY)", "self.link.sendall(REPLY)"))
    assert conformance(target, *common).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["self"], "say which side the target is"),
        (["--side", "primary"], "say what to test: TARGET, say qemu; or --list"),
        (["slef", "--side", "primary"], "'slef' is no target: write self, tcp:HOST:PORT"),
        (["self", "slef", "--side", "primary"], "'slef' is no target"),
        (["self", "--side", "primary", "--suite", "must,all"], "'all' is no suite: write some of must,tour"),
        (["self", "--side", "primary", "--only", "colo/primary/x"], "there is no case 'colo/primary/x'"),
        (["self", "--side", "primary", "--timeout", "nan"], "'nan' is no number"),
        (["self", "--side", "primary", "--jobs", "0"], "'--jobs'"),
        (["self", "--side", "primary", "--expect", "none.toml"], "'none.toml' does not exist"),
        (["self", "--secondary", "protocols.remus:PRIMARY"], "is no Table of the secondary"),
    ],
)
def test_bad_usage_says_what_to_do(arguments: list[str], says: str) -> None:
    result = conformance(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_help_has_an_example_and_the_statuses() -> None:
    text = conformance("--help").output
    assert "colo-fsm conformance qemu --side secondary" in text
    for status in (0, 1, 2, 125, 130):
        assert f"\n    {status:<3}  " in text


def test_an_interrupt_ends_it_when_the_case_at_work_is_over(tmp_path: Path) -> None:
    """Its status is a shell's for ^C, and nothing is said."""
    first, at_work, go_on = (tmp_path / name for name in ("first", "at-work", "go-on"))
    waiting = f"""
            if __import__("os").path.exists({str(first)!r}):
                __import__("os").unlink({str(first)!r})
                open({str(at_work)!r}, "w").close()
                open({str(go_on)!r}).close()
            self.link.sendall(REPLY)"""
    target = secondary(tmp_path, "self.link.sendall(REPLY)", waiting.strip())
    first.touch()
    os.mkfifo(at_work)
    os.mkfifo(go_on)
    command = [*COLO_FSM, "conformance", target, "--side", "secondary", "--timeout", TIMEOUT, "--jobs", "1"]
    only = ["--only", "colo/secondary/2.1", "--only", "colo/secondary/6.1"]
    with subprocess.Popen([*command, *only], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            at_work.read_text()
            process.send_signal(signal.SIGINT)
            go_on.write_text("")
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, b"", b"")


# -- git bisect


def git(folder: Path, *arguments: str) -> str:
    names = ("-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *names, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_git_bisect_run_finds_the_commit(tmp_path: Path) -> None:
    """Nine commits: the fifth does not start, from the seventh on vmstate-received comes too early."""
    git(tmp_path, "init", "-q")
    sound = (PARTY / "secondary.py").read_text()
    commits = []
    for number in range(9):
        text = sound.replace("self.next(SIZE)", "self.next(SIZE); self.link.sendall(RECEIVED)")
        text = f"{text if number >= 6 else sound}\n# {number}\n"
        (tmp_path / "secondary.py").write_text("no Python\n" if number == 4 else text)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", f"change {number}")
        commits.append(git(tmp_path, "rev-parse", "HEAD"))
    target = f"cmd:{sys.executable} secondary.py {{address}}"
    command = [
        *COLO_FSM,
        "conformance",
        target,
        "--side",
        "secondary",
        "--only",
        "colo/secondary/6.1",
        "--timeout",
        "20",
    ]
    git(tmp_path, "bisect", "start", commits[-1], commits[0])
    said = git(tmp_path, "bisect", "run", *command)
    assert f"{commits[6]} is the first bad commit" in said
