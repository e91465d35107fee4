"""The main job: real processes, real sockets, real SQLite; and that it fails when it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from colo_fsm.cli.demo.clients import Answer
from colo_fsm.cli.demo.verdict import lost_rows, split_brain

PLANTED = Path(__file__).parent / "planted"
KILLS = ("primary", "secondary", "link", "none")


def demo(*arguments: str, planted: str | None = None) -> tuple[int, dict[str, Any], str]:
    """Run `colo-fsm demo --json`: its exit status, its last line, and what it complained of."""
    environment = dict(os.environ)
    if planted:
        environment["PYTHONPATH"] = str(PLANTED / planted)
    result = subprocess.run(
        [sys.executable, "-m", "colo_fsm", "demo", "--json", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = result.stdout.splitlines()
    return result.returncode, json.loads(lines[-1]) if lines else {}, result.stderr


def check_proved(kill: str, seed: int, *arguments: str) -> None:
    status, verdict, complaint = demo("--kill", kill, "--seed", str(seed), *arguments)
    assert status == 0, (verdict, complaint)
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


@pytest.mark.parametrize("release_on", ["loaded", "received"])
@pytest.mark.parametrize("kill", KILLS)
def test_nothing_is_lost_and_one_side_goes_on(kill: str, release_on: str) -> None:
    check_proved(kill, 1, "--seconds", "4", "--release-on", release_on)


def test_a_link_that_goes_silent() -> None:
    """Seed 4 makes the cut a silence: the deadline of 5 s has to end it."""
    check_proved("link", 4, "--seconds", "4")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("kill", KILLS)
def test_a_hundred_runs(kill: str, seed: int) -> None:
    check_proved(kill, 100 + seed, "--seconds", "5", "--release-on", ("loaded", "received")[seed % 2])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("planted", "kill", "found"),
    [
        ("release_early", "primary", {"lost"}),
        ("claim_skipped", "link", {"split_brain"}),
        ("half_applied", "link", {"integrity", "active_sides", "lost"}),
    ],
)
def test_a_planted_bug_is_found(planted: str, kill: str, found: set[str]) -> None:
    """A cut is not always where it hurts, so a few seeds are tried."""
    good = {"lost": 0, "split_brain": False, "integrity": "ok", "active_sides": 1}
    for seed in range(1, 41):
        status, verdict, complaint = demo(
            "--kill", kill, "--seed", str(seed), "--seconds", "3", planted=planted
        )
        assert verdict, complaint
        if status == 1 and any(verdict[name] != good[name] for name in found):
            return
    pytest.fail(f"{planted} was not found in 40 runs")


def test_bad_usage_is_one_line() -> None:
    status, _, complaint = demo("--kill", "everything")
    assert status == 2
    assert "'everything' is not one of 'primary', 'secondary', 'link', 'none'" in complaint
    assert "Traceback" not in complaint


ROWS = [("a", "1"), ("b", "2")]


@pytest.mark.parametrize(
    ("rows", "lost"),
    [
        (ROWS, 0),
        ([*ROWS, ("c", "unacknowledged")], 0),
        (ROWS[:1], 1),
        ([*ROWS, ("b", "2")], 1),
        ([*ROWS, ("b", "3")], 1),
        ([("a", "1"), ("b", "other")], 1),
    ],
    ids=["same", "more", "missing", "twice", "twice-and-different", "changed"],
)
def test_what_counts_as_lost(rows: list[tuple[str, str]], lost: int) -> None:
    assert lost_rows(dict(ROWS), rows) == lost


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
        (Answer("primary", 0, 5, 900, 1100), False),
        (Answer("primary", 0, 5, 1050, 1100), False),
        (Answer("primary", 0, 6, 1050, 1100), True),
        (Answer("primary", 8, 5, 900, 1100), True),
    ],
    ids=["before-the-claim", "covered", "after-the-claim", "two-tokens"],
)
def test_what_counts_as_split_brain(late: Answer, split: bool) -> None:
    answers = [Answer("secondary", 9, 5, 1200, 1300), late]
    workers: Any = [Said("primary"), Said("secondary", WON, SERVING)]
    assert split_brain(answers, workers) is split


def test_two_granted_claims_are_split_brain() -> None:
    workers: Any = [Said("primary", WON), Said("secondary", WON)]
    assert split_brain([], workers)
