"""The one table that `make bench` prints: a figure, its floor or peer in the same run, and the target.

A part is a module here with `rows(quick)`, which yields a `Row` as soon as it is measured; `quick` asks for
the smallest sample that shows that it runs. What a row has to meet stands in `TARGETS`, under its `work`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol

import attrs


@attrs.frozen
class Row:
    """One figure. Where there is a peer, it is in the same unit and of the same run.

    `curve` and `at` place it in a picture: the name of the curve, and where on its x axis.
    """

    work: str
    figure: float
    unit: str
    peer: str = ""
    theirs: float | None = None
    curve: str = ""
    at: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times the peer's figure this one is."""
        return self.figure / self.theirs if self.theirs else None

    @property
    def target(self) -> Target | None:
        return TARGETS.get(self.work)

    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or nothing where no target is set."""
        return "" if self.target is None else "met" if self.target.met(self) else "MISSED"

    @property
    def cells(self) -> tuple[str, ...]:
        """As in `HEAD`."""
        peer = f"{self.peer}: {number(self.theirs)}" if self.theirs is not None else ""
        ratio = f"{times(self.ratio)} x" if self.ratio is not None else ""
        return (self.work, f"{number(self.figure)} {self.unit}", peer, ratio, self.wanted, self.verdict)

    @property
    def wanted(self) -> str:
        return "" if self.target is None else str(self.target)


HEAD = ("work", "figure", "floor or peer", "ratio", "target", "")


@attrs.frozen
class Target:
    """A bound: on the ratio where the unit is `x`, else on the figure in this unit."""

    bound: Literal["at least", "at most"]
    limit: float
    unit: str = "x"

    def __str__(self) -> str:
        limit = times(self.limit) if self.unit == "x" else number(self.limit)
        return f"{self.bound} {limit} {self.unit}"

    def met(self, row: Row) -> bool:
        """Raises ValueError for a row that has no such figure."""
        value = row.ratio if self.unit == "x" else row.figure
        if value is None or self.unit not in ("x", row.unit):
            raise ValueError(f"{row.work!r} has no figure in {self.unit!r}, of which its target speaks")
        return value >= self.limit if self.bound == "at least" else value <= self.limit


def at_least(limit: float, unit: str = "x") -> Target:
    return Target("at least", limit, unit)


def at_most(limit: float, unit: str = "x") -> Target:
    return Target("at most", limit, unit)


TARGETS: dict[str, Target] = {
    "a trigger": at_most(1 / 20),
    "a session over its machine": at_most(300, "bytes"),
    "explorer, 2 disturbances": at_least(100_000, "states/s"),
    "order book, 1 client": at_least(1),
    "order book, 10 clients": at_least(1),
    "order book, 100 clients": at_least(1),
    "order book, 1 client, p50": at_most(1),
    "order book, 10 clients, p50": at_most(1),
    "order book, 100 clients, p50": at_most(1),
    "order book, 1 client, p50 in round trips": at_most(8),
    "round of one page, blocking, quick hooks": at_most(1.5),
    "round of one page, asyncio, quick hooks": at_most(1.5),
    "pause, 1 GiB Guest, 10 dirty pages, p50": at_most(3, "ms"),
    "pause, 1 GiB Guest, 10 dirty pages, p99": at_most(10, "ms"),
    "pause, 1 GiB Guest beside one of 16 MiB": at_most(1.2),
    "memory of the Primary, 1 GiB Guest": at_most(1.15, "images"),
    "memory of the Secondary, 1 GiB Guest": at_most(1.15, "images"),
    **{
        f"event loop held in a first copy, {side}, store in {where}": at_most(5, "ms")
        for side in ("Primary", "Secondary")
        for where in ("memory", "a directory")
    },
    "SQLite, a row a commit, round at 1 GiB": at_most(3, "ms"),
    "SQLite, a row a commit, round at 1 GiB beside 1 MiB": at_most(1.5),
    "SQLite, 10 clients, beside no replication": at_least(0.5),
    "first copy of a VM, 1 GiB, tmpfs": at_most(1.3),
    "first copy of a VM, 5 GiB, tmpfs": at_most(1.3),
    "first copy of a VM, 1 GiB, disk": at_most(1.2),
    "first copy of a VM, 1 GiB, empty": at_most(1.3),
    "first copy of a VM, 5 GiB, disk": at_most(1.2),
    "round of 262,144 zero pages": at_most(0.3 * 0.262144, "s"),
    "round of 262,144 zero pages, what the store grows by": at_most(64, "KiB"),
    "standby, idle VM": at_least(450, "rounds/s"),
    "standby, guest pause at 20 ms, p50": at_most(1),
    "standby, guest pause at 20 ms, p99": at_most(1),
    "SIGKILL of a 1 GiB VM to its guest running": at_most(1.5, "s"),
    "decoding 1 GiB of RAM": at_least(2, "GB/s"),
    "decoding 1 GiB of RAM, memory over the image": at_most(64, "MiB"),
    "1,000 pairs in one process, a round": at_most(1.3),
    "1,000 pairs in one process, threads": at_most(1, "a side"),
}


class Part(Protocol):
    """A module of this package."""

    __doc__: str | None

    def rows(self, quick: bool) -> Iterator[Row]:
        """Its rows as they are measured."""


def title(part: Part) -> str:
    """What it is about: the first line of its docstring."""
    return (part.__doc__ or "").partition("\n")[0].rstrip(".")


def number(value: float | None) -> str:
    """Three digits that count, and no exponent."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"


def times(ratio: float) -> str:
    """The same, a small ratio as a fraction."""
    return number(ratio) if ratio >= 0.2 or not ratio else f"1/{number(1 / ratio)}"


WIDTHS = (52, 18, 46, 9, 20, 6)


def line(cells: tuple[str, ...]) -> str:
    """Cells under each other; a long one takes its place from those behind it."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def as_json(row: Row) -> dict[str, Any]:
    """The row without what it does not have."""
    return {k: v for k, v in attrs.asdict(row).items() if v not in ("", None)}
