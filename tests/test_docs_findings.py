"""docs/findings.md: its commands show what it says, with each version that it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import attrs
import pytest
import qemus
from click.testing import CliRunner
from qemu import needs_kvm

from colo_fsm.cli.app import cli
from colo_fsm.conform.expected import shipped

PAGE = (Path(__file__).parent.parent / "docs" / "findings.md").read_text()


@attrs.frozen
class Finding:
    """A section of the page with a command that shows it."""

    number: str
    command: str
    text: str


FINDINGS = [
    Finding(number, command, text)
    for number, text in re.findall(r"^## (\d+)\. (.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    for command in re.findall(r"```sh\n(.*)\n```", text)
]


@needs_kvm
@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.number)
def test_the_command_shows_it(finding: Finding) -> None:
    program, *arguments = shlex.split(finding.command)
    assert program == "colo-fsm"
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 1, shown.output
    assert f"QEMU {qemus.current().found}" in shown.output
    id = arguments[arguments.index("--only") + 1]
    assert f"FAIL {id}" in shown.output
    assert id in finding.text.partition("**Cases.**")[2]


@pytest.mark.parametrize("version", [version.expected for version in qemus.VERSIONS])
def test_each_expected_failure_is_told_and_the_other_way_round(version: str) -> None:
    assert {finding.number for finding in FINDINGS} == {"1", "2", "3"}
    known = shipped(version).entries
    assert len(known) == len(FINDINGS)
    for finding in FINDINGS:
        (row,) = re.findall(rf"^\| \[{finding.number}\]\(.*$", PAGE, re.MULTILINE)
        assert version in row
