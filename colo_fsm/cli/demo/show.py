"""The demo for people: live progress, and a summary that a newcomer understands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..shown import as_markup
from .rejoin import Rejoined, RejoinRun
from .rejoin import summary as summary_of
from .run import Run
from .verdict import Verdict

WIDTHS = {"checkpoints": 4, "acknowledged": 5, "pause": 7}
COLOURS = {
    "primary": "bold green",
    "secondary": "green",
    "alone": "bold green",
    "killed": "bold red",
    "stopped": "yellow",
    "failover": "yellow",
}


def _figures(run: Run | RejoinRun) -> dict[str, str]:
    rows, seconds = run.clients.ledger.acknowledged, time.monotonic() - run.started
    common = {
        "time": f"{seconds:4.1f} s",
        "phase": run.phase,
    }
    if isinstance(run, RejoinRun):
        members = {f"member {w.name}": "killed" if w.killed else w.state or "-" for w in run.workers.values()}
        return common | members | {"acknowledged": str(rows), "rows/s": f"{rows / seconds:.0f}"}
    return common | _of_pair(run, rows, seconds)


def _of_pair(run: Run, rows: int, seconds: float) -> dict[str, str]:
    primary, secondary = run.primary, run.secondary
    last = primary.last_checkpoint if primary else {}
    return {
        "primary": primary.final_state if primary else "-",
        "secondary": secondary.final_state if secondary else "-",
        "checkpoints": str(primary.checkpoints if primary else 0),
        "acknowledged": str(rows),
        "rows/s": f"{rows / seconds:.0f}",
        "dirty pages": str(last.get("pages", "-")),
        "pause": f"{last['pause'] * 1000:.1f} ms" if last else "-",
    }


def _table(run: Run | RejoinRun) -> Table:
    table = Table(title="colo-fsm demo", title_justify="left", show_header=False, min_width=44)
    for name, value in _figures(run).items():
        table.add_row(name, Text(value, style=COLOURS.get(value, "cyan" if name == "phase" else "")))
    return table


async def on_terminal(run: Run | RejoinRun, console: Console) -> None:
    """A table that follows the run, until cancelled."""
    with Live(_table(run), console=console, auto_refresh=False) as live:
        try:
            while True:
                await asyncio.sleep(0.1)
                live.update(_table(run), refresh=True)
        finally:
            live.update(_table(run), refresh=True)


async def as_lines(run: Run | RejoinRun, console: Console) -> None:
    """A line a second, until cancelled."""
    while True:
        await asyncio.sleep(1.0)
        f = _figures(run)
        left = {
            name: value for name, value in f.items() if name not in ("time", "phase", "rows/s", "dirty pages")
        }
        words = "  ".join(f"{name} {value:>{WIDTHS.get(name, 9)}}" for name, value in left.items())
        console.print(f"{f['time']}  {f['phase']:<19} {words}", highlight=False, soft_wrap=True)
        console.file.flush()


BROKEN = {
    "primary": "The Primary's process was killed (SIGKILL)",
    "secondary": "The Secondary's process was killed (SIGKILL)",
    "link": "The link between the sides was cut; both processes lived on",
}


def summary(verdict: Verdict | Rejoined, console: Console) -> None:
    """What happened, and what it proves."""
    if isinstance(verdict, Rejoined):
        for line in summary_of(verdict):
            console.print(line, highlight=False, soft_wrap=True)
        return
    for line in (*_happened(verdict), "", *_checked(verdict), "", *_judged(verdict)):
        console.print(line, highlight=False, soft_wrap=True)


def _happened(v: Verdict) -> Iterator[str]:
    yield "\n[bold]What happened[/]"
    yield f"  The Primary served a database; its state went to the Secondary in {v.checkpoints} checkpoints."
    if v.by_itself:
        yield f"  The pair broke by itself, so nothing was broken on purpose ({as_markup(v.by_itself)})."
    elif v.kill in BROKEN:
        yield f"  {BROKEN[v.kill]}."
    else:
        yield "  Nothing was broken; both sides were asked to end, the Secondary first."
    if v.survivor:
        yield f"  The {v.survivor.capitalize()} claimed generation {v.generation} and went on alone" + (
            f",\n  {v.failover_ms:.0f} ms from the break to its first acknowledged write."
            if v.failover_ms is not None
            else "."
        )
    yield f"  At the end: Primary {v.primary_state}, Secondary {v.secondary_state}."


def _checked(v: Verdict) -> Iterator[str]:
    yield "[bold]What was checked[/]"
    yield f"  {v.acknowledged} acknowledged rows: {v.lost} lost, changed or there twice"
    yield f"  {v.reads} rows read by clients: {v.reads_lost} gone"
    yield f"  {v.active_sides} side answers" if v.active_sides == 1 else f"  {v.active_sides} sides answer"
    split = "YES" if v.split_brain else "none"
    yield f"  split brain: {split}    database integrity: {as_markup(v.integrity)}"


def _judged(v: Verdict) -> Iterator[str]:
    if v.ok:
        yield "[bold green]PROVED[/] nothing acknowledged was lost, and never did two sides run."
    for problem in v.problems:
        yield f"[bold red]FAILED[/] {as_markup(problem)}"
