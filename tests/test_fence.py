"""A peer that is fenced once the claim is won, by a command that may fail."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest

from colo_fsm.arbiter import (
    Arbiter,
    ArbiterUnreachable,
    ExecArbiter,
    Fenced,
    NotFenced,
    SqliteArbiter,
    Unarbitrated,
)
from colo_fsm.fsm import Side

P, S = Side.PRIMARY, Side.SECONDARY


@pytest.fixture
def claims(tmp_path: Path) -> SqliteArbiter:
    return SqliteArbiter(tmp_path / "claim.db")


def shell(script: str) -> str:
    return shlex.join(["sh", "-c", script, "sh"])


def fenced_by(arbiter: Arbiter, script: str, timeout: float = 30.0) -> Fenced:
    return Fenced(arbiter, shell(script), timeout)


def test_what_it_is_made_of(claims: SqliteArbiter) -> None:
    assert [*signature(Fenced).parameters] == ["arbiter", "command", "timeout"]
    assert repr(Fenced(Unarbitrated(), "true")) == (
        "Fenced(arbiter=Unarbitrated(), command='true', timeout=30.0)"
    )
    fenced = Fenced(claims, "true")
    assert (str(fenced), fenced.local_only) == (str(claims), True)
    assert not Fenced(ExecArbiter("true"), "true").local_only


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("/no/such/command", "'/no/such/command' cannot fence: name a command that can be executed"),
        ("sh 'unclosed", "\"?'sh 'unclosed' cannot fence: No closing quotation"),
    ],
)
def test_nothing_that_could_fence(command: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Fenced(Unarbitrated(), command)


def test_a_won_claim_fences_with_what_must_be_known(claims: SqliteArbiter, tmp_path: Path) -> None:
    fenced = fenced_by(claims, f'echo "$*" >> {tmp_path / "fenced"}')
    generation = fenced.open()
    fenced.check(generation)
    claim = fenced.claim(generation, S)
    assert claim.winner is S
    assert (tmp_path / "fenced").read_text() == f"{generation} secondary {claim.token}\n"
    assert fenced.claim(generation, S) == claims.claim(generation, S) == claim
    assert len((tmp_path / "fenced").read_text().splitlines()) == 1, "once it is done, it is done"
    second = fenced.open()
    fenced.claim(second, S)
    assert len((tmp_path / "fenced").read_text().splitlines()) == 2


@pytest.mark.parametrize("loser", Side)
def test_whoever_has_lost_does_not_fence(claims: SqliteArbiter, tmp_path: Path, loser: Side) -> None:
    fenced = fenced_by(claims, f"touch {tmp_path / 'fenced'}")
    generation = fenced.open()
    claims.claim(generation, loser.peer)
    assert fenced.claim(generation, loser).winner is loser.peer
    assert not (tmp_path / "fenced").exists()


def test_nobody_fences_while_the_claim_is_not_answered(tmp_path: Path) -> None:
    fenced = fenced_by(ExecArbiter(shell("exit 1")), f"touch {tmp_path / 'fenced'}")
    with pytest.raises(ArbiterUnreachable):
        fenced.claim(7, P)
    assert not (tmp_path / "fenced").exists()


FAILS_TWICE = """
echo again >> {0}
[ "$(wc -l < {0})" -gt 2 ] || {{ echo the switch is busy >&2; exit {1}; }}
"""


@pytest.mark.parametrize("status", [1, 10, 255])
def test_one_that_fails_is_tried_again(claims: SqliteArbiter, tmp_path: Path, status: int) -> None:
    tries = tmp_path / "tries"
    fenced = fenced_by(claims, FAILS_TWICE.format(tries, status))
    generation = fenced.open()
    for _ in range(2):
        with pytest.raises(NotFenced) as caught:
            fenced.claim(generation, S)
        assert str(caught.value).startswith("the claim is won, but 'sh -c ")
        assert str(caught.value).endswith(
            f"has not fenced the peer: status {status} is no success: 0 is done; it says: the switch is busy"
        )
        assert claims.claim(generation, P).winner is S, "the claim stays won meanwhile"
    assert fenced.claim(generation, S).winner is S
    assert len(tries.read_text().splitlines()) == 3


def test_one_that_hangs_is_killed_with_its_children_and_tried_again(
    claims: SqliteArbiter, tmp_path: Path
) -> None:
    fifo, works = tmp_path / "fifo", tmp_path / "works"
    os.mkfifo(fifo)
    hangs = f"[ -e {works} ] && exit; exec 3>{fifo}; echo begun >&3; sleep 600 & wait"
    fenced = fenced_by(claims, hangs, timeout=1)
    generation = fenced.open()
    with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as alive:
        with pytest.raises(NotFenced, match=r"took too long and was killed$"):
            fenced.claim(generation, P)
        os.set_blocking(alive.fileno(), True)
        assert alive.read() in (b"begun\n", b""), "to the end of file: nobody holds the other end"
    works.touch()
    assert Fenced(claims, fenced.command).claim(generation, P).winner is P


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("#!/no/such/shell\n")])
def test_one_that_cannot_be_run_any_more(
    claims: SqliteArbiter, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    command = tmp_path / "fence"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o700)
    fenced = Fenced(claims, str(command))
    spoil(command)
    with pytest.raises(NotFenced, match="No such file or directory"):
        fenced.claim(fenced.open(), P)
