"""docs/conformance.md: its tables are those of the cases and suites, and what it says to type works."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conformance_page import PAGE, filled

from colo_fsm.conform.expected import parsed
from colo_fsm.conform.plan import plan

ROOT = Path(__file__).parent.parent
STATUS = {"every case passes": 0, "one does not": 1, "bad usage": 2, "cannot be reached": 125}


def page() -> str:
    return PAGE.read_text()


def command(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_generated_parts_are_fresh(caplog: pytest.LogCaptureFixture) -> None:
    """If not: PYTHONPATH=tests python tests/conformance_page.py"""
    caplog.set_level(logging.CRITICAL)
    assert filled(page()) == page()


def test_a_page_without_a_place_for_a_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no place for 'example'"):
        filled("# nothing here\n")


def test_the_first_command_is_what_passing_looks_like() -> None:
    (first, *_) = re.findall(r"^colo-fsm (conformance self.*)$", page(), re.MULTILINE)
    done = command("colo_fsm", *first.split())
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"self, secondary: (\d+) cases in [\d.]+ s: \1 pass\n", done.stdout)


def test_a_command_for_each_case_is_started_as_the_page_says(tmp_path: Path) -> None:
    """The page's command, with the Secondary that it names for an example."""
    (example,) = re.findall(r"\((\.\./tests/third_party/secondary\.py)\)", page())
    (line,) = re.findall(
        r"^colo-fsm (conformance 'cmd:\./standby --listen \{address\}'.*)$", page(), re.MULTILINE
    )
    _, side = line.split("' ")
    target = f"cmd:{sys.executable} {(PAGE.parent / example).resolve()} {{address}}"
    only = ("--only", "colo/secondary/2.*")
    done = command("colo_fsm", "conformance", target, *side.split(), *only, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("7 pass\n")


def test_its_expected_failures_can_be_read_and_name_what_there_is() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", page(), re.DOTALL)
    first, second = parsed(text, "the page").entries
    secondary = plan("secondary")
    assert set(first.cases) <= {case.id for case in secondary.cases(("must",))}
    assert set(second.rows) <= {str(row) for row in secondary.table.rows}


def test_the_options_of_the_plugin_are_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "colo_fsm.pytest_plugin", "--help"],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    for option in re.findall(r"--colo-[a-z]+", page()):
        assert option in done.stdout, option


def test_statuses_are_those_of_the_command() -> None:
    help_text = command("colo_fsm", "conformance", "--help").stdout
    said = re.search(r"^Exit status 0: (.*?)\n\n", page(), re.MULTILINE | re.DOTALL)
    assert said is not None
    for what, number in STATUS.items():
        assert what in said[0]
        assert re.search(rf"^ +{number} ", help_text, re.MULTILINE)
