"""The rows of a table as a Markdown table, for the docs."""

from __future__ import annotations

from collections.abc import Iterator

from colo_fsm.fsm import CompleteTable

from .arrows import REST, REST_MEANS, arrows, asked, said, titled


def sides(tables: tuple[CompleteTable, ...]) -> str:
    """Every row that was written, and what the rest comes to; a heading for each side."""
    return "\n".join(line for table in tables for line in _lines(table))


def _lines(table: CompleteTable) -> Iterator[str]:
    yield f"# {titled(table, table.side.title())}\n"
    yield f"First: {asked(table.start) or 'nothing'}. *{REST}*: {REST_MEANS}.\n"
    yield "| in | on | to | do |"
    yield "|---|---|---|---|"
    for arrow in arrows(table):
        on = " or ".join(said(t) for t in arrow.triggers) or f"*{REST}*"
        yield f"| {', '.join(arrow.sources)} | {on} | {arrow.dest} | {asked(arrow.effects)} |"
    yield ""
