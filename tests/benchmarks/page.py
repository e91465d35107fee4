"""The file that keeps a run, and what docs/performance.md makes of it."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .plot import Panel, svg
from .table import HEAD, TARGETS, Row, as_json

MARKS = re.compile(r"(<!-- generated: figures -->\n).*?(<!-- end -->)", re.DOTALL)
PANELS = (
    ("state", "How the state's size is felt", "MiB of state, 10 pages changed", "ms"),
    ("changed", "How much changes", "pages changed of 1 GiB", "ms"),
    ("clients", "Clients of one order book", "clients", "replies/s, and p50 in ms"),
    ("pairs", "Pairs in one process", "pairs", "us a round"),
)
"""Curves by the beginning of their name; title; both axes."""
LEFT_OUT = "pairs/threads"
"""A figure that is beside its curve in the table, and no curve of its own."""


def machine() -> dict[str, Any]:
    """Where this is."""
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "python": platform.python_version(), "kernel": platform.release()}


def keep(file: Path, name: str, title: str, rows: Sequence[Row]) -> None:
    """Put the rows of a part into the file; other parts in it stay, if this is their machine."""
    kept = json.loads(file.read_text()) if file.is_file() else {}
    parts = kept.get("parts", {}) if kept.get("machine") == machine() else {}
    date = datetime.now(UTC).date().isoformat()
    parts[name] = {"title": title, "date": date, "rows": [as_json(row) for row in rows]}
    file.write_text(json.dumps({"machine": machine(), "parts": parts}, indent=1) + "\n")


def write(page: Path, file: Path) -> None:
    """Fill in the page, and draw the picture beside it. Raises ValueError for a page without its marks."""
    kept = json.loads(file.read_text())
    picture = picture_of(page)
    page.write_text(filled(page.read_text(), kept, picture.name))
    picture.write_text(drawn(kept))


def picture_of(page: Path) -> Path:
    """Where the curves of this page are drawn."""
    return page.with_suffix(".svg")


def filled(page: str, kept: dict[str, Any], picture: str) -> str:
    """The page with the tables of this file between its marks. Raises ValueError where they are missing."""
    if len(MARKS.findall(page)) != 1:
        raise ValueError(
            "the page has no place for the figures: <!-- generated: figures --> and <!-- end -->"
        )
    content = "\n".join(_lines(kept, picture)) + "\n"
    return MARKS.sub(lambda found: found[1] + content + found[2], page)


def drawn(kept: dict[str, Any]) -> str:
    """The curves in this file, as SVG."""
    panels = []
    for name, title, x, y in PANELS:
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in (row for part in kept["parts"].values() for row in rows_of(part)):
            if row.at is not None and row.curve.startswith(f"{name}/") and row.curve != LEFT_OUT:
                curves.setdefault(row.curve.partition("/")[2], []).append((row.at, row.figure))
        if curves:
            panels.append(Panel(title, x, y, curves))
    return svg(panels)


def rows_of(part: dict[str, Any]) -> list[Row]:
    """The rows of one part of such a file."""
    return [Row(**row) for row in part["rows"]]


def _lines(kept: dict[str, Any], picture: str) -> Iterator[str]:
    where, parts = kept["machine"], kept["parts"]
    dates = sorted({part["date"] for part in parts.values()})
    yield f"{where['cores']} cores, Python {where['python']}, Linux {where['kernel']}, {' and '.join(dates)}."
    measured = [row for part in parts.values() for row in rows_of(part)]
    met, missed = ([row.verdict for row in measured].count(word) for word in ("met", "MISSED"))
    unmet = sorted(TARGETS.keys() - {row.work for row in measured})
    yield f"Of {len(TARGETS)} targets {met} are met, {missed} missed and {len(unmet)} not measured."
    for part in parts.values():
        yield from ("", f"### {part['title']}", "", _cells(HEAD), _cells(["---"] * len(HEAD)))
        yield from (_cells(row.cells) for row in rows_of(part))
    if unmet:
        yield from (
            "",
            "### Not measured in this run",
            "",
            _cells(("work", "target")),
            _cells(("---", "---")),
        )
        yield from (_cells((work, str(TARGETS[work]))) for work in unmet)
    yield from ("", f"![Curves of the section on growth]({picture})")


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
