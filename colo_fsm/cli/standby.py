"""`colo-fsm standby`: hold a real QEMU VM, and say or do something when its Primary is gone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from colo_fsm.arbiter import Arbiter
from colo_fsm.colo import State
from colo_fsm.fsm import Fault, ProtocolError, Transition
from colo_fsm.qemu import Held, Outcome, Standby, StandbyReplica, VmRound
from colo_fsm.replica import (
    Address,
    ClaimAnswered,
    ClaimUnanswered,
    DirectoryStore,
    Event,
    Options,
    Refused,
)
from colo_fsm.replica.address import address_of

from . import options
from .gate import Gate, gate_options
from .handles import Handles, handles, watched_beside
from .held import StandbyFigures
from .judge import arbiter_option, fence_option, judge
from .numbers import SECONDS
from .report import Loud, loud, loudness, missing_object, turned_away, unanswered, why
from .shown import log_to_stderr
from .signals import ended_by_signals
from .status import exit_codes, one_line_errors
from .telling import Voices, in_words, telling

MOMENT = 0.5
"""Seconds that a reader has to show that it reads, before COMMAND is told to speak to it."""

EXIT_CODES = f"""
{
    exit_codes(
        "ended in order (SIGTERM), or took over: the claim was won and COMMAND succeeded",
        "the claim was lost, COMMAND failed, or what went wrong stands in the last line",
        "a second ^C, or one while COMMAND runs: ended at once",
    )
}

\b
A won claim does not stop a Primary that still lives: its link may only be cut. Let --fence power it off, or
make its QEMU quit, before --on-failover starts the VM from DIR. See docs/standby.md.
"""


@click.command(epilog=EXIT_CODES)
@click.option(
    "--listen", required=True, metavar="ADDR", help="Where QEMU migrates to: tcp:HOST:PORT or unix:PATH."
)
@click.option(
    "--store",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the newest checkpoint is kept; safe from SIGKILL at any moment.",
)
@click.option("--fsync", is_flag=True, help="Safe from power loss, too.")
@click.option(
    "--replace-store", is_flag=True, help="Let a VM that begins replace the checkpoint that DIR has already."
)
@arbiter_option
@click.option(
    "--generation", type=click.IntRange(min=0), help="What is claimed.  [default: a new one is opened]"
)
@click.option(
    "--no-arbiter", is_flag=True, help="The claim is won without asking. Fencing is then all there is."
)
@fence_option
@click.option(
    "--on-failover",
    metavar="COMMAND",
    help="Run by the shell when the claim is won for a VM that had a round, with COLO_FSM_GENERATION, "
    "COLO_FSM_TOKEN, COLO_FSM_STORE, COLO_FSM_REASON (docs/standby.md). Must fence, where --fence does not.",
)
@click.option(
    "--disks-elsewhere",
    is_flag=True,
    help="Take VMs with disks: something else keeps these at the checkpoint.",
)
@click.option(
    "--size-limit",
    type=click.IntRange(min=1),
    default=1 << 30,
    metavar="BYTES",
    help="The largest device state taken.  [default: 1 GiB]",
)
@click.option(
    "--memory-limit",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="The most RAM taken.  [default: what the disk of DIR and this machine can hold]",
)
@click.option(
    "--after-initial",
    is_flag=True,
    help="Claim for a VM that was lost before its first round, too: it goes on from where it was copied.",
)
@gate_options
@options.greeting_deadline
@click.option(
    "--deadline",
    type=SECONDS,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the link may stand still inside a checkpoint; ten times that in the first copy.",
)
@handles
@click.option("--json", "as_json", is_flag=True, help="One JSON object a round, and a last one.")
@loudness
def standby(
    listen: str,
    store: Path,
    fsync: bool,
    replace_store: bool,
    arbiter: str | None,
    generation: int | None,
    no_arbiter: bool,
    fence: str | None,
    on_failover: str | None,
    disks_elsewhere: bool,
    size_limit: int,
    memory_limit: int | None,
    after_initial: bool,
    gate: Gate,
    greeting_deadline: float,
    deadline: float,
    handles: Handles,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Be the COLO Secondary of a real QEMU, without a second VM: keep its newest checkpoint in DIR.

    \b
    Example:
      colo-fsm standby --listen tcp:0.0.0.0:9998 --store vm1 --arbiter exec:/etc/claim-vm1 \\
          --fence /etc/power-off-host1 \\
          --on-failover 'colo-fsm restore vm1 -o vm1.mig && start-vm1 vm1.mig'
    """
    options = Options(deadline=deadline, state_limit=size_limit, greeting_deadline=greeting_deadline)
    decides, address = judge_and_address(arbiter, no_arbiter, fence, options, listen)
    level = loud(verbose, quiet)
    with telling(missing_object if as_json else in_words) as voices:
        log_to_stderr(logging.DEBUG if verbose else logging.CRITICAL)
        teller = Teller(voices, as_json, level)
        with (
            one_line_errors(), DirectoryStore(store, fsync=fsync) as kept, address.listen() as listener,
            gate.listening(teller.line) as packets,
        ):  # fmt: skip
            if not replace_store:
                refuse_what_is_kept(store, kept)
            number = decides.open() if generation is None else generation
            decides.check(number)
            make = partial(
                StandbyReplica, guest=Held(), arbiter=decides, options=options, store=kept,
                generation=number, disks_elsewhere=disks_elsewhere, memory_limit=memory_limit,
                after_initial=after_initial, gate=packets,
            )  # fmt: skip

            def happened(event: Event) -> None:
                figures.event(event)
                teller.event(event)

            def end() -> None:
                figures.leaves()
                holder.end()

            holder = Standby(listener, make, happened, packets)
            figures = StandbyFigures(holder)
            with ended_by_signals(end), watched_beside(figures, handles):
                teller.line(f"listening at {address_of(listener)}, generation {number}", Loud.CHANGES)
                figures.started()
                outcome = holder.run()
        if outcome.state is not State.ALONE:
            gate.open(teller.line)
        teller.over(outcome)
        if outcome.state is State.ALONE and on_failover is not None:
            facts = {
                "generation": number, "token": outcome.token, "store": store.absolute(),
                "reason": reason(outcome.error), "error": outcome.error, "rounds": teller.rounds,
            }  # fmt: skip
            take_over(on_failover, voices, facts)
    sys.exit(0 if outcome.state in (State.ALONE, State.ENDED) else 1)


def judge_and_address(
    arbiter: str | None, no_arbiter: bool, fence: str | None, options: Options, listen: str
) -> tuple[Arbiter, Address]:
    """Who answers the claim, and where to listen. Raises click.UsageError."""
    decides = judge(arbiter, no_arbiter, fence, options.hook_deadline)
    try:
        address = Address.parse(listen)
        if decides.local_only and not address.on_this_machine:
            raise ValueError(f"{address} is open to other machines, and an SQLite claim serves one only")
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None
    return decides, address


def refuse_what_is_kept(folder: Path, store: DirectoryStore) -> None:
    """A VM that begins knows nothing of the one that is held here. Raises click.ClickException."""
    if (newest := store.newest) is not None:
        raise click.ClickException(
            f"{folder} holds round {newest.number} of a VM, which the first round of a VM that begins would "
            f"replace: bring it back with `colo-fsm restore {folder} -o FILE`, name another directory, or "
            "throw it away with --replace-store"
        )


def take_over(command: str, voices: Voices, facts: Mapping[str, object]) -> None:
    """Run what the user wants done after a claim that was won. Raises click.ClickException.

    What it says goes where ours goes, unless nobody takes that: then to nobody, for it must not stand still.
    """
    environment = {f"COLO_FSM_{name.upper()}": str(value) for name, value in facts.items()}
    outputs = [None if voice.heard(MOMENT) else subprocess.DEVNULL for voice in (voices.out, voices.err)]
    status = subprocess.run(  # noqa: S602 - a shell's command is what --on-failover takes
        command, shell=True, env=os.environ | environment, stdout=outputs[0], stderr=outputs[1]
    ).returncode
    if status != 0:
        text = f"COMMAND ended with status {status}: the checkpoint is safe in {facts['store']}"
        raise click.ClickException(text)


def reason(error: ProtocolError | None) -> str:
    """What ended the replication, in one word that a command can look at."""
    fault = Fault.INVALID if error is None or error.kind is None else error.kind
    return fault.value


class Teller:
    """Says what happens: a line for what matters, on a terminal one that is written over for the rounds.

    As JSON, standard output has objects only, and the lines go to standard error.
    """

    def __init__(self, voices: Voices, as_json: bool, loud: Loud) -> None:
        self._out = voices.out
        self._lines = voices.err if as_json else voices.out
        self._json = as_json
        self._loud = loud
        self.rounds = 0

    def event(self, event: Event) -> None:
        """One event of a connection."""
        match event:
            case VmRound():
                self._round(event)
            case ClaimAnswered(claim, won):
                self.line(f"claim {'won' if won else 'lost'} (token {claim.token})")
            case ClaimUnanswered():
                self.line(unanswered(event))
            case Transition(dest=State.READY):
                self.line("ready: the initial state is stored", Loud.CHANGES)
            case Transition(error=error) if error is not None:
                self.line(f"{why(error)}")
            case Refused():
                self.line(f"{turned_away(event)}; the store is unchanged, listening goes on", Loud.CHANGES)

    def _round(self, taken: VmRound) -> None:
        self.rounds += 1
        if self._json:
            if self._loud > Loud.QUIET:
                self._object(
                    by_the_way=True,
                    round=taken.number, pages=taken.pages, zero_pages=taken.zero_pages,
                    live_bytes=taken.live_bytes, vmstate_bytes=taken.vmstate_bytes, seconds=taken.total,
                )  # fmt: skip
            return
        text = f"round {taken.number}: {taken.pages} pages, {taken.sent} bytes, {taken.total * 1000:.1f} ms"
        if self._loud is Loud.ALL:
            self._out.line(text, by_the_way=True)
        elif self._loud is Loud.CHANGES and self._out.is_terminal:
            self._out.say(text.ljust(79) + "\r", by_the_way=True)

    def line(self, text: str, level: Loud = Loud.QUIET) -> None:
        """A line of its own."""
        if level <= self._loud:
            self._lines.line(text.ljust(79) if self._lines.is_terminal else text)

    def over(self, outcome: Outcome) -> None:
        """The last line."""
        if self._json:
            reason = None if outcome.error is None else str(outcome.error)
            won = outcome.state is State.ALONE
            self._object(state=outcome.state, reason=reason, rounds=self.rounds, won=won)
        else:
            reason = why(outcome.error)
            self.line(f"{outcome.state} after {self.rounds} rounds" + (f": {reason}" if reason else ""))

    def _object(self, *, by_the_way: bool = False, **fields: object) -> None:
        self._out.line(json.dumps(fields), by_the_way=by_the_way)
