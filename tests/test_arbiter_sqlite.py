"""What is particular to claims in an SQLite database."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from inspect import signature
from pathlib import Path
from typing import Any

import attrs
import pytest
from arbiter_claimer import claimer

from colo_fsm.arbiter import (
    ArbiterUnreachable,
    GenerationClaimed,
    SqliteArbiter,
    UnknownGeneration,
    open_arbiter,
)
from colo_fsm.fsm import Side

P, S = Side.PRIMARY, Side.SECONDARY


@pytest.fixture
def arbiter(tmp_path: Path) -> SqliteArbiter:
    return SqliteArbiter(tmp_path / "claim.db", timeout=0.1)


def test_it_serves_one_machine(arbiter: SqliteArbiter) -> None:
    assert arbiter.local_only


def test_what_it_is_made_of(tmp_path: Path) -> None:
    assert [*signature(SqliteArbiter).parameters] == ["path", "timeout", "clock"]
    path = tmp_path / "claim.db"
    assert repr(SqliteArbiter(path)) == f"SqliteArbiter(path={path!r}, timeout=5.0)"
    assert {SqliteArbiter(path)} == {open_arbiter(f"sqlite:{path}")}


def test_check_accepts_an_open_generation_only(arbiter: SqliteArbiter) -> None:
    generation = arbiter.open()
    arbiter.check(generation)
    arbiter.check(arbiter.open())
    arbiter.claim(generation, S)
    with pytest.raises(GenerationClaimed, match="the secondary has claimed it: start both"):
        arbiter.check(generation)


@pytest.mark.parametrize("generation", [-1, 0, 1, 2**63, 2**64 - 1])
def test_a_generation_never_opened(arbiter: SqliteArbiter, generation: int) -> None:
    arbiter.open()
    for call in (arbiter.check, lambda number: arbiter.claim(number, P)):
        with pytest.raises(UnknownGeneration, match=f"{generation} is unknown at sqlite"):
            call(generation)


def test_the_largest_number_that_sqlite_can_hold(tmp_path: Path) -> None:
    arbiter = SqliteArbiter(tmp_path / "claim.db", clock=lambda: 2**63 - 1)
    generation = arbiter.open()
    assert generation == 2**63 - 1
    assert arbiter.claim(generation, P).winner is P


def test_tokens_follow_the_grants_not_the_generations(
    arbiter: SqliteArbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = arbiter.open(), arbiter.open()
    first = arbiter.claim(newer, P)
    monkeypatch.setattr("time.time_ns", lambda: 0)
    assert arbiter.claim(older, P).token > first.token


def test_numbers_rise_though_every_start_finds_an_earlier_clock(tmp_path: Path) -> None:
    tokens, generations = [0], [0]
    for time_now in (10**15, 10**12, 7, 0, -(10**15)):
        starting = SqliteArbiter(tmp_path / "claim.db", clock=lambda now=time_now: now)  # type: ignore[misc]
        generations.append(starting.open())
        tokens.append(starting.claim(generations[-1], P).token)
    assert tokens == sorted(set(tokens))
    assert generations == sorted(set(generations))


@pytest.mark.parametrize("statement", ["BEGIN", "UPDATE", "COMMIT"])
def test_killed_before_the_commit_is_no_claim(
    arbiter: SqliteArbiter,
    statement: str,
) -> None:
    generation = arbiter.open()
    with claimer(str(arbiter), P, statement, "SIGKILL") as dying:
        dying.ask(generation)
        dying.wait_killed()
    arbiter.check(generation)
    won = arbiter.claim(generation, S)
    assert won.winner is S
    assert arbiter.claim(generation, P) == won


def test_frozen_within_its_claim_denies_the_others_and_wins(arbiter: SqliteArbiter) -> None:
    generation = arbiter.open()
    with claimer(str(arbiter), P, "COMMIT", "SIGSTOP") as frozen:
        frozen.ask(generation)
        frozen.wait_stopped()
        with pytest.raises(ArbiterUnreachable, match="database is locked"):
            arbiter.claim(generation, S)
        frozen.signal(signal.SIGCONT)
        won = frozen.answer()
    assert won.winner is P
    assert arbiter.claim(generation, S) == won


def test_a_locked_database(arbiter: SqliteArbiter) -> None:
    generation = arbiter.open()
    with closing(sqlite3.connect(arbiter.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for call in (arbiter.open, lambda: arbiter.claim(generation, P)):
            begun = time.monotonic()
            with pytest.raises(ArbiterUnreachable, match=r"claim.db is unreachable: .*locked"):
                call()
            assert time.monotonic() - begun >= 0.1
    assert arbiter.claim(generation, S).winner is S


def test_a_database_that_is_locked_now_may_be_ours(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "claim.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        arbiter = SqliteArbiter(tmp_path / "claim.db", timeout=0.1)
        with pytest.raises(ArbiterUnreachable, match="locked"):
            arbiter.open()
    arbiter.check(arbiter.open())


def test_a_claim_waits_for_a_short_lock(arbiter: SqliteArbiter) -> None:
    patient = attrs.evolve(arbiter, timeout=30)
    generation = arbiter.open()
    with closing(sqlite3.connect(arbiter.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with ThreadPoolExecutor(1) as pool:
            claim = pool.submit(patient.claim, generation, P)
            other.execute("ROLLBACK")
            assert claim.result().winner is P


def test_a_vanished_file_is_not_made_again(arbiter: SqliteArbiter) -> None:
    generation = arbiter.open()
    arbiter.claim(generation, P)
    arbiter.path.unlink()
    with pytest.raises(ArbiterUnreachable, match="the database file is gone"):
        arbiter.claim(generation, S)
    with pytest.raises(UnknownGeneration):  # a side that starts: nobody has opened any, for all it knows
        arbiter.check(generation)
    assert not arbiter.path.exists()


def test_a_new_file_knows_no_old_generation(arbiter: SqliteArbiter) -> None:
    old = arbiter.open()
    token = arbiter.claim(old, P).token
    arbiter.path.unlink()
    new = arbiter.open()
    assert new > old
    with pytest.raises(UnknownGeneration, match="put its record back"):
        arbiter.claim(old, S)
    assert arbiter.claim(new, S).token > token


def test_the_right_file_put_back_answers_again(arbiter: SqliteArbiter, tmp_path: Path) -> None:
    old = arbiter.open()
    claim = arbiter.claim(old, P)
    arbiter.path.rename(tmp_path / "kept.db")
    arbiter.open()
    with pytest.raises(UnknownGeneration):
        arbiter.claim(old, S)
    (tmp_path / "kept.db").replace(arbiter.path)
    assert arbiter.claim(old, S) == claim


def test_a_file_overwritten_later(arbiter: SqliteArbiter) -> None:
    generation = arbiter.open()
    arbiter.path.write_text("not a database, and long enough to be read as a header" * 20)
    with pytest.raises(ArbiterUnreachable, match="not a database"):
        arbiter.claim(generation, P)


def test_an_empty_file_claims_nothing(arbiter: SqliteArbiter) -> None:
    generation = arbiter.open()
    arbiter.path.write_bytes(b"")
    with pytest.raises(ArbiterUnreachable, match="no such table"):
        arbiter.claim(generation, P)


def test_claims_are_flushed_to_disk_whatever_sqlite_was_built_with(
    arbiter: SqliteArbiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = arbiter.open()
    connect: Any = sqlite3.connect
    with closing(connect(arbiter.path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    seen: list[object] = []

    def connecting(*args: Any, **options: Any) -> Any:
        seen.append((options["uri"], options["timeout"]))
        db = connect(*args, **options)
        db.set_trace_callback(seen.append)
        return db

    monkeypatch.setattr("sqlite3.connect", connecting)
    arbiter.claim(generation, P)
    assert seen[:3] == [(True, 0.1), "PRAGMA synchronous = FULL", "BEGIN IMMEDIATE"]
    assert seen[-1] == "COMMIT"


def test_a_first_start_waits_for_another(arbiter: SqliteArbiter, monkeypatch: pytest.MonkeyPatch) -> None:
    slept, looked = 0.0, itertools.count()

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds

    with closing(sqlite3.connect(arbiter.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the file is not in WAL mode yet
        with monkeypatch.context() as patch:
            patch.setattr("time.sleep", sleep)
            patch.setattr("time.monotonic", lambda: slept + next(looked) / 1e6)
            with pytest.raises(ArbiterUnreachable, match="locked"):
                arbiter.open()
            assert slept == pytest.approx(0.1, abs=0.01)
            slept = 0.0
            patch.setattr("time.monotonic", lambda: slept)
            with pytest.raises(ArbiterUnreachable, match="locked"):
                attrs.evolve(arbiter, timeout=0).open()
            assert slept == 0
    arbiter.check(arbiter.open())


def test_any_path_is_taken_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arbiter = open_arbiter("sqlite:a b?mode=memory#c%20:d")
    monkeypatch.chdir("/")
    assert arbiter.claim(arbiter.open(), P).winner is P
    assert [path.name for path in tmp_path.iterdir()] == ["a b?mode=memory#c%20:d"]
