"""What a checkpoint of the SQLite guest carries: after any history, and of no more than has changed."""

from __future__ import annotations

import random
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from sqlite_guests import SCHEMA, Bytes

from colo_fsm.membership.keeper import _Resumed
from colo_fsm.membership.shadow import Copied
from colo_fsm.replica.guest import DamagedState, StateGuest, state_in
from colo_fsm.replica.store import Checkpoint, MemoryStore
from colo_fsm.services import database
from colo_fsm.services.kept import in_memory, look
from colo_fsm.services.sqlite import SqliteGuest
from colo_fsm.services.wal import LogLost
from colo_fsm.stream.memory import PAGE_SIZE, Delta

CAPACITY = 2048 * PAGE_SIZE


class Side:
    """A Primary's guest, the store of its Secondary, and the guest there."""

    def __init__(self, folder: Path | None, schema: str, capacity: int = CAPACITY) -> None:
        self.guest = SqliteGuest(capacity, schema=schema, directory=folder)
        self.other = SqliteGuest(capacity, schema=schema, directory=folder)
        self.store = MemoryStore()
        self.first()

    def first(self) -> None:
        """A first copy."""
        saved, sink = self.guest.save(True), self.store.begin(self.guest.blocks)
        for page in saved.pages:
            sink.put(*page)
        self.store.complete(1, saved.device)
        self.guest.resume()
        self.other.load(self.newest)

    def round(self) -> int:
        """A checkpoint; of how many pages."""
        saved, delta = self.guest.save(False), Delta()
        for page in saved.pages:
            delta.put(*page)
        self.guest.resume()
        self.store.commit(delta, saved.device)
        self.other.load(attrs.evolve(self.newest, changed=delta.ranges()))
        return len(delta)

    @property
    def newest(self) -> Checkpoint:
        assert self.store.newest is not None
        return self.store.newest

    def kept(self) -> bytes:
        """The database as the store has it."""
        return bytes(self.newest.blocks["state"][: self.guest.save(False).used])

    def run(self, sql: str, *params: object) -> list[tuple[object, ...]]:
        return self.guest.connection.execute(sql, params).fetchall()

    def close(self) -> None:
        self.guest.close()
        self.other.close()


TABLE = f"{SCHEMA}; CREATE INDEX i ON t (b)"
KINDS = [
    "",
    "PRAGMA auto_vacuum = FULL; ",
    "PRAGMA auto_vacuum = INCREMENTAL; ",
    "PRAGMA secure_delete = OFF; ",
]


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    with closing(Side(tmp_path, TABLE)) as side:
        yield side


def content(connection: sqlite3.Connection) -> list[object]:
    tables = connection.execute("SELECT * FROM sqlite_schema").fetchall()
    pragmas = [connection.execute(f"PRAGMA {each}").fetchall() for each in ("page_count", "freelist_count")]
    return [
        tables,
        pragmas,
        *(connection.execute(f"SELECT * FROM {each[1]}").fetchall() for each in tables if each[0] == "table"),
    ]


def insert(side: Side, chance: random.Random) -> None:
    rows, size = chance.choice([(1, 10), (5, 3000), (200, 100), (2, 60_000)])
    for _ in range(rows):
        side.run("INSERT INTO t (b) VALUES (?)", chance.randbytes(size))


def delete(side: Side, chance: random.Random) -> None:
    side.run("DELETE FROM t WHERE a % ? = 0", chance.choice([1, 2, 7]))


def update(side: Side, chance: random.Random) -> None:
    side.run("UPDATE t SET b = ? WHERE a = (SELECT max(a) FROM t)", chance.randbytes(500))


def vacuum(side: Side, chance: random.Random) -> None:
    side.run(chance.choice(["VACUUM", "PRAGMA incremental_vacuum", "PRAGMA incremental_vacuum(3)"]))


def roll_back(side: Side, chance: random.Random) -> None:
    side.run("BEGIN")
    side.run("DELETE FROM t")
    side.run(
        "INSERT INTO t (b) VALUES (?)", chance.randbytes(3_000_000)
    )  # more than the cache: it is written
    side.run("ROLLBACK")


def fail(side: Side, chance: random.Random) -> None:
    with pytest.raises(sqlite3.OperationalError, match="full"):
        side.run("INSERT INTO t (b) VALUES (zeroblob(?))", CAPACITY)


def schema(side: Side, chance: random.Random) -> None:
    side.run("DROP TABLE IF EXISTS u")
    if chance.random() < 0.7:
        side.run("CREATE TABLE u AS SELECT * FROM t LIMIT 50")


def check_point(side: Side, chance: random.Random) -> None:
    side.run(f"PRAGMA wal_checkpoint({chance.choice(['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'])})")


ORDINARY = (insert, insert, delete, update, update, vacuum, roll_back, fail, schema)
"""What may happen to a database; `check_point` only by somebody who meddles."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_the_other_side_has_the_same_after_any_history(
    tmp_path: Path, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "FOLD", 20)
    chance = random.Random(seed)
    with closing(Side(tmp_path, kind + TABLE)) as side:
        for _ in range(30):
            for _ in range(chance.randrange(6)):
                chance.choice((*ORDINARY, check_point, check_point))(side, chance)
            side.round()
            with in_memory(side.kept()) as kept:
                assert kept.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert content(kept) == content(side.guest.connection)
        assert content(side.other.connection) == content(side.guest.connection)
        assert side.other.save(False).used == side.guest.save(False).used


def rows(side: Side, count: int) -> None:
    side.run("BEGIN")
    for number in range(count):
        side.run("INSERT INTO t (b) VALUES (?)", f"{number:01000}")
    side.run("COMMIT")


def log(folder: Path) -> int:
    """Bytes of write-ahead logs."""
    return sum(path.stat().st_size for path in folder.glob("*/*-wal"))


# ---- a round ------------------------------------------------------------------------------------


def test_a_round_is_of_the_pages_that_changed(side: Side) -> None:
    rows(side, 1000)
    assert side.round() > 250
    side.run("UPDATE t SET b = b || 'x' WHERE a = 500")
    assert 2 <= side.round() <= 8  # the row, and what its index has to do
    assert side.round() == 0
    roll_back(side, random.Random(1))
    assert side.round() == 0


def test_all_pages_that_are_saved_again_are_those_of_the_store(side: Side) -> None:
    rows(side, 300)
    side.round()
    side.run("DELETE FROM t WHERE a > 10")
    side.run("VACUUM")
    side.round()
    assert b"".join(bytes(page.data) for page in side.guest.save(True).pages) == side.kept()
    assert side.kept()[18:20] == b"\1\1"  # as a file that needs no log beside it


def test_the_log_stays_short_where_rounds_are(side: Side, tmp_path: Path) -> None:
    for number in range(400):
        side.run("INSERT INTO t (b) VALUES (?)", number)
        side.round()
        assert log(tmp_path) < (database.FOLD + 10) * 1.01 * PAGE_SIZE


def test_the_log_stays_bounded_where_no_rounds_are_and_nothing_is_missed(
    side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LEAST_LOG", 50)
    side.other.resume()
    assert side.other.checked is not None
    side.other.checked.result(60)  # it reads
    for number in range(2000):
        side.other.connection.execute("INSERT INTO t (b) VALUES (?)", [number])
    assert log(tmp_path) < 100 * PAGE_SIZE
    side.guest, side.other = side.other, side.guest
    side.round()
    assert content(side.other.connection) == content(side.guest.connection)


def test_a_reader_holds_the_log_up_and_nothing_else(side: Side) -> None:
    rows(side, 100)
    reader = side.guest.connection.execute("SELECT a FROM t")
    assert reader.fetchone() == (1,)
    for number in range(database.FOLD):
        side.run("INSERT INTO t (b) VALUES (?)", number)
        side.round()
    assert reader.fetchall() != []
    side.round()
    assert content(side.other.connection) == content(side.guest.connection)


def test_a_database_that_leaves_its_log_is_noticed(side: Side) -> None:
    side.run("PRAGMA journal_mode = DELETE")
    with pytest.raises(LogLost, match="leave its journal_mode as it is"):
        side.guest.save(False)


def test_neither_saving_nor_loading_holds_a_copy(side: Side) -> None:
    side.run("INSERT INTO t (b) VALUES (zeroblob(?))", CAPACITY // 4)
    side.first()
    newest = side.newest
    tracemalloc.start()
    try:
        for _ in side.guest.save(True).pages:
            pass
        side.other.load(newest)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < CAPACITY // 8


@pytest.mark.soak
def test_a_database_grows_past_the_page_that_sqlite_never_writes() -> None:
    """That of its locks, at 1 GiB: it comes with the growth, and has no frame in the log."""
    with closing(Side(None, SCHEMA, (1 << 30) + (64 << 20))) as side:
        for _ in range(1020):
            side.run("INSERT INTO t (b) VALUES (zeroblob(1 << 20))")
        side.first()
        for _ in range(3):
            side.run("INSERT INTO t (b) VALUES (zeroblob(5000000)), ('and a row')")
            side.round()
        assert side.newest.device == side.guest.save(True).device
        side.other.resume()
        assert side.other.checked is not None
        assert side.other.checked.result(300) == "ok"
        assert look(side.kept()).pages * PAGE_SIZE > 1 << 30


# ---- the other side -----------------------------------------------------------------------------


def test_a_load_looks_at_what_has_changed_only(side: Side) -> None:
    rows(side, 300)
    side.round()
    side.run("UPDATE t SET b = 'changed' WHERE a = 150")
    saved, delta = side.guest.save(False), Delta()
    strange = bytearray(b"\xff" * CAPACITY)
    strange[:PAGE_SIZE] = side.newest.blocks["state"][:PAGE_SIZE]
    for page in saved.pages:
        delta.put(*page)
        strange[page.offset : page.offset + PAGE_SIZE] = page.data
    blocks = {"state": memoryview(strange)}
    side.other.load(Checkpoint(1, 2, blocks, saved.device, {}, delta.ranges()))
    assert content(side.other.connection) == content(side.guest.connection)


def test_a_page_that_is_missed_in_a_round_is_noticed_and_a_whole_copy_heals_it(side: Side) -> None:
    rows(side, 300)
    side.round()
    side.run("UPDATE t SET b = 'changed' WHERE a IN (10, 290)")
    saved, delta = side.guest.save(False), Delta()
    for page in saved.pages:
        delta.put(*page)
    side.store.commit(delta, saved.device)
    ranges = delta.ranges()["state"]
    with pytest.raises(DamagedState):
        side.other.load(attrs.evolve(side.newest, changed={"state": ranges[:-1]}))
    side.other.load(attrs.evolve(side.newest, changed={"state": ranges[:1]}))  # all is looked at
    assert content(side.other.connection) == content(side.guest.connection)


def test_a_takeover_goes_on_with_the_settings_of_the_schema_and_what_the_database_has(
    tmp_path: Path,
) -> None:
    ours = "/* ours */ PRAGMA foreign_keys = ON; PRAGMA user_version = 3;"
    with closing(Side(tmp_path, f"{ours} {TABLE}; -- so\nPRAGMA recursive_triggers = 1")) as side:
        side.run("PRAGMA user_version = 4")
        side.round()
        before = side.other.connection
        for pragma, value in (("foreign_keys", 1), ("recursive_triggers", 1), ("user_version", 4)):
            assert side.other.connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)
        side.round()
        assert side.other.connection is not before
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            before.execute("SELECT 1")


def test_a_database_is_checked_after_a_takeover(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="colo_fsm")
    with closing(Side(tmp_path, TABLE)) as side:
        assert side.guest.checked is None
        assert "the first copy: the database passes integrity_check" in caplog.messages
        side.other.resume()
        assert side.other.checked is not None
        assert side.other.checked.result(60) == "ok"
        assert "taken over: the database passes quick_check" in caplog.messages


def test_what_a_check_finds_is_said_and_ends_nothing(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    (root,) = side.run("SELECT rootpage FROM sqlite_schema WHERE name = 'i'")[0]
    image, at = bytearray(side.kept()), (int(str(root)) - 1) * PAGE_SIZE
    image[at : at + PAGE_SIZE] = bytes(PAGE_SIZE)
    foreign, sink = StateGuest(Bytes(bytes(image)), CAPACITY).save(True), side.store.begin(side.other.blocks)
    for page in foreign.pages:
        sink.put(*page)
    side.store.complete(2, foreign.device)
    side.other.load(side.newest)
    assert "the first copy: the database does not pass integrity_check" in caplog.text
    side.other.resume()
    assert side.other.checked is not None
    assert "does not pass quick_check" in side.other.checked.result(60)
    assert side.other.connection.execute("SELECT count(*) FROM t NOT INDEXED").fetchone() == (0,)


def test_a_store_of_a_database_in_memory_is_loaded_too(side: Side) -> None:
    """As the versions wrote it in which the guest was one: `StateGuest` over what serialize() gives."""
    with closing(sqlite3.connect(":memory:")) as old:
        old.executescript("PRAGMA page_size = 4096; CREATE TABLE kept (a); INSERT INTO kept VALUES (7)")
        saved = StateGuest(Bytes(old.serialize()), CAPACITY).save(True)
    sink = side.store.begin(side.other.blocks)
    for page in saved.pages:
        sink.put(*page)
    side.store.complete(2, saved.device)
    side.other.load(side.newest)
    assert side.other.connection.execute("SELECT a FROM kept").fetchall() == [(7,)]


def test_what_reads_the_store_of_a_state_reads_this_one(side: Side) -> None:
    rows(side, 10)
    side.round()
    state = state_in(side.newest)
    assert state is not None
    with in_memory(state) as kept:
        assert content(kept) == content(side.guest.connection)


# ---- a member alone -----------------------------------------------------------------------------


def test_after_a_takeover_only_what_has_changed_is_copied_to_the_own_store(side: Side) -> None:
    rows(side, 1000)
    side.round()
    side.other.connection.execute("UPDATE t SET b = 'mine' WHERE a = 500")
    copied = Copied(side.store)
    saved, delta = _Resumed(side.other, copied).save(full=True), Delta()
    for page in saved.pages:
        delta.put(*page)
    assert copied.in_place
    assert 1 <= len(delta) <= 8
    copied.renew(5, delta, saved.device)
    side.guest.load(side.newest)
    assert content(side.guest.connection) == content(side.other.connection)


def test_what_was_stored_last_is_what_counts(side: Side) -> None:
    rows(side, 1000)
    side.round()
    side.guest.stored(side.newest)
    side.run("UPDATE t SET b = 'one' WHERE a = 10")
    side.guest.save(False)  # in a round to somebody else
    side.run("UPDATE t SET b = 'two' WHERE a = 990")
    saved, delta = side.guest.save_since(side.newest), Delta()
    assert saved is not None
    for page in saved.pages:
        delta.put(*page)
    assert 2 <= len(delta) <= 16
    side.store.commit(delta, saved.device)
    with in_memory(bytes(side.newest.blocks["state"][: saved.used])) as kept:
        assert content(kept) == content(side.guest.connection)
    assert side.guest.save_since(side.newest) is None  # nobody has said that this one is stored


def test_much_that_has_changed_is_not_remembered(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LEAST_REMEMBERED", 10)
    rows(side, 1000)
    side.round()
    side.guest.stored(side.newest)
    side.run("UPDATE t SET b = b || 'x'")
    assert side.guest.save_since(side.newest) is None
