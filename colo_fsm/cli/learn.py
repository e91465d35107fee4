"""`colo-fsm learn`: which machine is a side that is only seen from outside, and is it the declared one?"""

from __future__ import annotations

import json
import logging
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import attrs
import click

from colo_fsm.conform import learn as learner
from colo_fsm.conform.asked import Exchange
from colo_fsm.conform.blackbox import blackbox
from colo_fsm.conform.learn import Learned, NoLearner, counted
from colo_fsm.conform.link import CannotTest, Link, Target
from colo_fsm.conform.picture import picture
from colo_fsm.conform.plan import Plan
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.teacher import NotDeterministic
from colo_fsm.conform.voice import Voice
from colo_fsm.draw import DrawError
from colo_fsm.fsm import CompleteTable

from .output import INTERRUPTED
from .plans import plan_options, usage
from .shown import log_to_stderr, shown
from .signals import ended_by_signals
from .status import UNTESTED, exit_codes

ENDINGS = (".svg", ".png", ".dot")
MOST_EXTRA = 20
Row = tuple[str, str, str]


@click.command(
    epilog=exit_codes(
        "it answers like its table",
        "it does not, or not always alike, or the picture could not be written",
        untested="it cannot be tested: the last line says why",
    ),
)
@click.argument("target", metavar="TARGET")
@plan_options
@click.option(
    "--extra", type=click.IntRange(0, MOST_EXTRA), default=0, show_default=True, metavar="N",
    help="How many states more than its table TARGET may have, to be known all the same.",
)  # fmt: skip
@click.option(
    "--draw", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help=f"Draw both machines, as FILE ends: {', '.join(ENDINGS)}.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def learn(target: str, plan: Plan, extra: int, file: Path | None, as_json: bool) -> None:
    """Find out by questions which machine TARGET is, and compare it with its table.

    TARGET, as `colo-fsm conformance --help` has it, is started or connected to anew for each question. If it
    differs from its table, the shortest exchange that shows it is printed.

    \b
    Example:
      colo-fsm learn qemu --side primary --draw primary.svg
      colo-fsm learn 'cmd:./standby --listen {address}' --side secondary --extra 5
      colo-fsm learn unix:link --secondary mymodule:SECONDARY
    """
    log_to_stderr(
        logging.CRITICAL
    )  # sessions of our own log what they are given, and it is meant to be wrong
    if file is not None and (file.suffix not in ENDINGS or not file.parent.is_dir()):
        raise click.UsageError(
            f"'{file}': name a FILE in a folder that is there, which ends in {' or '.join(ENDINGS)}"
        )
    with usage():
        opened = plan.target(target)
    try:
        blackbox(plan.table)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        learned = _learned(opened, plan, extra)
    except NotDeterministic as found:
        _show_undetermined(target, found, as_json)
        raise SystemExit(1) from None
    except (CannotTest, NoLearner) as error:
        click.echo(f"Error: {shown(error)}", err=True)
        raise SystemExit(UNTESTED) from None
    if as_json:
        click.echo(json.dumps(_as_json(learned)))
    else:
        _tell(learned)
    if file is not None:
        _draw(learned, file)
    if not learned.equal:
        raise SystemExit(1)


def _learned(opened: AbstractContextManager[Target], plan: Plan, extra: int) -> Learned:
    stop = threading.Event()
    with ended_by_signals(stop.set), opened as target:
        return learner.learn(_Stopping(target, stop), Pace(plan.timeout), extra, say=_say)


@attrs.frozen
class _Stopping:
    """A target of which no more sides are started once it is to stop."""

    of: Target
    stop: threading.Event

    @property
    def name(self) -> str:
        return self.of.name

    @property
    def table(self) -> CompleteTable:
        return self.of.table

    def fresh(self) -> AbstractContextManager[tuple[Link, Voice]]:
        """See `Target`."""
        if self.stop.is_set():
            raise click.exceptions.Exit(INTERRUPTED)
        return self.of.fresh()


def _say(text: str) -> None:
    """What happens on the way, where somebody looks on."""
    if sys.stderr.isatty():
        click.echo(shown(text), err=True)


def _draw(learned: Learned, file: Path) -> None:
    try:
        file.write_bytes(picture(learned).to(file.suffix.removeprefix(".")))
    except (DrawError, OSError, ValueError) as error:
        raise click.ClickException(f"no picture: {error}") from None


# -- for people


def _tell(learned: Learned) -> None:
    color = "green" if learned.equal else "red"
    click.secho(shown(f"{learned.target}: {learned}"), fg=color, bold=True)
    if learned.difference is not None:
        exchange = learned.difference
        _tell_beside(("given", "its table says", "seen"), exchange.expected, exchange.seen)
    parts = [counted(learned.resets, "start"), counted(learned.inputs, "input"), f"{learned.seconds:.1f} s"]
    if learned.machine is not None:
        states = counted(len(learned.machine.live), "state")
        parts.insert(0, f"{states} {'learned' if learned.finished else 'so far, and there are more'}")
    if learned.late:
        parts.append(f"asked again for {counted(learned.late, 'answer')} that came late")
    click.echo(", ".join(parts))


def _tell_beside(titles: Row, one: Exchange, other: Exchange) -> None:
    """Two exchanges on the same inputs, in columns, as far as they are alike, and the first that is not."""
    rows = [titles]
    for mine, theirs in zip(one.lines, other.lines, strict=False):
        rows.append((mine[0] or "at first", mine[1], theirs[1]))
        if mine != theirs:
            break
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for row in rows:
        click.echo(shown(f"  {row[0]:{first}}  {row[1]:{second}}  {row[2]}".rstrip()))


def _show_undetermined(target: str, found: NotDeterministic, as_json: bool) -> None:
    if as_json:
        exchanges = [_exchange_as_json(each) for each in (found.one, found.other)]
        click.echo(json.dumps({"target": target, "verdict": "not deterministic", "exchanges": exchanges}))
        return
    click.secho(
        shown(f"{target}: is not deterministic, it does not answer these inputs alike"), fg="red", bold=True
    )
    _tell_beside(("given", "answered once", "and once"), found.one, found.other)


# -- for machines


def _as_json(learned: Learned) -> dict[str, object]:
    verdict = "equal" if learned.equal else "different" if learned.difference is not None else "not known"
    difference = learned.difference
    return {
        "target": learned.target,
        "verdict": verdict,
        "bound": learned.bound,
        "finished": learned.finished,
        "starts": learned.resets,
        "inputs": learned.inputs,
        "seconds": round(learned.seconds, 3),
        "late": learned.late,
        "expected": None if difference is None else _exchange_as_json(difference.expected),
        "seen": None if difference is None else _exchange_as_json(difference.seen),
        "machine": _machine_as_json(learned),
    }


def _exchange_as_json(exchange: Exchange) -> list[dict[str, str]]:
    return [{"given": given, "answer": answer} for given, answer in exchange.lines]


def _machine_as_json(learned: Learned) -> dict[str, object] | None:
    if (machine := learned.machine) is None:
        return None
    return {
        "initial": str(machine.initial),
        "first": str(machine.first),
        "steps": [
            {"state": str(state), "given": str(given), "answer": str(answer), "next": str(dest)}
            for (state, given), (dest, answer) in machine.steps.items()
        ],
    }
