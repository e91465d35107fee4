"""`colo-fsm primary` and `colo-fsm secondary`: one side of a pair as a process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from colo_fsm.colo import ReleaseOn, ResumeOn
from colo_fsm.fsm import ProtocolError, Session, Side, begin
from colo_fsm.replica import (
    AsyncGuest,
    DirectoryStore,
    Guest,
    MemoryStore,
    NotRunning,
    Options,
    Pair,
    StoreError,
)
from colo_fsm.replica import primary as primary_pair
from colo_fsm.replica import secondary as secondary_pair

from . import options
from .figures import Figures
from .guests import Wanted, guest_options
from .handles import Handles, handles, watched
from .judge import arbiter_option, fence_option, judge
from .load import table_named
from .report import Reporter, loud, loudness, missing_object, why
from .shown import log_to_stderr, shown
from .signals import ended_by_signals
from .status import exit_codes
from .telling import in_words, telling

EXIT_CODES = exit_codes(
    "ended in order (SIGTERM or ^C before the first checkpoint, between two, or while alone)",
    "stopped: the claim was lost, or what went wrong stands in the last line",
    "a second ^C: ended at once, as by SIGKILL",
)

Command = Callable[..., Any]


def common(command: Command) -> Command:
    """The options that both sides have."""
    for option in reversed(
        (
            guest_options,
            arbiter_option,
            click.option(
                "--no-arbiter",
                is_flag=True,
                help="Every claim is won: after a cut link BOTH sides run, unless something else fences.",
            ),
            fence_option,
            click.option(
                "--release-on",
                type=click.Choice([r.value for r in ReleaseOn if r.by is Side.PRIMARY]),
                default=ReleaseOn.LOADED.value,
                show_default=True,
                help="The message that lets packets out. Same on both sides.",
            ),
            options.deadline,
            options.hook_deadline,
            click.option(
                "--table",
                metavar="MODULE:TABLE",
                help="This side of another protocol than COLO. The peer needs its other side.",
            ),
            handles,
            options.as_json,
            loudness,
        )
    ):
        command = option(command)
    return command


@click.command(epilog=EXIT_CODES)
@click.option("--connect", required=True, metavar="ADDR", help="The Secondary: tcp:HOST:PORT or unix:PATH.")
@options.interval
@options.min_interval
@click.option(
    "--resume-on",
    type=click.Choice([r.value for r in ResumeOn]),
    default=ResumeOn.SAVED.value,
    show_default=True,
    help="From when on the guest runs on in a checkpoint; what it says is held back all the same.",
)
@common
def primary(
    connect: str, interval_ms: float, min_interval_ms: float, resume_on: str, **common_options: Any
) -> None:
    """Run a guest and replicate it to the Secondary at ADDR.

    \b
    Example:
      colo-fsm primary --connect tcp:127.0.0.1:9998 --arbiter sqlite:claim.db \\
          --guest sqlite --serve tcp:127.0.0.1:5433
    """
    times = options.intervals(interval_ms, min_interval_ms)
    run(functools.partial(primary_pair, peer=connect), resume_on=resume_on, **times, **common_options)


@click.command(epilog=EXIT_CODES)
@click.option(
    "--listen", required=True, metavar="ADDR", help="Where the Primary connects: tcp:HOST:PORT or unix:PATH."
)
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the newest checkpoint in this directory, safe from SIGKILL. Default: in memory.",
)
@options.fsync
@click.option(
    "--replace-store", is_flag=True, help="Let the Primary's state replace what this store has already."
)
@options.greeting_deadline
@common
def secondary(
    listen: str, store: Path | None, fsync: bool, replace_store: bool, **common_options: Any
) -> None:
    """Take a Primary's checkpoints, and go on in its place when it is gone.

    \b
    Example:
      colo-fsm secondary --listen tcp:127.0.0.1:9998 --arbiter sqlite:claim.db \\
          --guest sqlite --serve tcp:127.0.0.1:5434 --store standby
    """
    if fsync and store is None:
        raise click.UsageError("--fsync needs --store DIR")
    try:
        where = MemoryStore() if store is None else DirectoryStore(store, fsync=fsync)
    except (StoreError, OSError) as error:
        raise click.ClickException(str(error)) from None
    with where:
        make = functools.partial(secondary_pair, listen=listen, store=where, replace_store=replace_store)
        run(make, **common_options)


def run(
    make: Callable[..., Pair],
    *,
    guest: Wanted,
    arbiter: str | None,
    no_arbiter: bool,
    fence: str | None,
    release_on: str,
    deadline: float,
    hook_deadline: float,
    table: str | None,
    handles: Handles,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    resume_on: str = ResumeOn.SAVED,
    interval: float = 0.1,
    min_interval: float = 0.0,
    greeting_deadline: float = 5.0,
) -> None:
    """Make this side and run it to its end; exits with the documented status."""
    decides = judge(arbiter, no_arbiter, fence, hook_deadline)
    level = loud(verbose, quiet)
    with telling(missing_object if as_json else in_words) as voices:
        log_to_stderr(logging.DEBUG if verbose else logging.CRITICAL)
        choices = Options(
            ReleaseOn(release_on), ResumeOn(resume_on), interval=interval, min_interval=min_interval,
            deadline=deadline, hook_deadline=hook_deadline, greeting_deadline=greeting_deadline,
        )  # fmt: skip
        made = guest.made()
        chosen = {} if table is None else {"table": table_named(table, "--table")}
        try:
            pair = make(made, arbiter=decides, options=choices, **chosen)
        except (ValueError, OSError) as error:
            raise click.UsageError(shown(error)) from None
        except StoreError as error:
            raise click.ClickException(shown(error)) from None
        try:
            in_order = asyncio.run(_run(pair, made, Reporter(voices.out, as_json, level), handles))
        except (ProtocolError, NotRunning, OSError) as error:
            raise click.ClickException(shown(why(error) or error)) from None
    sys.exit(0 if in_order else 1)


def ended_in_order(session: Session) -> bool:
    """Whether it is where leaving leads, unless a claim was still open."""
    table = session.table
    return any(
        row.trigger is begin.leave and row.dest is session.state and row.source is not table.failover
        for row in table.written
    )


async def _run(pair: Pair, guest: Guest | AsyncGuest, reporter: Reporter, handles: Handles) -> bool:
    """From start to end; whether that is in order."""
    told = asyncio.create_task(_tell(pair, reporter))
    begun = await _begun(pair, reporter, guest, handles)
    await told
    reporter.over(pair)
    return ended_in_order(pair.session) or not begun


async def _begun(pair: Pair, reporter: Reporter, guest: Guest | AsyncGuest, handles: Handles) -> bool:
    """Serve until the end; False when somebody has asked for that before the pair was ready.

    Then whatever it waits for, the peer or the name of its host, is not waited for.
    """
    loop, task, entered = asyncio.get_running_loop(), asyncio.current_task(), False
    asked, figures = False, Figures(guest, pair)
    assert task is not None

    def leave() -> None:
        nonlocal asked
        asked = True
        figures.leaves()
        pair.request_leave()
        if not entered:
            task.cancel()

    with ended_by_signals(lambda: loop.call_soon_threadsafe(leave)):
        try:
            async with watched(figures, pair.events, handles), pair:
                entered = True
                reporter.started(pair)
                figures.started()
                service = asyncio.create_task(_serve(pair, guest))
                await pair.wait()
                service.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await service
        except (asyncio.CancelledError, NotRunning):
            if entered or not asked:
                raise
            task.uncancel()
            return False
    return True


async def _tell(pair: Pair, reporter: Reporter) -> None:
    async for event in pair.events():
        reporter.event(pair, event)


async def _serve(pair: Pair, guest: Any) -> None:
    """Run the guest's own service beside the pair; without it there is nothing to run."""
    if hasattr(guest, "serve"):
        try:
            await guest.serve(pair)
        except Exception:
            pair.request_leave()
            raise
