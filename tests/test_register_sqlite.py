"""What is particular to a register in an SQLite database."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from register_swapper import swapper

from colo_fsm.arbiter import ArbiterUnreachable, Entry, SqliteArbiter, SqliteRegister, open_register

NAME = "orders"


@pytest.fixture
def register(tmp_path: Path) -> SqliteRegister:
    return SqliteRegister(tmp_path / "claim.db", NAME, timeout=0.1)


def values(register: SqliteRegister) -> list[str]:
    entry = register.read()
    return [] if entry is None else [entry.value]


def test_what_it_is_made_of(tmp_path: Path) -> None:
    assert [*signature(SqliteRegister).parameters] == ["path", "name", "timeout", "clock"]
    path = tmp_path / "claim.db"
    assert repr(SqliteRegister(path, NAME)) == f"SqliteRegister(path={path!r}, name='orders', timeout=5.0)"
    assert SqliteRegister(path, NAME) == open_register(f"sqlite:{path}", NAME)
    assert (str(SqliteRegister(path, NAME)), SqliteRegister.local_only) == (f"sqlite:{path}", True)


def test_reading_makes_no_file(register: SqliteRegister) -> None:
    assert register.read() is None
    assert not register.path.exists()
    with pytest.raises(ArbiterUnreachable, match="the database file is gone"):
        register.swap(7, "one")
    assert not register.path.exists()
    assert register.swap(None, "one")
    assert register.read() == Entry("one", register.read().version)  # type: ignore[union-attr]


def test_there_is_no_record_beside_claims_alone(register: SqliteRegister) -> None:
    SqliteArbiter(register.path).open()
    assert register.read() is None
    assert not register.swap(7, "one")
    assert register.read() is None


def test_a_directory_that_is_gone_is_no_answer(tmp_path: Path) -> None:
    """A file system that is not mounted says nothing of the data set."""
    folder = tmp_path / "shared"
    folder.mkdir()
    register = SqliteRegister(folder / "claim.db", NAME)
    folder.rmdir()
    for call in (register.read, lambda: register.swap(None, "one")):
        with pytest.raises(ArbiterUnreachable, match="the database file is gone"):
            call()


def test_a_file_overwritten_later_is_no_answer(register: SqliteRegister) -> None:
    register.swap(None, "one")
    register.path.write_text("not a database, and long enough to be read as a header" * 20)
    for call in (register.read, lambda: register.swap(None, "one")):
        with pytest.raises(ArbiterUnreachable, match="not a database"):
            call()


def test_a_file_of_another_program(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE accounts (id)")
    with pytest.raises(ValueError, match=r"other\.db: this file is no claim database"):
        SqliteRegister(tmp_path / "other.db", NAME)


def test_versions_rise_though_every_start_finds_an_earlier_clock(tmp_path: Path) -> None:
    versions: list[int | None] = [None]
    for time_now in (10**15, 10**12, 7, 0, -(10**15)):
        starting = SqliteRegister(tmp_path / "claim.db", NAME, clock=lambda now=time_now: now)  # type: ignore[misc]
        assert starting.swap(versions[-1], "x")
        entry = starting.read()
        assert entry is not None
        versions.append(entry.version)
    assert versions[1:] == [10**15 + n for n in range(5)]


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
def test_killed_before_the_commit_has_changed_nothing(register: SqliteRegister, statement: str) -> None:
    register.swap(None, "one")
    entry = register.read()
    assert entry is not None
    with swapper(str(register), NAME, statement, "SIGKILL") as dying:
        dying.ask(entry.version, "two")
        dying.wait_killed()
    assert register.read() == entry
    assert register.swap(entry.version, "three")


def test_frozen_within_its_swap_it_keeps_others_from_writing_not_from_reading(
    register: SqliteRegister,
) -> None:
    register.swap(None, "one")
    entry = register.read()
    assert entry is not None
    with swapper(str(register), NAME, "COMMIT", "SIGSTOP") as frozen:
        frozen.ask(entry.version, "two")
        frozen.wait_stopped()
        assert register.read() == entry
        with pytest.raises(ArbiterUnreachable, match="database is locked"):
            register.swap(entry.version, "three")
        frozen.signal(signal.SIGCONT)
        assert frozen.answer()
    assert values(register) == ["two"]
    assert not register.swap(entry.version, "three")


def test_a_swap_is_flushed_to_disk(register: SqliteRegister, monkeypatch: pytest.MonkeyPatch) -> None:
    connect: Any = sqlite3.connect
    seen: list[str] = []

    def connecting(*args: Any, **options: Any) -> Any:
        db = connect(*args, **options)
        db.set_trace_callback(seen.append)
        return db

    monkeypatch.setattr("sqlite3.connect", connecting)
    register.swap(None, "one")
    assert seen[:3] == ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "BEGIN IMMEDIATE"]
    assert seen[-1] == "COMMIT"
