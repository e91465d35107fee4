"""Pictures of tables, and the files of those that this repository carries."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import attrs

from colo_fsm.colo import PRIMARY, SECONDARY, Variant
from colo_fsm.fsm import CompleteTable, complete

from . import dot, markdown, mermaid
from .renderer import dot_hash, hash_of, render

FORMATS = {"dot": "dot", "mermaid": "mmd", "markdown": "md", "svg": "svg", "png": "png"}
"""What a picture can be had as, and how the name of such a file ends."""

KEPT = ("dot", "mermaid", "markdown", "svg")
"""The formats that `write_all()` writes. A PNG carries no hash, so nobody could tell a stale one."""


@attrs.frozen(eq=False, slots=False)
class Picture:
    """A picture of one table, or of the Primary's and the Secondary's together."""

    tables: tuple[CompleteTable, ...]

    @cached_property
    def dot(self) -> str:
        """The picture as DOT. Raises DrawError without the `graphviz` package."""
        return dot.pair(*self.tables) if len(self.tables) == 2 else dot.side(*self.tables)

    @cached_property
    def mermaid(self) -> str:
        """The picture as Mermaid; needs no library."""
        return mermaid.pair(*self.tables) if len(self.tables) == 2 else mermaid.side(*self.tables)

    def to(self, format: str) -> bytes:
        """The picture in one of FORMATS, text as UTF-8. Raises what `render()` does."""
        match format:
            case "dot":
                return self.dot.encode()
            case "mermaid":
                return self.mermaid.encode()
            case "markdown":
                return markdown.sides(self.tables).encode()
            case _:
                return render(self.dot, format)


def side(table: CompleteTable) -> Picture:
    """A picture of one side's machine: every written row, with its trigger and its effects."""
    return Picture((table,))


def pair(primary: CompleteTable, secondary: CompleteTable) -> Picture:
    """A picture of both machines and of the messages that pass between them."""
    return Picture((primary, secondary))


def pictures(variant: Variant | None = None) -> Mapping[str, Picture]:
    """The three pictures of a variant: `primary`, `secondary`, `pair`."""
    tables = [complete(table, variant or Variant()) for table in (PRIMARY, SECONDARY)]
    return {str(t.side): side(t) for t in tables} | {"pair": pair(*tables)}


def stale(folder: Path) -> list[Path]:
    """The files in this folder that `write_all()` would write: those that are missing or out of date."""
    return [path for path, picture, format in _files(folder) if not _is_fresh(path, picture, format)]


def write_all(folder: Path) -> list[Path]:
    """Write the pictures of the default variant in the KEPT formats; returns the files written.

    A fresh file is left alone, so another version of Graphviz alone changes no SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [f for f in _files(folder) if not _is_fresh(*f)]
    for path, picture, format in written:
        path.write_bytes(picture.to(format))
    return [path for path, _, _ in written]


def _files(folder: Path) -> list[tuple[Path, Picture, str]]:
    return [
        (folder / f"{name}.{FORMATS[format]}", picture, format)
        for name, picture in pictures().items()
        for format in KEPT
    ]


def _is_fresh(path: Path, picture: Picture, format: str) -> bool:
    if not path.is_file():
        return False
    if format == "svg":
        return dot_hash(path.read_text("utf-8", errors="replace")) == hash_of(picture.dot)
    return path.read_bytes() == picture.to(format)
