"""A third party's view: implementations in plain sockets, which know this package by its documents alone.

Those in Python run isolated, without packages, so that they cannot even import it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from replicas import unix
from third_party_changes import CHANGES, SECONDARY, Change

from colo_fsm.conform.case import Verdict
from colo_fsm.conform.plan import SUITES, plan
from colo_fsm.conform.play import play, play_all
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


def passes(target: str, suites: Sequence[str], side: Side = Side.SECONDARY) -> None:
    planned = plan(side, timeout=PATIENCE)
    with planned.target(target) as opened:
        found = list(play_all(planned.cases(suites), opened, Pace(PATIENCE), planned.jobs(target)))
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


def test_a_change_of_one_line_is_named_by_the_first_case_that_fails(tmp_path: Path) -> None:
    assert len(CHANGES) >= 20
    with ThreadPoolExecutor(4) as pool:  # they mostly wait
        folders = (tmp_path / str(number) for number in range(len(CHANGES)))
        unnamed = [told for told in pool.map(what_is_not_named, CHANGES, folders) if told]
    assert not unnamed, "\n\n".join(unnamed)


def what_is_not_named(change: Change, folder: Path) -> str:
    """Why the report of a change is not as it should be, if it is not."""
    folder.mkdir()
    broken = folder / "secondary.py"
    broken.write_text(change.applied())
    planned = plan(Side.SECONDARY, timeout=BRIEF if change.silent else PATIENCE)
    pace = Pace(planned.timeout)
    with running(f"{PYTHON} {broken}", unix(folder)) as address, planned.target(address) as target:
        played = (play(case, target, pace) for case in planned.cases())
        failed = next((result for result in played if result.verdict is Verdict.FAIL), None)
    if failed is None:
        return f"{change.name}: passes"
    told = "\n".join(details(Judged(failed, Outcome.FAIL), ""))
    missing = [words for words in (*change.words, f"  got        {change.got}") if words not in told]
    return f"{change.name}: {missing} is not in the report\n{told}" if missing else ""
