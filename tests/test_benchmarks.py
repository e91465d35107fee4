"""The benchmarks still run, each part with its smallest sample; docs/performance.md is what they have said.

Nothing here looks at how large a figure is.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks import libraries, machine, page
from benchmarks.__main__ import PARTS, main, part
from benchmarks.orderbook import OrderBook
from benchmarks.table import TARGETS, Row, at_least, at_most

from colo_fsm.colo import colo_machine
from colo_fsm.fsm import Side

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
TEXT = "before\n<!-- generated: figures -->\nold\n<!-- end -->\nbehind\n"


@pytest.mark.parametrize("name", PARTS)
def test_every_part_runs(name: str) -> None:
    rows = list(part(name).rows(quick=True))
    assert rows
    assert len({row.work for row in rows}) == len(rows)
    for row in rows:
        figures = [row.figure, *(each for each in (row.theirs, row.at) if each is not None)]
        assert all(math.isfinite(each) and each >= 0 for each in figures), row
        assert len(row.cells) == 6
        assert (row.verdict in ("met", "MISSED")) == (row.work in TARGETS)


@pytest.mark.parametrize("name", libraries.LIBRARIES)
def test_each_library_makes_the_same_round(name: str) -> None:
    table = colo_machine(Side.PRIMARY).table
    fire, state = libraries.LIBRARIES[name](table, machine.ROUND)
    for _ in range(2):
        for each in fire:
            each()
        assert state() == "loaded"


def test_an_order_meets_the_best_prices_of_the_other_side() -> None:
    book = OrderBook()
    assert [book.apply(b"sell 60 5\n"), book.apply(b"sell 62 5\n")] == [b"1 0\n", b"2 0\n"]
    again = OrderBook()
    again.set_state(book.get_state())
    assert again.apply(b"buy 61 7\n") == b"3 5\n"
    assert again.apply(b"sell 61 9\n") == b"4 2\n"
    assert (again.offered[61], again.offered[62], sum(again.wanted)) == (7, 5, 0)


def test_a_target_is_about_the_ratio_or_about_the_figure() -> None:
    row = Row("work", 3.0, "ms", "peer", 2.0)
    assert [target.met(row) for target in (at_most(1.5), at_most(1.4), at_least(1.5), at_least(1.6))] == [
        True, False, True, False,
    ]  # fmt: skip
    assert at_most(3, "ms").met(row)
    assert not at_most(2.9, "ms").met(row)
    for nothing in (at_most(3, "s").met, lambda row: at_most(1).met(Row("work", row.figure, "ms"))):
        with pytest.raises(ValueError, match="has no figure in"):
            nothing(row)


def test_a_run_is_kept_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.json"
    first, second = Row("one", 1.0, "us", "peer", 2.0), Row("two", 2.0, "ms", curve="state/pause", at=4.0)
    page.keep(file, "a", "A", [first])
    page.keep(file, "b", "B", [second])
    page.keep(file, "a", "A", [second, first])
    parts = json.loads(file.read_text())["parts"]
    assert {name: page.rows_of(kept) for name, kept in parts.items()} == {"a": [second, first], "b": [second]}
    monkeypatch.setattr(page, "machine", lambda: {"cores": 128})
    page.keep(file, "c", "C", [first])
    assert json.loads(file.read_text())["parts"].keys() == {"c"}


def test_a_part_prints_its_rows_and_keeps_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.json"
    assert main(["--only", "machine", "--quick", "--json", str(file)]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  a trigger  "))
    assert row.endswith((f"at most 1/20 x{'':8}met", f"at most 1/20 x{'':8}MISSED")), row
    kept = page.rows_of(json.loads(file.read_text())["parts"]["machine"])
    assert kept[0].work == "a trigger"


def test_a_run_is_written_into_a_page(tmp_path: Path) -> None:
    text, file = tmp_path / "page.md", tmp_path / "run.json"
    text.write_text(TEXT)
    missed = Row("order book, 1 client", 5.0, "replies/s", "PySyncObj", 10.0)
    page.keep(file, "orderbook", "An order book", [missed])
    page.keep(
        file, "growth", "Growth", [Row(f"p{n}", n, "ms", curve="state/pause", at=n) for n in (1.0, 20.0)]
    )
    assert main(["--write", str(text), str(file)]) == 0
    written = text.read_text()
    assert written.startswith("before\n<!-- generated: figures -->\n")
    assert written.endswith("<!-- end -->\nbehind\n")
    assert "| order book, 1 client | 5 replies/s | PySyncObj: 10 | 0.5 x | at least 1 x | MISSED |" in written
    assert f"Of {len(TARGETS)} targets 0 are met, 1 missed and {len(TARGETS) - 1} not measured." in written
    picture = ElementTree.fromstring((tmp_path / "page.svg").read_text())
    assert len(picture.findall("{*}circle")) == 2


def test_a_page_without_a_place_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no place for the figures"):
        page.filled("# nothing here\n", {}, "page.svg")


def test_the_page_is_what_its_run_says() -> None:
    kept = json.loads(PAGE.with_suffix(".json").read_text())
    text, picture = PAGE.read_text(), page.picture_of(PAGE)
    assert page.filled(text, kept, picture.name) == text
    assert page.drawn(kept) == picture.read_text()
