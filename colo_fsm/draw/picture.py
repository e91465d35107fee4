"""Pictures of tables and of plain rows, of any protocol, in every format that they can be had in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from functools import cached_property

import attrs

from colo_fsm.fsm import CompleteTable, TableError

from . import answers, dot, markdown, mermaid, rows, timeline
from .renderer import render

FORMATS = {"dot": "dot", "mermaid": "mmd", "markdown": "md", "svg": "svg", "png": "png"}
"""What a picture can be had as, and how the name of such a file ends."""


class Picture(ABC):
    """A picture in several formats; text is made when it is asked for."""

    formats = tuple(FORMATS)
    """Those of FORMATS that there are of it."""

    @cached_property
    @abstractmethod
    def dot(self) -> str:
        """The picture as DOT. Raises DrawError without the `graphviz` package."""

    @cached_property
    def mermaid(self) -> str:
        """The picture as Mermaid; needs no library. Raises ValueError where there is none."""
        raise self._none("mermaid")

    @cached_property
    def markdown(self) -> str:
        """What it shows as Markdown tables; needs no library. Raises ValueError where there are none."""
        raise self._none("markdown")

    def _none(self, format: str) -> ValueError:
        return ValueError(f"no {format} of this picture: choose one of {', '.join(self.formats)}")

    def to(self, format: str) -> bytes:
        """The picture in one of its formats, text as UTF-8. Raises what `dot` and `render()` do."""
        if format not in self.formats:
            raise self._none(format)
        match format:
            case "dot":
                return self.dot.encode()
            case "mermaid":
                return self.mermaid.encode()
            case "markdown":
                return self.markdown.encode()
            case _:
                return render(self.dot, format)


@attrs.frozen(eq=False, slots=False)
class Tables(Picture):
    """A picture of one table, or of the Primary's and the Secondary's together."""

    tables: tuple[CompleteTable, ...]

    @cached_property
    def dot(self) -> str:
        return dot.pair(*self.tables) if len(self.tables) == 2 else dot.side(*self.tables)

    @cached_property
    def mermaid(self) -> str:
        return mermaid.pair(*self.tables) if len(self.tables) == 2 else mermaid.side(*self.tables)

    @cached_property
    def markdown(self) -> str:
        return markdown.sides(self.tables)


class Timeline(Tables):
    """A picture of one checkpoint. `dot` also raises TableError: if this pair takes none to its end."""

    formats = ("dot", "svg", "png")

    @cached_property
    def dot(self) -> str:
        return timeline.drawn(*self.tables)


@attrs.frozen(eq=False, slots=False)
class Machine(Picture):
    """A picture of a machine that is no side of a pair."""

    rows: rows.Rows

    @cached_property
    def dot(self) -> str:
        return rows.dot(self.rows)

    @cached_property
    def mermaid(self) -> str:
        return rows.mermaid(self.rows)

    @cached_property
    def markdown(self) -> str:
        return rows.markdown(self.rows)


@attrs.frozen(eq=False, slots=False)
class Beside(Picture):
    """A picture of machines of inputs and answers."""

    formats = ("dot", "svg", "png")

    machines: tuple[answers.Answers, ...]
    caption: str

    @cached_property
    def dot(self) -> str:
        return answers.dot(self.machines, self.caption)


def side(table: CompleteTable) -> Picture:
    """A picture of one side's machine: every written row, with its trigger and its effects."""
    return Tables((table,))


def pair(primary: CompleteTable, secondary: CompleteTable) -> Picture:
    """A picture of both machines and of the messages that pass between them.

    Raises TableError for tables of two protocols.
    """
    return Tables(_of_one_protocol(primary, secondary))


def checkpoint(primary: CompleteTable, secondary: CompleteTable) -> Picture:
    """A picture of one checkpoint: messages, when the guests run, when packets are held and let out.

    Raises TableError for tables of two protocols.
    """
    return Timeline(_of_one_protocol(primary, secondary))


def machine(title: str, drawn: Sequence[rows.Row], initial: str, runs: Collection[str]) -> Picture:
    """A picture of plain rows (source, trigger, dest) that begin in `initial`. `runs`: where a guest runs."""
    return Machine(rows.Rows(title, drawn, initial, runs))


def beside(machines: Sequence[answers.Answers], caption: str) -> Picture:
    """A picture of machines of inputs and answers, the first one on the left. `caption` stands below."""
    return Beside(tuple(machines), caption)


def _of_one_protocol(*tables: CompleteTable) -> tuple[CompleteTable, ...]:
    primary, secondary = (table.words for table in tables)
    if primary is not secondary:
        words = f"the Primary's are {primary.name}, the Secondary's {secondary.name}"
        raise TableError("the two tables are no pair", [f"they speak different words: {words}"])
    return tables
