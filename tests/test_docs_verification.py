"""The page about verification, and its pictures, are those of the tables as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from systems import known

from colo_fsm.check import DOCUMENTED
from colo_fsm.check.__main__ import SHOWN, stale, write_all

ROOT = Path(__file__).parent.parent


def test_the_page_and_its_pictures_are_fresh() -> None:
    assert stale(ROOT / "docs", ROOT / "diagrams", known) == []


def test_what_is_stale_is_written(tmp_path: Path) -> None:
    docs, diagrams = tmp_path / "docs", tmp_path / "diagrams"
    docs.mkdir()
    page = (ROOT / "docs" / "verification.md").read_text()
    (docs / "verification.md").write_text(page.replace("| all hold |", "| perhaps |"))
    written = write_all(docs, diagrams, known)
    assert [path.name for path in written] == ["verification.md", *(f"{name}-{p}.svg" for name, p in SHOWN)]
    assert (docs / "verification.md").read_text() == page
    assert stale(docs, diagrams, known) == []


def test_a_page_without_a_place_for_the_table_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "verification.md").write_text("# nothing here\n")
    with pytest.raises(ValueError, match="has no place for 'properties'"):
        stale(tmp_path, tmp_path, known)


def test_every_documented_failure_is_explained() -> None:
    page = (ROOT / "docs" / "verification.md").read_text().partition("## What fails")[2]
    for each in DOCUMENTED:
        assert not each.fails or f"`{each.name}`" in page, each.name
    for name, which in SHOWN:
        assert f"diagrams/counterexamples/{name}-{which}.svg" in page
