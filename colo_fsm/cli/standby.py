"""`colo-fsm standby`: hold a real QEMU VM, and say or do something when its Primary is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from colo_fsm.arbiter import Arbiter, ArbiterError, Unarbitrated, open_arbiter
from colo_fsm.protocol import SecondarySession, State, Transition, Variant
from colo_fsm.qemu import Held, StandbyReplica, VmRound
from colo_fsm.replica import Address, ClaimAnswered, ClaimUnanswered, DirectoryStore, Event, Options
from colo_fsm.replica import StoreError, deadlines
from colo_fsm.replica.address import address_of
from colo_fsm.replica.blocking import Pair

EXIT_CODES = """
\b
Exit status:
  0  ended in order (SIGTERM), or took over: the claim was won and COMMAND succeeded
  1  the claim was lost, COMMAND failed, or what went wrong stands in the last line
  2  bad usage

\b
A won claim does not stop a Primary that still lives: its link may only be cut. COMMAND must fence it
(power it off, or make its QEMU quit) before it starts the VM from DIR. See docs/standby.md.
"""


@click.command(epilog=EXIT_CODES)
@click.option("--listen", required=True, metavar="ADDR", help="Where QEMU migrates to: tcp:HOST:PORT or unix:PATH.")  # fmt: skip
@click.option("--store", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Where the newest checkpoint is kept; safe from SIGKILL at any moment.")  # fmt: skip
@click.option("--fsync", is_flag=True, help="Safe from power loss, too.")
@click.option("--arbiter", metavar="URL", help="Who answers the claim: sqlite:PATH or exec:COMMAND.")
@click.option("--generation", type=click.IntRange(min=0), help="What is claimed.  [default: a new one is opened]")  # fmt: skip
@click.option("--no-arbiter", is_flag=True, help="The claim is won without asking. Fencing is then all there is.")  # fmt: skip
@click.option("--on-failover", metavar="COMMAND", help="Run by the shell when the claim is won, with COLO_FSM_GENERATION, COLO_FSM_TOKEN and COLO_FSM_STORE. Must fence the Primary first.")  # fmt: skip
@click.option("--disks-elsewhere", is_flag=True, help="Take VMs with disks: something else keeps these at the checkpoint.")  # fmt: skip
@click.option("--size-limit", type=click.IntRange(min=1), default=1 << 30, metavar="BYTES", help="The largest device state taken.  [default: 1 GiB]")  # fmt: skip
@click.option("--memory-limit", type=click.IntRange(min=1), default=1 << 40, metavar="BYTES", help="The most RAM taken.  [default: 1 TiB]")  # fmt: skip
@click.option("--deadline", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, metavar="SECONDS", help="How long the link may stand still inside a checkpoint.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a round, and a last one.")
def standby(
    listen: str,
    store: Path,
    fsync: bool,
    arbiter: str | None,
    generation: int | None,
    no_arbiter: bool,
    on_failover: str | None,
    disks_elsewhere: bool,
    size_limit: int,
    memory_limit: int,
    deadline: float,
    as_json: bool,
) -> None:
    """Be the COLO Secondary of a real QEMU, without a second VM: keep its newest checkpoint in DIR.

    \b
    Example:
      colo-fsm standby --listen tcp:0.0.0.0:9998 --store vm1 --arbiter exec:/etc/fence-vm1 \\
          --on-failover 'colo-fsm restore vm1 -o vm1.mig && start-vm1 vm1.mig'
    """
    if (arbiter is None) is not no_arbiter:
        raise click.UsageError("say who answers the claim: --arbiter URL, or --no-arbiter")
    try:
        judge: Arbiter = Unarbitrated() if arbiter is None else open_arbiter(arbiter)
        address = Address.parse(listen)
        if judge.local_only and not address.on_this_machine:
            raise ValueError(f"{address} is open to other machines, and an SQLite claim serves one only")
        number = judge.open() if generation is None else generation
    except (ValueError, OSError, ArbiterError) as error:
        raise click.UsageError(str(error)) from None
    options = Options(deadlines=deadlines(deadline), state_limit=size_limit)
    try:
        with DirectoryStore(store, fsync=fsync) as kept, address.listen() as listener:
            make = partial(
                StandbyReplica, guest=Held(), arbiter=judge, options=options, store=kept,
                generation=number, disks_elsewhere=disks_elsewhere, memory_limit=memory_limit,
            )  # fmt: skip
            result = Standby(listener, judge, make, Teller(as_json)).run()
    except (StoreError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if result.state is State.ALONE and on_failover is not None:
        environment = {"GENERATION": str(number), "TOKEN": str(result.token), "STORE": str(store.absolute())}
        status = subprocess.run(
            on_failover, shell=True, env=os.environ | {f"COLO_FSM_{k}": v for k, v in environment.items()}
        ).returncode
        if status != 0:
            raise click.ClickException(f"COMMAND ended with status {status}: the checkpoint is safe in {store}")
    sys.exit(0 if result.state in (State.ALONE, State.ENDED) else 1)


class Teller:
    """Says what happens: a line for what matters, a line that is written over for the rounds."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._console = Console()
        self.rounds = 0

    def event(self, event: Event) -> None:
        match event:
            case VmRound():
                self._round(event)
            case ClaimAnswered(claim, won):
                self.line(f"claim {'won' if won else 'lost'} (token {claim.token})")
            case ClaimUnanswered(cause, _):
                self.line(f"the arbiter does not answer: {cause}")
            case Transition(dest=State.READY):
                self.line("ready: the initial state is stored")
            case Transition(error=error) if error is not None:
                self.line(f"{error}")

    def _round(self, taken: VmRound) -> None:
        self.rounds += 1
        if self._json:
            self._print(
                round=taken.number, pages=taken.pages, zero_pages=taken.zero_pages,
                live_bytes=taken.live_bytes, vmstate_bytes=taken.vmstate_bytes, seconds=taken.total,
            )  # fmt: skip
        elif self._console.is_terminal:
            text = f"round {taken.number}: {taken.pages} pages, {taken.sent} bytes, {taken.total * 1000:.1f} ms"
            self._console.print(f"{text:<79}", end="\r", highlight=False)

    def line(self, text: str) -> None:
        if not self._json:
            self._console.print(f"{text:<79}".rstrip(), highlight=False, soft_wrap=True)

    def over(self, state: State, reason: str | None, won: bool) -> None:
        if self._json:
            self._print(state=state, reason=reason, rounds=self.rounds, won=won)
        else:
            self.line(f"{state} after {self.rounds} rounds" + (f": {reason}" if reason else ""))

    def _print(self, **fields: object) -> None:
        click.echo(json.dumps(fields))


class Result:
    """How it went: `alone` stands for a claim that was won."""

    def __init__(self, state: State, token: int) -> None:
        self.state, self.token = state, token


class Standby:
    """Takes one Primary after the other until one of them has been ready; then its end is the end."""

    def __init__(
        self, listener: socket.socket, arbiter: Arbiter, make: partial[StandbyReplica], teller: Teller
    ) -> None:
        self._listener = listener
        self._arbiter = arbiter
        self._make = make
        self._teller = teller
        self._pair: Pair | None = None
        self._ending = False

    def run(self) -> Result:
        """Until the end, in order or not."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        self._teller.line(f"listening at {address_of(self._listener)}")
        while True:
            try:
                link, _ = self._listener.accept()
            except _Ending:
                self._teller.over(State.ENDED, None, False)
                return Result(State.ENDED, 0)
            result = self._hold(link)
            if result is not None:
                return result

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        if self._pair is None:
            raise _Ending
        self._pair.request_leave()

    def _hold(self, link: socket.socket) -> Result | None:
        """Hold one Primary's VM; None if it never came to a checkpoint, so that another may come."""
        session = SecondarySession(Variant(release_on=Options().release_on))
        pair = self._pair = Pair(link, self._arbiter, partial(self._make, session))
        reached: list[State] = []
        pair.on_transition(lambda t: reached.append(t.dest))
        pair.on_transition(lambda _: pair.request_leave(), State.ALONE)
        events = pair.events()
        with pair:
            for event in events:
                self._teller.event(event)
            pair.wait()
        self._pair = None
        if State.READY not in reached and not self._ending:
            self._teller.line("it was no checkpoint; listening goes on")
            return None
        won = State.ALONE in reached
        state = State.ALONE if won else pair.state
        error = pair.session.error
        self._teller.over(state, None if error is None else str(error), won)
        return Result(state, pair.token)


class _Ending(Exception):
    """A signal came while nobody was connected."""
