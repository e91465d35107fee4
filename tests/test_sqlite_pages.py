"""What a checkpoint of the SQLite guest carries: after any history, and of no more than has changed."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest
from sqlite_guests import SCHEMA

from colo_fsm.replica.store import Checkpoint, MemoryStore
from colo_fsm.services import database
from colo_fsm.services.kept import in_memory
from colo_fsm.services.sqlite import SqliteGuest
from colo_fsm.stream.memory import PAGE_SIZE, Delta

CAPACITY = 2048 * PAGE_SIZE


class Side:
    """A Primary's guest, the store of its Secondary, and the guest there."""

    def __init__(self, folder: Path, schema: str) -> None:
        self.guest = SqliteGuest(CAPACITY, schema=schema, directory=folder)
        self.other = SqliteGuest(CAPACITY, schema=schema, directory=folder)
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


@pytest.fixture(
    params=[
        "",
        "PRAGMA auto_vacuum = FULL; ",
        "PRAGMA auto_vacuum = INCREMENTAL; ",
        "PRAGMA secure_delete = OFF; ",
    ]
)
def side(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Side]:
    with closing(Side(tmp_path, f"{request.param}{SCHEMA}; CREATE INDEX i ON t (b)")) as side:
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


@pytest.mark.parametrize("seed", range(5))
def test_the_other_side_has_the_same_after_any_history(
    side: Side, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "FOLD", 20)
    chance = random.Random(seed)
    for _ in range(30):
        for _ in range(chance.randrange(6)):
            chance.choice((*ORDINARY, check_point, check_point))(side, chance)
        side.round()
        with in_memory(side.kept()) as kept:
            assert kept.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert content(kept) == content(side.guest.connection)
    assert content(side.other.connection) == content(side.guest.connection)
    assert side.other.save(False).used == side.guest.save(False).used
