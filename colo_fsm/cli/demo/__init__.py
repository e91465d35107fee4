"""`colo-fsm demo`: the main job, end to end, between two processes."""

from __future__ import annotations

import asyncio
import json
import random
import sys

import attrs
import click
from rich.console import Console

from colo_fsm.colo import ReleaseOn
from colo_fsm.fsm import Side
from colo_fsm.services.sqlite_server import CAPACITY

from ..numbers import MILLISECONDS, Number
from ..status import exit_codes
from ..telling import telling
from . import show
from .rejoin import Rejoined, RejoinRun, run_rejoin
from .run import Plan, Run, run_demo
from .verdict import Verdict
from .worker import WorkerFailed

EXIT_CODES = exit_codes(
    "proved: nothing lost, no split brain, exactly one side active, integrity ok",
    "not proved; the last lines say what failed",
)


@click.command(epilog=EXIT_CODES)
@click.option(
    "--kill",
    type=click.Choice(["primary", "secondary", "link", "none"]),
    default="primary",
    show_default=True,
    help="What to break: a process by SIGKILL; the link by a close or a silence.",
)
@click.option(
    "--seconds",
    type=Number(min=2, max=3600),
    default=10.0,
    show_default=True,
    help="How long the clients work; longer where that is too short to prove anything.",
)
@click.option(
    "--release-on",
    type=click.Choice([r.value for r in ReleaseOn if r.by is Side.PRIMARY]),
    default=ReleaseOn.LOADED.value,
    show_default=True,
    help="The message that lets replies out.",
)
@click.option(
    "--interval-ms",
    type=MILLISECONDS,
    default=20.0,
    show_default=True,
    help="From the end of a checkpoint to the next one.",
)
@click.option(
    "--clients",
    type=click.IntRange(min=1, max=100),
    default=4,
    show_default=True,
    help="How many clients work at once.",
)
@click.option(
    "--rate",
    type=Number(min=10, max=1e6),
    default=200.0,
    show_default=True,
    help="Rows a second that all clients together write at most.",
)
@click.option(
    "--rejoin",
    is_flag=True,
    help="Kill and restart two members in turn: each survivor takes the other one in again.",
)
@click.option(
    "--capacity",
    type=click.IntRange(min=1),
    default=CAPACITY,
    show_default="16 MiB",
    metavar="BYTES",
    help="What the database may grow to.",
)
@click.option(
    "--arbiter", default="", metavar="URL", help="Who answers claims.  [default: a file of its own]"
)
@click.option("--seed", type=int, help="Repeat a run's random choices.  [default: a new one]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def demo(
    kill: str,
    seconds: float,
    release_on: str,
    interval_ms: float,
    clients: int,
    rate: float,
    rejoin: bool,
    capacity: int,
    arbiter: str,
    seed: int | None,
    as_json: bool,
) -> None:
    """Replicate a database between two processes, break one thing, and check every reply.

    Clients write and read rows over TCP and count as acknowledged only what was answered. Then what
    --kill names is broken, often in the middle of a checkpoint; the survivor claims and goes on; at
    the end its database is compared with all that was acknowledged and read.

    \b
    Example:
      colo-fsm demo --kill link --seed 7
    """
    seed = random.randrange(10_000) if seed is None else seed
    plan = Plan(kill, seconds, release_on, interval_ms, clients, rate, seed, capacity, arbiter)
    with telling(patience=None):
        console = Console()

        async def watch(run: Run | RejoinRun) -> None:
            if not as_json:
                await (show.on_terminal if console.is_terminal else show.as_lines)(run, console)

        async def go() -> Verdict | Rejoined:
            return await (run_rejoin(plan, watch) if rejoin else run_demo(plan, watch))

        try:
            verdict = asyncio.run(go())
        except (WorkerFailed, OSError) as error:
            raise click.ClickException(str(error)) from None
        if as_json:
            click.echo(json.dumps(attrs.asdict(verdict) | {"problems": verdict.problems}))
        else:
            show.summary(verdict, console)
            again = "--rejoin" if rejoin else f"--kill {kill}"
            again += f" --arbiter {arbiter}" if arbiter else ""
            click.echo(f"Again: colo-fsm demo {again} --seed {seed}")
    sys.exit(0 if verdict.ok else 1)
