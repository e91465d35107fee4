"""Pictures of tables, of any protocol, in every format that they can be had in."""

from __future__ import annotations

from functools import cached_property

import attrs

from colo_fsm.fsm import CompleteTable, TableError

from . import dot, markdown, mermaid, timeline
from .renderer import render

FORMATS = {"dot": "dot", "mermaid": "mmd", "markdown": "md", "svg": "svg", "png": "png"}
"""What a picture can be had as, and how the name of such a file ends."""


@attrs.frozen(eq=False, slots=False)
class Picture:
    """A picture of one table, or of the Primary's and the Secondary's together."""

    tables: tuple[CompleteTable, ...]

    formats = tuple(FORMATS)
    """Those of FORMATS that there are of it."""

    @cached_property
    def dot(self) -> str:
        """The picture as DOT. Raises DrawError without the `graphviz` package."""
        return dot.pair(*self.tables) if len(self.tables) == 2 else dot.side(*self.tables)

    @cached_property
    def mermaid(self) -> str:
        """The picture as Mermaid; needs no library."""
        return mermaid.pair(*self.tables) if len(self.tables) == 2 else mermaid.side(*self.tables)

    def to(self, format: str) -> bytes:
        """The picture in one of its formats, text as UTF-8. Raises what `dot` and `render()` do."""
        if format not in self.formats:
            raise ValueError(f"no {format} of this picture: choose one of {', '.join(self.formats)}")
        match format:
            case "dot":
                return self.dot.encode()
            case "mermaid":
                return self.mermaid.encode()
            case "markdown":
                return markdown.sides(self.tables).encode()
            case _:
                return render(self.dot, format)


class Timeline(Picture):
    """A picture of one checkpoint. `dot` also raises TableError: if this pair takes none to its end."""

    formats = ("dot", "svg", "png")

    @cached_property
    def dot(self) -> str:
        return timeline.drawn(*self.tables)


def side(table: CompleteTable) -> Picture:
    """A picture of one side's machine: every written row, with its trigger and its effects."""
    return Picture((table,))


def pair(primary: CompleteTable, secondary: CompleteTable) -> Picture:
    """A picture of both machines and of the messages that pass between them.

    Raises TableError for tables of two protocols.
    """
    return Picture(_of_one_protocol(primary, secondary))


def checkpoint(primary: CompleteTable, secondary: CompleteTable) -> Picture:
    """A picture of one checkpoint: messages, when the guests run, when packets are held and let out.

    Raises TableError for tables of two protocols.
    """
    return Timeline(_of_one_protocol(primary, secondary))


def _of_one_protocol(*tables: CompleteTable) -> tuple[CompleteTable, ...]:
    primary, secondary = (table.words for table in tables)
    if primary is not secondary:
        words = f"the Primary's are {primary.name}, the Secondary's {secondary.name}"
        raise TableError("the two tables are no pair", [f"they speak different words: {words}"])
    return tables
