"""What a side says while it runs: lines for people, or one JSON object a line.

Every JSON object has `event` and `at`, a time.monotonic_ns() that processes of one machine share.
"""

from __future__ import annotations

import json
import time

import click

from colo_fsm.fsm import Transition
from colo_fsm.replica import (
    CheckpointTaken,
    ClaimAnswered,
    ClaimUnanswered,
    Dropped,
    Event,
    NotServing,
    Pair,
    Serving,
)


class Reporter:
    """Prints the events of one pair."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def started(self, pair: Pair) -> None:
        """A Secondary listens, a Primary runs."""
        if pair.address is not None:
            self._say("listening", f"listening at {pair.address}", address=str(pair.address))

    def event(self, pair: Pair, event: Event) -> None:
        """One event of the pair."""
        match event:
            case Transition():
                self._moved(pair, event)
            case CheckpointTaken(number, pages, sent, pause, total):
                self._say(
                    "checkpoint",
                    f"checkpoint {number}: {pages} pages, {sent} bytes, paused {pause * 1000:.1f} ms",
                    number=number, pages=pages, sent=sent, pause=pause, total=total,
                )  # fmt: skip
            case ClaimAnswered(claim, won):
                self._say(
                    "claim",
                    f"claim {'won' if won else 'lost'} (token {claim.token})",
                    won=won, winner=claim.winner, token=claim.token,
                )  # fmt: skip
            case ClaimUnanswered(cause, retry):
                then = "stopping" if retry is None else f"suspended, asking again in {retry:g} s"
                text = f"the arbiter does not answer: {cause}; {then}"
                self._say("claim-unanswered", text, error=str(cause), retry=retry)
            case Dropped(count):
                self._say("dropped", f"{count} events were not told in time", count=count)
            case Serving(address):
                self._serving(pair, address)
            case NotServing(address, cause, retry):
                text = f"cannot serve at {address}: {cause}; trying again in {retry:g} s"
                self._say("not-serving", text, address=address, error=str(cause), retry=retry)

    def _moved(self, pair: Pair, moved: Transition) -> None:
        """Every change as JSON; for people only what they would ask about."""
        error = None if moved.error is None else str(moved.error)
        text = None
        table = pair.session.table
        if moved.source is table.initial and moved.dest in table.idle:
            text = f"{moved.side}: ready, generation {pair.generation}"
        elif moved.dest in {table.failover, *table.alone, *table.final}:
            text = f"{moved.side}: {moved.dest}" + (f" ({error})" if error else "")
        self._say(
            "state", text, side=moved.side, state=moved.dest, before=moved.source,
            trigger=moved.trigger, error=error, generation=pair.generation,
        )  # fmt: skip

    def _serving(self, pair: Pair, address: str) -> None:
        """The checkpoint is the one that this side goes on from."""
        self._say(
            "serving", f"serving at {address}",
            address=address, side=pair.side, token=pair.token, checkpoint=pair.checkpoint,
        )  # fmt: skip

    def over(self, pair: Pair) -> None:
        """The last line."""
        error = None if pair.session.error is None else str(pair.session.error)
        self._say("over", None, side=pair.side, state=pair.state, error=error)

    def _say(self, event: str, text: str | None, **fields: object) -> None:
        if self._as_json:
            text = json.dumps({"event": event, "at": time.monotonic_ns(), **fields})
        if text is not None:
            click.echo(text)
