"""`colo-fsm diagram` with tables of one's own: each format, each picture, one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from colo_fsm.cli.app import cli

BOTH = ["--primary", "protocols.remus:PRIMARY", "--secondary", "protocols.remus:SECONDARY"]
TABLES = """
import attrs
from colo_fsm.colo import COLOMessage, State
from colo_fsm.fsm import recv, row
from protocols import remus

FOREIGN = attrs.evolve(remus.PRIMARY, lines=(
    *remus.PRIMARY.lines, row(State.READY, recv(COLOMessage.VMSTATE_SEND), remus.S.ENDED)))
DEAF = attrs.evolve(remus.SECONDARY, lines=tuple(
    attrs.evolve(line, effects=()) if line.dest is remus.S.COMMITTED else line
    for line in remus.SECONDARY.lines))
"""


def diagram(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["diagram", *arguments])


@pytest.mark.parametrize("what", ["primary", "secondary", "pair", "checkpoint"])
@pytest.mark.parametrize(
    ("ending", "start"),
    [("dot", b"digraph"), ("mmd", b"%%"), ("md", b"# "), ("svg", b"<?xml"), ("png", b"\x89PNG")],
)
def test_a_pair_of_tables_of_ones_own(tmp_path: Path, what: str, ending: str, start: bytes) -> None:
    file = tmp_path / f"picture.{ending}"
    result = diagram(what, *BOTH, "-o", str(file))
    if what == "checkpoint" and ending in ("mmd", "md"):
        assert result.exit_code == 2
        assert "a checkpoint can be had as dot, svg, png" in result.output
        return
    assert result.exit_code == 0, result.output
    assert file.read_bytes().startswith(start)


def test_what_tables_are_given_is_what_is_drawn() -> None:
    assert diagram(*BOTH[:2]).output.startswith("digraph primary {")
    assert diagram(*BOTH[2:]).output.startswith("digraph secondary {")
    assert diagram(*BOTH).output.startswith("digraph pair {")
    assert "Remus. Upright" in diagram(*BOTH).output


def test_what_runs_by_default_is_drawn_by_default() -> None:
    assert "COLO, qemu/periodic/loaded." in diagram("--format", "mermaid").output
    assert "COLO, patch/hybrid/received." in diagram(
        "checkpoint", "--profile", "patch", "--mode", "hybrid", "--release-on", "received"
    ).output  # fmt: skip


@pytest.mark.parametrize("format", ["dot", "mermaid", "markdown", "svg"])
def test_a_member_is_drawn_from_its_rows(format: str) -> None:
    assert "offering" in diagram("member", "--format", format).output


@pytest.mark.parametrize(
    ("arguments", "status", "texts"),
    [
        (["member", *BOTH], 2, ["a member has its own rows: leave --primary and --secondary out"]),
        (["pair", *BOTH[:2]], 2, ["the Primary's are Remus, the Secondary's COLO"]),
        (["--primary", BOTH[3]], 2, ["is no Table of the primary"]),
        (["--primary", "drawn_tables:MISSING"], 2, ["no attribute 'MISSING'"]),
        (
            ["--primary", "drawn_tables:FOREIGN"],
            2,
            ["is no state of Remus", "<COLOMessage.VMSTATE_SEND: 3> is no message of Remus"],
        ),
        (
            ["checkpoint", *BOTH[:2], "--secondary", "drawn_tables:DEAF"],
            1,
            ["undisturbed, the two tables take none to its end"],
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, texts: list[str]
) -> None:
    (tmp_path / "drawn_tables.py").write_text(TABLES)
    monkeypatch.syspath_prepend(tmp_path)
    result = diagram(*arguments)
    assert result.exit_code == status, result.output
    assert f"\n{result.output}".count("\nError: ") == 1
    for text in texts:
        assert text in result.output
    assert "Traceback" not in result.output
