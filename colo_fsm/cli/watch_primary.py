"""`colo-fsm watch-primary`: a real QEMU Primary that has lost its standby runs on, or surely does not."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from colo_fsm.qemu.free.machine import On, S
from colo_fsm.qemu.free.monitor import connected
from colo_fsm.qemu.free.watch import Happened, PrimaryWatch
from colo_fsm.replica import Address

from .judge import arbiter_option, judge
from .numbers import SECONDS
from .report import missing_object
from .shown import shown
from .signals import ended_by_signals
from .status import exit_codes, one_line_errors
from .telling import Voices, in_words, telling

HOOK_DEADLINE = 60.0
"""Seconds that the arbiter may take."""

EXIT_CODES = f"""
{
    exit_codes(
        "the claim was won, and the VM runs alone; or ended by SIGTERM or ^C, and the VM is as it was",
        "the claim was lost and the VM stays stopped, or its QEMU has gone: the last line says which",
        "a second ^C: ended at once",
    )
}
"""

SAID = {
    S.WAITING: "waiting: the VM is not replicated yet",
    S.WATCHING: "watching: the VM is replicated",
    S.CLAIMING: "its guest is stopped, claiming",
    S.FREEING: "claim won (token {token}), setting the VM going",
    S.ALONE: "alone: the VM runs; before it is replicated again, open a new generation",
    S.STOPPED: "stopped: claim lost, the VM must not run here again",
    S.ENDED: "ended: the VM is as it was",
}


@click.command("watch-primary", epilog=EXIT_CODES)
@click.option(
    "--qmp", required=True, metavar="ADDR",
    help="A QMP of the Primary's QEMU that nobody else uses: tcp:HOST:PORT or unix:PATH.",
)  # fmt: skip
@arbiter_option
@click.option(
    "--generation", type=click.IntRange(min=0), help="What is claimed: what the standby says at its start."
)
@click.option("--no-arbiter", is_flag=True, help="The claim is won without asking: two sides may run then.")
@click.option(
    "--gate-object", "gates", multiple=True, metavar="ID",
    help="A filter that holds the guest's packets: it is deleted when the VM runs alone. Once for each.",
)  # fmt: skip
@click.option(
    "--deadline", type=SECONDS, default=10.0, show_default=True, metavar="SECONDS",
    help="How long the guest may stand still in a round, and a round be overdue: longer is taken for a loss.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for all that happens.")
def watch_primary(
    qmp: str, arbiter: str | None, generation: int | None, no_arbiter: bool, gates: tuple[str, ...],
    deadline: float, as_json: bool,
) -> None:  # fmt: skip
    """Set a QEMU Primary going that its standby has left standing still. Runs on the Primary's machine.

    The standby is lost when QEMU says COLO_EXIT, or a guest stands still in a round, or no round begins,
    for --deadline. Then the guest is stopped, and the generation claimed; won, it runs again, outside COLO.

    \b
    Example:
      qemu-system-x86_64 <the machine> -qmp unix:vm1.watch,server=on,wait=off
      colo-fsm watch-primary --qmp unix:vm1.watch --arbiter exec:/etc/colo/claim-vm1 --generation 7
    """
    decides = judge(arbiter, no_arbiter, None, HOOK_DEADLINE)
    if generation is None and not no_arbiter:
        raise click.UsageError("say what is claimed, --generation N: the standby's")
    with telling(missing_object if as_json else in_words) as voices, one_line_errors():
        address = Address.parse(qmp)

        def tell(happened: Happened) -> None:
            say(voices, as_json, happened)

        async def watch() -> Happened:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            with ended_by_signals(lambda: loop.call_soon_threadsafe(task.cancel)):
                async with connected(address) as monitor:
                    tell(Happened(S.WAITING))
                    return await PrimaryWatch(monitor, decides, generation or 0, tell, deadline, gates).run()

        try:
            last = asyncio.run(watch())
        except asyncio.CancelledError:  # before anything was watched
            last = Happened(S.ENDED, On.LEAVE)
            tell(last)
    sys.exit(0 if last.state is S.ALONE or last.on is On.LEAVE else 1)


def say(voices: Voices, as_json: bool, happened: Happened) -> None:
    """One thing that has happened."""
    if as_json:
        fields = {"state": happened.state, "on": happened.on, "why": happened.why, "token": happened.token}
        voices.out.line(json.dumps(fields))
        return
    if happened.on is On.UNANSWERED:
        text = "no answer, asking again"
    else:
        text = SAID[happened.state].format(token=happened.token)
    voices.out.line(shown(f"{text}: {happened.why}" if happened.why else text))
