"""`colo-fsm member`: one of the two that hold a data set, started the same way whatever has happened."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import click

from colo_fsm.fsm import Transition
from colo_fsm.membership import DATA_SET, Active, AloneCommit, Member, MemberFailed
from colo_fsm.membership import member as make_member
from colo_fsm.replica import Event, Options, Pair, StoreError

from . import options
from .figures import MemberFigures
from .guests import Wanted, guest_options
from .handles import Handles, handles, watched
from .numbers import MILLISECONDS
from .report import Loud, Reporter, loud, loudness, missing_object
from .shown import log_to_stderr, shown
from .signals import ended_by_signals
from .status import exit_codes
from .telling import in_words, telling

EXIT_CODES = exit_codes(
    "ended in order (SIGTERM or ^C): all that was acknowledged is in a store",
    "it cannot go on; the last line says why",
    "a second ^C: ended at once, as by SIGKILL",
)


@click.command(epilog=EXIT_CODES)
@click.option("--name", required=True, help="This member's name; the other one has another.")
@click.option("--listen", required=True, metavar="ADDR", help="Where the other member finds this one.")
@click.option("--peer", required=True, metavar="ADDR", help="Where this one finds the other.")
@click.option(
    "--arbiter",
    required=True,
    metavar="URL",
    help="Who keeps the record: sqlite:PATH (both members on one machine) or etcd://HOST,HOST,HOST/PREFIX.",
)
@click.option(
    "--store",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="This member's own directory: its copy of the data set.",
)
@click.option(
    "--data-set", default=DATA_SET, show_default=True, metavar="NAME", help="Which one at this arbiter."
)
@guest_options
@options.fsync
@options.interval
@options.min_interval
@click.option(
    "--alone-commit",
    type=click.Choice([each.value for each in AloneCommit]),
    default=AloneCommit.DISK.value,
    show_default=True,
    help="What answers wait for while it runs alone: its store, or nothing: if it dies the last are lost.",
)
@click.option(
    "--alone-interval-ms",
    type=MILLISECONDS,
    help="What --interval-ms is in a pair, alone.  [default: as that]",
)
@options.deadline
@options.hook_deadline
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Go on from what this store has although the newest state was elsewhere. For one start, by hand.",
)
@click.option(
    "--replace-store",
    is_flag=True,
    help="Throw away what this store has, if it stands in the way. For one start, by hand.",
)
@handles
@options.as_json
@loudness
def member(
    name: str,
    listen: str,
    peer: str,
    arbiter: str,
    store: Path,
    data_set: str,
    fsync: bool,
    guest: Wanted,
    interval_ms: float,
    min_interval_ms: float,
    alone_commit: str,
    alone_interval_ms: float | None,
    deadline: float,
    hook_deadline: float,
    accept_loss: bool,
    replace_store: bool,
    handles: Handles,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Hold a data set together with another member, whatever happens to either.

    It finds out by the arbiter's record and by its own store whether it runs the guest, takes checkpoints of
    the one that does, or must wait. After a crash, a power cut or an upgrade start the same command again.

    \b
    Example (and the same with b and a exchanged, on another port):
      colo-fsm member --name a --listen tcp:127.0.0.1:9998 --peer tcp:127.0.0.1:9999 \\
          --arbiter sqlite:claim.db --store a --guest sqlite --serve tcp:127.0.0.1:5433
    """
    level = loud(verbose, quiet)
    with telling(missing_object if as_json else in_words) as voices:
        log_to_stderr(logging.DEBUG if verbose else logging.CRITICAL)
        replicated = guest.made()
        between = options.intervals(interval_ms, min_interval_ms)
        times = Options(**between, deadline=deadline, hook_deadline=hook_deadline)
        alone_interval = None if alone_interval_ms is None else alone_interval_ms / 1000
        try:
            made = make_member(
                replicated, name=name, listen=listen, peer=peer, arbiter=arbiter, store=store,
                data_set=data_set, options=times, alone_commit=AloneCommit(alone_commit),
                alone_interval=alone_interval, fsync=fsync, accept_loss=accept_loss,
                replace_store=replace_store,
            )  # fmt: skip
        except ValueError as error:
            raise click.UsageError(shown(error)) from None
        except (StoreError, OSError) as error:
            raise click.ClickException(shown(error)) from None
        try:
            figures = MemberFigures(replicated, made)
            asyncio.run(_run(made, figures, MemberReporter(voices.out, as_json, level), handles))
        except (MemberFailed, StoreError, OSError) as error:
            raise click.ClickException(shown(error)) from None
    sys.exit(0)


async def _run(member: Member, figures: MemberFigures, reporter: MemberReporter, handles: Handles) -> None:
    loop = asyncio.get_running_loop()

    def leave() -> None:
        figures.leaves()
        member.request_leave()

    with ended_by_signals(lambda: loop.call_soon_threadsafe(leave)):
        events = member.events()
        async with watched(figures, member.events, handles, member), member:
            told = asyncio.create_task(_tell(member, events, reporter))
            try:
                await member.wait()
            finally:
                await told


async def _tell(member: Member, events: Any, reporter: MemberReporter) -> None:
    async for event in events:
        reporter.event(member.active, event)


class MemberReporter(Reporter):
    """Says what a member is, and what its pairs do."""

    def event(self, pair: Pair | Active | None, event: Event) -> None:
        """One event: the steps of a pair are told by the way."""
        if not isinstance(event, Transition):
            super().event(pair, event)
            return
        error = None if event.error is None else str(event.error)
        self._say(
            "state", None, Loud.ALL, side=event.side, state=event.dest, before=event.source,
            trigger=event.trigger, error=error,
        )  # fmt: skip
