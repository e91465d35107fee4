"""The SQLite guest: what it saves, what it refuses to become, and strangers' statements in it."""

from __future__ import annotations

import itertools
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_guests import SCHEMA, Bytes, fixtures

from colo_fsm.replica.guest import CapacityExceeded, DamagedState, Guest, Saved, StateGuest
from colo_fsm.replica.store import Checkpoint, MemoryStore
from colo_fsm.services import sqlite
from colo_fsm.services.sqlite import (
    OpenTransaction,
    SqliteGuest,
    StatementError,
    Statements,
    UnusableDatabase,
)
from colo_fsm.stream.memory import PAGE_SIZE, Page

CAPACITY = 64 * PAGE_SIZE
guest, other, statements = fixtures(CAPACITY)


def rows(guest: SqliteGuest, sql: str) -> list[tuple[object, ...]]:
    return guest.connection.execute(sql).fetchall()


def image(saved: Saved) -> dict[int, bytes]:
    return {page.offset: bytes(page.data) for page in saved.pages}


def checkpoint(pages: dict[int, bytes], device: bytes) -> Checkpoint:
    """What a Secondary's store makes of it."""
    store = MemoryStore()
    sink = store.begin({SqliteGuest.BLOCK: CAPACITY})
    for offset, data in pages.items():
        sink.put(SqliteGuest.BLOCK, offset, data)
    store.complete(1, device)
    assert store.newest is not None
    return store.newest


def fill(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
        connection.executemany("INSERT INTO t (b) VALUES (zeroblob(?))", itertools.repeat((500,)))


# ---- the state ----------------------------------------------------------------------------------


def test_it_is_a_guest_with_the_declared_capacity(guest: SqliteGuest) -> None:
    assert isinstance(guest, Guest)
    assert guest.blocks == {"state": CAPACITY}


def test_a_checkpoint_carries_the_database_over(guest: SqliteGuest, other: SqliteGuest) -> None:
    guest.connection.execute("INSERT INTO t (b) VALUES ('x'), (x'00ff'), (1.5), (NULL)")
    saved = guest.save(True)
    other.load(checkpoint(image(saved), saved.device))
    assert rows(other, "SELECT * FROM t") == [(1, "x"), (2, b"\x00\xff"), (3, 1.5), (4, None)]


def test_its_hooks_may_be_called_on_any_thread(guest: SqliteGuest) -> None:
    with ThreadPoolExecutor(1) as threads:
        saved = threads.submit(guest.save, True).result()
        threads.submit(guest.load, checkpoint(image(saved), saved.device)).result()
        threads.submit(Statements(guest.connection).run, "INSERT INTO t (b) VALUES (1)").result()
    assert rows(guest, "SELECT b FROM t") == [(1,)]


def test_an_empty_database_is_a_state(other: SqliteGuest) -> None:
    with closing(SqliteGuest(CAPACITY)) as empty:
        saved = empty.save(True)
        other.load(checkpoint(image(saved), saved.device))
    assert rows(other, "SELECT * FROM sqlite_schema") == []


def test_only_changed_pages_are_saved(guest: SqliteGuest, other: SqliteGuest) -> None:
    guest.connection.executemany("INSERT INTO t (b) VALUES (?)", [("x" * 1000,)] * 100)
    whole = image(guest.save(True))
    assert len(whole) > 25
    guest.connection.execute("UPDATE t SET b = 'y' WHERE a = 50")
    saved = guest.save(False)
    changed = image(saved)
    assert 1 <= len(changed) <= 2  # its page, and the change counter in the first
    other.load(checkpoint(whole | changed, saved.device))
    assert rows(other, "SELECT count(*), min(a) FILTER (WHERE b = 'y') FROM t") == [(100, 50)]
    assert image(guest.save(False)) == {}
    assert image(guest.save(True)) == whole | changed


@pytest.mark.parametrize(
    "change",
    ["CREATE INDEX i ON t (b)", "PRAGMA user_version = 7", "DROP TABLE t", "ALTER TABLE t ADD COLUMN c"],
)
def test_a_change_of_the_schema_is_saved(guest: SqliteGuest, other: SqliteGuest, change: str) -> None:
    whole = image(guest.save(True))
    guest.connection.execute(change)
    saved = guest.save(False)
    other.load(checkpoint(whole | image(saved), saved.device))
    for what in "SELECT * FROM sqlite_schema", "PRAGMA user_version":
        assert rows(other, what) == rows(guest, what)


def test_growth_ends_at_the_capacity_and_is_still_saved(guest: SqliteGuest, other: SqliteGuest) -> None:
    fill(guest.connection)
    saved = guest.save(True)
    pages = image(saved)
    assert len(pages) == CAPACITY // PAGE_SIZE
    other.load(checkpoint(pages, saved.device))
    assert rows(other, "SELECT count(*) FROM t") == rows(guest, "SELECT count(*) FROM t")


def test_a_loaded_database_grows_to_the_capacity_too(guest: SqliteGuest, other: SqliteGuest) -> None:
    guest.connection.execute("INSERT INTO t (b) VALUES ('first')")
    saved = guest.save(True)
    other.load(checkpoint(image(saved), saved.device))
    fill(other.connection)
    assert rows(other, "PRAGMA page_count") == [(CAPACITY // PAGE_SIZE,)]
    assert rows(other, "SELECT b FROM t WHERE a = 1") == [("first",)]
    other.save(False)


def test_a_setting_of_the_schema_holds_after_a_load(guest: SqliteGuest) -> None:
    with closing(SqliteGuest(CAPACITY, schema="PRAGMA foreign_keys = ON")) as strict:
        saved = guest.save(True)
        strict.load(checkpoint(image(saved), saved.device))
        assert rows(strict, "PRAGMA foreign_keys") == [(1,)]


@pytest.mark.parametrize("capacity", [-1, 0, 100, PAGE_SIZE])
def test_a_schema_must_fit(capacity: int) -> None:
    with pytest.raises(CapacityExceeded, match=f"does not fit in {capacity} bytes"):
        SqliteGuest(capacity, schema=SCHEMA)


def test_a_capacity_for_which_there_is_no_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=f"no room for a capacity of {1 << 60} bytes, with .* free in {tmp_path}"
    ):
        SqliteGuest(1 << 60, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_guest_refuses_a_larger_database(guest: SqliteGuest) -> None:
    fill(guest.connection)
    saved = guest.save(True)
    with closing(SqliteGuest(CAPACITY // 2)) as small, pytest.raises(CapacityExceeded):
        small.load(checkpoint(image(saved), saved.device))


def test_an_open_transaction_is_an_error_and_is_kept(guest: SqliteGuest) -> None:
    guest.connection.execute("BEGIN")
    guest.connection.execute("INSERT INTO t (b) VALUES ('counted on')")
    with pytest.raises(OpenTransaction, match="commit it or roll it back inside its turn"):
        guest.save(False)
    guest.connection.execute("COMMIT")
    guest.save(False)
    assert rows(guest, "SELECT b FROM t") == [("counted on",)]


def test_a_damaged_page_is_refused(guest: SqliteGuest, other: SqliteGuest) -> None:
    guest.connection.executemany("INSERT INTO t (b) VALUES (?)", [("x" * 1000,)] * 40)
    saved = guest.save(True)
    pages = image(saved)
    pages[5 * PAGE_SIZE] = b"\xff" * PAGE_SIZE
    with pytest.raises(DamagedState, match="not the one that was saved"):
        other.load(checkpoint(pages, saved.device))
    assert rows(other, "SELECT count(*) FROM t") == [(0,)]


def test_a_page_that_got_lost_on_the_way_is_refused(guest: SqliteGuest, other: SqliteGuest) -> None:
    """As SQLite itself would not notice: the row is there, its index has not heard of it."""
    guest.connection.execute("INSERT INTO t (b) VALUES ('x')")
    guest.connection.execute("CREATE INDEX i ON t (b)")
    saved = guest.save(True)
    whole = image(saved)
    other.load(checkpoint(whole, saved.device))
    guest.connection.execute("INSERT INTO t (b) VALUES ('y')")
    saved = guest.save(False)
    (root,) = guest.connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'i'").fetchone()
    stale = (root - 1) * PAGE_SIZE
    with pytest.raises(DamagedState):
        other.load(checkpoint(whole | image(saved) | {stale: whole[stale]}, saved.device))
    other.load(checkpoint(whole | image(saved), saved.device))
    assert rows(other, "SELECT b FROM t INDEXED BY i") == [("x",), ("y",)]


WHAT_CLIENTS_WROTE = {
    "a CHECK of the last row": "CREATE TABLE u (a CHECK (last_insert_rowid() > 0 OR a > 0))",
    "a CHECK by chance": "CREATE TABLE u (a, CHECK (abs(random()) % 2 OR a > 0))",
    "a generated column": "CREATE TABLE u (a, c AS (a * 2) CHECK (c > 0 OR last_insert_rowid() = 0))",
    "a partial index": "CREATE INDEX u ON t (b) WHERE b > 0",
    "an index on an expression": "CREATE INDEX u ON t (b || a)",
    "a view of what is not there": "CREATE VIEW u AS SELECT * FROM nowhere",
    "a trigger on what is not there": "CREATE TRIGGER u AFTER INSERT ON t WHEN random() > 0 "
    "BEGIN INSERT INTO nowhere VALUES (1); END",
}


@pytest.mark.parametrize("what", WHAT_CLIENTS_WROTE)
def test_what_clients_wrote_is_not_asked_whether_the_database_is_sound(
    guest: SqliteGuest, other: SqliteGuest, what: str
) -> None:
    statements = Statements(guest.connection)
    statements.run("INSERT INTO t (b) VALUES (1)")
    statements.run(WHAT_CLIENTS_WROTE[what])
    if " TABLE u" in WHAT_CLIENTS_WROTE[what]:
        statements.run("INSERT INTO u (a) VALUES (1)")
        guest.connection.execute("PRAGMA ignore_check_constraints = ON")
        guest.connection.execute("UPDATE u SET a = -100")  # as a clause says of a row when it is asked again
    whole: dict[int, bytes] = {}
    for _ in range(3):
        saved = guest.save(not whole)
        whole |= image(saved)
        other.load(checkpoint(whole, saved.device))
        guest.connection.execute("UPDATE t SET b = b + 1")
    assert image(other.save(True)) == whole


@pytest.mark.parametrize("state", [b"", b"something else"])
def test_what_is_no_database_is_refused(other: SqliteGuest, state: bytes) -> None:
    foreign = StateGuest(Bytes(state), CAPACITY).save(True)
    with pytest.raises(UnusableDatabase, match="start both sides with the same guest"):
        other.load(checkpoint(image(foreign), foreign.device))


def test_pages_stay_as_they_are_until_the_next_save(guest: SqliteGuest) -> None:
    pages: list[Page] = list(guest.save(True).pages)
    before = [bytes(page.data) for page in pages]
    guest.connection.execute("INSERT INTO t (b) VALUES ('later')")
    assert [bytes(page.data) for page in pages] == before


# ---- strangers' statements ----------------------------------------------------------------------


def test_an_outcome_is_rows_and_changes(statements: Statements) -> None:
    assert json.loads(statements.run("INSERT INTO t (b) VALUES (?), (?)", ["x", None])) == {
        "rows": [],
        "changes": 2,
    }
    assert json.loads(statements.run("SELECT * FROM t")) == {"rows": [[1, "x"], [2, None]], "changes": 0}
    returning = statements.run("WITH n AS (SELECT 7 AS b) INSERT INTO t (b) SELECT b FROM n RETURNING a")
    assert json.loads(returning) == {"rows": [[3]], "changes": 1}


def test_named_parameters_and_blobs(statements: Statements) -> None:
    outcome = statements.run("SELECT :x, typeof(:x)", {"x": {"base64": "AP8="}})
    assert json.loads(outcome)["rows"] == [[{"base64": "AP8="}, "blob"]]


def test_a_key_applies_once_and_gives_the_first_outcome_again(
    guest: SqliteGuest, statements: Statements
) -> None:
    insert = "INSERT INTO t (b) VALUES ('x') RETURNING a"
    first = statements.run(insert, key="k")
    assert json.loads(first) == {"rows": [[1]], "changes": 1}
    assert statements.run(insert, key="k") == first
    assert statements.run("DELETE FROM t", key="k") == first
    assert statements.run(insert, key="another") != first
    assert rows(guest, "SELECT count(*) FROM t") == [(2,)]


def test_a_key_can_be_forgotten(guest: SqliteGuest, statements: Statements) -> None:
    insert = "INSERT INTO t (b) VALUES ('x')"
    statements.run(insert, key="k")
    statements.run("DELETE FROM colo_fsm_replies WHERE key = 'k'")
    statements.run(insert, key="k")
    assert rows(guest, "SELECT count(*) FROM t") == [(2,)]


def test_a_failed_statement_is_not_remembered(guest: SqliteGuest, statements: Statements) -> None:
    insert = "INSERT INTO t (a) VALUES (1) RETURNING a"
    statements.run(insert)
    with pytest.raises(StatementError, match=r"UNIQUE constraint failed: t\.a"):
        statements.run(insert, key="k")
    statements.run("DELETE FROM t")
    assert json.loads(statements.run(insert, key="k"))["rows"] == [[1]]


@pytest.mark.parametrize(
    ("sql", "params", "error"),
    [
        ("SELEC 1", [], 'near "SELEC": syntax error'),
        ("SELECT 1; SELECT 2", [], "one statement at a time"),
        ("SELECT ?", [], "Incorrect number of bindings"),
        ("SELECT ?", [[1]], "rror binding parameter"),
        ("SELECT ?", [1 << 64], "too large"),
        ("SELECT ?", ["\ud800"], "surrogates not allowed"),
        ("SELECT ?", [{"base64": "***"}], "base64"),
        ("SELECT 9e999", [], "not JSON compliant"),
        ("SELECT CAST(x'ff' AS TEXT)", [], "Could not decode"),
        ("SELECT zeroblob(5000000)", [], "string or blob too big"),
        ("WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT zeroblob(999) FROM n", [], "fewer"),
    ],
)  # fmt: skip
def test_a_statement_that_fails_says_why(
    statements: Statements, sql: str, params: list[object], error: str
) -> None:
    with pytest.raises(StatementError, match=error):
        statements.run(sql, params)
    assert json.loads(statements.run("SELECT 1"))["rows"] == [[1]]


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("BEGIN", "every statement is a transaction"),
        ("begin immediate", "every statement is a transaction"),
        ("COMMIT", "every statement is a transaction"),
        ("ROLLBACK", "every statement is a transaction"),
        ("SAVEPOINT s", "every statement is a transaction"),
        ("ATTACH ':memory:' AS other", "only the main database is replicated"),
        ("DETACH main", "only the main database is replicated"),
        ("VACUUM", "VACUUM"),
        ("VACUUM INTO 'copy.db'", "VACUUM"),
        ("PRAGMA max_page_count = 1000000", "PRAGMA max_page_count is refused"),
        ("SELECT json_patch('{}', '{}')", r"json_patch\(\) is refused"),
        ("CREATE TABLE u (a CHECK (JSON_PATCH(a, '{}')))", r"json_patch\(\) is refused"),
        ("SELECT rtreecheck('x')", r"rtreecheck\(\) is refused"),
        ("PRAGMA user_version = 9", "PRAGMA user_version is refused"),
        ("PRAGMA wal_checkpoint", "PRAGMA wal_checkpoint is refused"),
        ("PRAGMA Journal_Mode = OFF", "PRAGMA Journal_Mode is refused"),
        ("CREATE TEMP TABLE u (a)", "temporary tables are refused"),
        ("CREATE TABLE temp.u (a)", "temporary tables are refused"),
        ("CREATE VIRTUAL TABLE temp.u USING rtree(a, b, c)", "temporary tables are refused"),
        ("SELECT fts3_tokenizer('x', x'00')", "fts3_tokenizer"),
        ("SELECT load_extension('x')", "not authorized"),
        ("DROP TABLE colo_fsm_replies", "colo_fsm_replies holds replies"),
        ("UPDATE colo_fsm_replies SET reply = ''", "colo_fsm_replies holds replies"),
        ("INSERT INTO colo_fsm_replies VALUES ('k', '')", "colo_fsm_replies holds replies"),
        ("INSERT INTO colo_fsm_replies VALUES (?, ?)", "colo_fsm_replies holds replies"),
        ("ALTER TABLE colo_fsm_replies RENAME TO gone", "colo_fsm_replies holds replies"),
    ],
)
def test_what_would_break_replication_is_refused(guest: SqliteGuest, sql: str, error: str) -> None:
    statements = Statements(guest.connection)
    statements.run("INSERT INTO t (b) VALUES ('x')", key="k")
    before = guest.save(True).device, rows(guest, "PRAGMA max_page_count")
    params = ["j", ""] if "?" in sql else []
    for key in None, "a key":
        with pytest.raises(StatementError, match=error):
            statements.run(sql, params, key)
    assert image(guest.save(False)) == {}
    assert before == (guest.save(True).device, rows(guest, "PRAGMA max_page_count"))


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA table_info(t)",
        "SELECT * FROM pragma_table_info('t')",
        "CREATE TABLE u (a)",
        "ALTER TABLE t RENAME TO v",
        "CREATE VIRTUAL TABLE v USING rtree(a, b, c)",
        "CREATE VIRTUAL TABLE v USING fts5(a)",
        "PRAGMA user_version",
        "ANALYZE",
        "REINDEX",
        "SELECT * FROM colo_fsm_replies",
        "SELECT b FROM t ORDER BY b",
    ],
)
def test_what_is_harmless_is_allowed(statements: Statements, sql: str) -> None:
    statements.run(sql)


def test_a_statement_that_takes_too_long_is_undone(
    guest: SqliteGuest, statements: Statements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "STATEMENT_TIME", 0.02)
    statements.run("INSERT INTO t (b) VALUES ('x')")
    endless = "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(StatementError, match=r"took longer than 0\.02 s"):
        statements.run(f"INSERT INTO t (b) {endless}", key="k")
    assert rows(guest, "SELECT count(*) FROM t") == [(1,)]
    assert not guest.connection.in_transaction


def test_a_deferred_constraint_fails_the_statement() -> None:
    schema = """PRAGMA foreign_keys = ON; CREATE TABLE parent (a PRIMARY KEY);
        CREATE TABLE child (a REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"""
    with closing(SqliteGuest(CAPACITY, schema=schema)) as guest:
        statements = Statements(guest.connection)
        with pytest.raises(StatementError, match="FOREIGN KEY constraint failed"):
            statements.run("INSERT INTO child VALUES (1)", key="k")
        assert not guest.connection.in_transaction
        assert rows(guest, "SELECT * FROM child") == rows(guest, "SELECT * FROM colo_fsm_replies") == []


@pytest.mark.parametrize("key", [None, "k"])
def test_a_full_database_refuses_and_stays_whole(
    guest: SqliteGuest, statements: Statements, key: str | None
) -> None:
    fill(guest.connection)
    before = rows(guest, "SELECT count(*) FROM t")
    with pytest.raises(StatementError, match="database or disk is full"):
        statements.run("INSERT INTO t (b) VALUES (zeroblob(100000))", key=key)
    assert rows(guest, "SELECT count(*) FROM t") == before
    statements.run("DELETE FROM t WHERE a > 10")
    statements.run("INSERT INTO t (b) VALUES (zeroblob(10000))", key=key)


def test_a_transaction_of_the_embedder_is_not_touched(guest: SqliteGuest, statements: Statements) -> None:
    guest.connection.execute("BEGIN")
    with pytest.raises(sqlite3.OperationalError, match="within a transaction"):
        statements.run("SELECT 1")
    assert guest.connection.in_transaction
