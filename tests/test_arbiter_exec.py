"""What is particular to claims by running a command."""

from __future__ import annotations

import os
import shlex
import sys
import time
from inspect import signature
from pathlib import Path

import pytest
from arbiter_once import once

from colo_fsm.arbiter import (
    ArbiterUnreachable,
    Claim,
    ExecArbiter,
    open_arbiter,
)
from colo_fsm.fsm import Side

P, S = Side.PRIMARY, Side.SECONDARY


def shell(script: str) -> str:
    """A command that runs a shell script; generation and side are its $1 and $2."""
    return shlex.join(["sh", "-c", script, "sh"])


def test_it_may_serve_several_machines() -> None:
    assert not ExecArbiter("true").local_only


def test_what_it_is_made_of() -> None:
    assert [*signature(ExecArbiter).parameters] == ["command", "timeout"]
    arbiter = ExecArbiter("true")
    assert repr(arbiter) == "ExecArbiter(command='true', timeout=10.0)"
    assert {arbiter} == {arbiter}


def test_generation_and_side_come_last(tmp_path: Path) -> None:
    arbiter = ExecArbiter(shell(f'echo "$# $1 $2" > {tmp_path / "seen"}'))
    arbiter.claim(17, S)
    assert (tmp_path / "seen").read_text() == "2 17 secondary\n"


@pytest.mark.parametrize(
    ("script", "claim"),
    [
        ("exit 0", Claim(P, 17)),
        ("exit 10", Claim(S, 17)),
        ("echo 42; echo 43; exit 0", Claim(P, 42)),
        ("echo 42; exit 10", Claim(S, 42)),
        ("echo granted; echo 42; exit 0", Claim(P, 17)),
        ("echo -5; exit 0", Claim(P, 17)),
    ],
)
def test_the_answer(script: str, claim: Claim) -> None:
    assert ExecArbiter(shell(script)).claim(17, P) == claim


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo one >&2; echo no quorum >&2; exit 2", r"status 2 .*; it says: no quorum$"),
        ("echo no >&2; exit 2", r"status 2 is no answer: 0 is won, 10 is lost; it says: no$"),
        ("exit 255", r"status 255 is no answer: 0 is won, 10 is lost$"),
        ("exit 1", r"status 1 is no answer: 0 is won, 10 is lost$"),  # "lost" in the contract before this one
        (
            f"{sys.executable} -c 'import claims.of.ours'",
            r"status 1 .*; it says: ModuleNotFoundError: No module",
        ),
        ("kill -9 $$", "ended by signal 9$"),
        ("/no/such/command", "status 127 .*not found"),
    ],
)
def test_no_answer(script: str, reason: str) -> None:
    with pytest.raises(ArbiterUnreachable, match=reason) as caught:
        ExecArbiter(shell(script)).claim(17, P)
    assert str(caught.value).startswith("arbiter exec:sh -c ")


def test_of_what_it_wrote_the_last_4_kib_are_told() -> None:
    with pytest.raises(ArbiterUnreachable) as caught:
        ExecArbiter(shell("head -c 5000 /dev/zero | tr '\\0' x >&2; exit 2")).claim(17, P)
    assert caught.value.reason.endswith("it says: " + "x" * 4096)


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(reader, "rb") as alive:
        hanging = shell(f"exec 3>{fifo}; echo begun >&3; sleep 600 & echo hangs >&2; wait")
        begun = time.monotonic()
        with pytest.raises(ArbiterUnreachable, match="took too long and was killed; it says: hangs"):
            ExecArbiter(hanging, timeout=1).claim(17, P)
        assert time.monotonic() - begun >= 1
        os.set_blocking(reader, True)
        assert alive.read() == b"begun\n"  # to the end of file: nobody holds the other end


def test_a_process_left_behind_does_not_hold_up_the_answer(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    try:
        claim = ExecArbiter(shell(f"cat {fifo} & exit 0"), timeout=5).claim(17, P)
    finally:
        fifo.write_bytes(b"")  # lets it end
    assert claim.winner is P


def test_a_command_that_vanished(tmp_path: Path) -> None:
    command = tmp_path / "claim"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o700)
    arbiter = ExecArbiter(str(command))
    assert arbiter.claim(17, P).winner is P
    command.unlink()
    with pytest.raises(ArbiterUnreachable, match="No such file or directory"):
        arbiter.claim(17, P)


def test_check_runs_nothing() -> None:
    ExecArbiter("false").check(17)


def test_killed_in_the_middle(tmp_path: Path) -> None:
    sound = open_arbiter(once(tmp_path))
    for fault, winner in (("--die-before", S), ("--die-after", P)):
        generation = sound.open()
        with pytest.raises(ArbiterUnreachable, match="signal 9"):
            open_arbiter(once(tmp_path, fault)).claim(generation, P)
        assert sound.claim(generation, S).winner is winner
        assert sound.claim(generation, P).winner is winner
