"""The main job: real processes, real sockets, real SQLite; and that it fails when it should.

No test here depends on how fast the machine is: what has a time-out has it against hanging.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from colo_fsm.cli.demo import run
from colo_fsm.cli.demo.clients import LONGEST, Answer
from colo_fsm.cli.demo.ledger import KEPT, SCHEMA, Ledger
from colo_fsm.cli.demo.rejoin import overlap
from colo_fsm.cli.demo.verdict import split_brain
from colo_fsm.services.sqlite import REPLIES, SqliteGuest, Statements

PLANTED = Path(__file__).parent / "planted"
KILLS = ("primary", "secondary", "link", "none")
HANGS = 900
CAPACITY = 16 << 20
"""What the ready guest has unless told otherwise."""

pytestmark = pytest.mark.timeout(HANGS + 60)


def command(
    *arguments: str, planted: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `colo-fsm demo`, with what is planted in it and its sides."""
    environment = os.environ | environment
    if planted:
        path = str(PLANTED / planted), os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return subprocess.run(
        [sys.executable, "-m", "colo_fsm", "demo", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )


def demo(*arguments: str, planted: str | None = None) -> tuple[int, dict[str, Any], str]:
    """Run `colo-fsm demo --json`: its exit status, its last line, and what it complained of."""
    result = command("--json", *arguments, planted=planted)
    lines = result.stdout.splitlines()
    return result.returncode, json.loads(lines[-1]) if lines else {}, result.stderr


def test_members_killed_in_turn_come_back_and_lose_nothing() -> None:
    status, verdict, complaint = demo("--rejoin", "--seed", "5")
    assert (status, complaint) == (0, ""), (verdict, complaint)
    assert verdict["lost"] == verdict["reads_lost"] == 0
    assert verdict["split_brain"] is False
    assert (len(verdict["failovers"]), len(verdict["rejoins"])) == (2, 2)
    assert verdict["active_members"] == 1
    assert verdict["acknowledged"] >= 300


@pytest.mark.parametrize(
    ("released", "split"), [(5, False), (15, True)], ids=["before the newer one", "after it"]
)
def test_an_answer_under_an_older_token_is_split_brain_once_a_newer_one_has_answered(
    released: int, split: bool
) -> None:
    assert overlap([Answer("primary", 1, 3, released)], {1: 1, 2: 10}) is split


def check_proved(kill: str, seed: int, *arguments: str) -> None:
    status, verdict, complaint = demo("--kill", kill, "--seed", str(seed), *arguments)
    assert (status, complaint) == (0, ""), (verdict, complaint)
    assert verdict["by_itself"] is None
    assert verdict["lost"] == 0
    assert verdict["reads_lost"] == 0
    assert verdict["split_brain"] is False
    assert verdict["active_sides"] == 1
    assert verdict["integrity"] == "ok"
    assert verdict["acknowledged"] >= 100
    assert verdict["checkpoints"] >= 10
    states = verdict["primary_state"], verdict["secondary_state"]
    match kill:
        case "primary":
            assert states == ("killed", "alone")
        case "secondary":
            assert states == ("alone", "killed")
        case "link":
            assert "alone" in states
            assert "killed" not in states
        case "none":
            assert states == ("ended", "ended")
    survivor = {"primary": "secondary", "secondary": "primary", "none": None}
    if kill in survivor:
        assert verdict["survivor"] == survivor[kill]
    assert (verdict["failover_ms"] is None) == (kill == "none")


@pytest.mark.parametrize(("kill", "release_on"), [*zip(KILLS, ["loaded", "received"] * 2, strict=True)])
def test_nothing_is_lost_and_one_side_goes_on(kill: str, release_on: str) -> None:
    """The soak's hundred runs have the other halves."""
    check_proved(kill, 1, "--seconds", "3", "--release-on", release_on)


def test_a_link_that_goes_silent() -> None:
    """Seed 4 makes the cut a silence: the deadline has to end it."""
    check_proved("link", 4, "--seconds", "3")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("kill", KILLS)
def test_a_hundred_runs(kill: str, seed: int) -> None:
    check_proved(kill, 100 + seed, "--seconds", "5", "--release-on", ("loaded", "received")[seed % 2])


@pytest.mark.timeout(40 * HANGS)
@pytest.mark.parametrize(
    ("planted", "kill", "found"),
    [
        ("release_early", "primary", {"lost"}),
        ("claim_skipped", "link", {"split_brain"}),
    ],
)
def test_a_planted_bug_is_found(planted: str, kill: str, found: set[str]) -> None:
    """A cut is not always where it hurts, so a few seeds are tried."""
    good = {"lost": 0, "split_brain": False, "integrity": "ok", "active_sides": 1}
    for seed in range(1, 41):
        status, verdict, complaint = demo(
            "--kill", kill, "--seed", str(seed), "--seconds", "3", "--rate", "5000", planted=planted
        )
        assert verdict, complaint
        if status == 1 and any(verdict[name] != good[name] for name in found):
            return
    pytest.fail(f"{planted} was not found in 40 runs")


def test_a_slow_machine_takes_longer_and_proves_as_much() -> None:
    """Ten checkpoints take a second at least, and a hundred rows more than the 2 s that are asked for."""
    status, verdict, complaint = demo("--seconds", "2", "--seed", "1", planted="slow")
    assert status == 0, (verdict, complaint)
    assert verdict["checkpoints"] >= 10
    assert verdict["acknowledged"] >= 100


async def unseen(_: run.Run) -> None:
    """Nobody watches."""


def test_a_machine_that_is_too_slow_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TOO_SLOW", 0.1)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join((str(PLANTED / "slow"), os.environ.get("PYTHONPATH", "")))
    )
    verdict = asyncio.run(run.run_demo(run.Plan(seconds=0.1), unseen))
    assert "this machine is too slow, or the pair stands still" in verdict.problems[0]
    assert (verdict.lost, verdict.active_sides, verdict.primary_state) != (0, 1, "killed")


@pytest.mark.parametrize("kill", ["secondary", "none"])
def test_a_pair_that_breaks_by_itself_keeps_its_promise_and_says_so(kill: str) -> None:
    """The Primary fails before the break, and nothing more is broken: not its survivor, for one."""
    result = command("--seconds", "2", "--kill", kill, planted="primary_fails")
    assert result.returncode == 0, result.stdout + result.stderr
    reason = "guest.save failed: RuntimeError: planted"
    assert f"The pair broke by itself, so nothing was broken on purpose ({reason})." in result.stdout
    assert "The Secondary claimed generation" in result.stdout
    assert "PROVED" in result.stdout
    assert "killed" not in result.stdout


def test_clients_keep_their_pace() -> None:
    began = time.monotonic()
    status, verdict, complaint = demo("--kill", "none", "--seconds", "2", "--clients", "20", "--rate", "40")
    assert status == 0, (verdict, complaint)
    assert verdict["acknowledged"] <= 20 + 40 * (time.monotonic() - began)


def test_what_the_service_refuses_is_a_verdict() -> None:
    result = command("--clients", "30", "--capacity", str(64 << 10))
    assert result.returncode == 1
    assert "FAILED the service refused: INSERT: database or disk is full" in result.stdout
    assert "0 lost, changed or there twice" in result.stdout
    assert result.stderr == ""


def test_a_side_that_does_not_start_is_one_line() -> None:
    result = command("--json", "--capacity", "1")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: the secondary ended before 'listening': ")
    assert "--capacity=1: the database does not fit" in line


def test_a_reader_that_goes_away_ends_nothing() -> None:
    told = [sys.executable, "-m", "colo_fsm", "demo", "--kill", "none", "--seconds", "2"]
    with subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert (process.stderr.read(), process.wait(HANGS)) == ("", 0)


def test_a_demo_that_is_killed_leaves_no_side_behind() -> None:
    told = [sys.executable, "-m", "colo_fsm", "demo", "--kill", "none", "--seconds", str(HANGS)]
    with subprocess.Popen(told, stdout=subprocess.PIPE) as process, ExitStack() as stack:
        assert process.stdout is not None
        assert process.stdout.readline(), "it has begun"
        sides = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        ends = [os.pidfd_open(int(pid)) for pid in sides]
        for end in ends:
            stack.callback(os.close, end)
        process.kill()
        assert len(sides) == 2
        for end in ends:  # it can be read once the process has ended
            assert select.select([end], [], [], HANGS)[0]


def test_bad_usage_is_one_line() -> None:
    status, _, complaint = demo("--kill", "everything")
    assert status == 2
    assert "'everything' is not one of 'primary', 'secondary', 'link', 'none'" in complaint
    assert "Traceback" not in complaint


ROWS = [(1, "a", "1"), (2, "b", "2")]


def ledger(*rows: tuple[int, str, str]) -> Ledger:
    """Of clients that were told of these rows, acknowledged and read."""
    made = Ledger()
    for number, key, value in rows:
        made.acknowledge(number, key, value)
        made.acknowledge(number, key, value)  # a retry
        made.read(number, key)
        made.read(number, key)
    return made


@pytest.mark.parametrize(
    ("rows", "lost"),
    [
        (ROWS, 0),
        ([*ROWS, (3, "c", "unacknowledged")], 0),
        ([], 2),
        (ROWS[:1], 1),
        (ROWS[1:], 1),
        ([*ROWS, (3, "b", "2")], 1),
        ([*ROWS, (3, "b", "3")], 1),
        ([(1, "a", "1"), (2, "b", "other")], 1),
        ([(1, "a", "1"), (2, "c", "2")], 1),
        ([(KEPT + 1, "c", "3"), (2, "b", "2")], 0),
        ([(KEPT + 1, "c", "3")], 1),
    ],
    ids=[
        "same", "more", "all", "end", "start", "twice", "twice-and-different", "changed", "another",
        "forgotten", "missing-behind-the-forgotten",
    ],
)  # fmt: skip
def test_what_counts_as_lost(rows: list[tuple[int, str, str]], lost: int) -> None:
    made = ledger(*ROWS)
    made.check(rows)
    assert (made.lost, made.reads_lost) == (lost, lost)
    assert (made.acknowledged, made.reads) == (2, 2)


def test_a_row_that_was_lost_long_ago_is_known_by_its_id() -> None:
    """The log has forgotten the place by the end, whoever stood there."""
    made = ledger(*ROWS)
    made.acknowledge(2, "c", "3")
    made.check([(2 * KEPT, "d", "4")])
    assert (made.lost, made.reads_lost) == (1, 1)


def test_an_id_that_everybody_has_forgotten_is_not_given_again() -> None:
    made = ledger(*((n, f"{n}", "") for n in range(1, 5 * KEPT)))
    made.acknowledge(1, "again", "")
    made.check([(n, f"{n}", "") for n in range(4 * KEPT, 5 * KEPT)])
    assert (made.lost, made.reads_lost) == (1, 0)
    assert made.acknowledged == 5 * KEPT


def test_the_log_keeps_its_newest_rows_and_their_replies_and_never_fills_the_database() -> None:
    """However many rows are written, of whatever length: the longest fill a page in twos."""
    statements = Statements(SqliteGuest(CAPACITY, schema=SCHEMA).connection)
    insert = "INSERT INTO log (key, value) VALUES (?, ?) RETURNING id"
    total = 3 * KEPT
    for n in range(1, total + 1):
        value = "x" * (LONGEST if n % 2 else n % LONGEST)
        assert json.loads(statements.run(insert, (f"{n}", value), f"{n}"))["rows"] == [[n]]
    kept = "SELECT count(*), min(id), max(id) FROM log"
    assert json.loads(statements.run(kept))["rows"] == [[KEPT, total - KEPT + 1, total]]
    replies = f"SELECT count(*), min(CAST(key AS INTEGER)) FROM {REPLIES}"
    assert json.loads(statements.run(replies))["rows"] == [[KEPT, total - KEPT + 1]]


class Said:
    """A worker as far as the verdict looks at it."""

    def __init__(self, side: str, *lines: dict[str, Any]) -> None:
        self.side = side
        self.lines = lines

    def find(self, event: str, **fields: object) -> dict[str, Any] | None:
        wanted = {"event": event, **fields}
        return next((x for x in self.lines if wanted.items() <= x.items()), None)


WON = {"event": "claim", "won": True, "token": 9, "at": 1000}
SERVING = {"event": "serving", "token": 9, "checkpoint": 5}


@pytest.mark.parametrize(
    ("late", "split"),
    [
        (Answer("primary", 0, 5, 900), False),
        (Answer("primary", 0, 5, 1050), False),
        (Answer("primary", 0, 6, 1050), True),
        (Answer("primary", 8, 5, 900), True),
    ],
    ids=["before-the-claim", "covered", "after-the-claim", "two-tokens"],
)
def test_what_counts_as_split_brain(late: Answer, split: bool) -> None:
    answers = [Answer("secondary", 9, 5, 1200), late]
    workers: Any = [Said("primary"), Said("secondary", WON, SERVING)]
    assert split_brain(answers, workers) is split


def test_two_granted_claims_are_split_brain() -> None:
    workers: Any = [Said("primary", WON), Said("secondary", WON)]
    assert split_brain([], workers)
