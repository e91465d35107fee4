"""A third party's view: implementations in plain sockets, which know this package by its documents alone.

Those in Python run isolated, without packages, so that they cannot even import it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from replicas import unix
from third_party_changes import CHANGES, SECONDARY, Change

from colo_fsm.conform.case import Result, Verdict
from colo_fsm.conform.plan import SUITES, plan
from colo_fsm.conform.play import play_all
from colo_fsm.conform.report import details
from colo_fsm.conform.run import Judged, Outcome
from colo_fsm.conform.talk import Pace
from colo_fsm.fsm import Side

PATIENCE = 20.0
BRIEF = 1.0
"""Seconds after which one that is silent for ever counts as silent."""
FOLDER = SECONDARY.parent
PYTHON = f"{sys.executable} -I -S"
GCC = "gcc -O1 -Wall -Wextra -Werror -o"


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of the Secondary in C."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    built = tmp_path_factory.mktemp("c") / "secondary"
    subprocess.run([*GCC.split(), built, FOLDER / "secondary.c"], check=True)
    return str(built)


@contextmanager
def running(command: str, address: str) -> Iterator[str]:
    """A Secondary that listens at `address`, for all cases of a run."""
    with subprocess.Popen([*command.split(), address], stderr=subprocess.DEVNULL) as process:
        try:
            yield address
        finally:
            process.kill()


def results(
    target: str, suites: Sequence[str], side: Side = Side.SECONDARY, timeout: float = PATIENCE
) -> Iterator[Result]:
    planned = plan(side, timeout=timeout)
    with planned.target(target) as opened:
        yield from play_all(planned.cases(suites), opened, Pace(timeout), planned.jobs(target))


def passes(target: str, suites: Sequence[str], side: Side = Side.SECONDARY) -> None:
    found = list(results(target, suites, side))
    assert len(found) > 20
    assert {result.case.id: result.verdict for result in found if result.verdict is not Verdict.PASS} == {}


# -- sound ones ---------------------------------------------------------------------------------


def test_a_secondary_in_python_passes_where_it_listens(tmp_path: Path) -> None:
    with running(f"{PYTHON} {SECONDARY}", unix(tmp_path)) as address:
        passes(address, SUITES)


def test_a_secondary_in_c_passes_started_for_every_case(in_c: str) -> None:
    passes(f"cmd:{in_c} {{address}}", SUITES)


def test_a_secondary_in_c_passes_over_tcp(in_c: str) -> None:
    """It leaves Nagle's algorithm on, as whoever forgets about it does."""
    passes(f"cmd:{in_c} tcp:127.0.0.1:{{port}}", ["tour"])


def test_a_primary_in_python_passes() -> None:
    passes(f"cmd:{PYTHON} {FOLDER / 'primary.py'} {{address}}", ["wp"], Side.PRIMARY)


@pytest.mark.soak
@pytest.mark.parametrize("address", ["{address}", "tcp:127.0.0.1:{port}"])
@pytest.mark.parametrize("side", Side)
def test_all_suites_pass_when_it_is_started_for_every_case(side: Side, address: str) -> None:
    passes(f"cmd:{PYTHON} {FOLDER / f'{side}.py'} {address}", SUITES, side)


# -- broken ones --------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_of_one_line_is_named_by_the_first_case_that_fails(change: Change, tmp_path: Path) -> None:
    broken = tmp_path / "secondary.py"
    broken.write_text(change.applied())
    with running(f"{PYTHON} {broken}", unix(tmp_path)) as address:
        found = results(address, ["must"], timeout=BRIEF if change.silent else PATIENCE)
        failed = next((result for result in found if result.verdict is Verdict.FAIL), None)
    assert failed is not None, "it passes"
    told = "\n".join(details(Judged(failed, Outcome.FAIL), ""))
    assert [words for words in change.words if words not in told] == [], told
