"""`colo-fsm tap`, `replay` and `trace`: real QEMU pairs watched, and driven."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import click

from colo_fsm.colo import COLO, State
from colo_fsm.qemu.watch.capture import Capture, CaptureError, Recorder
from colo_fsm.qemu.watch.log import read_log
from colo_fsm.qemu.watch.replay import End, How, Outcome, Recorded, Replay, Source, Stored
from colo_fsm.qemu.watch.rounds import Kind, Round, Verdict
from colo_fsm.qemu.watch.tap import CONNECT_TIMEOUT, Tap, review
from colo_fsm.qemu.watch.trace import check
from colo_fsm.replica import Address, Refused

from . import options
from .numbers import SECONDS
from .report import missing_object, turned_away
from .restore import stored
from .shown import shown
from .signals import ended_by_signals
from .status import exit_codes, one_line_errors
from .telling import in_words, telling

_AT = (State.REQUESTED, State.REPLIED, State.SENDING, State.SIZED, State.RECEIVED, State.LOADED)
_OTHER_KIND = "; a QEMU from 11 on needs --return-path, one before it --no-return-path"
_ADDRESS = "tcp:HOST:PORT or unix:PATH"


@click.command(epilog=exit_codes("all in order", "not: the last line says what and where"))
@click.option("--listen", metavar="ADDR", help=f"Where the Primary migrates to: {_ADDRESS}.")
@click.option("--connect", metavar="ADDR", help=f"Where the Secondary's -incoming listens: {_ADDRESS}.")
@click.option(
    "--record", type=click.Path(path_type=Path), metavar="DIR", help="Keep what passes, in a new directory."
)
@click.option(
    "--from", "recorded", type=click.Path(path_type=Path), metavar="DIR", help="Say it of a recording."
)
@options.greeting_deadline
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a round, and a last one with the verdict."
)
def tap(
    listen: str | None,
    connect: str | None,
    record: Path | None,
    recorded: Path | None,
    greeting_deadline: float,
    as_json: bool,
) -> None:
    """Watch two real QEMUs from between them.

    Who begins the stream of a VM is the Primary, and every byte is passed on as it comes; others are
    refused and never reach the Secondary. For each round it says who sent what when (milliseconds since
    the request), the pages, and the bytes of live state and vmstate; and when the link ends, whether both
    kept to the protocol. That ends the tap, too; ^C ends the link.

    \b
    Example:
      colo-fsm tap --listen tcp:0.0.0.0:9998 --connect tcp:standby:9998 --record capture
    """
    with contextlib.ExitStack() as stack:
        if recorded is None:  # else the output is all there is, and waits for its reader
            stack.enter_context(telling(missing_object if as_json else in_words))
        stack.enter_context(one_line_errors())
        on_round = _round_printer(as_json)
        if recorded is not None:
            if listen or connect or record:
                raise click.UsageError("--from DIR takes no --listen, --connect and --record")
            verdict = review(Capture(recorded), on_round)
        elif listen is None or connect is None:
            raise click.UsageError("say --listen ADDR and --connect ADDR, or --from DIR")
        else:
            verdict = _tap(listen, connect, record, greeting_deadline, on_round, as_json)
        _say(as_json, str(verdict), verdict=verdict.kind, ended=verdict.ended, text=verdict.text)
    sys.exit(verdict.kind is not Kind.OK)


def _tap(
    listen: str,
    connect: str,
    record: Path | None,
    greeting_deadline: float,
    on_round: Callable[[Round], None],
    as_json: bool,
) -> Verdict:
    Address.parse(connect)  # before anything is created
    with contextlib.ExitStack() as stack:
        recorder = None if record is None else stack.enter_context(Recorder(record))
        between = stack.enter_context(
            Tap(
                listen, connect, on_round, recorder=recorder,
                greeting_deadline=greeting_deadline, on_refused=_refusal_printer(as_json),
            )
        )  # fmt: skip
        stack.enter_context(ended_by_signals(between.stop))
        _say(as_json, f"listening at {between.address}", listening=str(between.address))
        verdict = between.wait()
        if between.record_error is not None:
            told = f"{verdict}; but the recording broke off: {between.record_error}"
            raise click.ClickException(shown(told))
        return verdict


def _round_printer(as_json: bool) -> Callable[[Round], None]:
    return lambda done: _say(as_json, str(done), **done.as_json())


def _refusal_printer(as_json: bool) -> Callable[[Refused], None]:
    return lambda event: _say(
        as_json, f"{turned_away(event)}; listening goes on", refused=event.why, count=event.count
    )


def _say(as_json: bool, line: str, **fields: object) -> None:
    click.echo(json.dumps(fields) if as_json else shown(line))
    sys.stdout.flush()


class _EndType(click.ParamType[End]):
    name = "END"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> End:
        found = re.fullmatch(r"(stop|break)|illegal:(\d{1,10})", value)
        if found is None or int(found[2] or 0) >= 1 << 32:
            self.fail(f"'{value}': write stop, break, or illegal:N with the number of a message", param, ctx)
        return End(How(found[1] or How.ILLEGAL), message=int(found[2] or 0))


@click.command(epilog=exit_codes("went as asked", "not: the last line says what happened"))
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--connect", required=True, metavar="ADDR", help=f"Where the Secondary's -incoming listens: {_ADDRESS}."
)
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    metavar="N",
    help="Default: those of a recording; 1 for a checkpoint.",
)
@click.option(
    "--end", type=_EndType(), default="stop", show_default=True, metavar="stop|break|illegal:N",
    help="After the rounds: close the link between two; close it inside the next; or send message N in it.",
)  # fmt: skip
@click.option(
    "--at", type=click.Choice([*map(str, _AT)]),
    help="The Primary's state to break in (default: sending), or to send the message in (default: loaded).",
)  # fmt: skip
@click.option(
    "--deadline", type=SECONDS, default=30.0, show_default=True,
    metavar="SECONDS", help="How long the Secondary may be silent when it should answer.",
)  # fmt: skip
@click.option(
    "--return-path/--no-return-path", default=None,
    help="From a checkpoint: to a QEMU from 11 on, or before.  [default: as its Primary was]",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Print every message.")
def replay(
    source: Path, connect: str, rounds: int | None, end: End, at: str | None, deadline: float,
    return_path: bool | None, verbose: bool,
) -> None:  # fmt: skip
    """Play the Primary's part towards a real QEMU Secondary.

    DIR is a recording of `colo-fsm tap`, or what a `colo-fsm standby` has stored: that becomes a hot
    standby again. Past its recorded rounds it makes rounds in which nothing changes. The QEMU must have
    the machine type, memory and devices of the VM in DIR, and the capability x-colo (from 11 on:
    return-path, too).

    \b
    Example:
      colo-fsm replay capture --connect tcp:127.0.0.1:9998 --rounds 3 --end illegal:2 --at replied
    """
    end = _placed(end, at)
    with telling(patience=None), one_line_errors(), contextlib.ExitStack() as stack:
        where = Address.parse(connect)
        played = _source(stack, source, return_path)
        link = where.connect(CONNECT_TIMEOUT)
        wanted = (played.rounds or 1) if rounds is None else rounds
        on_message = _print_message if verbose else lambda sent, message: None
        outcome = Replay(played, link, wanted, end, deadline=deadline, on_message=on_message).run()
        hint = "" if outcome.ready or isinstance(played, Recorded) else _OTHER_KIND
        click.echo(shown(_told(outcome, end) + hint))
    sys.exit(not outcome.ended)


def _placed(end: End, at: str | None) -> End:
    default = State.SENDING if end.how is How.BREAK else State.LOADED
    if at is not None and end.how is How.STOP:
        raise click.UsageError("--at STATE goes with --end break or --end illegal:N")
    return End(end.how, State(at) if at else default, end.message)


def _source(stack: contextlib.ExitStack, path: Path, return_path: bool | None) -> Source:
    if Capture.is_one(path):
        return Recorded(Capture(path))
    if not (path / "colo-store").exists():
        raise CaptureError(f"{path} is neither a recording of colo-fsm tap nor a store of colo-fsm standby")
    return Stored(stack.enter_context(stored(path)), return_path)


def _print_message(sent: bool, message: int) -> None:
    click.echo(f"{'sent' if sent else 'received'} {_text(message)}")


def _text(message: int) -> str:
    known = COLO.by_value.get(message)
    return f"message {message}" if known is None else known.text


def _told(outcome: Outcome, end: End) -> str:
    rounds = f"{outcome.rounds} round{'s' if outcome.rounds != 1 else ''}"
    begun = f"{'ready' if outcome.ready else 'never ready'}, {rounds}"
    if not outcome.ended:
        return f"{begun}; then it failed: {outcome.error or outcome.state}"
    match end.how:
        case How.STOP:
            return f"{begun}, stopped between two rounds"
        case How.BREAK:
            return f"{begun}, closed the link in '{end.at}'"
        case How.ILLEGAL:
            answers = ", ".join(map(_text, outcome.answers)) or "nothing"
            return f"{begun}, sent {_text(end.message)} in '{end.at}'; the Secondary then said {answers}"


@click.command(
    epilog=exit_codes(
        "both kept to the protocol",
        "a deviation: its file and line are printed; or standard output could not be written",
    )
)
@click.argument(
    "logs", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE [FILE]", nargs=-1
)
def trace(logs: tuple[Path, ...]) -> None:
    """Check the logs of one or both QEMUs of a pair against the protocol.

    FILE is what QEMU's -trace 'colo_*' -D FILE leaves, with or without timestamps. It may begin or end
    anywhere. Two files must be of the two sides. Behind a failover it goes on where another replication
    begins; which lines were not looked at is said. Without timestamps (QEMU's -msg timestamp=on) two files
    with one replication each are taken for the two sides of the same one, which is yours to know.

    \b
    Example:
      colo-fsm trace primary.log secondary.log
    """
    if not 1 <= len(logs) <= 2:
        raise click.UsageError("give the log of one side, or of both")
    with one_line_errors():
        report = check([read_log(path) for path in logs])
    for line in report.lines():
        click.echo(shown(line))
    sys.exit(report.deviation is not None)
