"""`colo-fsm conformance`: is this implementation the machine that its table declares?"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from colo_fsm.conform import plan as plans
from colo_fsm.conform import report
from colo_fsm.conform.case import Case
from colo_fsm.conform.expected import Expected, read
from colo_fsm.conform.junit import junit
from colo_fsm.conform.link import CannotTest, Target, moment
from colo_fsm.conform.plan import SUITES, Plan
from colo_fsm.conform.play import play_all
from colo_fsm.conform.run import Judged, Run
from colo_fsm.conform.talk import Pace

from .output import INTERRUPTED
from .plans import given, plan_options, usage
from .shown import log_to_stderr, shown
from .signals import ended_by_signals
from .status import UNTESTED, exit_codes

EXIT_CODES = exit_codes(
    "every case passes, or fails as is expected",
    "one fails, is inconclusive, or passes unexpectedly; or output could not be written",
    untested="a target cannot be reached or started: nothing can be said of it",
)
STDOUT = Path("-")
HEAD = 40
"""Characters of a target's name that stand before a bar."""
FILE = click.Path(dir_okay=False, path_type=Path, allow_dash=True)


class Suites(click.ParamType[tuple[str, ...]]):
    """Names of suites, with commas between them."""

    name = "suites"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(map(str.strip, str(value).split(",")))


@attrs.frozen
class Conduct:
    """How every target's cases are played, and who is told of the progress."""

    plan: Plan
    cases: tuple[Case, ...]
    jobs: int | None
    expected: Expected
    shipped: bool
    whole: bool

    def run(self, text: str, opened: AbstractContextManager[Target]) -> Run:
        """Play all cases against this target."""
        began, name, broken = moment(), text, None
        judged: list[Judged] = []
        expected = self.expected
        stop = threading.Event()
        try:
            with ended_by_signals(stop.set), opened as target:
                name = target.name
                expected += self.plan.known(target) if self.shipped else Expected()
                jobs = self.jobs or self.plan.jobs(text)
                with _progress(name, len(self.cases)) as tell:
                    for result in play_all(self.cases, target, Pace(self.plan.timeout), jobs, stop):
                        judged.append(expected.judged(result))
                        tell(judged)
        except CannotTest as error:
            broken = str(error)
        if stop.is_set():
            raise click.exceptions.Exit(INTERRUPTED)
        gone = tuple(expected.gone(judged)) if self.whole and broken is None else ()
        return Run(text, name, moment() - began, tuple(judged), gone, broken)


@click.command(epilog=EXIT_CODES)
@click.argument("targets", metavar="TARGET...", nargs=-1)
@plan_options
@click.option(
    "--suite", "suites", type=Suites(), default=(), metavar="SUITE,...",
    help=f"Some of {', '.join(SUITES)}. Default: must; wp for a protocol that is not COLO.",
)  # fmt: skip
@click.option("--list", "lists", is_flag=True, help="Name the cases and what each asks for, and end.")
@click.option(
    "--only", multiple=True, metavar="ID",
    help="Only this case, of any suite; or all that begin so, when it ends in *. Repeatable.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N",
    help="Cases at a time. Default: the number of cores for cmd: and qemu, else 1.",
)  # fmt: skip
@click.option(
    "--expect", "expect", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True,
    metavar="FILE", help="Expected failures, beside those that ship for a QEMU. Repeatable.",
)  # fmt: skip
@click.option("--no-expect", is_flag=True, help="Without the expected failures that ship.")
@click.option(
    "--json", "json_file", type=FILE, metavar="FILE", help="Write one JSON object; - instead of text."
)
@click.option("--junit", "junit_file", type=FILE, metavar="FILE", help="Write a JUnit file.")
@click.pass_context
def conformance(
    context: click.Context,
    targets: tuple[str, ...],
    plan: Plan,
    suites: tuple[str, ...],
    lists: bool,
    only: tuple[str, ...],
    jobs: int | None,
    expect: tuple[Path, ...],
    no_expect: bool,
    json_file: Path | None,
    junit_file: Path | None,
) -> None:
    """Test one side of a pair, of whatever make, against the machine that its table declares.

    Every case has a side of its own: TARGET is started anew, or connected to anew. What fails is told with
    the exchange, the table's row, and the command that plays it alone. Several TARGETs end in one table.

    \b
    TARGET:
      qemu[:BINARY]               a real QEMU
      cmd:COMMAND                 started for each case; {address} in it becomes unix:PATH where it has
                                  to listen, or to connect to; {port} a port of 127.0.0.1 instead;
                                  {folder} a folder of its own
      tcp:HOST:PORT, unix:PATH    a side that runs, and takes one link after the other
      self                        the sessions of this package

    \b
    Example:
      colo-fsm conformance qemu --side secondary
      colo-fsm conformance 'cmd:./standby --listen {address}' --side secondary --suite must,wp
      colo-fsm conformance tcp:127.0.0.1:9998 --secondary mymodule:SECONDARY
      git bisect run colo-fsm conformance qemu:build/qemu-system-x86_64 --side primary
    """
    log_to_stderr(
        logging.CRITICAL
    )  # sessions of our own log what they are given, and it is meant to be wrong
    with usage():
        cases = plan.cases(suites, only)
        opened = [(text, plan.target(text)) for text in targets]
        expected = sum(map(read, expect), Expected())
    if lists:
        _list(cases, json_file)
        return
    if not targets:
        raise click.UsageError("say what to test: TARGET, say qemu; or --list")
    for file in (json_file, junit_file):
        if file is not None and not file.parent.is_dir():
            raise click.UsageError(f"{file}: there is no folder {file.parent}")
    conduct = Conduct(plan, cases, jobs, expected, not no_expect, whole=not only)

    def alone(run: Run, id: str) -> str:
        return plans.alone(run.text, id, given(context))

    runs = [conduct.run(text, target) for text, target in opened]
    _write(junit_file, junit(runs, alone) + b"\n")
    _write(json_file, json.dumps(report.as_json(runs), indent=2).encode() + b"\n")
    if STDOUT not in (json_file, junit_file):
        _tell(runs, alone)
    sys.exit(_status(runs))


def _status(runs: Sequence[Run]) -> int:
    if any(run.failed for run in runs):
        return 1
    return UNTESTED if any(run.broken for run in runs) else 0


def _list(cases: Sequence[Case], json_file: Path | None) -> None:
    if json_file != STDOUT:
        click.echo("\n".join(report.listed(cases)))
    _write(json_file, json.dumps([*map(report.case_as_json, cases)], indent=2).encode() + b"\n")


def _write(file: Path | None, data: bytes) -> None:
    if file is None:
        return
    if file == STDOUT:
        click.echo(data, nl=False)
        return
    try:
        file.write_bytes(data)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None


def _tell(runs: Sequence[Run], alone: Callable[[Run, str], str]) -> None:
    for run in runs:
        _tell_of(run, alone)
    if len(runs) > 1:
        click.echo("\n" + "\n".join(map(shown, report.matrix(runs))))


def _tell_of(run: Run, alone: Callable[[Run, str], str]) -> None:
    """What came of a target: the first case of each kind that fails in full, all of them in a line."""
    if run.broken is not None and not run.judged:
        click.echo(f"Error: {shown(run.broken)}", err=True)
        return
    told = set[tuple[str, ...]]()
    for judged in run.judged:
        if not judged.outcome.ok and report.kind(judged) not in told:
            told.add(report.kind(judged))
            for number, line in enumerate(report.details(judged, alone(run, judged.result.case.id))):
                click.secho(shown(line), fg=None if number else "red", bold=not number)
            click.echo()
    *lines, last = report.summary(run)
    for line in lines:
        click.secho(shown(line), fg="red" if line[:1].isupper() else None)
    click.secho(shown(last), fg="red" if run.failed or run.broken else "green", bold=True)


@contextlib.contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[Sequence[Judged]], None]]:
    """A bar, where a person looks on."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda judged: None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("[red]{task.fields[failed]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        head = shown(name)
        task = bar.add_task(head if len(head) <= HEAD else f"...{head[-HEAD:]}", total=total, failed="")

        def tell(judged: Sequence[Judged]) -> None:
            failed = sum(not each.outcome.ok for each in judged)
            bar.update(task, completed=len(judged), failed=f"{failed} failed" if failed else "")

        yield tell
