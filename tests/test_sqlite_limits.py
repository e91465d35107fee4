"""What bounds strangers' statements in the SQLite guest: nothing stands still for one of them."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlite_guests import fixtures

from colo_fsm.services import sqlite
from colo_fsm.services.limits import CHECKED_PAGES, PATTERN_LIMIT, VALUE_LIMIT
from colo_fsm.services.sqlite import SqliteGuest, StatementError, Statements
from colo_fsm.stream.memory import PAGE_SIZE

CAPACITY = 16 << 20
guest, other, statements = fixtures(CAPACITY)


def rows(
    connection: sqlite3.Connection, sql: str, params: tuple[object, ...] = ()
) -> list[tuple[object, ...]]:
    return connection.execute(sql, params).fetchall()


LARGEST = "a" * (VALUE_LIMIT - 100)
ENDLESS = "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n)"


@pytest.mark.parametrize(
    ("sql", "params", "error"),
    [
        (
            "SELECT length(replace(replace(hex(zeroblob(1000000)), '00', hex(zeroblob(1000))), '0', 'xy'))",
            [],
            "more than 524288 bytes, store it in parts",
        ),
        (
            "SELECT replace(CAST(? AS BLOB), hex(zeroblob(120000)) || 'x', '')",
            ["0" * 500_000],
            r"replace\(\) of 500000 and 240001 characters takes too long: give it shorter ones",
        ),
        ("SELECT replace(?, 'a', ?)", [LARGEST, LARGEST], "more than 524288 bytes"),
        ("SELECT instr(CAST(? AS BLOB), ?)", [LARGEST, LARGEST[1:] + "b"], r"instr\(\) of 524188 and 524188"),
        ("SELECT trim(?, ?)", [LARGEST, "bcdefghi" * 10 + "a"], r"trim\(\) of 524188 and 81 characters"),
        ("SELECT ltrim(?, ?)", [LARGEST, LARGEST], r"ltrim\(\) of"),
        ("SELECT rtrim(?, ?)", [LARGEST, LARGEST], r"rtrim\(\) of"),
        ("SELECT ? GLOB ?", [LARGEST, "*" + "[a-z]" * 100 + "b"], r"glob\(\) of 502 and 524188 characters"),
        ("SELECT ? LIKE ?", [LARGEST, "%" + "a" * 100 + "b"], "longer than 48 bytes: look with instr"),
        ("SELECT trim(CAST(x'ff' AS TEXT), 'a')", [], "text that is no UTF-8"),
        ("SELECT trim(x'ff61', 'a')", [], "Could not decode"),
        ("SELECT ?", [LARGEST * 2], "more than 524288 bytes"),
        ("SELECT zeroblob(600000)", [], "more than 524288 bytes"),
        ("SELECT json_remove(?" + ", '$[#-1]'" * 60 + ")", ["[1]"], "too many arguments.*: at most 50"),
        (f"SELECT {', '.join(['? LIKE 1'] * 500)}", ["x"] * 500, "too many calls of functions in the text"),
        (f"SELECT {', '.join(['json(1)'] * 1000)}", [], "too many calls of functions in the text"),
        (f"SELECT {', '.join([' + '.join(['upper(1)'] * 8)] * 900)}", [], "too many calls of functions"),
        (f"INSERT INTO t (b) VALUES {', '.join(['(1 + 1)'] * 30_000)}", [], "too large for SQLite: split it"),
    ],
)  # fmt: skip
def test_what_one_opcode_would_take_long_for_is_refused(
    guest: SqliteGuest, statements: Statements, sql: str, params: list[object], error: str
) -> None:
    for key in None, "k":
        with pytest.raises(StatementError, match=error):
            statements.run(sql, params, key)
    assert json.loads(statements.run("SELECT upper('x') LIKE 'X'", key="k"))["rows"] == [[1]]


def sums(count: int, term: str) -> str:
    terms = [term.replace("#", str(number)) for number in range(count)]
    return f"SELECT {', '.join(' + '.join(terms[at : at + 50]) for at in range(0, count, 50))}"


LONGER = {
    "numbers": (sums(400, "(?1 + #)"), sums(4000, "(?1 + #)")),
    "members": tuple(f"SELECT ? IN ({', '.join(['1 || 1'] * count)}) AS x" for count in (400, 4000)),
    "LIKEs": (sums(40, "(?1 LIKE '%#x')"), sums(150, "(?1 LIKE '%#x')")),
    "JSON": (sums(50, "json_valid(?1 || #)"), sums(200, "json_valid(?1 || #)")),
    "calls": (sums(400, "length(upper(?1 || #))"), sums(2000, "length(upper(?1 || #))")),
    "a view": ("SELECT * FROM wide WHERE ? IS NULL", "SELECT * FROM wider WHERE ? IS NULL"),
}


@pytest.mark.parametrize("what", LONGER)
def test_the_more_is_in_a_statement_the_smaller_are_its_values(statements: Statements, what: str) -> None:
    for name, count in ("wide", 400), ("wider", 4000):
        statements.run(f"CREATE VIEW {name} AS {sums(count, '(a + 1)')} FROM t")
    for sql, size in zip(LONGER[what], (128 << 10, 16 << 10), strict=True):
        text = "0" * (size - 100)
        for key in None, f"k{size}":
            statements.run(sql, [text], key)
            error = (
                f"more than {size} bytes, the most in a statement as long as this one .524288 in a shorter"
            )
            with pytest.raises(StatementError, match=error):
                statements.run(sql, [text + "0" * 200], key and f"{key} again")
    assert json.loads(statements.run("SELECT length(?)", [LARGEST]))["rows"] == [[len(LARGEST)]]


@pytest.fixture
def large() -> Iterator[SqliteGuest]:
    """A database with more pages than one opcode may walk."""
    guest = SqliteGuest(2 * CHECKED_PAGES * PAGE_SIZE, schema="CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    with closing(guest.connection):
        with closing(guest.connection.cursor()) as cursor:
            cursor.executemany("INSERT INTO t (b) VALUES (zeroblob(?))", [(1 << 20,)] * 17)
        yield guest


WALKS = [
    "PRAGMA integrity_check",
    "PRAGMA Quick_Check(t)",
    "SELECT * FROM pragma_integrity_check",
    "SELECT * FROM hidden",
    "ALTER TABLE v ADD COLUMN c CHECK (c > 0)",
]


@pytest.mark.parametrize("sql", WALKS)
def test_the_soundness_of_a_small_database_only_is_asked_for(
    statements: Statements, large: SqliteGuest, sql: str
) -> None:
    of_large = Statements(large.connection)
    for each in statements, of_large:
        each.run("CREATE VIEW hidden AS SELECT * FROM pragma_quick_check")
        each.run("CREATE TABLE v (a)")
    outcome = json.loads(statements.run(sql, key="k"))
    assert outcome["rows"] == ([] if "ALTER" in sql else [["ok"]])
    for key in None, "k":
        with pytest.raises(
            StatementError, match=r"_check .* one step, and \d+ pages are more than 4096: ask it"
        ):
            of_large.run(sql, key=key)
    of_large.run("ALTER TABLE v ADD COLUMN d")
    assert rows(large.connection, "PRAGMA integrity_check") == [("ok",)]


@pytest.fixture
def slow(guest: SqliteGuest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], float]]:
    """Seconds that have passed; slow() in SQL takes 24 ms, as functions do, and nothing else any."""
    now = 0.0

    def passes() -> int:
        nonlocal now
        now += 0.024
        return 1

    guest.connection.create_function("slow", 0, passes)
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        yield lambda: now


def test_a_run_of_slow_opcodes_is_ended_soon(statements: Statements, slow: Callable[[], float]) -> None:
    with pytest.raises(StatementError, match=r"took longer than 1\.0 s: split it"):
        statements.run(f"{ENDLESS} SELECT sum(slow()) FROM n")
    assert slow() < 1.5 * sqlite.STATEMENT_TIME


@pytest.mark.parametrize("name", ["t", "copy"])
def test_all_rows_are_deleted_row_by_row(
    guest: SqliteGuest, statements: Statements, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Which can be ended, as one opcode for the whole table cannot."""
    guest.connection.execute(f"INSERT INTO t {ENDLESS} SELECT NULL, 'x' FROM n LIMIT 20000")
    statements.run("CREATE TABLE copy AS SELECT * FROM t")
    statements.run("CREATE TRIGGER u AFTER DELETE ON copy WHEN old.a < 0 BEGIN DELETE FROM t; END")
    statements.run("CREATE VIEW gone AS SELECT 1")
    statements.run("DROP VIEW gone")
    looks = itertools.count(step=0.024)
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(looks))
        with pytest.raises(StatementError, match=r"took longer than 1\.0 s: split it"):
            statements.run(f"DELETE FROM {name}")
    assert rows(guest.connection, f"SELECT count(*) FROM {name}") == [(20_000,)]
    assert json.loads(statements.run(f"DELETE FROM {name}"))["changes"] == 20_000


DROPS = {
    "TABLE w": "CREATE TABLE w (a UNIQUE)",
    "INDEX w": "CREATE INDEX w ON t (b)",
    "VIEW w": "CREATE VIEW w AS SELECT 1",
    "TRIGGER w": "CREATE TRIGGER w AFTER DELETE ON t BEGIN SELECT 1; END",
    "TABLE r": "CREATE VIRTUAL TABLE r USING rtree(a, b, c)",
    "TABLE f": "CREATE VIRTUAL TABLE f USING fts5(a)",
    "TABLE n": "CREATE TABLE n (a INTEGER PRIMARY KEY AUTOINCREMENT)",
}


@pytest.mark.parametrize("what", DROPS)
def test_what_was_made_can_be_dropped(guest: SqliteGuest, statements: Statements, what: str) -> None:
    schema = "SELECT count(*) FROM sqlite_schema WHERE name != 'sqlite_sequence'"
    before = rows(guest.connection, schema)
    statements.run(DROPS[what])
    if what.startswith("TABLE") and what != "TABLE r":
        statements.run(f"INSERT INTO {what.split()[1]} (a) VALUES (1), (2)")
    assert rows(guest.connection, schema) != before
    statements.run("DELETE FROM t")  # what it does for others is no matter of theirs
    statements.run(f"DROP {what}")
    assert rows(guest.connection, schema) == before


@pytest.mark.parametrize(
    "call", ["instr('ab', 'b')", "replace('a', 'a', 'b')", "trim('a', 'b')", "'a' GLOB 'a'"]
)
def test_a_guarded_function_ends_a_statement_that_turns_in_no_loop(
    statements: Statements, slow: Callable[[], float], call: str
) -> None:
    with pytest.raises(StatementError, match=r"took longer than 1\.0 s: split it"):
        statements.run(f"SELECT {', '.join(['slow() + length(' + call + ')'] * 200)}")
    assert slow() < 2 * sqlite.STATEMENT_TIME


VALUES = ["", "a", "aba", "\0a", "é", "%", "*", b"", b"a", b"\xc3\xa9", 0, 12, -1.5, 1e20, 0.1, None]
CALLS = [
    "instr(?1, ?2)", "replace(?1, ?2, 'x')", "replace(?1, ?2, '')", "replace('aba', ?1, ?2)",
    "replace(?1, ?2, ?1)", "trim(?1, ?2)", "ltrim(?1, ?2)",
    "rtrim(?1, ?2)", "?1 GLOB ?2", "glob(?1, ?2)", "?1 LIKE ?2",
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_guarded_function_gives_what_sqlite_gives(guest: SqliteGuest, call: str) -> None:
    Statements(guest.connection)
    with closing(sqlite3.connect(":memory:")) as plain:
        for pair in itertools.product(VALUES, repeat=2):
            sql = f"SELECT {call}, typeof({call})"
            assert rows(guest.connection, sql, pair) == rows(plain, sql, pair), pair


def test_guarded_functions_work_in_what_clients_store(guest: SqliteGuest, other: SqliteGuest) -> None:
    statements = Statements(guest.connection)
    statements.run("CREATE TABLE u (a CHECK (a GLOB '*@*'), b AS (instr(a, '@')))")
    statements.run("CREATE INDEX i ON u (replace(a, '@', ' at '))")
    for name in "x@y", "long@z":
        statements.run("INSERT INTO u (a) VALUES (?)", [name])
    with pytest.raises(StatementError, match="CHECK constraint failed"):
        statements.run("INSERT INTO u (a) VALUES ('nobody')")
    guest.connection.backup(other.connection)
    select = "SELECT a, b FROM u INDEXED BY i WHERE replace(a, '@', ' at ') = 'long at z'"
    assert rows(other.connection, select) == [("long@z", 5)]
    assert json.loads(Statements(other.connection).run(select))["rows"] == [["long@z", 5]]


def test_ordinary_large_values_work(guest: SqliteGuest, statements: Statements) -> None:
    text = "The quick brown fox. " * 20_000  # 420 KB
    statements.run("INSERT INTO t (b) VALUES (?), (zeroblob(500000))", [text])
    (row,) = json.loads(
        statements.run(
            """SELECT b, length(replace(b, 'quick brown', 'slow')), instr(b, ?),
            b LIKE '%fox. The quick%',
            b GLOB '*fox. The*', length(upper(b)), length(trim(b, ' .')) FROM t WHERE a = 1""",
            ["fox. The quick brown fox. The quick brown fox. The quick brown fox"],
        )
    )["rows"]
    assert row == [text, len(text) - 7 * 20_000, 17, 1, 1, len(text), len(text) - 2]
    assert json.loads(statements.run("SELECT length(b) FROM t"))["rows"] == [[len(text)], [500_000]]
    listed = ", ".join(str(number) for number in range(5000))
    assert json.loads(statements.run(f"SELECT count(*) FROM t WHERE a IN ({listed})"))["rows"] == [[2]]
    many = ", ".join(["(?)"] * 5000)
    assert json.loads(statements.run(f"INSERT INTO t (b) VALUES {many}", [1] * 5000))["changes"] == 5000
    assert json.loads(statements.run("SELECT ? LIKE ?", ["x" * PATTERN_LIMIT] * 2))["rows"] == [[1]]


def test_the_limits_are_for_strangers_only(guest: SqliteGuest, statements: Statements) -> None:
    statements.run("INSERT INTO t (b) VALUES (?), (?)", [LARGEST[:450_000]] * 2)
    first = statements.run("SELECT b FROM t", key="k")
    assert len(first) > 900_000  # more than a stranger's value may be, and remembered all the same
    assert statements.run("SELECT b FROM t", key="k") == first
    with pytest.raises(StatementError, match="store it in parts"):
        statements.run("SELECT reply FROM colo_fsm_replies")
    statements.run("DELETE FROM colo_fsm_replies WHERE key = 'k'")
    assert rows(guest.connection, "PRAGMA integrity_check") == [("ok",)]
    assert rows(guest.connection, "SELECT length(hex(zeroblob(4000000)))") == [(8_000_000,)]
    long = "SELECT instr(CAST(hex(zeroblob(260000)) AS BLOB), hex(zeroblob(500)) || 'x')"
    assert rows(guest.connection, long) == [(0,)]
    with pytest.raises(StatementError, match="give it shorter ones"):
        statements.run(long)
    assert json.loads(statements.run("SELECT instr(?, ?)", [LARGEST, LARGEST[1:] + "b"]))["rows"] == [[0]]
    assert rows(guest.connection, "SELECT length(replace(hex(zeroblob(400000)), '0', 'xy'))") == [
        (1_600_000,)
    ]
    assert rows(guest.connection, "SELECT json_patch('{\"a\":1}', '{\"a\":2}')") == [('{"a":2}',)]
