"""`colo-fsm verify` as people use it: what it prints, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from systems import known

from colo_fsm.check import DOCUMENTED, MemberProperty, Property
from colo_fsm.cli.app import cli

TABLES = """
import attrs
from colo_fsm.colo import COLOMessage, PRIMARY, SECONDARY, State
from colo_fsm.fsm import Do, Send, recv

def without(line, effect):
    return attrs.evolve(line, effects=tuple(e for e in line.effects if e != effect))

same = SECONDARY
hasty = attrs.evolve(SECONDARY, lines=tuple(without(line, Do.load) for line in SECONDARY.lines))
silent = attrs.evolve(PRIMARY, error=(Do.suspend, Do.claim))
broken = attrs.evolve(PRIMARY, lines=PRIMARY.lines[1:])
number = 7
"""


def verify(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["verify", *map(str, arguments)])


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "embedders_tables.py").write_text(TABLES)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_pair_as_it_runs_by_default_holds() -> None:
    result = verify()
    assert result.exit_code == 0
    assert result.output.count("  holds  ") == len(Property)
    assert "release on loaded" in result.output


@pytest.mark.parametrize("itself", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_all_documented_systems_as_json(itself: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the explorer's own tests have found them; it explores each itself in soak, and one below."""
    if not itself:
        monkeypatch.setattr("colo_fsm.cli.verify.judged", lambda each, limit: known(each))
    result = verify("--scenario", "all", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [s["name"] for s in found["scenarios"]] == [each.name for each in DOCUMENTED]
    for one in found["scenarios"]:
        properties = MemberProperty if one["name"].startswith("members") else Property
        assert one["properties"].keys() == one["expected"].keys() == set(map(str, properties))
        assert one["properties"] == one["expected"]
        assert one["states"] > 0
        assert one["transitions"] >= one["states"] - 1
        assert one["states_per_second"] == pytest.approx(one["states"] / one["seconds"], rel=0.2)
        assert set(one["properties"].values()) <= {"holds", "fails"}


def test_one_documented_system_with_its_counterexample() -> None:
    result = verify("--scenario", "plain-link")
    assert result.exit_code == 0
    assert "no-split-brain          fails" in result.output
    assert "✗ 10  secondary  wins its claim → alone" in result.output
    assert "why: without an arbiter each side that loses sight of the other goes on" in result.output


def test_a_system_of_ones_own_must_hold_in_everything() -> None:
    result = verify("--arbiter", "none", "--faults", "closed")
    assert result.exit_code == 1
    assert "(unexpected)" in result.output


def test_faults_can_be_none() -> None:
    assert "no faults" in verify("--faults", "none").output


@pytest.mark.parametrize(
    ("name", "begins"),
    [("x.svg", b"<?xml"), ("x.png", b"\x89PNG"), ("x.mmd", b"sequenceDiagram"), ("x.txt", b"no-split-brain")],
)
def test_a_counterexample_is_drawn(name: str, begins: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    result = verify("--scenario", "plain-link", "--counterexample", file)
    assert result.exit_code == 0
    assert file.read_bytes().startswith(begins)


def test_one_of_several_counterexamples_is_chosen(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    verify("--scenario", "plain-all-breaks", "--property", "no-stale-takeover", "--counterexample", file)
    assert file.read_text().startswith("no-stale-takeover does not hold")


@pytest.mark.parametrize(
    ("name", "begins"), [("x.svg", b"<?xml"), ("x.mmd", b"sequenceDiagram"), ("x.txt", b"kept does not hold")]
)
def test_a_counterexample_of_members_names_them(name: str, begins: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    result = verify("--scenario", "members-plain", "--property", "kept", "--counterexample", file)
    assert result.exit_code == 0
    assert "✗ 19  member b  has the copy → secondary: no store has write 1, which was" in result.output
    assert "why: nobody says what its store holds" in result.output
    drawn = file.read_bytes()
    assert drawn.startswith(begins)
    assert b"rimary" not in drawn.replace(b"primary", b"") or name == "x.mmd"
    assert b"ember b" in drawn


@pytest.mark.parametrize(
    ("more", "system"),
    [
        (["--failures", "1"], "2 writes, 1 crashes or lost links"),
        (
            ["--failures", "1", "--lost-disks", "1"],
            "1 crashes or lost links, 1 of which may take a disk along",
        ),
    ],
)
def test_members_hold_as_deep_as_one_likes(more: list[str], system: str) -> None:
    result = verify("--members", *more)
    assert result.exit_code == 0
    assert result.output.count("  holds  ") == len(MemberProperty)
    assert system in result.output


def test_nothing_is_drawn_where_all_holds(tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    result = verify("--scenario", "claim", "--counterexample", file)
    assert (result.exit_code, file.exists()) == (0, False)
    assert "nothing to draw: everything holds" in result.stderr


@pytest.mark.usefixtures("tables")
def test_an_embedders_table_is_explored() -> None:
    assert verify("--secondary", "embedders_tables:same").exit_code == 0
    result = verify("--primary", "embedders_tables:silent")
    assert result.exit_code == 1
    assert "no-deadlock             fails" in result.output


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--primary", "embedders_tables:number"], "is no Table of the primary"),
        (["--primary", "embedders_tables:same"], "is no Table of the primary"),
        (["--primary", "embedders_tables"], "write MODULE:TABLE"),
        (["--primary", "no_such_module:TABLE"], "ModuleNotFoundError"),
        (["--secondary", "embedders_tables:hasty"], "no row into 'received' asks for 'load'"),
        (["--primary", "embedders_tables:broken"], "cannot be reached from 'init'"),
        (["--scenario", "claims"], "'claims' is none of: all, no-faults,"),
        (["--scenario", "claim", "--budget", "2"], "--budget: a documented scenario has its own"),
        (["--scenario", "all", "--counterexample", "x.svg"], "name a --scenario"),
        (["--failures", "1"], "--failures: say --members too"),
        (["--members", "--budget", "2"], "--budget: of a pair; --members takes --failures and --lost-disks"),
        (["--members", "--failures", "1", "--lost-disks", "2"], "2 disks cannot be lost in 1 failures"),
        (["--scenario", "members", "--failures", "1"], "--failures: a documented scenario has its own"),
        (["--members", "--property", "claimed"], "'claimed' is no property of yours"),
        (["--faults", "crash,fire"], "'fire' is none of: none, crash,"),
        (["--counterexample", "x.gif"], "must end with one of .svg"),
    ],
)
def test_bad_usage_says_what_to_do(arguments: list[str], says: str) -> None:
    result = verify(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr.replace("\n", " ")


def test_a_system_that_is_too_large_is_no_proof() -> None:
    result = verify("--limit", "1000")
    assert result.exit_code == 1
    assert "yours: more than 1,000 states: raise the limit, or narrow the scenario" in result.stderr


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    result = verify("--scenario", "plain-link", "--counterexample", tmp_path / "no" / "x.txt")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


def test_a_driver_with_a_bug_is_found() -> None:
    result = verify("--policy", "cached-claim", "--faults", "closed,arbiter")
    assert result.exit_code == 1
    assert "no-split-brain          fails" in result.output


def test_the_list_names_them_all() -> None:
    lines = verify("--list").output.splitlines()
    assert [line.split()[0] for line in lines] == [each.name for each in DOCUMENTED]
