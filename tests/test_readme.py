"""The README keeps its word: its quickstart runs, its links lead somewhere, its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from colo_fsm.cli.app import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SAID = "answered 1\nsurvived 1\n"


def quickstart() -> str:
    """The README's only block of Python."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(code)


def run(code: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_quickstart_in_memory(tmp_path: Path) -> None:
    assert run(quickstart(), tmp_path) == SAID


def test_the_quickstart_over_tcp(tmp_path: Path) -> None:
    code = quickstart().replace("listen=b", 'listen="tcp:127.0.0.1:0"')
    code = code.replace("peer=a", "peer=str(secondary.address)")
    assert code.count("tcp:127.0.0.1:0") == 1
    assert run(code, tmp_path) == SAID


def test_the_quickstart_is_short() -> None:
    body = quickstart().partition("async def main")[2]
    assert len(body.strip().splitlines()) <= 15


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


@cache
def help_of(command: str) -> str:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_and_options_exist(page: Path) -> None:
    """Every `colo-fsm …` that a page names has these options in its help."""
    for command, rest in re.findall(r"(?:`|\n)colo-fsm (\w[\w-]*)([^`\n]*)", page.read_text()):
        help = help_of(command)
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in help, f"{page.name}: {command} {option}"
