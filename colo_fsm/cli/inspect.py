"""`colo-fsm inspect`: what a store, a recording or a migration stream holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.table import Table

from colo_fsm.fsm import Side
from colo_fsm.membership.seat import Owner
from colo_fsm.qemu import VmCheckpoint
from colo_fsm.qemu.hold.inspect import Inspected, inspect_checkpoint, inspect_file
from colo_fsm.qemu.watch.capture import Capture
from colo_fsm.qemu.watch.channel import CHANNELS
from colo_fsm.replica import Checkpoint
from colo_fsm.replica.guest import DamagedState, state_in
from colo_fsm.services.kept import Database, UnusableDatabase, is_database, look
from colo_fsm.stream import StreamError

from .shown import as_text, shown
from .status import exit_codes
from .stored import is_vm, opened


@attrs.frozen
class Block:
    """A RAM block; its size in bytes."""

    name: str
    size: int


@attrs.frozen
class Kept:
    """What is known of a checkpoint of a guest that is no VM. `used` in bytes, where its guest says so."""

    member: str | None
    data_set: str | None
    generation: int
    checkpoint: int
    blocks: tuple[Block, ...]
    device_bytes: int
    used: int | None = None
    database: Database | None = None
    damage: str | None = None

    def facts(self) -> dict[str, object]:
        """The single values, with the words to show them under."""
        facts: dict[str, object] = {}
        if self.member is not None:
            facts |= {"member": self.member, "data set": self.data_set or "-"}
        facts |= {"generation": self.generation, "checkpoint": self.checkpoint}
        if self.used is not None:
            facts["in use"] = f"{self.used} of {sum(b.size for b in self.blocks)} bytes"
        facts["device state"] = f"{self.device_bytes} bytes"
        if self.database is not None:
            facts["SQLite database"] = f"{self.database.pages} pages of {self.database.page_size} bytes"
        if self.damage is not None:
            facts["DAMAGED"] = self.damage
        return facts


def kept(whose: Owner | None, checkpoint: Checkpoint) -> Kept:
    """What a store holds that is no VM's."""
    found = Kept(
        None if whose is None else whose.name,
        None if whose is None else whose.data_set,
        checkpoint.generation,
        checkpoint.number,
        tuple(Block(name, len(view)) for name, view in checkpoint.blocks.items()),
        len(checkpoint.device),
    )
    try:
        state = state_in(checkpoint)
        if state is not None:
            found = attrs.evolve(found, used=len(state))
            if is_database(state):
                found = attrs.evolve(found, database=look(state))
    except (DamagedState, UnusableDatabase) as error:
        found = attrs.evolve(found, damage=str(error))
    return found


@click.command(epilog=exit_codes())
@click.argument("source", metavar="DIR|FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def inspect(source: Path, as_json: bool) -> None:
    """What is in a store's DIR, at the start of a recording of `colo-fsm tap`, or in a stream's FILE.

    DIR is a standby's, what `secondary --store` has kept, or a member's. It must not be open in a process.

    \b
    Example:
      colo-fsm inspect vm1
    """
    found: Inspected | Kept
    try:
        if Capture.is_one(source):
            found = inspect_file(source / CHANNELS[Side.PRIMARY])
        elif source.is_dir():
            with opened(source) as (whose, newest):
                found = inspect_checkpoint(VmCheckpoint.of(newest)) if is_vm(newest) else kept(whose, newest)
        else:
            found = inspect_file(source)
    except (StreamError, OSError) as error:
        raise click.ClickException(shown(f"{source}: {error}")) from None
    if as_json:
        click.echo(json.dumps(attrs.asdict(found)))
    elif isinstance(found, Kept):
        _show_kept(found)
    else:
        _show(found)


def _show(found: Inspected) -> None:
    console = Console(highlight=False)
    for name, value in found.facts().items():
        console.print(as_text(f"{name}: {value}"))
    _table(
        console,
        "RAM blocks",
        found.blocks,
        name="name",
        size="bytes",
        zero_pages="zero pages",
        checksum="crc32",
    )
    _table(
        console, "Device sections", found.sections,
        name="name", instance="instance", version="version", size="bytes",
    )  # fmt: skip


def _show_kept(found: Kept) -> None:
    console = Console(highlight=False)
    for name, value in found.facts().items():
        console.print(as_text(f"{name}: {value}"))
    _table(console, "RAM blocks", found.blocks, name="name", size="bytes")
    if found.database is not None:
        _table(console, "Tables", found.database.tables, name="name", rows="rows")


def _table(console: Console, title: str, things: Sequence[object], **columns: str) -> None:
    """A row a thing; `columns` are attributes and what stands above them."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for name, head in columns.items():
        table.add_column(head, justify="left" if name == "name" else "right")
    for thing in things:
        table.add_row(*(as_text(getattr(thing, name)) for name in columns))
    console.print(table)
