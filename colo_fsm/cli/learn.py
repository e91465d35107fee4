"""`colo-fsm learn`: which machine is a side that is only seen from outside, and is it the declared one?"""

from __future__ import annotations

import json
import logging
import sys
from itertools import zip_longest
from pathlib import Path

import click

from colo_fsm.colo import Mode, Profile
from colo_fsm.conform import learn as learner
from colo_fsm.conform.asked import Exchange
from colo_fsm.conform.learn import Learned, NoLearner, counted
from colo_fsm.conform.link import CannotTest
from colo_fsm.conform.picture import picture
from colo_fsm.conform.plan import TIMEOUT, PlanError, plan
from colo_fsm.conform.talk import Pace
from colo_fsm.conform.teacher import NotDeterministic
from colo_fsm.draw import DrawError
from colo_fsm.fsm import Side

from .numbers import SECONDS
from .shown import lines, log_to_stderr, shown
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
@click.argument("target")
@click.option("--side", type=click.Choice([*map(str, Side)]), help="Which side the target is.")
@click.option("--primary", metavar="MODULE:TABLE", help="A Table of yours for the Primary.")
@click.option("--secondary", metavar="MODULE:TABLE", help="A Table of yours for the Secondary.")
@click.option("--profile", type=click.Choice([*map(str, Profile)]), default="qemu", show_default=True)
@click.option("--mode", type=click.Choice([*map(str, Mode)]), default="periodic", show_default=True)
@click.option("--listen", is_flag=True, help="The target connects to us, as a Primary always does.")
@click.option("--ready", metavar="TEXT", help="What a command says when it can be connected to.")
@click.option(
    "--extra",
    type=click.IntRange(0, MOST_EXTRA),
    default=0,
    show_default=True,
    help="How many states more than its table the target may have.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    default=TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="How long an answer may take.",
)
@click.option(
    "--draw",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Draw both machines, by FILE's ending: {', '.join(ENDINGS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def learn(
    target: str,
    side: str | None,
    primary: str | None,
    secondary: str | None,
    profile: str,
    mode: str,
    listen: bool,
    ready: str | None,
    extra: int,
    timeout: float,
    draw: Path | None,
    as_json: bool,
) -> None:
    """Learn by questions which machine TARGET is, and compare it with its table.

    TARGET is started afresh, or connected to anew, for each question. If it differs, the shortest exchange
    that shows it is printed.

    \b
    TARGET: self, tcp:HOST:PORT, unix:PATH, cmd:COMMAND (with {address} in it), qemu[:BINARY]

    \b
    Example:
      colo-fsm learn qemu --side secondary --draw learned.svg
      colo-fsm learn 'cmd:./my-standby --listen {address}' --side secondary --extra 2
      colo-fsm learn unix:link --primary mymodule:PRIMARY
    """
    if draw is not None and draw.suffix not in ENDINGS:
        raise click.BadParameter(f"'{draw}': end it in {', '.join(ENDINGS)}", param_hint="--draw")
    log_to_stderr(logging.CRITICAL)  # sessions of our own warn of what is given to them
    try:
        chosen = plan(
            side, primary=primary, secondary=secondary, profile=profile, mode=mode,
            timeout=timeout, listen=listen, ready=ready,
        )  # fmt: skip
        with chosen.target(target) as tested:
            learned = learner.learn(tested, Pace(timeout), extra, say=_say)
    except PlanError as error:
        raise click.UsageError(str(error)) from None
    except NotDeterministic as found:
        _show_undetermined(target, found, as_json)
        raise SystemExit(1) from None
    except (CannotTest, NoLearner) as error:
        click.echo(f"Error: {shown(error)}", err=True)
        raise SystemExit(UNTESTED) from None
    click.echo(json.dumps(_as_json(learned)) if as_json else lines(_text(learned)))
    if draw is not None:
        _draw(learned, draw)
    if not learned.equal:
        raise SystemExit(1)


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


def _text(learned: Learned) -> str:
    told = [f"{learned.target}: {learned}"]
    if learned.difference is not None:
        exchange = learned.difference
        told += _beside(("given", "its table says", "seen"), exchange.expected, exchange.seen)
    parts = [counted(learned.resets, "start"), counted(learned.inputs, "input"), f"{learned.seconds:.1f} s"]
    if learned.machine is not None:
        states = counted(len(learned.machine.live), "state")
        parts.insert(0, f"{states} {'learned' if learned.finished else 'so far, and there are more'}")
    if learned.late:
        parts.append(f"asked again for {counted(learned.late, 'answer')} that came late")
    return "\n".join([*told, ", ".join(parts)])


def _beside(titles: Row, one: Exchange, other: Exchange) -> list[str]:
    """Two exchanges on the same inputs, in columns; they may differ in the last row only."""
    rows = [titles]
    for mine, theirs in zip_longest(one.lines, other.lines, fillvalue=("", "")):
        rows.append((mine[0] or theirs[0] or "at first", mine[1], theirs[1]))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"  {row[0]:{first}}  {row[1]:{second}}  {row[2]}".rstrip() for row in rows]


def _show_undetermined(target: str, found: NotDeterministic, as_json: bool) -> None:
    if as_json:
        exchanges = [_exchange_as_json(each) for each in (found.one, found.other)]
        click.echo(json.dumps({"target": target, "verdict": "not deterministic", "exchanges": exchanges}))
        return
    told = _beside(("given", "answered once", "and once"), found.one, found.other)
    click.echo(lines("\n".join([f"{target}: does not answer the same inputs alike", *told])))


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
