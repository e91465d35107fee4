"""What tests of `colo-fsm conformance` have in common: the command in this process, and sides for it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from colo_fsm.cli.app import cli

PARTY = Path(__file__).parent / "third_party"
COLO_FSM = [sys.executable, "-m", "colo_fsm"]
"""Where a command of ours is started by another one."""
TIMEOUT = "20"
"""Seconds; the sides that are real get longer deadlines of their own."""


def conformance(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["conformance", *map(str, arguments)])


def third(side: str, where: Path = PARTY) -> str:
    """The third party's, as a target."""
    return f"cmd:{shlex.join([sys.executable, str(where / f'{side}.py')])} {{address}}"


def secondary(folder: Path, old: str, new: str) -> str:
    """The third party's Secondary with another line, as a target."""
    text = (PARTY / "secondary.py").read_text()
    assert old in text
    (folder / "secondary.py").write_text(text.replace(old, new))
    return third("secondary", folder)
