"""What a side says while it runs: lines for people, or one JSON object a line (docs/output.md)."""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Callable
from typing import Any

import click

from colo_fsm.arbiter import NotFenced
from colo_fsm.fsm import Transition
from colo_fsm.fsm.errors import link_ended
from colo_fsm.membership import Active
from colo_fsm.replica import (
    CheckpointTaken,
    ClaimAnswered,
    ClaimUnanswered,
    Dropped,
    Event,
    MemberMoved,
    NotServing,
    Pair,
    Refused,
    Serving,
)

from .telling import Voice


class Loud(enum.IntEnum):
    """What is said: what must be known; every change; every checkpoint, too."""

    QUIET = 0
    CHANGES = 1
    ALL = 2


def loudness(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options `-v` and `--quiet`."""
    command = click.option("-q", "--quiet", is_flag=True, help="Say only what must be known.")(command)
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help="Say every checkpoint; log every message and every change of state.",
    )(command)


def loud(verbose: bool, quiet: bool) -> Loud:
    """What these options ask for. Raises click.UsageError."""
    if verbose and quiet:
        raise click.UsageError("--verbose or --quiet, not both")
    return Loud.ALL if verbose else Loud.QUIET if quiet else Loud.CHANGES


def why(error: Exception | None) -> str | None:
    """What went wrong, for people: that a peer has gone is what it is, and no fault of input or output."""
    if link_ended(error):
        return "the link ended"
    return None if error is None else str(error)


def unanswered(event: ClaimUnanswered) -> str:
    """That nobody has answered a claim, or that the peer is not fenced, for people."""
    if isinstance(event.cause, NotFenced):
        return f"{event.cause}; suspended, fencing again in {event.retry:g} s"
    return f"the arbiter does not answer: {event.cause}; suspended, asking again in {event.retry:g} s"


def turned_away(event: Refused) -> str:
    """That somebody was not let in, for people."""
    who = "a connection" if event.count == 1 else f"{event.count} connections, the last of them"
    return f"refused {who}: {event.why}"


def missing_object(count: int) -> str:
    """What stands where objects are missing, because nobody read them in time."""
    return json.dumps({"event": "dropped", "at": time.monotonic_ns(), "count": count})


class Reporter:
    """Says the events of one pair."""

    def __init__(self, voice: Voice, as_json: bool, loud: Loud) -> None:
        self._voice = voice
        self._as_json = as_json
        self._loud = loud

    def started(self, pair: Pair) -> None:
        """A Secondary listens, a Primary runs."""
        if pair.address is not None:
            text = f"listening at {pair.address}"
            self._say("listening", text, Loud.CHANGES, address=str(pair.address))

    def event(self, pair: Pair | Active | None, event: Event) -> None:
        """One event of the pair, or of a member that runs."""
        match event:
            case Transition():
                assert isinstance(pair, Pair)
                self._moved(pair, event)
            case CheckpointTaken(number, pages, sent, pause, total):
                text = f"checkpoint {number}: {pages} pages, {sent} bytes, paused {pause * 1000:.1f} ms"
                self._say(
                    "checkpoint", text, Loud.ALL,
                    number=number, pages=pages, sent=sent, pause=pause, total=total,
                )  # fmt: skip
            case ClaimAnswered(claim, won):
                text = f"claim {'won' if won else 'lost'} (token {claim.token})"
                self._say("claim", text, won=won, winner=claim.winner, token=claim.token)
            case ClaimUnanswered(cause, retry):
                self._say("claim-unanswered", unanswered(event), error=str(cause), retry=retry)
            case Refused(why, count):
                self._say("refused", f"{turned_away(event)}; listening goes on", why=why, count=count)
            case Dropped(count):
                self._say("dropped", f"{count} events were not told in time", count=count)
            case Serving(address):
                assert pair is not None
                self._serving(pair, address)
            case MemberMoved(name, state, why, protected):
                self._say(
                    "member", f"{name}: {state}" + (f" ({why})" if why else ""), Loud.QUIET if why else
                    Loud.CHANGES, name=name, state=state, why=why, protected=protected,
                )  # fmt: skip
            case NotServing(address, cause, retry):
                text = f"cannot serve at {address}: {cause}; trying again in {retry:g} s"
                self._say("not-serving", text, address=address, error=str(cause), retry=retry)

    def _moved(self, pair: Pair, moved: Transition) -> None:
        """A change is one that people would ask about; the others are steps of a checkpoint."""
        table = pair.session.table
        text, level = None, Loud.ALL
        if moved.source is table.initial and moved.dest in table.idle:
            text, level = f"{moved.side}: ready, generation {pair.generation}", Loud.CHANGES
        elif moved.dest in {table.failover, *table.alone, *table.final}:
            behind = moved.dest is table.failover  # what broke the pair may have let a load be finished first
            cause = why(moved.error or (pair.session.error if behind else None))
            text, level = f"{moved.side}: {moved.dest}" + (f" ({cause})" if cause else ""), Loud.QUIET
        error = None if moved.error is None else str(moved.error)
        self._say(
            "state", text, level, side=moved.side, state=moved.dest, before=moved.source,
            trigger=moved.trigger, error=error, generation=pair.generation,
        )  # fmt: skip

    def _serving(self, pair: Pair | Active, address: str) -> None:
        """The checkpoint is the one that this side goes on from."""
        self._say(
            "serving", f"serving at {address}", Loud.CHANGES,
            address=address, side=pair.side, token=pair.token, checkpoint=pair.checkpoint,
        )  # fmt: skip

    def over(self, pair: Pair) -> None:
        """The last line."""
        error = None if pair.session.error is None else str(pair.session.error)
        self._say("over", None, side=pair.side, state=pair.state, error=error)

    def _say(self, event: str, text: str | None, level: Loud = Loud.QUIET, **fields: object) -> None:
        """Say it if it is asked for: machines get every event unless they want quiet."""
        if self._as_json:
            if level > Loud.QUIET and self._loud is Loud.QUIET:
                return
            text = json.dumps({"event": event, "at": time.monotonic_ns(), **fields})
        elif level > self._loud:
            return
        if text is not None:
            self._voice.line(text, by_the_way=level is Loud.ALL)
