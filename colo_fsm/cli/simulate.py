"""`colo-fsm simulate`: the production code under seeded random faults, on virtual time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import attrs
import click

from colo_fsm.check.model.law import Law
from colo_fsm.check.simulate import (
    SAFE_KINDS,
    Bench,
    Kind,
    Outcome,
    Report,
    Schedule,
    Tables,
    run_many,
    shortest,
)
from colo_fsm.fsm import Side, TableError

from .load import table_named
from .numbers import Number
from .status import exit_codes

KINDS = ", ".join(Kind)


class Kinds(click.ParamType[tuple[Kind, ...]]):
    """Kinds of faults, with commas between them."""

    name = "kinds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Kind, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(Kind(word.strip()) for word in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}': name some of {KINDS}", param, ctx)


@click.command(
    epilog=exit_codes(
        "all holds",
        "something failed: its shortest schedule is printed, and kept in a file;\n"
        "       or standard output could not be written",
    )
)
@click.option("--seeds", type=click.IntRange(1), help="Run N schedules.  [default: 500]")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option(
    "--faults", "kinds", type=Kinds(), default=SAFE_KINDS, metavar="KINDS",
    help="Only these kinds, with commas between them; see below.  [default: all that a pair survives]",
)  # fmt: skip
@click.option("--minutes", type=Number(0, 1e6, min_open=True), help="As many as that long allows.")
@click.option(
    "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="the number of cores",
    help="Processes.",
)  # fmt: skip
@click.option(
    "--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Run the schedule in FILE."
)
@click.option("--primary", "primary_spec", metavar="MODULE:TABLE", help="A Table of yours for the Primary.")
@click.option(
    "--secondary", "secondary_spec", metavar="MODULE:TABLE", help="A Table of yours for the Secondary."
)
@click.option("--matrix", is_flag=True, help="Print what has struck in which states, and with which others.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def simulate(
    seeds: int | None,
    first: int,
    kinds: tuple[Kind, ...],
    minutes: float | None,
    jobs: int,
    replay: Path | None,
    primary_spec: str | None,
    secondary_spec: str | None,
    matrix: bool,
    as_json: bool,
) -> None:
    """Run both sides, their disks, link, arbiter and clients in simulated time, and break them.

    Every seed is a schedule of faults, which runs alike every time. Judged: nothing answered is lost, one
    side at most goes on, and clients' reads and writes are linearizable.

    \b
    KINDS: crash, power-failure, closed, silent, delay, partial-write, slow-disk,
    failing-disk, restart, arbiter-loss, failover-request, timeout, guest-failure,
    slow-hook, refused, failing-accept, cancelled;
    and, when asked for: corrupt, reorder, duplicate, inject.

    \b
    Example:
      colo-fsm simulate --seeds 2000
      colo-fsm simulate --faults crash,silent --minutes 5
      colo-fsm simulate --replay simulate-failed.json
    """
    tables = _tables(primary_spec, secondary_spec)
    if replay is not None:
        _replay(replay, tables, as_json)
        return
    if seeds is None and minutes is None:
        seeds = 500
    seconds = None if minutes is None else minutes * 60
    result = run_many(first, kinds, tables, seeds=seeds, seconds=seconds, jobs=jobs)
    failed = [shortest(outcome, tables) for outcome in result.failures[:1]]
    coverage, report = result.coverage, Report(tables)
    if as_json:
        click.echo(json.dumps(report.as_json(coverage) | {"failed": list(map(_as_json, failed))}))
    else:
        click.echo(str(coverage))
    if matrix and not as_json:
        click.echo(f"\n{report.matrices(coverage)}")
    for outcome in failed:
        _show_failed(outcome, as_json)
    if failed:
        raise SystemExit(1)


def _tables(primary: str | None, secondary: str | None) -> Tables:
    """The tables that were named. Raises click.BadParameter."""
    if primary is None and secondary is None:
        return Tables()
    specs = {Side.PRIMARY: primary, Side.SECONDARY: secondary}
    try:
        tables = Tables(
            **{side: table_named(spec, f"--{side}", side) for side, spec in specs.items() if spec}
        )
        Law(tables.complete(Side.PRIMARY), tables.complete(Side.SECONDARY))
    except (TableError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--primary, --secondary") from None
    return tables


def _replay(path: Path, tables: Tables, as_json: bool) -> None:
    try:
        schedule = Schedule.from_json(path.read_text())
    except (ValueError, OSError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--replay") from None
    with Bench(tables) as bench:
        outcome = bench.run(schedule, trace=True)
    if as_json:
        click.echo(json.dumps(_as_json(outcome)))
    else:
        _show(outcome)
    if not outcome.ok:
        raise SystemExit(1)


def _show_failed(outcome: Outcome, as_json: bool) -> None:
    """The short schedule, and a file to replay it from."""
    path = Path("simulate-failed.json")
    path.write_text(outcome.schedule.to_json() + "\n")
    if not as_json:
        click.echo()
        _show(outcome)
    click.echo(f"replay it: colo-fsm simulate --replay {path}", err=True)


def _show(outcome: Outcome) -> None:
    click.echo(f"schedule\n{_indented(str(outcome.schedule))}")
    click.echo(f"steps (seconds, what happened)\n{_indented(chr(10).join(outcome.trace))}")
    for problem in outcome.problems:
        click.echo(f"FAILED  {problem}")
    for problem in outcome.documented:
        click.echo(f"documented for such faults  {problem}")
    click.echo(f"{'all holds' if outcome.ok else 'it does not hold'}; trace {outcome.digest}")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "schedule": json.loads(outcome.schedule.to_json()),
        "problems": [attrs.asdict(problem) for problem in outcome.problems],
        "documented": [attrs.asdict(problem) for problem in outcome.documented],
        "checkpoints": outcome.counts["checkpoints"],
        "seconds": outcome.counts["milliseconds"] / 1000,
        "digest": outcome.digest,
        "trace": outcome.trace,
    }
