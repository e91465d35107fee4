"""A third party's view: implementations in plain sockets, which know this package by its documents alone.

Those in Python run isolated, without packages, so that they cannot even import it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from replicas import PATIENCE, Counting, OneShot, unix
from third_party_changes import (
    CHANGES,
    FOLDER,
    OF_PATCH,
    OF_THE_PATCH,
    OF_THE_PRIMARY,
    PRIMARY,
    SECONDARY,
    Change,
)

from colo_fsm.colo import Profile, State
from colo_fsm.conform.case import Verdict
from colo_fsm.conform.plan import SUITES, plan
from colo_fsm.conform.play import play, play_all
from colo_fsm.conform.report import details
from colo_fsm.conform.run import Judged, Outcome
from colo_fsm.conform.talk import Pace
from colo_fsm.fsm import Side
from colo_fsm.replica import CheckpointTaken, Options, blocking

BRIEF = 5.0
"""Seconds after which one that is silent for ever counts as silent."""
PYTHON = f"{sys.executable} -I -S"
GCC = "gcc -O1 -Wall -Wextra -Werror -o"


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command of the Secondary in C."""
    return compiled("secondary", tmp_path_factory.mktemp("c"))


def compiled(name: str, folder: Path) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    subprocess.run([*GCC.split(), folder / name, FOLDER / f"{name}.c"], check=True)
    return str(folder / name)


@contextmanager
def running(command: str, address: str) -> Iterator[str]:
    """A Secondary that listens at `address`, for all cases of a run."""
    with subprocess.Popen([*command.split(), address], stderr=subprocess.DEVNULL) as process:
        try:
            yield address
        finally:
            process.kill()


def passes(
    target: str, suites: Sequence[str], side: Side = Side.SECONDARY, profile: Profile = Profile.QEMU
) -> None:
    planned = plan(side, profile=profile, timeout=PATIENCE)
    with planned.target(target) as opened:
        found = list(play_all(planned.cases(suites), opened, Pace(PATIENCE), planned.jobs(target)))
    assert len(found) > 20
    # leniently too: on a busy machine one that closes its link at once may still seem to hesitate
    passed = (Verdict.PASS, Verdict.LENIENT)
    assert {result.case.id: result.deviation for result in found if result.verdict not in passed} == {}


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
    passes(f"cmd:{PYTHON} {PRIMARY} {{address}}", ["wp"], Side.PRIMARY)


def test_one_of_the_patchs_profile_is_forty_lines_and_passes(tmp_path: Path) -> None:
    with running(f"{PYTHON} {OF_PATCH}", unix(tmp_path)) as address:
        passes(address, SUITES, profile=Profile.PATCH)
    with running(compiled("patch_secondary", tmp_path), f"unix:{tmp_path}/c") as address:
        passes(address, SUITES, profile=Profile.PATCH)
    for path, most in ((OF_PATCH, 60), (OF_PATCH.with_suffix(".c"), 100)):
        assert sum(map(bool, path.read_text().split("\n"))) <= most


@pytest.mark.soak
@pytest.mark.parametrize("address", ["{address}", "tcp:127.0.0.1:{port}"])
@pytest.mark.parametrize("side", Side)
def test_all_suites_pass_when_it_is_started_for_every_case(side: Side, address: str) -> None:
    passes(f"cmd:{PYTHON} {FOLDER / f'{side}.py'} {address}", SUITES, side)


def test_a_users_command_says_that_it_passes() -> None:
    status, said = conformance(SECONDARY, "colo/secondary/2.*", "colo/secondary/wp/*")
    assert status == 0, said
    assert re.search(r"(\d+) cases in .* s: \1 pass$", said.strip())


# -- with this package's own sides ----------------------------------------------------------------


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_primary_of_ours_replicates_to_a_secondary(
    language: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    command = request.getfixturevalue("in_c") if language == "c" else f"{PYTHON} {SECONDARY}"
    guest, options = Counting(), Options(interval=0.0, deadline=PATIENCE, connect_timeout=PATIENCE)
    with (
        running(command, unix(tmp_path)) as address,
        blocking.primary(guest, peer=address, arbiter=OneShot(), options=options) as pair,
    ):
        for _ in range(3):
            with pair.turn():
                guest.count += 1
            pair.committed(PATIENCE)
    assert pair.state is State.ENDED


def test_a_secondary_of_ours_takes_over_from_a_primary(tmp_path: Path) -> None:
    guest, options = Counting(), Options(deadline=PATIENCE)
    with blocking.secondary(guest, listen=unix(tmp_path), arbiter=OneShot(), options=options) as pair:
        events = pair.events()
        with subprocess.Popen([*PYTHON.split(), PRIMARY, unix(tmp_path)]) as process:
            assert any(isinstance(event, CheckpointTaken) and event.number == 3 for event in events)
            process.kill()
        pair.running()
        assert guest.running
        assert guest.count >= 3


# -- broken ones --------------------------------------------------------------------------------


def test_a_change_of_one_line_is_named_by_the_first_case_that_fails(tmp_path: Path) -> None:
    assert min(len(CHANGES), len(OF_THE_PATCH)) >= 20
    changes = (*CHANGES, *OF_THE_PRIMARY, *OF_THE_PATCH)
    with ThreadPoolExecutor(len(changes)) as pool:  # they mostly wait
        folders = (tmp_path / str(number) for number in range(len(changes)))
        unnamed = [told for told in pool.map(what_is_not_named, changes, folders) if told]
    assert not unnamed, "\n\n".join(unnamed)


def what_is_not_named(change: Change, folder: Path) -> str:
    """Why the report of a change is not as it should be, if it is not."""
    folder.mkdir()
    broken = folder / change.file.name
    broken.write_text(change.applied())
    planned = plan(change.side, profile=change.profile, timeout=BRIEF if change.silent else PATIENCE)
    with ExitStack() as stack:
        text = f"cmd:{PYTHON} {broken} {{address}}"
        if change.side is Side.SECONDARY:  # one for all cases is there sooner
            text = stack.enter_context(running(f"{PYTHON} {broken}", unix(folder)))
        target, pace = stack.enter_context(planned.target(text)), Pace(planned.timeout)
        cases = (case for case in planned.cases() if case.id.endswith(change.only))
        played = (play(case, target, pace) for case in cases)
        failed = next((result for result in played if result.verdict is Verdict.FAIL), None)
    if failed is None:
        return f"{change.name}: passes"
    told = "\n".join(details(Judged(failed, Outcome.FAIL), ""))
    missing = [words for words in (*change.words, f"  got        {change.got}") if words not in told]
    return f"{change.name}: {missing} is not in the report\n{told}" if missing else ""


def test_a_user_is_told_what_the_broken_one_said(tmp_path: Path) -> None:
    (change,) = (each for each in CHANGES if each.name == "little-endian messages")
    broken = tmp_path / "secondary.py"
    broken.write_text(change.applied())
    status, said = conformance(broken, "colo/secondary/2.1")
    assert status == 1
    assert "FAIL colo/secondary/2.1\n" in said
    assert "evidence   gives up: 00000001 in place of 01000000\n" in said


def test_a_crash_fails_where_the_link_had_to_end(tmp_path: Path) -> None:
    broken = tmp_path / "secondary.py"
    text = SECONDARY.read_text()
    broken.write_text(text.replace("print(f", "__import__('os').abort(), print(f"))
    assert broken.read_text() != text
    planned = plan(Side.SECONDARY, timeout=PATIENCE)
    (case,) = planned.cases(only=["colo/secondary/2.2"])
    with planned.target(f"cmd:{PYTHON} {broken} {{address}}") as target:
        played = play(case, target, Pace(PATIENCE))
    assert played.verdict is Verdict.FAIL
    assert played.deviation is not None
    assert played.deviation.got == "a crash: SIGABRT"


def conformance(script: Path, *only: str) -> tuple[int, str]:
    """The status of a user's command, and all that it says."""
    named = [word for id in only for word in ("--only", id)]
    command = ["colo_fsm", "conformance", f"cmd:{PYTHON} {script} {{address}}", "--side", "secondary", *named]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=PATIENCE * 10
    )
    return done.returncode, done.stdout + done.stderr
