"""`colo-fsm inspect` and `export` of our own guests' stores: what is in one, and how it is given back."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result
from members import members
from served_pair import Client, served
from vm_link import keep

from colo_fsm.cli.app import cli
from colo_fsm.cli.inspect import Kept
from colo_fsm.qemu.hold.inspect import Inspected
from colo_fsm.replica import DirectoryStore, StateGuest
from colo_fsm.services.sqlite import SqliteGuest
from colo_fsm.stream.memory import Delta

CAPACITY = 1 << 16


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


def filled(folder: Path, guest: StateGuest | SqliteGuest) -> Path:
    """A store that has this guest."""
    with DirectoryStore(folder) as store:
        sink = store.begin(guest.blocks)
        saved = guest.save(full=True)
        for page in saved.pages:
            sink.put(page.block, page.offset, page.data)
        store.complete(7, saved.device)
    return folder


class Bytes:
    def __init__(self, state: bytes) -> None:
        self.state = state

    def get_state(self) -> bytes:
        return self.state

    def set_state(self, state: bytes) -> None:
        self.state = state


def of_bytes(folder: Path, state: bytes) -> Path:
    return filled(folder, StateGuest(Bytes(state), CAPACITY))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A store with a database: a table of three rows whose name is a stranger's."""
    guest = SqliteGuest(CAPACITY, schema='CREATE TABLE "a ""b" (x); INSERT INTO "a ""b" VALUES (1), (2), (3)')
    return filled(tmp_path / "database", guest)


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A store of a guest with two RAM blocks."""
    with DirectoryStore(tmp_path / "blocks") as store:
        sink = store.begin({"low": 4096, "high": 8192})
        sink.put("high", 4096, b"h" * 4096)
        store.complete(1, b"registers")
    return tmp_path / "blocks"


@contextmanager
def rows(file: Path) -> Iterator[sqlite3.Connection]:
    """The database in this file, as anybody opens it."""
    with closing(sqlite3.connect(file)) as connection:
        yield connection


# ---- real processes ------------------------------------------------------------------------------


def test_of_members_that_were_killed_every_acknowledged_row_comes_back(tmp_path: Path) -> None:
    with members(tmp_path) as both:
        primary = both.until_protected()
        acknowledged = {f"k{number}" for number in range(20)}
        for key in acknowledged:
            assert both.ask("INSERT INTO ledger VALUES (?)", params=[key], key=key)["changes"] == 1
        for name in ("inspect", "export"):
            options = () if name == "inspect" else ("-o", tmp_path / "no.db")
            open_yet = run(name, tmp_path / "a", *options)
            assert (open_yet.exit_code, len(open_yet.stderr.splitlines())) == (1, 1)
            assert "is open in a process that runs" in open_yet.stderr
        newest = tmp_path / both.other(primary).name
        for each in both.running.values():
            each.process.kill()
        for each in both.running.values():
            each.gone()
        found = json.loads(run("inspect", newest, "--json").stdout)
        assert (found["member"], len(found["data_set"])) == (newest.name, 32)
        result = run("export", newest, "-o", tmp_path / "out.db")
        assert result.exit_code == 0, result.stderr
        with rows(tmp_path / "out.db") as connection:
            keys = {key for (key,) in connection.execute("SELECT key FROM ledger")}
        counts = {table["name"]: table["rows"] for table in found["database"]["tables"]}
        assert counts["ledger"] == len(keys)
        assert keys == acknowledged


def test_of_a_secondary_that_was_killed_every_acknowledged_row_comes_back(tmp_path: Path) -> None:
    with served(tmp_path, store="store") as (primary, secondary, address), Client(address) as client:
        client.ask("CREATE TABLE t (a)")
        for number in range(10):
            assert client.ask("INSERT INTO t VALUES (?)", params=[number])["changes"] == 1
        secondary.process.kill()
        secondary.process.wait()
        said = run("inspect", tmp_path / "store")
        assert said.exit_code == 0, said.stderr
        assert "member" not in said.stdout
        assert run("export", tmp_path / "store", "-o", tmp_path / "out.db").exit_code == 0
        with rows(tmp_path / "out.db") as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (10,)
        primary.process.kill()


# ---- inspect -------------------------------------------------------------------------------------


def test_inspect_says_what_a_database_has(database: Path) -> None:
    said = run("inspect", database).stdout
    words = (
        "generation: 7", "checkpoint: 0", "in use: 8192 of 65536 bytes", "SQLite database: 2 pages of 4096",
        'a "b     3', "state  65536",
    )  # fmt: skip
    for each in words:
        assert each in said
    found = json.loads(run("inspect", database, "--json").stdout)
    assert found["database"] == {
        "pages": 2, "page_size": 4096, "tables": [{"name": 'a "b', "rows": 3}]
    }  # fmt: skip
    assert (found["used"], found["member"], found["damage"]) == (8192, None, None)


def test_the_page_has_every_field_of_the_json() -> None:
    page = (Path(__file__).parent.parent / "docs" / "output.md").read_text()
    for heading, found in (("a guest of ours", Kept), ("a VM", Inspected)):
        table = page.partition(f"| field | {heading} |\n")[2].partition("\n\n")[0]
        names = [
            name for row in re.findall(r"^\| ([\w, ]+) \|", table, re.MULTILINE) for name in row.split(", ")
        ]
        assert names == [field.name for field in attrs.fields(found)]


def test_inspect_changes_nothing(database: Path) -> None:
    before = {file.name: file.read_bytes() for file in database.iterdir()}
    assert run("inspect", database).exit_code == 0
    assert {file.name: file.read_bytes() for file in database.iterdir()} == before


def test_inspect_of_another_guest(blocks: Path) -> None:
    found = json.loads(run("inspect", blocks, "--json").stdout)
    assert found["blocks"] == [{"name": "low", "size": 4096}, {"name": "high", "size": 8192}]
    assert (found["device_bytes"], found["used"], found["database"]) == (9, None, None)


def test_a_damaged_store_is_one_line(database: Path) -> None:
    (image,) = database.glob("image-*")
    image.write_bytes(image.read_bytes().replace(b"SQLite", b"sQLite"))
    for command in (("inspect", database), ("export", database, "-o", database.parent / "out")):
        result = run(*command)
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        assert "is damaged" in result.stderr
    assert not (database.parent / "out").exists()


def test_a_member_s_file_that_is_damaged_hides_nothing(database: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    database.rename(tmp_path / "m" / "store")
    (tmp_path / "m" / "member.json").write_text("{")
    result = run("inspect", tmp_path / "m")
    assert (result.exit_code, f"name {tmp_path}/m/store" in result.stderr) == (1, True)
    assert run("inspect", tmp_path / "m" / "store").exit_code == 0


def test_a_member_that_has_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "member.json").write_text('{"name": "m", "seat": "1", "set": null}')
    result = run("inspect", tmp_path / "m")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert not (tmp_path / "m" / "store").exists()


# ---- export --------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_kept_without_force(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.db"
    out.write_text("mine")
    refused = run("export", database, "-o", out)
    assert (refused.exit_code, "--force" in refused.stderr, out.read_text()) == (1, True, "mine")
    assert run("export", database, "-o", out, "--force").exit_code == 0
    with rows(out) as connection:
        assert connection.execute('SELECT count(*) FROM "a ""b"').fetchone() == (3,)


def test_a_database_that_is_broken_replaces_nothing_and_its_memory_can_be_had(tmp_path: Path) -> None:
    guest = SqliteGuest(CAPACITY, schema="CREATE TABLE t (a PRIMARY KEY); INSERT INTO t VALUES (1)")
    state = bytearray(guest.connection.serialize())
    state[8192:12288] = bytes(4096)  # the index has lost its root
    store, out = of_bytes(tmp_path / "broken", bytes(state)), tmp_path / "out.db"
    out.write_text("mine")
    for target in (out, "-"):
        result = run("export", store, "-o", target, "--force")
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        assert "integrity_check" in result.stderr
        assert "--block state" in result.stderr
        assert result.stdout == ""
    assert (out.read_text(), sorted(p.name for p in tmp_path.iterdir())) == ("mine", ["broken", "out.db"])
    assert run("export", store, "-o", out, "--force", "--block", "state").exit_code == 0
    assert out.read_bytes() == bytes(state).ljust(CAPACITY, b"\0")


def test_what_is_no_database_is_said_and_not_counted(tmp_path: Path) -> None:
    found = json.loads(
        run("inspect", of_bytes(tmp_path / "s", b"SQLite format 3\0" + b"x" * 5000), "--json").stdout
    )
    assert "cannot be used" in found["damage"]


def test_a_state_that_is_not_the_one_that_was_saved(tmp_path: Path) -> None:
    with DirectoryStore(of_bytes(tmp_path / "s", b"one")) as store:
        assert store.newest is not None
        store.commit(Delta(), bytes(7) + b"\2" + store.newest.device[8:])
    assert (
        "not the one that was saved" in json.loads(run("inspect", tmp_path / "s", "--json").stdout)["damage"]
    )
    result = run("export", tmp_path / "s", "-o", tmp_path / "out")
    assert (result.exit_code, "--block state" in result.stderr) == (1, True)
    assert not (tmp_path / "out").exists()


def test_any_other_guest_gives_its_state_or_its_only_block(tmp_path: Path, blocks: Path) -> None:
    out = tmp_path / "out"
    assert run("export", of_bytes(tmp_path / "s", b"text"), "-o", out).exit_code == 0
    assert out.read_bytes() == b"text"
    many = run("export", blocks, "-o", tmp_path / "other")
    assert (many.exit_code, "low, high" in many.stderr) == (2, True)
    wrong = run("export", blocks, "-o", tmp_path / "other", "--block", "middle")
    assert (wrong.exit_code, "low, high" in wrong.stderr) == (2, True)
    assert run("export", blocks, "-o", tmp_path / "other", "--block", "high").exit_code == 0
    assert (tmp_path / "other").read_bytes() == bytes(4096) + b"h" * 4096


def test_a_machine_s_store_is_for_restore(tmp_path: Path) -> None:
    with DirectoryStore(tmp_path / "vm") as store:
        keep(store, 1)
    result = run("export", tmp_path / "vm", "-o", tmp_path / "out")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "colo-fsm restore" in result.stderr


def test_standard_output_takes_it_unless_it_is_a_terminal(database: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "colo_fsm", "export", str(database), "-o", "-"]
    piped = subprocess.run(command, capture_output=True, check=True)
    assert piped.stdout.startswith(b"SQLite format 3\0")
    ours, theirs = pty.openpty()
    try:
        told = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True)
        assert (told.returncode, "nothing for a terminal" in told.stderr) == (2, True)
        result = run("export", database, "-o", os.ttyname(theirs), "--force")
        assert (result.exit_code, "is no file" in result.stderr) == (1, True)
    finally:
        os.close(ours)
        os.close(theirs)
