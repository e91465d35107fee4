"""What keeps a survivor from running, and what heals it: real processes, and claims that go wrong."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import etcd_cluster
import pytest
import served_pair
from served_pair import Process
from standby_process import StandbyProcess, StreamPrimary

from colo_fsm.arbiter import SqliteArbiter
from colo_fsm.fsm import Side

SURVIVORS = pytest.mark.parametrize(
    "survivor", [pytest.param(Side.PRIMARY, marks=pytest.mark.soak), Side.SECONDARY]
)


@attrs.frozen
class Fence:
    """`command` writes its arguments into `log` and fails with 3, the first `fails` times."""

    folder: Path
    fails: int

    @property
    def log(self) -> Path:
        return self.folder / "fenced"

    @property
    def command(self) -> str:
        return str(self.folder / "fence.sh")

    def __attrs_post_init__(self) -> None:
        file = Path(self.command)
        file.write_text(
            f'#!/bin/sh\necho "$*" >> {self.log}\n'
            f'[ "$(wc -l < {self.log})" -gt {self.fails} ] || {{ echo no power switch >&2; exit 3; }}\n'
        )
        file.chmod(0o700)


@contextlib.contextmanager
def served(folder: Path, *more: str, arbiter: str = "sqlite:claim.db") -> Iterator[tuple[Process, Process]]:
    """Primary and Secondary, whose first checkpoint is taken."""
    common = ["--arbiter", arbiter, *more]
    with served_pair.side(folder, "secondary", "--listen", "unix:link", *common) as secondary:
        secondary.until("listening")
        with served_pair.side(folder, "primary", "--connect", "unix:link", *common) as primary:
            primary.until("checkpoint")
            yield primary, secondary


def test_a_claim_file_made_anew_is_no_answer_until_the_right_one_is_back(tmp_path: Path) -> None:
    claims, kept = tmp_path / "claim.db", tmp_path / "kept.db"
    with StandbyProcess(tmp_path, "--arbiter", f"sqlite:{claims}") as standby:
        with StreamPrimary(standby.connect()) as primary:
            primary.begin().round(1)
            claims.rename(kept)
            SqliteArbiter(claims).open()
        said = standby.says(
            r"does not answer: generation (\d+) is unknown at \S+: put its record back.*asking again"
        )
        assert int(said[1]) == standby.generation
        kept.replace(claims)
        assert standby.wait() == 0
    assert standby.objects[-1]["won"] is True


def test_a_standby_fences_before_it_takes_over(tmp_path: Path) -> None:
    """Twice in vain: it waits, says so each time, and does not run --on-failover before it is done."""
    fencing = Fence(tmp_path, fails=2)
    options = ("--arbiter", f"sqlite:{tmp_path / 'claim.db'}", "--fence", fencing.command)
    with StandbyProcess(tmp_path, *options, "--on-failover", f"echo taken >> {fencing.log}") as standby:
        with StreamPrimary(standby.connect()) as primary:
            primary.begin().round(1)
        assert standby.wait() == 0
    said = "has not fenced the peer: status 3 is no success: 0 is done; it says: no power switch; suspended"
    assert [standby.said.count(f"{said}, fencing again in {s} s") for s in (1, 2, 4)] == [1, 1, 0]
    *tries, taken = fencing.log.read_text().splitlines()
    token = re.search(r"claim won \(token (\d+)\)", standby.said)
    assert token is not None
    assert tries == [f"{standby.generation} secondary {token[1]}"] * 3
    assert taken == "taken"


@SURVIVORS
def test_a_side_fences_before_it_serves_alone(tmp_path: Path, survivor: Side) -> None:
    fencing = Fence(tmp_path, fails=1)
    with served(tmp_path, "--fence", fencing.command) as (primary, secondary):
        lives, dies = (primary, secondary) if survivor is Side.PRIMARY else (secondary, primary)
        dies.process.kill()
        said = lives.until("claim-unanswered")
        assert said["error"].endswith("it says: no power switch")
        assert said["retry"] == 1
        won = lives.until("claim", won=True)
        lives.until("state", state="alone")
    tries = fencing.log.read_text().splitlines()
    assert len(tries) == 2
    assert {tuple(line.split()[1:]) for line in tries} == {(survivor.value, str(won["token"]))}


@SURVIVORS
def test_without_a_quorum_a_pair_goes_on_and_a_survivor_waits_for_it(tmp_path: Path, survivor: Side) -> None:
    if reason := etcd_cluster.missing():
        pytest.skip(reason)
    with (
        etcd_cluster.running(tmp_path / "etcd") as cluster,
        served(tmp_path, arbiter=cluster.url()) as (primary, secondary),
    ):
        for member in cluster.members[:2]:
            member.kill()
        for _ in range(3):
            primary.until("checkpoint")
            secondary.until("checkpoint")
        lives, dies = (primary, secondary) if survivor is Side.PRIMARY else (secondary, primary)
        dies.process.kill()
        assert "is unreachable: " in lives.until("claim-unanswered")["error"]
        cluster.start()
        lives.until("claim", won=True, winner=survivor.value)
        lives.until("state", state="alone")
